//! A provider's stream: any bytes, and the same deltas however they are cut.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::codec::anthropic::AnthropicDecoder;
use llm::codec::{Decoder, Deltas};

fn decode(pieces: &[&[u8]]) -> (Deltas, u64, bool) {
    let mut decoder = AnthropicDecoder::default();
    let mut out = Deltas::new();
    for p in pieces {
        decoder.feed(p, &mut out);
    }
    decoder.end(&mut out);
    (out, decoder.skipped(), decoder.done())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (seed, bytes) = input;
    let whole = decode(&[bytes]);
    let errors = whole.0.iter().filter(|d| d.is_err()).count();
    assert!(errors <= 1 && whole.0.iter().rev().skip(1).all(Result::is_ok), "an error is the last thing");
    assert_eq!(whole, decode(&forebay_fuzz::pieces(seed, bytes)));
});
