//! What counts as a token, and where the words of an answer come from.
//!
//! A token is a word: the fake never loads a tokenizer, so that its counts can be checked by eye and cost nothing.
//! Everything here is pure and deterministic: the same seed gives the same answer on every machine.

use std::io::Write as _;

/// Words of the default answers. All are plain ASCII letters: they need no escaping in JSON. The length is a power of two.
const WORDS: [&str; 64] = [
    "the",
    "river",
    "runs",
    "over",
    "stone",
    "and",
    "light",
    "falls",
    "into",
    "a",
    "quiet",
    "pool",
    "where",
    "water",
    "waits",
    "for",
    "turbine",
    "gate",
    "flow",
    "measured",
    "steady",
    "under",
    "load",
    "each",
    "unit",
    "takes",
    "its",
    "share",
    "of",
    "pressure",
    "while",
    "valves",
    "open",
    "then",
    "close",
    "by",
    "small",
    "degrees",
    "with",
    "every",
    "hour",
    "that",
    "passes",
    "in",
    "spring",
    "melt",
    "adds",
    "weight",
    "to",
    "walls",
    "built",
    "from",
    "granite",
    "older",
    "than",
    "maps",
    "on",
    "which",
    "engineers",
    "drew",
    "lines",
    "between",
    "two",
    "shores",
];

/// Counts the words (maximal runs without ASCII white space) of a text: the fake's token count.
pub fn count_words(text: &str) -> u64 {
    let mut words = 0;
    let mut blank = true;
    for byte in text.bytes() {
        let space = byte.is_ascii_whitespace();
        words += u64::from(blank && !space);
        blank = space;
    }
    words
}

/// One step of splitmix64: a well-mixed value for each input, the only randomness of this crate.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value in `[0, 1)` from a seed.
pub(crate) fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1u64 << 53) as f64
}

/// A seed from the tail of a text (at most 256 bytes of it) and a number.
pub(crate) fn seed_of(text: &str, salt: u64) -> u64 {
    let bytes = text.as_bytes();
    let tail = bytes.get(bytes.len().saturating_sub(256)..).unwrap_or(bytes);
    tail.iter().fold(mix(salt), |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The last `n` words of a text, with what stands between them.
pub(crate) fn tail_words(text: &str, n: usize) -> &str {
    let mut left = n;
    let mut word = false;
    for (at, byte) in text.bytes().enumerate().rev() {
        let space = byte.is_ascii_whitespace();
        if word && space {
            left = left.saturating_sub(1);
            if left == 0 {
                // ASCII white space is one byte, so the next position is a character boundary.
                return text.get(at + 1..).unwrap_or(text);
            }
        }
        word = !space;
    }
    text
}

/// The tokens of one answer, rendered on demand: a long answer is never held as a list of strings.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Deterministic words.
    Words { seed: u64, len: usize },
    /// A given text, cut after the byte positions in `ends`.
    Text { text: String, ends: Vec<usize> },
}

impl Answer {
    pub(crate) fn words(seed: u64, len: usize) -> Self {
        Self::Words { seed, len }
    }

    /// A text cut into words, each with the white space before it; trailing space belongs to the last.
    pub(crate) fn text(text: String) -> Self {
        let mut ends = Vec::new();
        let mut word = false;
        for (at, byte) in text.bytes().enumerate() {
            let space = byte.is_ascii_whitespace();
            if word && space {
                ends.push(at);
            }
            word = !space;
        }
        match ends.last_mut() {
            Some(last) if !word => *last = text.len(),
            _ if !text.is_empty() => ends.push(text.len()),
            _ => {}
        }
        Self::Text { text, ends }
    }

    /// A text cut every `chars` characters, as providers cut the arguments of tool calls.
    pub(crate) fn pieces(text: String, chars: usize) -> Self {
        let mut ends: Vec<usize> =
            text.char_indices().map(|(at, _)| at).step_by(chars.max(1)).skip(1).collect();
        if !text.is_empty() {
            ends.push(text.len());
        }
        Self::Text { text, ends }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Words { len, .. } => *len,
            Self::Text { ends, .. } => ends.len(),
        }
    }

    /// Writes the tokens `from..to` as one JSON string with its quotes. Positions past the end add nothing.
    pub(crate) fn write_json(&self, from: usize, to: usize, out: &mut Vec<u8>) {
        let to = to.min(self.len());
        match self {
            Self::Words { seed, .. } => {
                out.push(b'"');
                for i in from..to {
                    if i > 0 {
                        out.push(b' ');
                    }
                    let pick = mix(seed.wrapping_add(i as u64)) as usize % WORDS.len();
                    out.extend_from_slice(WORDS.get(pick).copied().unwrap_or_default().as_bytes());
                }
                out.push(b'"');
            }
            Self::Text { text, ends } => {
                let start = from.checked_sub(1).and_then(|i| ends.get(i)).copied().unwrap_or(0);
                let end = to.checked_sub(1).and_then(|i| ends.get(i)).copied().unwrap_or(0);
                write_json_str(text.get(start..end).unwrap_or_default(), out);
            }
        }
    }
}

/// Writes a JSON string with its quotes.
pub(crate) fn write_json_str(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing a str into a Vec cannot fail; were it to, an empty string keeps the document well formed.
        let _ = out.write_all(b"\"\"");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(answer: &Answer) -> String {
        (0..answer.len())
            .map(|i| {
                let mut out = Vec::new();
                answer.write_json(i, i + 1, &mut out);
                serde_json::from_slice::<String>(&out).unwrap()
            })
            .collect()
    }

    fn whole(answer: &Answer) -> String {
        let mut out = Vec::new();
        answer.write_json(0, answer.len(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn words_are_counted_as_the_standard_library_splits_them(text in ".{0,80}") {
            prop_assert_eq!(count_words(&text), text.split_ascii_whitespace().count() as u64);
        }

        #[test]
        fn the_tokens_of_a_text_add_up_to_the_text(text in "[ \\n\"\\\\a-cé日]{0,60}", chars in 1usize..6) {
            for answer in [Answer::text(text.clone()), Answer::pieces(text.clone(), chars)] {
                prop_assert_eq!(joined(&answer), text.clone());
                prop_assert_eq!(whole(&answer), text.clone());
            }
        }

        #[test]
        fn a_text_has_as_many_tokens_as_words(text in "[ \\na-cé日]{0,60}") {
            prop_assume!(count_words(&text) > 0);
            prop_assert_eq!(Answer::text(text.clone()).len() as u64, count_words(&text));
        }

        #[test]
        fn default_words_are_deterministic_and_counted(seed: u64, len in 0usize..200) {
            let answer = Answer::words(seed, len);
            prop_assert_eq!(joined(&answer), whole(&answer));
            prop_assert_eq!(count_words(&whole(&answer)), len as u64);
        }

        #[test]
        fn the_tail_is_a_suffix_of_at_most_n_words(text in "[ \\na-cé日]{0,60}", n in 1usize..9) {
            let tail = tail_words(&text, n);
            prop_assert!(text.ends_with(tail));
            prop_assert_eq!(count_words(tail), count_words(&text).min(n as u64));
        }

        #[test]
        fn unit_values_are_below_one(seed: u64) {
            prop_assert!((0.0..1.0).contains(&unit(seed)));
        }
    }
}
