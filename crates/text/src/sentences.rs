//! Where sentences begin and end. Written for prose in languages with points and capitals; Chinese and Japanese full
//! stops end a sentence without a space.
//!
//! Invariants: spans are trimmed, not empty, in order, not overlapping, on character boundaries, and together hold all
//! non-blank text. Whether a sentence ends at a place depends on the sentence itself and on the one word that follows:
//! so a stream can be cut as it comes ([`complete`]).

use contract::Span;

/// Longest sentence, in bytes: a longer run without an end is cut at a blank (text without punctuation, tables, code).
pub const MAX_SENTENCE: usize = 2_000;

/// The sentences of a text.
pub fn sentences(text: &str) -> Vec<Span> {
    let mut out = Vec::with_capacity(text.len() / 100 + 1);
    let mut scan = Scan { text, bytes: text.as_bytes(), pos: 0 };
    while let Some(s) = scan.sentence() {
        out.push(s);
    }
    out
}

/// The sentences of the beginning of a text that no continuation can change.
pub fn complete(text: &str) -> Vec<Span> {
    let mut all = sentences(text);
    while let Some(last) = all.last() {
        // What follows must show a whole word, as the decision depends on it.
        let rest = text.get(last.end..).unwrap_or_default().trim_start();
        if rest.contains(char::is_whitespace) {
            break;
        }
        all.pop();
    }
    all
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
}

impl Scan<'_> {
    fn byte(&self, i: usize) -> u8 {
        self.bytes.get(i).copied().unwrap_or(0)
    }

    fn from(&self, i: usize) -> &str {
        self.text.get(i..).unwrap_or_default()
    }

    fn between(&self, a: usize, b: usize) -> &str {
        self.text.get(a..b).unwrap_or_default()
    }

    fn sentence(&mut self) -> Option<Span> {
        let rest = self.from(self.pos);
        let start = self.pos + (rest.len() - rest.trim_start().len());
        if start >= self.bytes.len() {
            return None;
        }
        let mut end = self.bytes.len();
        let mut i = start;
        while i < self.bytes.len() {
            let found = match self.byte(i) {
                b'.' | b'!' | b'?' => self.after_mark(start, i),
                b'\n' => self.line_ends(start, i).then_some(i),
                0xE2 | 0xE3 | 0xEF => self.after_wide_mark(start, i),
                _ => None,
            };
            if let Some(e) = found {
                end = e;
                break;
            }
            i += 1;
            if i - start > MAX_SENTENCE {
                end = self.cut(start, i);
                break;
            }
        }
        self.pos = end;
        let s = self.between(start, end);
        Some(start..start + s.trim_end().len())
    }

    /// Where to cut a run that is too long.
    fn cut(&self, start: usize, limit: usize) -> usize {
        let limit = self.text.floor_char_boundary(limit);
        let run = self.between(start, limit);
        let at = run.rfind('\n').filter(|n| *n > run.len() / 2).or_else(|| run.rfind(char::is_whitespace));
        at.filter(|n| *n > 0).map_or(limit, |n| start + n)
    }

    /// The end of the sentence whose mark is at `i`, closing quotes and brackets included; `None` if it goes on.
    fn after_mark(&self, start: usize, i: usize) -> Option<usize> {
        let mut e = i;
        while matches!(self.byte(e), b'.' | b'!' | b'?') {
            e += 1;
        }
        let only_point = e == i + 1 && self.byte(i) == b'.';
        let marks = e;
        e = self.closers(e);
        let rest = self.from(e);
        if rest.is_empty() {
            return Some(e);
        }
        if !rest.starts_with(char::is_whitespace) {
            return None;
        }
        let gap = &rest.split_at(rest.len() - rest.trim_start().len());
        if gap.0.bytes().filter(|b| *b == b'\n').count() >= 2 {
            return Some(e);
        }
        let next = gap.1.split_whitespace().next().unwrap_or_default();
        let first = next.trim_start_matches(OPENERS).chars().next();
        if first.is_some_and(char::is_lowercase) {
            return None;
        }
        if only_point && e == marks && self.abbreviated(start, i, next) {
            return None;
        }
        // An ellipsis in the middle: "and ... Then" ends, "and ... then" was answered above.
        Some(e)
    }

    fn after_wide_mark(&self, _start: usize, i: usize) -> Option<usize> {
        let rest = self.from(i);
        let c = rest.chars().next()?;
        matches!(c, '。' | '！' | '？').then(|| self.closers(i + c.len_utf8())).or_else(|| {
            let e = i + c.len_utf8();
            let next = self.from(e).trim_start().chars().next();
            let goes_on =
                next.is_some_and(char::is_lowercase) || !self.from(e).starts_with(char::is_whitespace);
            (c == '…' && !goes_on).then_some(e)
        })
    }

    fn closers(&self, mut e: usize) -> usize {
        while let Some(c) = self.from(e).chars().next() {
            if !matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』' | '）' | '*' | '_')
            {
                break;
            }
            e += c.len_utf8();
        }
        e
    }

    /// Whether the point at `i` belongs to the word before it.
    fn abbreviated(&self, start: usize, i: usize, next: &str) -> bool {
        let before = self.between(start, i);
        let from = before
            .rfind(|c: char| c.is_whitespace() || OPENERS.contains(&c))
            .map_or(0, |n| n + before.get(n..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8));
        let word = before.get(from..).unwrap_or_default();
        let alone = before.get(..from).unwrap_or_default().trim().is_empty();
        if alone && word.len() <= 4 && (word.bytes().all(|b| b.is_ascii_digit()) || word.chars().count() == 1)
        {
            return true; // "1. First", "a. First": the mark of a list, not a sentence
        }
        if word.is_empty() {
            return false;
        }
        let starter = STARTERS.contains(&next.trim_end_matches([',', ';', ':']));
        if word.chars().count() == 1 && word.chars().all(char::is_uppercase) {
            return !starter; // an initial
        }
        if word.contains('.')
            && word.split('.').all(|p| p.chars().count() <= 2)
            && !word.contains(|c: char| c.is_ascii_digit())
        {
            return !starter; // U.S., e.g., Ph.D
        }
        let lower = word.to_lowercase();
        if TITLES.contains(&lower.as_str()) {
            return true;
        }
        if BEFORE_NUMBER.contains(&lower.as_str()) {
            return next.starts_with(|c: char| c.is_ascii_digit());
        }
        ABBREVIATIONS.contains(&lower.as_str()) && !starter
    }

    /// Whether the line's end at `i` ends the sentence: a blank line, a list item, a table row, a line alone.
    fn line_ends(&self, start: usize, i: usize) -> bool {
        let rest = self.from(i + 1);
        let next = rest.trim_start();
        if rest.len() - next.len() > 0
            && rest.get(..rest.len() - next.len()).is_some_and(|g| g.contains('\n'))
        {
            return true;
        }
        if next.is_empty() {
            return true;
        }
        if starts_item(next) {
            return true;
        }
        let line_start = self.between(start, i).rfind('\n').map_or(start, |n| start + n + 1);
        let line = self.between(line_start, i).trim();
        if line.contains(" | ")
            || (line.len() >= 3 && line.bytes().all(|b| matches!(b, b'=' | b'-' | b'*' | b'_')))
        {
            return true;
        }
        // A short line alone, such as a heading or an item without a mark, before a line that starts anew.
        line.len() < 45
            && line_start == start
            && !line.ends_with([',', ';', '-', '('])
            && next.starts_with(|c: char| c.is_uppercase())
            && line.chars().next().is_some_and(|c| !c.is_lowercase())
    }
}

const OPENERS: [char; 9] = ['"', '\'', '(', '[', '“', '‘', '«', '*', '_'];

fn starts_item(next: &str) -> bool {
    let word = next.split(char::is_whitespace).next().unwrap_or_default();
    match word {
        "-" | "*" | "+" | "•" | "–" | "‣" | "◦" | "·" | "|" => true,
        _ if word.len() <= 4 => {
            let mark = word.strip_suffix(['.', ')']).unwrap_or_default();
            !mark.is_empty() && mark.bytes().all(|b| b.is_ascii_digit())
        }
        _ => word.starts_with('#') && word.bytes().all(|b| b == b'#'),
    }
}

/// Never the end, whatever follows.
const TITLES: [&str; 17] = [
    "mr", "mrs", "ms", "dr", "prof", "sr", "st", "gen", "col", "lt", "capt", "sen", "rep", "gov", "hon",
    "rev", "vs",
];

/// Abbreviations only before a number.
const BEFORE_NUMBER: [&str; 16] =
    ["no", "nos", "fig", "figs", "sec", "ch", "vol", "eq", "p", "pp", "art", "par", "tab", "ver", "v", "ed"];

/// Not the end, unless a word follows that begins sentences.
const ABBREVIATIONS: [&str; 36] = [
    "etc", "al", "approx", "ca", "cf", "resp", "inc", "ltd", "co", "corp", "dept", "est", "jan", "feb",
    "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "mon", "tue", "wed", "thu", "fri",
    "sat", "ave", "blvd", "jr", "univ", "bros", "esp",
];

/// Words that rarely follow an abbreviation inside a sentence.
const STARTERS: [&str; 38] = [
    "The", "A", "An", "This", "That", "These", "Those", "It", "Its", "In", "On", "At", "He", "She", "They",
    "We", "I", "You", "But", "And", "However", "If", "When", "While", "For", "As", "His", "Her", "Their",
    "Our", "There", "After", "Before", "By", "To", "With", "From", "Since",
];

#[cfg(test)]
mod tests;
