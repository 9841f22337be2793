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
            Some(parts) => Matcher::Parts(parts),
            None => Matcher::Any(regex),
        })
    }

    /// Whether a text matches, in UTF-8.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
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
        matches!(Matcher::new(pattern).unwrap(), Matcher::Parts(_))
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
}
