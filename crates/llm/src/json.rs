//! Writing JSON by hand where a serializer would cost more than the text itself: strings and integers into a buffer.

use bytes::{BufMut, BytesMut};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn string(out: &mut BytesMut, text: &str) {
    out.reserve(text.len() + 2);
    out.put_u8(b'"');
    escape(out, text);
    out.put_u8(b'"');
}

/// Appends `text` escaped, without quotes.
fn escape(out: &mut BytesMut, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.put_slice(plain);
        let Some((&b, tail)) = tail.split_first() else { return };
        match b {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            _ => {
                out.put_slice(b"\\u00");
                for nibble in [b >> 4, b & 15] {
                    out.put_u8(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
                }
            }
        }
        rest = tail;
    }
    out.put_slice(rest);
}

fn is_special(b: u8) -> bool {
    b < 0x20 || b == b'"' || b == b'\\'
}

/// Where the first byte is that must be escaped. Looks at blocks, in which the compiler looks at all bytes at once.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let clean = |block: &&[u8]| block.len() == BLOCK && !block.iter().fold(false, |s, &b| s | is_special(b));
    let from = bytes.chunks(BLOCK).take_while(clean).count() * BLOCK;
    let rest = bytes.get(from..)?;
    rest.iter().position(|&b| is_special(b)).map(|at| from + at)
}

/// Appends an integer.
pub(crate) fn int(out: &mut BytesMut, n: impl itoa::Integer) {
    out.put_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends any JSON value.
pub(crate) fn value(out: &mut BytesMut, v: &impl serde::Serialize) {
    // Serializing a `serde_json::Value` into memory cannot fail; should it, `null` keeps the text valid.
    let at = out.len();
    if serde_json::to_writer(out.writer(), v).is_err() {
        out.truncate(at);
        out.put_slice(b"null");
    }
}

/// Appends `"key":`, after a comma unless the object has just been opened.
pub(crate) fn key(out: &mut BytesMut, name: &str) {
    if out.last().is_some_and(|&b| b != b'{' && b != b'[') {
        out.put_u8(b',');
    }
    string(out, name);
    out.put_u8(b':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>()) {
            let mut out = BytesMut::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
        }
    }
}
