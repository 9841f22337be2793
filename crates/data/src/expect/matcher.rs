//! Regular expressions over many short texts.
//!
//! Most patterns of data are rows of classes, as `^[A-Z]{3}-[0-9]{5}$`: anchored at both ends, and in no place is it open whether a
//! character still belongs to one part or to the next. Those are matched in one run over the bytes. All others go to the `regex`
//! crate, which is what says what a pattern means in either case.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// A compiled pattern.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// Texts of one length, with a range of characters for each place.
    Fixed(Fixed),
    /// Parts one after the other.
    Parts(Vec<Part>),
    /// Anything else.
    Any(Regex),
}

/// Bytes of a set, so many of them.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    set: [bool; 256],
    least: usize,
    most: usize,
}

impl Matcher {
    /// `None` for what is no regular expression.
    pub(crate) fn new(pattern: &str) -> Option<Matcher> {
        let regex = Regex::new(pattern).ok()?;
        let hir = regex_syntax::Parser::new().parse(pattern).ok();
        Some(match hir.as_ref().and_then(parts) {
            Some(parts) => Fixed::new(&parts).map_or(Matcher::Parts(parts), Matcher::Fixed),
            None => Matcher::Any(regex),
        })
    }

    /// Whether a text matches, in UTF-8.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Matcher::Fixed(fixed) => fixed.matches(text),
            Matcher::Parts(parts) => {
                let mut rest = text;
                for part in parts {
                    let inside = |byte: &u8| part.set.get(usize::from(*byte)).copied().unwrap_or_default();
                    let taken = rest.iter().take(part.most).take_while(|byte| inside(byte)).count();
                    if taken < part.least {
                        return false;
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
                rest.is_empty()
            }
            Matcher::Any(regex) => std::str::from_utf8(text).is_ok_and(|text| regex.is_match(text)),
        }
    }
}

/// Bytes of a word.
const WORD: usize = 8;
/// The highest bit of each byte of a word.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Ranges of ASCII characters, one for each place of a text, eight places at a time.
#[derive(Debug)]
pub(crate) struct Fixed {
    len: usize,
    words: Vec<Word>,
}

/// Eight places: where they begin, the lowest character of each, and the highest with [`HIGH`] added.
#[derive(Debug)]
struct Word {
    at: usize,
    low: u64,
    high: u64,
}

impl Fixed {
    fn new(parts: &[Part]) -> Option<Fixed> {
        let mut ranges = Vec::new();
        for part in parts {
            let low = part.set.iter().position(|inside| *inside)?;
            let high = part.set.iter().rposition(|inside| *inside)?;
            let whole = part.set.get(low..=high)?.iter().all(|inside| *inside);
            if !whole || part.least != part.most || ranges.len() + part.most > 8 * WORD {
                return None;
            }
            let range = (u8::try_from(low).ok()?, u8::try_from(high).ok()?);
            ranges.extend(std::iter::repeat_n(range, part.most));
        }
        let len = ranges.len();
        // The last word overlaps the one before, so that each is whole.
        let last = len.checked_sub(WORD)?;
        let starts = (0..last).step_by(WORD).chain([last]);
        let word = |at: usize| {
            let of = ranges.get(at..at + WORD)?;
            let word = |one: fn(&(u8, u8)) -> u8| {
                of.iter().rev().fold(0, |word, range| (word << 8) | u64::from(one(range)))
            };
            Some(Word { at, low: word(|range| range.0), high: word(|range| range.1) | HIGH })
        };
        Some(Fixed { len, words: starts.map(word).collect::<Option<_>>()? })
    }

    fn matches(&self, text: &[u8]) -> bool {
        let inside = |word: &Word| {
            let Some(bytes) = text.get(word.at..).and_then(|rest| rest.first_chunk()) else { return false };
            let bytes = u64::from_le_bytes(*bytes);
            // The highest bit of each byte stays where its character is neither below nor above; none borrows from the next.
            let inside = ((bytes | HIGH) - word.low) & (word.high.wrapping_sub(bytes & !HIGH)) & !bytes;
            inside & HIGH == HIGH
        };
        text.len() == self.len && self.words.iter().all(inside)
    }
}

/// The parts of `^…$`, when there is only one way to divide a text among them.
fn parts(hir: &Hir) -> Option<Vec<Part>> {
    let HirKind::Concat(all) = hir.kind() else { return None };
    let [first, middle @ .., last] = all.as_slice() else { return None };
    let looks = |hir: &Hir, look| matches!(hir.kind(), HirKind::Look(found) if *found == look);
    if !looks(first, Look::Start) || !looks(last, Look::End) {
        return None;
    }
    let mut parts = Vec::new();
    for hir in middle {
        match hir.kind() {
            HirKind::Literal(text) => {
                for byte in text.0.iter() {
                    parts.push(part(1, 1, std::iter::once((*byte, *byte)))?);
                }
            }
            HirKind::Class(class) => parts.push(one(class, 1, 1)?),
            HirKind::Repetition(repeated) => {
                let most = repeated.max.map_or(usize::MAX, |most| most as usize);
                let least = repeated.min as usize;
                match repeated.sub.kind() {
                    HirKind::Class(class) => parts.push(one(class, least, most)?),
                    HirKind::Literal(text) if text.0.len() == 1 => {
                        let byte = *text.0.first()?;
                        parts.push(part(least, most, std::iter::once((byte, byte)))?);
                    }
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    // A part that may stop early has to be told from all that may come next.
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.least != part.most) {
        for next in parts.iter().skip(at + 1) {
            if part.set.iter().zip(&next.set).any(|(a, b)| *a && *b) {
                return None;
            }
            if next.least > 0 {
                break;
            }
        }
    }
    Some(parts)
}

/// A class of ASCII characters; a byte of any other could be half a character.
fn one(class: &Class, least: usize, most: usize) -> Option<Part> {
    match class {
        Class::Unicode(class) => {
            let ranges =
                class.iter().map(|r| Some((u8::try_from(r.start()).ok()?, u8::try_from(r.end()).ok()?)));
            part(least, most, ranges.collect::<Option<Vec<_>>>()?.into_iter())
        }
        Class::Bytes(class) => part(least, most, class.iter().map(|r| (r.start(), r.end()))),
    }
}

fn part(least: usize, most: usize, ranges: impl Iterator<Item = (u8, u8)>) -> Option<Part> {
    let mut set = [false; 256];
    for (start, end) in ranges {
        if end > 0x7F {
            return None;
        }
        for byte in start..=end {
            *set.get_mut(usize::from(byte))? = true;
        }
    }
    Some(Part { set, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quick(pattern: &str) -> bool {
        !matches!(Matcher::new(pattern).unwrap(), Matcher::Any(_))
    }

    #[test]
    fn rows_of_classes_are_matched_in_one_run_and_nothing_else_is() {
        for pattern in [
            "^[A-Z]{3}-[0-9]{5}$",
            r"^[a-z0-9.]+@[a-z0-9-]+\.[a-z]{2,}$",
            "^a?b*[0-9]$",
            "^ORD-[0-9]{9}$",
            "^(?i)ab$",
        ] {
            assert!(quick(pattern), "{pattern}");
        }
        for pattern in [
            "[A-Z]",
            "^a",
            "^a*ab$",
            r"^\d+$",
            "^(ab|cd)$",
            "^(ab)+$",
            "^a?b?a$",
            "^é$",
            "^.$",
            "(?m)^a$",
            r"^\w{2}$",
        ] {
            assert!(!quick(pattern), "{pattern}");
        }
        assert!(Matcher::new("(").is_none());
        assert!(matches!(Matcher::new("^ORD-[0-9]{9}$"), Some(Matcher::Fixed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn either_way_a_text_matches_as_the_regex_crate_says(
            parts in proptest::collection::vec(
                ("[ab]|\\[ab\\]|\\[a-c\\]|c|\\[x-z0-9\\]|1", "|[+*?]|\\{1,2\\}|\\{2\\}|\\{0,3\\}"), 1..5),
            text in "[abcx1é]{0,6}",
        ) {
            let pattern = format!("^{}$", parts.iter().map(|(class, times)| format!("{class}{times}")).collect::<String>());
            let says = Regex::new(&pattern).unwrap().is_match(&text);
            prop_assert_eq!(Matcher::new(&pattern).unwrap().matches(text.as_bytes()), says, "{} {}", pattern, text);
        }
    }

    /// A text, mostly with a character that is another, and sometimes without its first one.
    fn changed(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        (text, any::<prop::sample::Index>(), "[A-Za-d0-9é!]?", 0usize..3).prop_map(
            |(text, at, other, cut)| {
                let at = at.index(text.len());
                let one =
                    |(n, c): (usize, char)| if n == at && cut > 0 { other.clone() } else { c.to_string() };
                text.chars().enumerate().map(one).skip(cut / 2).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn texts_of_one_length_match_as_the_regex_crate_says(
            (classes, text) in proptest::collection::vec(("A-Z|0-9|-|a-c", 1usize..6), 3..6).prop_flat_map(|parts| {
                let one = |(class, times): &(String, usize)| format!("[{class}]{{{times}}}");
                let classes: String = parts.iter().map(one).collect();
                let matching = proptest::string::string_regex(&classes).unwrap();
                (Just(classes), changed(matching))
            })
        ) {
            let pattern = format!("^{classes}$");
            let says = Regex::new(&pattern).unwrap().is_match(&text);
            prop_assert_eq!(Matcher::new(&pattern).unwrap().matches(text.as_bytes()), says, "{} {}", pattern, text);
        }
    }
}
