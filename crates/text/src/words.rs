//! Words, as the rest of this crate compares them: folded (case, accents), hashed, without a string each.
//!
//! Hashes are 64 bits of FNV-1a: two different words of a document share one with a probability of about 1e-10, and
//! what depends on it is a score or a citation, never access to anything.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use contract::Span;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A word in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// First byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
    /// Hash of the folded word.
    pub(crate) exact: u64,
    /// Hash of its stem: the same for most inflections of an English word.
    pub(crate) stem: u64,
    /// A word that says nothing about what the text is about.
    pub(crate) stop: bool,
    /// Whether it has a digit.
    pub(crate) number: bool,
    /// Whether it begins with an upper-case letter.
    pub(crate) upper: bool,
}

/// The text at a span; empty when the span does not lie on character boundaries of the text.
pub(crate) fn at<'a>(text: &'a str, span: &Span) -> &'a str {
    text.get(span.start..span.end).unwrap_or_default()
}

/// All words of `text`, with positions counted from `base`.
///
/// A word is a run of letters and digits, with apostrophes, and with commas and points between digits.
pub(crate) fn words(text: &str, base: usize) -> impl Iterator<Item = Word> + '_ {
    Words { text, bytes: text.as_bytes(), pos: 0, base, buffer: Vec::with_capacity(32) }
}

struct Words<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    base: usize,
    buffer: Vec<u8>,
}

impl Words<'_> {
    fn byte(&self, i: usize) -> u8 {
        self.bytes.get(i).copied().unwrap_or(0)
    }

    /// The character at `i`, whether it belongs in a word, and its length.
    fn class(&self, i: usize) -> (bool, usize) {
        let b = self.byte(i);
        if b < 0x80 {
            return (b.is_ascii_alphanumeric(), 1);
        }
        match self.text.get(i..).and_then(|s| s.chars().next()) {
            Some(c) => (c.is_alphanumeric() || is_combining_mark(c), c.len_utf8()),
            None => (false, 1),
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let n = self.bytes.len();
        while self.pos < n {
            let (word, len) = self.class(self.pos);
            if word {
                break;
            }
            self.pos += len;
        }
        if self.pos >= n {
            return None;
        }
        let start = self.pos;
        let (mut i, mut ascii, mut number) = (start, true, false);
        while i < n {
            let b = self.byte(i);
            let (word, len) = self.class(i);
            if word {
                ascii &= b < 0x80;
                number |= b.is_ascii_digit();
                i += len;
                // Scripts without spaces: a character is a word.
                if len >= 3 && self.text.get(start..i).and_then(|s| s.chars().next_back()).is_some_and(wide) {
                    break;
                }
            } else if b == b'\'' && self.byte(i + 1).is_ascii_alphabetic()
                || (b == b',' || b == b'.')
                    && self.byte(i - 1).is_ascii_digit()
                    && self.byte(i + 1).is_ascii_digit()
            {
                i += 1;
            } else if self.text.get(i..).is_some_and(|s| s.starts_with('’'))
                && self.byte(i + 3).is_ascii_alphabetic()
            {
                ascii = false;
                i += 3;
            } else {
                break;
            }
        }
        self.pos = i;
        let raw = self.text.get(start..i).unwrap_or_default();
        let upper = raw.chars().next().is_some_and(char::is_uppercase);
        self.buffer.clear();
        if ascii {
            self.buffer.extend(raw.bytes().map(|b| b.to_ascii_lowercase()));
        } else {
            for c in raw.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
                let c = if c == '’' { '\'' } else { c };
                self.buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let folded = self.buffer.as_slice();
        let folded = folded.strip_suffix(b"'s").unwrap_or(folded);
        let exact = hash(folded);
        let stop = folded.len() <= 10 && (is_stop(exact) || (folded.len() == 1 && !number && ascii));
        Some(Word {
            start: self.base + start,
            end: self.base + i,
            exact,
            stem: if number || stop { exact } else { hash(stem(folded)) },
            stop,
            number,
            upper,
        })
    }
}

fn wide(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// FNV-1a.
pub(crate) const fn hash(mut bytes: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    while let Some((b, rest)) = bytes.split_first() {
        h = (h ^ *b as u64).wrapping_mul(0x0100_0000_01b3);
        bytes = rest;
    }
    h
}

/// Cuts the commonest English endings: light on purpose, so that it rarely joins different words.
fn stem(w: &[u8]) -> &[u8] {
    let cut = |suffix: &[u8], keep: usize| w.strip_suffix(suffix).filter(|s| s.len() >= keep);
    let stem = match w.last() {
        Some(b's') => cut(b"ies", 3)
            .or_else(|| cut(b"ations", 4))
            .or_else(|| cut(b"ings", 4))
            .or_else(|| cut(b"ers", 4))
            .or_else(|| cut(b"es", 4))
            .or_else(|| cut(b"s", 3).filter(|s| !s.ends_with(b"s"))),
        Some(b'y') => cut(b"y", 4),
        Some(b'n') => cut(b"ation", 4),
        Some(b'g') => cut(b"ing", 4),
        Some(b'd') => cut(b"ed", 4),
        Some(b'r') => cut(b"er", 4),
        Some(b'e') => cut(b"e", 4),
        _ => None,
    };
    stem.unwrap_or(w)
}

fn is_stop(hash: u64) -> bool {
    static HASHES: LazyLock<HashSet<u64, BuildHasherDefault<Same>>> =
        LazyLock::new(|| STOP.iter().map(|w| self::hash(w)).collect());
    HASHES.contains(&hash)
}

/// Whether it names the one who speaks or is spoken to. `US` is a country, `i` a variable.
pub(crate) fn is_person(text: &str, w: &Word) -> bool {
    const PERSONS: [u64; 9] = [
        hash(b"you"),
        hash(b"your"),
        hash(b"we"),
        hash(b"us"),
        hash(b"our"),
        hash(b"let"),
        hash(b"me"),
        hash(b"my"),
        hash(b"i"),
    ];
    w.stop && PERSONS.contains(&w.exact) && !matches!(at(text, &(w.start..w.end)), "US" | "i")
}

#[rustfmt::skip]
const STOP: &[&[u8]] = &[
    b"about", b"above", b"after", b"again", b"all", b"almost", b"also", b"although", b"always", b"am", b"among",
    b"an", b"and", b"another", b"any", b"are", b"as", b"at", b"be", b"because", b"been", b"before", b"being",
    b"between", b"both", b"but", b"by", b"can", b"cannot", b"could", b"did", b"do", b"does", b"don't", b"done",
    b"down", b"during", b"each", b"either", b"etc", b"even", b"every", b"few", b"for", b"from", b"get", b"had",
    b"has", b"have", b"having", b"he", b"her", b"here", b"hers", b"him", b"his", b"how", b"however", b"i", b"if",
    b"in", b"into", b"is", b"it", b"its", b"itself", b"just", b"less", b"let", b"made", b"make", b"many", b"may",
    b"me", b"might", b"more", b"most", b"much", b"must", b"my", b"no", b"nor", b"not", b"now", b"of", b"off",
    b"often", b"on", b"once", b"one", b"only", b"onto", b"or", b"other", b"others", b"our", b"out", b"over", b"own",
    b"per", b"quite", b"rather", b"same", b"shall", b"she", b"should", b"since", b"so", b"some", b"still", b"such",
    b"than", b"that", b"the", b"their", b"them", b"then", b"there", b"therefore", b"these", b"they", b"this",
    b"those", b"though", b"through", b"thus", b"to", b"too", b"under", b"until", b"up", b"upon", b"us", b"use",
    b"used", b"using", b"very", b"was", b"we", b"well", b"were", b"what", b"when", b"where", b"whether", b"which",
    b"while", b"who", b"whom", b"whose", b"why", b"will", b"with", b"within", b"without", b"would", b"yet", b"you",
    b"your",
];

/// A hasher for keys that are hashes already.
#[derive(Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }
    fn write_u64(&mut self, n: u64) {
        // The low bits of FNV are its weakest; the table takes its tag from the high ones.
        self.0 = n ^ (n >> 29);
    }
}

/// A map from hashes of words.
pub(crate) type WordMap<V> = std::collections::HashMap<u64, V, BuildHasherDefault<Same>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(s: &str) -> Vec<u64> {
        words(s, 0).map(|w| w.stem).collect()
    }

    #[test]
    fn inflections_share_a_stem_and_accents_and_case_are_folded() {
        assert_eq!(stems("install installs installed installing"), vec![hash(b"install"); 4]);
        assert_eq!(stems("Raphaël RAPHAEL"), vec![hash(b"raphael"); 2]);
        assert_eq!(stems("policy policies"), vec![hash(b"polic"); 2]);
    }

    #[test]
    fn steps_and_asides_are_told_from_statements() {
        let addressed = |t: &str| words(t, 0).any(|w| is_person(t, &w));
        for t in ["You must then choose a disk.", "First let us look.", "So I wrote it.", "It is OUR turn."] {
            assert!(addressed(t), "{t}");
        }
        assert!(!addressed("The US and the EU agreed on i = 7; status and outlet stay."));
    }

    #[test]
    fn numbers_keep_their_points_and_commas() {
        let t = "It cost 1,234.50 in 2024, or 3.5%.";
        let found: Vec<_> = words(t, 0).filter(|w| w.number).map(|w| &t[w.start..w.end]).collect();
        assert_eq!(found, ["1,234.50", "2024", "3.5"]);
    }
}
