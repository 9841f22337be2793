//! A caller's response request: any bytes; what is taken can be asked of both kinds of provider, counted and repeated.
#![no_main]
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use llm::codec::{anthropic, openai};
use llm::surface::responses;
use llm::{Answer, TokenCounter};

fuzz_target!(|body: &[u8]| {
    let Ok((call, echo)) = responses::parse(body) else { return };
    let mut whole = BytesMut::new();
    responses::render(&mut whole, "1", 0, "m", &echo, &Answer::default());
    let sent = [
        openai::encode(&call.request, "m", openai::Dialect::default()),
        anthropic::encode(&call.request, "m"),
        whole,
    ];
    for bytes in sent {
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "what is sent is JSON");
    }
    let _ = llm::tokens::Estimate.request(&call.request);
});
