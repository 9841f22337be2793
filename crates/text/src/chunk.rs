//! Cuts a document into chunks on its structure: sections (chapters before their parts), then paragraphs, then sentences,
//! then words. So chunks find the same places again behind an edit, and what was kept by their hash is found.
//!
//! Invariants: no chunk is longer than the limit; chunks are in order, each starts after the one before; together they
//! hold all non-blank text; two neighbours share at most `overlap` tokens, whole sentences, never over a section's start.

use std::cmp::Reverse;
use std::sync::Arc;

use contract::{Chunk, Document, Span};

use crate::count::CountTokens;
use crate::sentences::sentences;
use crate::words::at;

/// Smallest limit that is taken: below it, a chunk could not hold one character's tokens.
pub const MIN_TOKENS: u32 = 16;

/// What precedes a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Break {
    Inside,
    Sentence,
    Paragraph,
    /// By the level of its heading: 1 is stronger than 2.
    Section(Reverse<u8>),
}

struct Piece {
    span: Span,
    /// With the blanks up to the next piece.
    tokens: u32,
    before: Break,
}

/// Cuts `doc` into chunks of at most `tokens` (at least [`MIN_TOKENS`]) that share at most `overlap` tokens.
pub fn chunk(doc: &Document, tokens: u32, overlap: u32, counter: &dyn CountTokens) -> Vec<Chunk> {
    let tokens = tokens.max(MIN_TOKENS);
    let overlap = overlap.min(tokens / 2);
    let pieces = pieces(doc, tokens, counter);
    let mut headings = Headings::new(doc);
    let mut out = Vec::new();
    let (mut from, mut fresh) = (0, 0);
    while fresh < pieces.len() {
        let to = end(&pieces, from, fresh, tokens);
        let (Some(first), Some(last)) = (pieces.get(from), pieces.get(to - 1)) else { break };
        let span = first.span.start..last.span.end;
        // The heading is that of what is new here.
        let place = pieces.get(fresh).map_or(span.start, |p| p.span.start);
        out.push(make(doc, out.len(), span, headings.path(place), counter));
        from = back(&pieces, from, to, overlap, tokens);
        fresh = to;
    }
    out
}

/// A chunk of `doc` at `span`.
pub(crate) fn make(
    doc: &Document,
    index: usize,
    span: Span,
    heading: Arc<str>,
    counter: &dyn CountTokens,
) -> Chunk {
    let text = at(&doc.text, &span);
    let (tokens, hash) = (counter.count(text), *blake3::hash(text.as_bytes()).as_bytes());
    Chunk { index, text: text.into(), span, heading, tokens, hash }
}

fn pieces(doc: &Document, limit: u32, counter: &dyn CountTokens) -> Vec<Piece> {
    let spans = split_at_sections(doc);
    let mut starts = doc.sections.iter().peekable();
    let mut out = Vec::with_capacity(spans.len());
    for (i, span) in spans.iter().enumerate() {
        // Of several headings at one place the highest counts.
        let mut section: Option<u8> = None;
        while let Some(s) = starts.next_if(|s| s.span.start <= span.start) {
            section = Some(section.map_or(s.level, |level| level.min(s.level)));
        }
        let gap_before = at(&doc.text, &(out.last().map_or(0, |p: &Piece| p.span.end)..span.start));
        let before = if let Some(level) = section {
            Break::Section(Reverse(level))
        } else if gap_before.bytes().filter(|b| *b == b'\n').count() > 1 {
            Break::Paragraph
        } else {
            Break::Sentence
        };
        let next = spans.get(i + 1).map_or(span.end, |s| s.start);
        split(doc, span.clone(), next, limit, before, counter, &mut out);
    }
    out
}

/// Sentences, cut where a section starts inside of one.
fn split_at_sections(doc: &Document) -> Vec<Span> {
    let mut starts = doc.sections.iter().map(|s| s.span.start).peekable();
    let mut out = Vec::new();
    for s in sentences(&doc.text) {
        let mut from = s.start;
        while starts.next_if(|x| *x <= from).is_some() {}
        while let Some(cut) = starts.next_if(|x| *x < s.end) {
            let trimmed = at(&doc.text, &(from..cut)).trim_end().len();
            if trimmed > 0 {
                out.push(from..from + trimmed);
                from = cut;
            }
        }
        out.push(from..s.end);
    }
    out
}

/// Adds the span, halved as often as needed to keep within the limit.
fn split(
    doc: &Document,
    span: Span,
    next: usize,
    limit: u32,
    before: Break,
    c: &dyn CountTokens,
    out: &mut Vec<Piece>,
) {
    let mut todo = vec![(span, next, before)];
    while let Some((span, next, before)) = todo.pop() {
        let tokens = c.count(at(&doc.text, &(span.start..next)));
        let text = at(&doc.text, &span);
        if tokens <= limit {
            out.push(Piece { span, tokens, before });
            continue;
        }
        let own = c.count(text);
        let middle = text.ceil_char_boundary(text.len() / 2);
        if own <= limit || middle >= text.len() {
            // The blanks are what is too long, or a single character: the piece has a chunk of its own, for with what
            // follows the blanks would be inside.
            out.push(Piece { span, tokens: own.max(limit), before });
            continue;
        }
        let (a, b) = text.split_at(middle);
        let cut = a.rfind(char::is_whitespace).or_else(|| b.find(char::is_whitespace).map(|n| middle + n));
        let cut = cut.filter(|n| *n > 0).unwrap_or(middle);
        let (a, b) = text.split_at(cut);
        let (a_end, b_start) = (a.trim_end().len(), cut + b.len() - b.trim_start().len());
        let right = span.start + b_start..span.end;
        todo.push((right.clone(), next, Break::Inside));
        todo.push((span.start..span.start + a_end, right.start, before));
    }
}

/// Where the chunk that starts at `from` ends, at least one piece past `fresh`.
fn end(pieces: &[Piece], from: usize, fresh: usize, limit: u32) -> usize {
    let (mut sum, mut best, mut best_break) = (0_u32, fresh + 1, None);
    for (i, p) in pieces.iter().enumerate().skip(from) {
        if i > fresh && sum + p.tokens > limit {
            return best;
        }
        sum += p.tokens;
        // The strongest break in the second half, the last of its kind.
        let strength = pieces.get(i + 1).map_or(Break::Section(Reverse(0)), |n| n.before);
        if i >= fresh && (best_break.is_none() || sum * 2 < limit || Some(strength) >= best_break) {
            (best, best_break) = (i + 1, (sum * 2 >= limit).then_some(strength).or(best_break));
        }
    }
    pieces.len()
}

/// Where the next chunk starts, so that it repeats at most `overlap` tokens and still has room for what is new.
fn back(pieces: &[Piece], from: usize, to: usize, overlap: u32, limit: u32) -> usize {
    let Some(next) = pieces.get(to) else { return to };
    if matches!(next.before, Break::Section(_)) {
        return to;
    }
    let (mut start, mut sum) = (to, 0);
    while start > from + 1 {
        let Some(p) = pieces.get(start - 1) else { break };
        if sum + p.tokens > overlap || sum + p.tokens + next.tokens > limit {
            break;
        }
        sum += p.tokens;
        start -= 1;
        if matches!(p.before, Break::Section(_)) {
            break;
        }
    }
    start
}

/// The path of headings at places that only move forward.
pub(crate) struct Headings<'a> {
    doc: &'a Document,
    next: usize,
    stack: Vec<(u8, &'a str)>,
    path: Arc<str>,
}

impl<'a> Headings<'a> {
    pub(crate) fn new(doc: &'a Document) -> Self {
        Headings { doc, next: 0, stack: Vec::new(), path: "".into() }
    }

    pub(crate) fn path(&mut self, place: usize) -> Arc<str> {
        let before = self.next;
        while let Some(s) = self.doc.sections.get(self.next).filter(|s| s.span.start <= place) {
            while self.stack.last().is_some_and(|(level, _)| *level >= s.level) {
                self.stack.pop();
            }
            self.stack.push((s.level, &s.heading));
            self.next += 1;
        }
        if self.next > before {
            self.path = self.stack.iter().map(|(_, h)| *h).collect::<Vec<_>>().join(" › ").into();
        }
        Arc::clone(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Estimate;
    use contract::{Media, Section};
    use proptest::prelude::*;

    fn doc(text: &str, sections: &[(&str, u8, usize)]) -> Document {
        let ends = sections.iter().skip(1).map(|s| s.2).chain([text.len()]);
        let sections = sections.iter().zip(ends).map(|((h, level, start), end)| Section {
            heading: (*h).to_owned(),
            level: *level,
            span: *start..end,
        });
        Document { title: None, media: Media::Plain, text: text.into(), sections: sections.collect() }
    }

    #[test]
    fn chunks_end_where_sections_end_and_name_their_headings() {
        let part = "One sentence of some length stands here. ".repeat(4);
        let text = format!("{part}{part}{part}");
        let d = doc(&text, &[("A", 1, 0), ("B", 2, part.len()), ("C", 1, 2 * part.len())]);
        let chunks = chunk(&d, 60, 10, &Estimate);
        assert_eq!(chunks.iter().map(|c| &*c.heading).collect::<Vec<_>>(), ["A", "A › B", "C"]);
        assert_eq!(chunks[1].span.start, part.len());
        assert_eq!(chunks[0].hash, chunks[1].hash, "equal text, equal hash");
    }

    #[test]
    fn behind_an_edit_the_chunks_are_the_same_again() {
        let sentence = |n: usize| format!("Sentence number {n} of the whole book stands here. ");
        let book = |edit: &str| {
            let (mut text, mut sections) = (String::new(), Vec::new());
            for section in 0..40 {
                let level = if section % 8 == 0 { 1 } else { 2 };
                sections.push(("H", level, text.len()));
                text.extend((0..7 + section % 5).map(|n| sentence(section * 100 + n)));
                text.push_str(if section == 2 { edit } else { "" });
            }
            chunk(&doc(&text, &sections), 400, 0, &Estimate).into_iter().map(|c| c.hash).collect::<Vec<_>>()
        };
        let (before, after) = (book(""), book("One more sentence that nobody had seen. "));
        let same = before.iter().filter(|h| after.contains(h)).count();
        assert!(same + 3 >= before.len(), "{same} of {} are the same", before.len());
    }

    #[test]
    fn neighbours_overlap_by_whole_sentences() {
        let text = "One sentence of some length stands here. ".repeat(20);
        let chunks = chunk(&doc(&text, &[]), 50, 12, &Estimate);
        assert!(chunks.windows(2).all(|w| w[1].span.start < w[0].span.end && w[1].text.starts_with("One")));
    }

    #[test]
    fn blanks_that_alone_pass_the_limit_end_a_chunk() {
        let text = format!("{}éé日日aé {}0", "0".repeat(26), "\n".repeat(8));
        let chunks = chunk(&doc(&text, &[("H", 1, 39)]), 16, 0, &Estimate);
        assert_eq!(chunks.iter().map(|c| c.span.clone()).collect::<Vec<_>>(), [0..39, 48..49]);
    }

    proptest! {
        #[test]
        fn chunks_hold_all_text_within_the_limit(
            t in "([a-zé日]{1,30}[ .\n]{1,3}|\n\n|[0-9]{1,40}){0,80}", tokens in 1..80u32, overlap in 0..60u32, cut in 0..400usize,
        ) {
            let cut = t.floor_char_boundary(cut.min(t.len()));
            let d = doc(&t, &[("H", 1, cut)]);
            let chunks = chunk(&d, tokens, overlap, &Estimate);
            let (mut at, mut last) = (0, None);
            for (i, c) in chunks.iter().enumerate() {
                prop_assert_eq!(c.index, i);
                prop_assert_eq!(&*c.text, &t[c.span.clone()]);
                prop_assert!(c.tokens <= tokens.max(MIN_TOKENS), "{} > {}", c.tokens, tokens);
                if c.span.start > at {
                    prop_assert!(t[at..c.span.start].trim().is_empty());
                } else if c.span.start < at {
                    prop_assert!(Estimate.count(&t[c.span.start..at]) <= overlap);
                }
                prop_assert!(last.is_none_or(|l| l < c.span.start) && c.span.end > at);
                (at, last) = (c.span.end, Some(c.span.start));
            }
            prop_assert!(t[at..].trim().is_empty());
        }
    }
}
