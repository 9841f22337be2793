//! What a sentence claims that can be looked up: numbers, names, quotations.

use contract::Span;
use serde::Serialize;

use super::source::{Source, number};
use crate::words::{Word, at, words};

/// Something in an answer that must occur in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// As the answer has it.
    pub text: String,
    /// Whether it occurs.
    pub found: bool,
}

/// The facts of a sentence: numbers, names, quotations.
pub(super) fn facts(text: &str, source: &Source) -> Vec<Fact> {
    let all: Vec<Word> = words(text, 0).collect();
    let mut out = Vec::new();
    let mut push = |span: Span, found: bool| out.push(Fact { text: at(text, &span).to_owned(), found });
    for (i, w) in all.iter().enumerate() {
        // The number of a list item and a citation of the answer's own are no facts.
        let mark = text.get(w.end..).is_some_and(|t| t.starts_with(['.', ')'])) && i == 0
            || text.get(..w.start).is_some_and(|t| t.ends_with('[')) && at(text, &(w.end..w.end + 1)) == "]";
        if let Some(n) = number(text, w)
            && !mark
        {
            push(w.start..w.end, source.numbers.contains(&n));
        }
    }
    let mut i = 0;
    while let Some(w) = all.get(i) {
        let named = |w: &Word| w.upper && !w.number;
        if !named(w) || w.stop {
            i += 1;
            continue;
        }
        let mut run = vec![w];
        while let (Some(last), Some(next)) = (run.last(), all.get(i + run.len())) {
            let joined = matches!(at(text, &(last.end..next.start)), " " | "-" | "\u{A0}");
            if !(joined && named(next) && !next.stop) {
                break;
            }
            run.push(next);
        }
        i += run.len();
        let first = text.get(..w.start).is_some_and(|t| t.chars().all(|c| !c.is_alphanumeric()));
        let acronym = at(text, &(w.start..w.end)).chars().skip(1).any(char::is_uppercase);
        let mut phrase: Vec<u64> = run.iter().map(|w| w.exact).collect();
        let mut start = w.start;
        // A sentence's first word is capitalised anyway.
        if first && !acronym && !source.holds(&phrase) {
            phrase.remove(0);
            start = run.get(1).map_or(start, |w| w.start);
        }
        if let (Some(last), false) = (run.last(), phrase.is_empty()) {
            push(start..last.end, source.holds(&phrase));
        }
    }
    let mut rest = 0;
    while let Some(open) = text.get(rest..).and_then(|t| t.find(['"', '“'])).map(|n| rest + n) {
        let inner = open + text.get(open..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8);
        let Some(len) = text.get(inner..).and_then(|t| t.find(['"', '”'])) else { break };
        let phrase: Vec<u64> = words(at(text, &(inner..inner + len)), 0).map(|w| w.exact).collect();
        if phrase.len() > 1 {
            push(inner..inner + len, source.holds(&phrase));
        }
        rest = text.ceil_char_boundary(inner + len + 1);
    }
    out
}
