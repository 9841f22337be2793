//! The index of a source: where its words, numbers and sentences are. Built once, asked by any number of answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use contract::{Chunk, Document, Span};

use crate::sentences::sentences;
use crate::words::{Word, at, hash, words};

/// A source, indexed once for any number of answers.
#[derive(Debug)]
pub struct Source {
    pub(super) text: Arc<str>,
    pub(super) sentences: Vec<Span>,
    pub(super) chunks: Vec<Span>,
    /// Every word in order, and each by its hash.
    sequence: Vec<u64>,
    positions: Vec<(u64, u32)>,
    /// The sentence of each word.
    owner: Vec<u32>,
    /// (stem, sentence), sorted.
    postings: Vec<(u64, u32)>,
    pub(super) numbers: BTreeSet<u64>,
}

impl Source {
    /// Indexes a document; coverage counts over `chunks`.
    pub fn new(doc: &Document, chunks: &[Chunk]) -> Self {
        let spans = sentences(&doc.text);
        let mut s = Source {
            text: Arc::clone(&doc.text),
            chunks: chunks.iter().map(|c| c.span.clone()).collect(),
            sequence: Vec::new(),
            positions: Vec::new(),
            owner: Vec::new(),
            postings: Vec::new(),
            numbers: BTreeSet::new(),
            sentences: Vec::new(),
        };
        for (n, span) in (0_u32..).zip(&spans) {
            let text = at(&doc.text, span);
            for (place, w) in (s.sequence.len()..).zip(words(text, 0)) {
                s.positions.push((w.exact, u32::try_from(place).unwrap_or(u32::MAX)));
                s.owner.push(n);
                if let Some(number) = number(text, &w) {
                    s.numbers.insert(number);
                }
                if !w.stop {
                    s.postings.push((key(text, &w), n));
                }
            }
            s.sequence.extend(words(text, 0).map(|w| w.exact));
        }
        s.positions.sort_unstable();
        s.postings.sort_unstable();
        s.postings.dedup();
        s.sentences = spans;
        s
    }

    fn places(&self, word: u64) -> &[(u64, u32)] {
        range(&self.positions, word)
    }

    /// Whether the words stand in a row somewhere, or all in one sentence.
    pub(super) fn holds(&self, phrase: &[u64]) -> bool {
        let Some((rarest, list)) =
            phrase.iter().map(|w| self.places(*w)).enumerate().min_by_key(|(_, list)| list.len())
        else {
            return true;
        };
        list.iter().any(|(_, place)| {
            let place = *place as usize;
            let row = place.checked_sub(rarest).and_then(|from| self.sequence.get(from..from + phrase.len()));
            row == Some(phrase) || {
                let here = self.owner.get(place);
                phrase
                    .iter()
                    .all(|w| self.places(*w).iter().any(|(_, p)| self.owner.get(*p as usize) == here))
            }
        })
    }

    /// The sentence that shares most, and how much.
    pub(super) fn nearest(&self, stems: &[u64]) -> Option<(usize, f32)> {
        let count = self.sentences.len() as f32;
        let (mut scores, mut total) = (HashMap::<u32, f32>::new(), 0.0);
        for stem in stems {
            let list = range(&self.postings, *stem);
            let weight = (1.0 + count / list.len().max(1) as f32).ln();
            total += weight;
            for (_, s) in list {
                *scores.entry(*s).or_default() += weight;
            }
        }
        let best = scores.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        Some((best.0 as usize, best.1 / total))
    }
}

fn range(sorted: &[(u64, u32)], key: u64) -> &[(u64, u32)] {
    let from = sorted.partition_point(|(k, _)| *k < key);
    let rest = sorted.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|(k, _)| *k == key)).unwrap_or_default()
}

/// What words are compared by when a sentence is looked for: numbers by value, others by stem.
pub(super) fn key(text: &str, w: &Word) -> u64 {
    number(text, w).unwrap_or(w.stem)
}

/// The number a word stands for, in a form equal for `1,234` and `1234`, `2nd` and `2`, `three` and `3`, `1.50` and `1.5`.
pub(super) fn number(text: &str, w: &Word) -> Option<u64> {
    const NAMES: [&str; 11] =
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let raw = text.get(w.start..w.end)?.to_lowercase();
    if !w.number {
        let n = NAMES.iter().position(|n| *n == raw)?;
        return Some(hash((n + 2).to_string().as_bytes()));
    }
    let mut s = raw.replace(',', "");
    if let Some(digits) = ["st", "nd", "rd", "th"].iter().find_map(|e| s.strip_suffix(e))
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        s.truncate(digits.len());
    }
    if s.matches('.').count() == 1 && s.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        s.truncate(s.trim_end_matches('0').trim_end_matches('.').len());
    }
    Some(hash(s.as_bytes()))
}
