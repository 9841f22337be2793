//! The journal's frames in any bytes, and between two whole frames: those two are always found.
#![no_main]
use libfuzzer_sys::fuzz_target;
use store::Entry;
use store::journal::frame;

fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    frame::begin(&mut buffer);
    buffer.extend_from_slice(payload);
    assert!(frame::seal(&mut buffer));
    buffer
}

fuzz_target!(|bytes: &[u8]| {
    let found = frame::scan(bytes);
    assert!(found.end <= bytes.len());
    for range in &found.payloads {
        let _ = Entry::decode(bytes.get(range.clone()).expect("a payload lies in the bytes"));
    }
    let _ = Entry::decode(bytes);
    let mut between = sealed(b"first");
    between.extend_from_slice(bytes);
    between.extend_from_slice(&sealed(b"last"));
    let found = frame::scan(&between);
    let payloads: Vec<&[u8]> = found.payloads.iter().filter_map(|r| between.get(r.clone())).collect();
    assert_eq!(payloads.first(), Some(&&b"first"[..]));
    assert_eq!(payloads.last(), Some(&&b"last"[..]));
});
