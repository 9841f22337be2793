//! An upstream's HTTP/1 answer: any bytes, split in two; the body is the same wherever that is.
#![no_main]
use libfuzzer_sys::fuzz_target;
use providers::http1::{Framing, Head, head};

/// The body, what stands behind it, and whether it ended well.
fn body(pieces: &[&[u8]], mut framing: Framing) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let (mut out, mut behind) = (Vec::new(), Vec::new());
    for piece in pieces {
        let taken = framing.take(piece, |data| out.extend_from_slice(data)).ok()?;
        assert!(taken == piece.len() || framing.is_complete());
        behind.extend_from_slice(&piece[taken..]);
    }
    Some((out, behind, framing.may_end()))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let Ok(Some((Head { framing, .. }, length))) = head(bytes) else { return };
    assert!(length <= bytes.len());
    // Less of it is no other head.
    assert!(head(&bytes[..length - 1]).is_ok_and(|h| h.is_none()));
    let rest = &bytes[length..];
    let whole = body(&[rest], framing);
    let (a, b) = rest.split_at(usize::from(at) % (rest.len() + 1));
    assert_eq!(body(&[a, b], framing), whole);
    if let Some((out, behind, _)) = whole {
        assert!(out.len() + behind.len() <= rest.len());
    }
});
