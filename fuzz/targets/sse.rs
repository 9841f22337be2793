//! Server-sent events: any bytes, and the same events however they are cut.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::codec::sse::SseParser;

type Events = (Vec<(String, Vec<u8>)>, bool);

fn read(pieces: &[&[u8]]) -> Events {
    let mut parser = SseParser::with_limit(256);
    let mut events = Vec::new();
    let mut fine = true;
    for p in pieces {
        if parser.feed(p, |name, data| events.push((name.to_owned(), data.to_vec()))).is_err() {
            fine = false;
            break;
        }
    }
    if fine {
        parser.end(|name, data| events.push((name.to_owned(), data.to_vec())));
    }
    (events, fine)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (seed, bytes) = input;
    assert_eq!(read(&[bytes]), read(&forebay_fuzz::pieces(seed, bytes)));
});
