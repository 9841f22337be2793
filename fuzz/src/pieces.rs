//! What the targets share: bytes cut into pieces.

/// Cuts `bytes` at places that `seed` decides: pieces of 0 to 31 bytes, often of one.
pub fn pieces(seed: u8, mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut state = u32::from(seed).wrapping_mul(0x9E37_79B9) | 1;
    let mut out = Vec::new();
    while !bytes.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if state & 0x300_0000 == 0 { 1 } else { (state >> 27) as usize };
        let (head, tail) = bytes.split_at(length.min(bytes.len()));
        out.push(head);
        bytes = tail;
    }
    out
}

/// The same for text, on character boundaries.
pub fn text_pieces(seed: u8, text: &str) -> Vec<&str> {
    let (mut out, mut start, mut at) = (Vec::new(), 0, 0);
    for piece in pieces(seed, text.as_bytes()) {
        at += piece.len();
        if text.is_char_boundary(at) {
            out.extend(text.get(start..at));
            start = at;
        }
    }
    out.extend(text.get(start..));
    out
}
