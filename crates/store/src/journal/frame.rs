//! The framing of the journal, pure: bytes in, frames out.
//!
//! A frame is `magic (4) · payload length (4, little endian) · checksum (4, little endian) · payload`. The checksum is
//! the CRC-32 (IEEE) of the length as eight bytes, little endian, and the payload: it tells torn and rotten frames, which
//! is all it is for, at a small part of a cryptographic hash's cost. The magic holds the byte `0xFF`, which no UTF-8 text holds, so that a search for
//! the next frame behind a damaged one cannot be led astray by what a payload says: **payloads are UTF-8**.
//!
//! Invariants: [`scan`] never panics, never yields a payload that was not encoded, and yields every undamaged frame.

use std::ops::Range;

/// Bytes in front of each payload.
pub const HEADER: usize = 12;
/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 16 << 20;

const MAGIC: [u8; 4] = [0xFF, b'F', b'J', 0x03];

/// What frames began with before they had a CRC: they are not read, but never taken for nothing.
const FORMER: [u8; 4] = [0xFF, b'F', b'J', 0x00];

/// What a look at some bytes found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The places of the payloads, in order.
    pub payloads: Vec<Range<usize>>,
    /// Behind the last whole frame: the rest is torn, not yet complete, or damaged.
    pub end: usize,
    /// Damaged stretches that lie before `end`, and what another format wrote behind it.
    pub damaged: usize,
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

/// Begins a frame in `buffer`, which is cleared: the payload is appended to it, then [`seal`] completes the frame.
pub fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER, 0);
}

/// Fills in the header of the frame in `buffer`. False when the payload is longer than [`MAX_PAYLOAD`].
pub fn seal(buffer: &mut [u8]) -> bool {
    let Some((header, payload)) = buffer.split_at_mut_checked(HEADER) else { return false };
    let Ok(length) = u32::try_from(payload.len()) else { return false };
    if payload.len() > MAX_PAYLOAD {
        return false;
    }
    let parts = MAGIC.into_iter().chain(length.to_le_bytes()).chain(checksum(payload));
    header.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    true
}

/// The payload of the frame that starts at `at`, if a whole and undamaged one does.
fn frame_at(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *magic != MAGIC || length > MAX_PAYLOAD {
        return None;
    }
    let payload = rest.get(..length)?;
    // A payload is text: what holds another frame's beginning is none.
    let whole = checksum(payload) == *sum && !payload.contains(&MAGIC[0]);
    whole.then(|| at + HEADER..at + HEADER + length)
}

/// Finds every undamaged frame in `bytes`, skipping damaged stretches between them.
pub fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(payload) = frame_at(bytes, at) {
            if at != found.end {
                found.damaged += 1;
            }
            at = payload.end;
            found.end = at;
            found.payloads.push(payload);
        } else {
            let next = bytes.get(at + 1..).and_then(|r| r.iter().position(|b| *b == MAGIC[0]));
            match next {
                Some(n) => at += 1 + n,
                None => break,
            }
        }
    }
    found.damaged += usize::from(bytes.get(found.end..).is_some_and(|rest| rest.starts_with(&FORMER)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(payloads: &[String]) -> (Vec<u8>, Vec<usize>) {
        let (mut all, mut ends, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        for p in payloads {
            begin(&mut frame);
            frame.extend_from_slice(p.as_bytes());
            assert!(seal(&mut frame));
            all.extend_from_slice(&frame);
            ends.push(all.len());
        }
        (all, ends)
    }

    fn texts(bytes: &[u8], scan: &Scan) -> Vec<String> {
        scan.payloads.iter().map(|r| String::from_utf8(bytes[r.clone()].to_vec()).unwrap()).collect()
    }

    #[test]
    fn frames_of_the_former_format_count_as_damage() {
        let found = scan(b"\xffFJ\x00\x05\x00\x00\x00abcdefghhello");
        assert_eq!((found.payloads.len(), found.damaged), (0, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_cut_at_any_byte_keeps_every_whole_frame_and_nothing_else(payloads in prop::collection::vec(".{0,24}", 0..5)) {
            let (bytes, ends) = encode(&payloads);
            for cut in 0..=bytes.len() {
                let found = scan(&bytes[..cut]);
                let whole = ends.iter().filter(|e| **e <= cut).count();
                prop_assert_eq!(texts(&bytes[..cut], &found), payloads[..whole].to_vec());
                prop_assert_eq!(found.damaged, 0);
            }
        }

        #[test]
        fn a_flip_at_any_byte_loses_only_its_own_frame(payloads in prop::collection::vec(".{0,24}", 1..5), bit in 0..8u32) {
            let (bytes, ends) = encode(&payloads);
            for at in 0..bytes.len() {
                let mut hurt = bytes.clone();
                hurt[at] ^= 1 << bit;
                let found = scan(&hurt);
                let victim = ends.iter().position(|e| at < *e).unwrap();
                let mut kept = payloads.clone();
                kept.remove(victim);
                prop_assert_eq!(texts(&hurt, &found), kept);
                prop_assert_eq!(found.damaged, usize::from(victim + 1 < payloads.len()));
            }
        }

        #[test]
        fn noise_yields_nothing_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(scan(&noise).payloads, vec![]);
        }
    }
}
