//! Checks an answer against its source, sentence by sentence, while it arrives.
//!
//! A sentence's facts are its numbers, names and quotations. Each must occur in the source (case and accents folded,
//! whole words); a sentence with one that does not is unsupported, and the [`Policy`] decides what is shown. The source
//! sentence that shares most of its words, the rare ones weighing more, becomes its citation.
//!
//! What this is not: entailment. A sentence that joins true facts wrongly passes. Invariant: the result does not depend
//! on how the stream was cut.

mod facts;
mod source;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use contract::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sentences::{complete, sentences};
use crate::words::{at, words};

pub use facts::Fact;
use facts::facts;
pub use source::Source;
use source::key;

/// Least share of a sentence's weighted words that its citation must have.
pub const MIN_SIMILARITY: f32 = 0.3;

/// A sentence of at least so many words that was there before, word for word, is a repetition: small models fall into it.
const REPEATED_WORDS: usize = 4;

/// What happens to an unsupported sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is not shown, nor is a sentence that was there before.
    #[default]
    Drop,
    /// It is shown and marked `[unverified]`.
    Flag,
    /// It is shown as it is; only counted.
    Keep,
}

/// A sentence of the answer, checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroundedSentence {
    /// What to show, with the blanks before it; empty when it is dropped.
    pub text: String,
    /// Whether all its facts occur in the source.
    pub supported: bool,
    /// What was looked for.
    pub facts: Vec<Fact>,
    /// The number of its citation.
    pub citation: Option<usize>,
}

/// Where in the source a sentence of the answer comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Citation {
    /// Its number in the answer, from 1.
    pub n: usize,
    /// First byte in the document's text.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// The source's words.
    pub quote: String,
    /// The first chunk that holds it, when there are chunks.
    pub chunk: Option<usize>,
    /// Share of the answer's weighted words found there, 0 to 1, when it was first cited.
    pub similarity: f32,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub sentences: u32,
    pub supported: u32,
    pub dropped: u32,
    /// Not shown because they were there before.
    pub repeated: u32,
    pub facts_checked: u32,
    pub facts_found: u32,
}

/// What an answer's check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All citations, by number.
    pub citations: Vec<Citation>,
    /// Share of the source's chunks that are cited, 0 to 1.
    pub coverage: f32,
    /// What was counted.
    pub counts: Counts,
}

/// Checks an answer as it arrives. Memory: one sentence, and the citations.
#[derive(Debug)]
pub struct Grounder {
    source: Arc<Source>,
    policy: Policy,
    pending: String,
    citations: Vec<Citation>,
    numbers: HashMap<usize, usize>,
    /// The words of each sentence so far.
    seen: HashSet<Vec<u64>>,
    counts: Counts,
}

impl Grounder {
    /// A check against `source`.
    pub fn new(source: Arc<Source>, policy: Policy) -> Self {
        let (citations, numbers) = (Vec::new(), HashMap::new());
        let (seen, counts) = (HashSet::new(), Counts::default());
        Grounder { source, policy, pending: String::new(), citations, numbers, seen, counts }
    }

    /// Takes the next piece of the answer; gives the sentences that are complete with it.
    pub fn push(&mut self, piece: &str) -> Vec<GroundedSentence> {
        self.pending.push_str(piece);
        let spans = complete(&self.pending);
        self.check(&spans)
    }

    /// The answer is over: gives what is left.
    pub fn finish(&mut self) -> Vec<GroundedSentence> {
        let spans = sentences(&self.pending);
        let out = self.check(&spans);
        self.pending.clear();
        out
    }

    /// What has been found so far.
    pub fn report(&self) -> Report {
        let cited = self
            .source
            .chunks
            .iter()
            .filter(|c| self.citations.iter().any(|x| c.start <= x.start && x.end <= c.end));
        let coverage = cited.count() as f32 / self.source.chunks.len().max(1) as f32;
        Report { citations: self.citations.clone(), coverage, counts: self.counts }
    }

    fn check(&mut self, spans: &[Span]) -> Vec<GroundedSentence> {
        let text = std::mem::take(&mut self.pending);
        let mut from = 0;
        let mut out = Vec::with_capacity(spans.len());
        for span in spans {
            out.push(self.sentence(at(&text, &(from..span.start)), at(&text, span)));
            from = span.end;
        }
        self.pending = text.get(from..).unwrap_or_default().to_owned();
        out
    }

    fn sentence(&mut self, gap: &str, text: &str) -> GroundedSentence {
        let exact: Vec<u64> = words(text, 0).map(|w| w.exact).collect();
        let again = exact.len() >= REPEATED_WORDS && !self.seen.insert(exact);
        if again && self.policy == Policy::Drop {
            self.counts.sentences += 1;
            self.counts.repeated += 1;
            return GroundedSentence {
                text: String::new(),
                supported: true,
                facts: Vec::new(),
                citation: None,
            };
        }
        let facts = facts(text, &self.source);
        let supported = facts.iter().all(|f| f.found);
        let checked = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.counts.sentences += 1;
        self.counts.supported += u32::from(supported);
        self.counts.facts_checked += checked(facts.len());
        self.counts.facts_found += checked(facts.iter().filter(|f| f.found).count());
        if !supported && self.policy == Policy::Drop {
            self.counts.dropped += 1;
            return GroundedSentence { text: String::new(), supported, facts, citation: None };
        }
        let citation = if supported { self.cite(text) } else { None };
        let mark = match citation {
            Some(n) => format!(" [{n}]"),
            None if !supported && self.policy == Policy::Flag => " [unverified]".to_owned(),
            None => String::new(),
        };
        GroundedSentence { text: format!("{gap}{text}{mark}"), supported, facts, citation }
    }

    fn cite(&mut self, text: &str) -> Option<usize> {
        let mut stems: Vec<u64> = words(text, 0).filter(|w| !w.stop).map(|w| key(text, &w)).collect();
        stems.sort_unstable();
        stems.dedup();
        if stems.len() < 3 {
            return None;
        }
        let (sentence, similarity) = self.source.nearest(&stems).filter(|(_, s)| *s >= MIN_SIMILARITY)?;
        if let Some(n) = self.numbers.get(&sentence) {
            return Some(*n);
        }
        let span = self.source.sentences.get(sentence)?;
        let n = self.citations.len() + 1;
        self.numbers.insert(sentence, n);
        self.citations.push(Citation {
            n,
            start: span.start,
            end: span.end,
            quote: at(&self.source.text, span).to_owned(),
            chunk: self.source.chunks.iter().position(|c| c.start <= span.start && span.end <= c.end),
            similarity,
        });
        Some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Document, Media};
    use proptest::prelude::*;

    const TEXT: &str = "Debian was announced by Ian Murdock on 16 August 1993. The project has 1,234 members in three teams. \
        Its policy says \"free software comes first\" everywhere. Raphaël Hertzog wrote the handbook about installing servers.";

    fn source() -> Arc<Source> {
        let doc = Document { title: None, media: Media::Plain, text: TEXT.into(), sections: vec![] };
        let chunks = crate::chunk::chunk(&doc, 40, 0, &crate::Estimate);
        Arc::new(Source::new(&doc, &chunks))
    }

    fn check(policy: Policy, answer: &str) -> (Vec<GroundedSentence>, Report) {
        let mut g = Grounder::new(source(), policy);
        let mut out = g.push(answer);
        out.extend(g.finish());
        (out, g.report())
    }

    #[test]
    fn a_sentence_that_was_there_before_is_not_shown_again() {
        let text = "The project has three teams. It is so. The project has three teams. It is so.";
        let (s, report) = check(Policy::Drop, text);
        assert_eq!(s.iter().filter(|s| s.text.is_empty()).count(), 1, "short ones may stand twice");
        assert_eq!((report.counts.sentences, report.counts.repeated, report.counts.dropped), (4, 1, 0));
        assert!(check(Policy::Keep, text).0.iter().all(|s| !s.text.is_empty()));
    }

    #[test]
    fn facts_are_found_whatever_their_form() {
        for good in [
            "Ian Murdock announced Debian on August 16th, 1993.",
            "It has 1234 members in 3 teams.",
            "RAPHAEL HERTZOG wrote a handbook.",
            "The rule \"Free software comes first\" holds.",
            "1. The project has members [7].",
        ] {
            let (s, _) = check(Policy::Drop, good);
            assert!(s[0].supported, "{good}: {:?}", s[0].facts);
        }
        for bad in [
            "Ian Murdock announced Debian in 1994.",
            "It has 12 members.",
            "It was written by Linus Torvalds.",
            "The rule \"paid software comes first\" holds.",
            "NASA wrote it.",
        ] {
            let (s, r) = check(Policy::Drop, bad);
            assert!(
                !s[0].supported && s[0].text.is_empty() && r.counts.dropped == 1,
                "{bad}: {:?}",
                s[0].facts
            );
        }
    }

    #[test]
    fn a_citation_points_at_the_sentence_it_comes_from() {
        let (s, r) = check(
            Policy::Flag,
            "The project has 1234 members. It was led by Bob Smith. The project counts its members.",
        );
        assert_eq!(s[0].text, "The project has 1234 members. [1]");
        assert_eq!(s[1].text, " It was led by Bob Smith. [unverified]");
        let c = &r.citations[0];
        assert_eq!(&TEXT[c.start..c.end], c.quote);
        assert!(c.quote.contains("1,234") && c.similarity > 0.9 && c.chunk.is_some());
        assert!(r.coverage > 0.0 && r.coverage < 1.0);
    }

    proptest! {
        #[test]
        fn the_cut_of_the_stream_changes_nothing(
            a in "((Ian|Debian|1993|The|project|U\\.S\\.|teams\\.|Bob|\"|members|3\\.5|1\\.|é…)[ \n]{1,2}){0,25}",
            cuts in proptest::collection::vec(0..200usize, 0..6),
        ) {
            let (whole, report) = check(Policy::Flag, &a);
            let mut g = Grounder::new(source(), Policy::Flag);
            let (mut at, mut out) = (0, Vec::new());
            let mut cuts = cuts;
            cuts.sort_unstable();
            for c in cuts {
                let c = a.floor_char_boundary(c.min(a.len())).max(at);
                out.extend(g.push(&a[at..c]));
                at = c;
            }
            out.extend(g.push(&a[at..]));
            out.extend(g.finish());
            prop_assert_eq!(out, whole);
            prop_assert_eq!(g.report(), report);
        }
    }
}
