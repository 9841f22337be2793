//! A provider's whole answers and errors: any bytes, any status.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::codec::{anthropic, error, openai};

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = input;
    let _ = openai::decode_body(body);
    let _ = anthropic::decode_body(body);
    let retry_after = std::str::from_utf8(body).ok();
    let _ = error::from_response(status, retry_after, body);
});
