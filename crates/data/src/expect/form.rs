//! The form that all texts of a column share, when they share one: `ORD-000042` is three capitals, a dash and six digits.
//!
//! A form is a row of runs: capitals, small letters, digits, or one other ASCII character each. Texts whose runs differ in kind or
//! number have none in common, and neither have texts with anything else in them.

use std::fmt::Write as _;

/// The most runs of a form: what is longer is a sentence.
const LONGEST: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Upper,
    Lower,
    Digit,
    Is(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    kind: Kind,
    least: u32,
    most: u32,
}

/// What is known of the form of a column's texts.
#[derive(Debug, Clone, Default)]
pub(super) enum Form {
    /// There was no text yet.
    #[default]
    Unknown,
    /// All had this one.
    Shared(Runs),
    /// They have none in common.
    None,
}

/// A form.
#[derive(Debug, Clone)]
pub(super) struct Runs(Vec<Run>);

fn runs(text: &str) -> Option<Runs> {
    let mut runs: Vec<Run> = Vec::new();
    for byte in text.bytes() {
        let kind = match byte {
            b'A'..=b'Z' => Kind::Upper,
            b'a'..=b'z' => Kind::Lower,
            b'0'..=b'9' => Kind::Digit,
            b' '..=b'~' => Kind::Is(byte),
            _ => return None,
        };
        let full = runs.len() == LONGEST;
        match runs.last_mut() {
            Some(last) if last.kind == kind => {
                last.least += 1;
                last.most += 1;
            }
            _ if full => return None,
            _ => runs.push(Run { kind, least: 1, most: 1 }),
        }
    }
    (!runs.is_empty()).then_some(Runs(runs))
}

impl Form {
    pub(super) fn add(&mut self, text: &str) {
        if matches!(self, Form::None) {
            return;
        }
        let seen = runs(text).map_or(Form::None, Form::Shared);
        self.merge(seen);
    }

    pub(super) fn merge(&mut self, other: Form) {
        *self = match (std::mem::take(self), other) {
            (Form::Unknown, one) | (one, Form::Unknown) => one,
            (Form::Shared(mut a), Form::Shared(b)) if a.same(&b) => {
                for (mine, theirs) in a.0.iter_mut().zip(b.0) {
                    mine.least = mine.least.min(theirs.least);
                    mine.most = mine.most.max(theirs.most);
                }
                Form::Shared(a)
            }
            _ => Form::None,
        };
    }

    /// The form as a regular expression, when it says more than that there are letters.
    pub(super) fn regex(&self) -> Option<String> {
        let Form::Shared(Runs(runs)) = self else { return None };
        let fixed = runs.iter().all(|r| r.least == r.most);
        let letters = runs.iter().all(|r| matches!(r.kind, Kind::Lower | Kind::Upper | Kind::Is(b' ')));
        if !fixed && (letters || runs.len() == 1) {
            return None;
        }
        let mut regex = String::from("^");
        for run in runs {
            match run.kind {
                Kind::Upper => regex.push_str("[A-Z]"),
                Kind::Lower => regex.push_str("[a-z]"),
                Kind::Digit => regex.push_str("[0-9]"),
                Kind::Is(byte) => {
                    if !matches!(
                        byte,
                        b' ' | b'_' | b',' | b':' | b';' | b'@' | b'/' | b'-' | b'\'' | b'"' | b'=' | b'%'
                    ) {
                        regex.push('\\');
                    }
                    // `<` and `>` after a backslash mean the edges of a word.
                    if matches!(byte, b'<' | b'>' | b'!' | b'`') {
                        regex.pop();
                    }
                    regex.push(char::from(byte));
                }
            }
            let _ = match (run.least, run.most) {
                (1, 1) => Ok(()),
                (least, most) if least == most => write!(regex, "{{{least}}}"),
                (least, most) => write!(regex, "{{{least},{most}}}"),
            };
        }
        regex.push('$');
        Some(regex)
    }
}

impl Runs {
    fn same(&self, other: &Runs) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.kind == b.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::compute::regexp_is_match_scalar;
    use proptest::prelude::*;

    fn of(texts: &[&str]) -> Option<String> {
        let mut form = Form::default();
        texts.iter().for_each(|t| form.add(t));
        form.regex()
    }

    #[test]
    fn a_form_is_told_where_texts_share_one_and_nowhere_else() {
        assert_eq!(of(&["ORD-0001", "ORD-12345"]).as_deref(), Some("^[A-Z]{3}-[0-9]{4,5}$"));
        assert_eq!(of(&["N14228", "N9EAMQ"]), None);
        assert_eq!(of(&["AA", "UA"]).as_deref(), Some("^[A-Z]{2}$"));
        assert_eq!(of(&["anna", "bo"]), None);
        assert_eq!(of(&["1.5", "10.25"]).as_deref(), Some(r"^[0-9]{1,2}\.[0-9]{1,2}$"));
        assert_eq!(of(&["é1"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn a_text_matches_its_own_form(text in "[ -~]{1,12}") {
            if let Some(regex) = of(&[&text]) {
                let array = StringArray::from(vec![text.as_str()]);
                prop_assert!(regexp_is_match_scalar(&array, &regex, None).unwrap().value(0), "{} {}", text, regex);
            }
        }
    }
}
