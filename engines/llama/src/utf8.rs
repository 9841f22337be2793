//! Turns token bytes into text, and never splits a character over two deltas.
//!
//! A token of a byte-level vocabulary may end inside a character. [`Utf8Buffer`] holds back those bytes (three at most)
//! until the rest arrives. Bytes that can never become a character are replaced by U+FFFD.
//!
//! **Invariant:** whatever the split, the concatenated output equals [`String::from_utf8_lossy`] of the concatenated input.

/// Holds the bytes of an unfinished character.
#[derive(Debug, Default)]
pub(crate) struct Utf8Buffer {
    held: Vec<u8>,
}

impl Utf8Buffer {
    /// Takes the next bytes and returns the text that is complete, possibly empty.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = tail;
                    // No length means that the input ends inside a character.
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(invalid..).unwrap_or_default();
                }
            }
        }
        self.held = rest.to_vec();
        text
    }

    /// Ends the text: an unfinished character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(parts: &[&[u8]]) -> String {
        let mut buffer = Utf8Buffer::default();
        let mut text: String = parts.iter().map(|part| buffer.push(part)).collect();
        text.push_str(&buffer.finish());
        text
    }

    #[test]
    fn a_split_at_every_byte_changes_nothing() {
        let text = "naïve — 東京 👩‍👩‍👧 é\u{0301} end";
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(fed(&[head, tail]), text, "split at byte {at}");
        }
    }

    #[test]
    fn an_unfinished_character_is_held_back_until_it_is_whole() {
        let mut buffer = Utf8Buffer::default();
        assert_eq!(buffer.push(&[b'a', 0xF0, 0x9F]), "a");
        assert_eq!(buffer.push(&[0x98]), "");
        assert_eq!(buffer.push(&[0x80, b'b']), "😀b");
    }

    #[test]
    fn a_character_that_never_ends_is_replaced() {
        assert_eq!(fed(&[b"ok", &[0xE6, 0x9D]]), "ok\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_parts_equal_the_lossy_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..12)) {
            let whole: Vec<u8> = parts.concat();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(fed(&parts), String::from_utf8_lossy(&whole).into_owned());
        }

        #[test]
        fn text_in_byte_parts_comes_out_whole(text in "\\PC{0,40}", size in 1usize..5) {
            let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(fed(&parts), text);
        }
    }
}
