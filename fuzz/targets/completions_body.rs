//! A caller's prompt: any bytes; what is taken can be asked of both kinds of provider and counted.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::TokenCounter;
use llm::codec::{anthropic, openai};
use llm::surface;

fuzz_target!(|body: &[u8]| {
    let Ok(call) = surface::completions::parse(body) else { return };
    let sent = [
        openai::encode(&call.request, "m", openai::Dialect::default()),
        anthropic::encode(&call.request, "m"),
    ];
    for bytes in sent {
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "what is sent is JSON");
    }
    let _ = llm::tokens::Estimate.request(&call.request);
});
