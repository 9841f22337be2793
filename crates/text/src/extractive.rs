//! Picks the sentences that say most: a draft summary at once, and a pre-selection for a small model.
//!
//! A sentence scores by the words that are central to the document (their frequency over sentences, damped by how
//! common they are), its place in the document and its section, and the words of the title and its heading; very short,
//! very long, dangling and tabular ones lose. Redundancy is removed by maximal marginal relevance. Time and memory are
//! linear in the text.

use contract::{Chunk, Document, Span};

use crate::chunk::Headings;
use crate::count::CountTokens;
use crate::sentences::sentences;
use crate::words::{WordMap, at, is_person, words};

/// How many of the best sentences are compared with each other.
const CANDIDATES: usize = 80;

/// A sentence and how much it says, in no unit; zero for one that cannot stand in a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Where it stands.
    pub span: Span,
    /// The more, the better.
    pub score: f32,
    /// The distinct stems of its content words, sorted.
    terms: Vec<u64>,
}

/// Scores all sentences of a document, in its order.
pub fn score(doc: &Document) -> Vec<Scored> {
    let mut df: WordMap<u32> = WordMap::default();
    let mut all: Vec<(Scored, Shape)> = Vec::new();
    for span in sentences(&doc.text) {
        let text = at(&doc.text, &span);
        let (mut terms, mut shape) = (Vec::with_capacity(16), Shape::default());
        for w in words(text, 0) {
            shape.words += 1;
            shape.numbers += u32::from(w.number);
            shape.addressed |= is_person(text, &w);
            if !w.stop && !w.number {
                terms.push(w.stem);
            }
        }
        shape.bad = dangling(text) || symbols(text) || !text.ends_with(['.', '!', '"', '”', ')', '。', '…']);
        terms.sort_unstable();
        terms.dedup();
        for t in &terms {
            *df.entry(*t).or_default() += 1;
        }
        all.push((Scored { span, score: 0.0, terms }, shape));
    }
    let count = all.len() as f32;
    let weight = |t: &u64| {
        let n = df.get(t).copied().unwrap_or(0) as f32;
        if n < 2.0 { 0.0 } else { (1.0 + n).ln() * (1.0 + count / n).ln() }
    };
    let mut title: Vec<u64> =
        words(doc.title.as_deref().unwrap_or_default(), 0).filter(|w| !w.stop).map(|w| w.stem).collect();
    title.sort_unstable();
    let mut heads = doc.sections.iter().peekable();
    let (mut heading, mut heading_end, mut in_section) = (Vec::new(), 0, 0_u32);
    let total = doc.text.len().max(1) as f32;
    for (s, shape) in &mut all {
        while let Some(h) = heads.next_if(|h| h.span.start <= s.span.start) {
            heading = words(&h.heading, 0).filter(|w| !w.stop).map(|w| w.stem).collect();
            heading_end = h.span.start + h.heading.len();
            in_section = 0;
        }
        let is_heading = s.span.end <= heading_end;
        if is_heading || shape.words < 5 || s.terms.len() < 3 {
            continue;
        }
        let central: f32 = s.terms.iter().map(weight).sum::<f32>() / (s.terms.len() as f32 + 6.0);
        let length = match shape.words {
            0..8 => 0.5,
            8..12 => 0.85,
            12..40 => 1.0,
            40..60 => 0.75,
            _ => 0.4,
        };
        let begins = s.span.start as f32 / total;
        let place = 1.0 + 0.25 * (1.0 - begins * 10.0).max(0.0) + if in_section == 0 { 0.12 } else { 0.0 };
        let shared =
            |other: &[u64]| other.iter().filter(|t| s.terms.binary_search(t).is_ok()).count().min(3) as f32;
        let about = 1.0 + 0.08 * shared(&heading) + 0.12 * shared(&title);
        let dense = if shape.numbers * 4 > shape.words { 0.6 } else { 1.0 };
        let prose = if shape.bad { 0.35 } else { 1.0 } * if shape.addressed { 0.6 } else { 1.0 };
        s.score = central * length * place * about * dense * prose;
        in_section += 1;
    }
    all.into_iter().map(|(s, _)| s).collect()
}

#[derive(Default)]
struct Shape {
    words: u32,
    numbers: u32,
    bad: bool,
    /// It speaks to its reader or of its writer: a step of a manual, an aside.
    addressed: bool,
}

/// Whether the sentence points at one before it, or speaks of the text instead of its subject.
fn dangling(text: &str) -> bool {
    const FIRST: [&str; 36] = [
        "This",
        "That",
        "These",
        "Those",
        "It",
        "They",
        "He",
        "She",
        "But",
        "And",
        "However",
        "Thus",
        "Therefore",
        "So",
        "Then",
        "Also",
        "Such",
        "Otherwise",
        "Moreover",
        "Furthermore",
        "Hence",
        "Here",
        "Finally",
        "Similarly",
        "Note",
        "See",
        "Or",
        "Nevertheless",
        "Unfortunately",
        "Instead",
        "First",
        "Second",
        "Next",
        "Once",
        "Now",
        "After",
    ];
    let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    FIRST.contains(&word) || memchr::memmem::find(text.as_bytes(), b"opyright").is_some()
}

/// Whether it is a row, code or a list item rather than prose.
fn symbols(text: &str) -> bool {
    let odd = text
        .bytes()
        .filter(|b| matches!(b, b'|' | b'{' | b'}' | b'=' | b'<' | b'>' | b'/' | b'_' | b'#' | b'$' | b'\\'))
        .count();
    odd * 25 > text.len() || text.starts_with(['-', '•', '*', '$', '#'])
}

/// Share of the smaller set of terms that both have.
fn alike(a: &[u64], b: &[u64]) -> f32 {
    let shared = a.iter().filter(|t| b.binary_search(t).is_ok()).count();
    shared as f32 / a.len().min(b.len()).max(1) as f32
}

/// The spans of the `count` sentences that say most without repeating each other, in the document's order.
///
/// Deterministic. Fewer come back when the document has fewer; of one without any sentence that could stand alone, the
/// first ones.
pub fn summary(doc: &Document, count: usize) -> Vec<Span> {
    let scored = score(doc);
    let mut order: Vec<usize> = (0..scored.len()).collect();
    let by_score = |a: &usize, b: &usize| {
        let s = |i: &usize| scored.get(*i).map_or(0.0, |s| s.score);
        s(b).total_cmp(&s(a)).then(a.cmp(b))
    };
    let keep = CANDIDATES.max(count * 4).min(order.len());
    if keep < order.len() {
        order.select_nth_unstable_by(keep, by_score);
        order.truncate(keep);
    }
    order.sort_unstable_by(by_score);
    let pool: Vec<&Scored> = order.iter().filter_map(|i| scored.get(*i)).collect();
    let best = pool.first().map_or(1.0, |s| s.score.max(1e-6));
    let mut repeats = vec![0.0_f32; pool.len()];
    let mut chosen: Vec<Span> = Vec::new();
    while chosen.len() < count {
        let value = |(i, s): (usize, &&Scored)| {
            let r = repeats.get(i).copied().unwrap_or(2.0);
            (r < 0.75).then_some((i, s.score / best - 0.7 * r))
        };
        let next =
            pool.iter().enumerate().filter_map(value).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let Some(taken) = next.and_then(|(i, _)| pool.get(i)) else { break };
        chosen.push(taken.span.clone());
        for (r, s) in repeats.iter_mut().zip(&pool) {
            *r = if s.span == taken.span { 2.0 } else { r.max(alike(&s.terms, &taken.terms)) };
        }
    }
    chosen.sort_unstable_by_key(|s| s.start);
    chosen
}

/// The summary as text: a sentence each, joined by spaces, line ends folded.
pub fn summarize(doc: &Document, count: usize) -> String {
    let one_line = |s: &Span| at(&doc.text, s).split_whitespace().collect::<Vec<_>>().join(" ");
    summary(doc, count).iter().map(one_line).collect::<Vec<_>>().join(" ")
}

/// Sentences of one stretch of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// As a chunk whose text is the sentences, a space between neighbours and a line between others, and whose span
    /// runs from the first to the last.
    pub chunk: Chunk,
    /// Where the sentences stand in the source.
    pub sentences: Vec<Span>,
}

/// What shares the budget of [`select`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each chunk gets its share by its length: all parts are represented.
    #[default]
    Chunk,
    /// The best sentences of all chunks, wherever they stand.
    Document,
}

/// Rounded down to its first two digits: a share that an edit elsewhere in the document hardly ever changes.
fn two_digits(n: u64) -> u64 {
    let unit = 10_u64.pow(n.checked_ilog10().unwrap_or(0).saturating_sub(1));
    n / unit * unit
}

/// Picks the most salient sentences of each chunk, at most `tokens` together, in their order.
///
/// A chunk of which nothing fits is left out. A sentence that two chunks share counts for the first.
pub fn select(
    doc: &Document,
    chunks: &[Chunk],
    tokens: u32,
    per: Per,
    counter: &dyn CountTokens,
) -> Vec<Selection> {
    let scored = score(doc);
    let cost = |s: &Scored| counter.count(at(&doc.text, &s.span)) + 1;
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); chunks.len()];
    let mut c = 0;
    for (i, s) in scored.iter().enumerate() {
        while chunks.get(c).is_some_and(|x| x.span.end < s.span.end) {
            c += 1;
        }
        if let (Some(x), Some(list)) = (chunks.get(c), owned.get_mut(c))
            && x.span.start <= s.span.start
        {
            list.push(i);
        }
    }
    let mut taken = vec![false; scored.len()];
    let mut fill = |pool: &[usize], mut room: u32| {
        let mut order = pool.to_vec();
        let value = |i: &usize| scored.get(*i).map_or(0.0, |s| s.score);
        order.sort_by(|a, b| value(b).total_cmp(&value(a)));
        for i in order {
            let Some(s) = scored.get(i) else { continue };
            let n = cost(s);
            if n <= room && s.score > 0.0 {
                room -= n;
                if let Some(t) = taken.get_mut(i) {
                    *t = true;
                }
            }
        }
    };
    match per {
        Per::Document => fill(&owned.concat(), tokens),
        Per::Chunk => {
            let all: u64 = chunks.iter().map(|c| u64::from(c.tokens)).sum::<u64>().max(1);
            let ratio = two_digits(u64::from(tokens) * 1_000_000 / all);
            for (chunk, list) in chunks.iter().zip(&owned) {
                let share = u64::from(chunk.tokens) * ratio / 1_000_000;
                fill(list, u32::try_from(share).unwrap_or(u32::MAX));
            }
        }
    }
    let mut headings = Headings::new(doc);
    let mut out: Vec<Selection> = Vec::new();
    for list in &owned {
        let picked: Vec<usize> = list.iter().copied().filter(|i| taken.get(*i) == Some(&true)).collect();
        let spans: Vec<Span> = picked.iter().filter_map(|i| scored.get(*i)).map(|s| s.span.clone()).collect();
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else { continue };
        let mut text = String::new();
        let mut before = None;
        for (i, span) in picked.iter().zip(&spans) {
            if let Some(b) = before {
                text.push(if b + 1 == *i { ' ' } else { '\n' });
            }
            text.push_str(at(&doc.text, span));
            before = Some(*i);
        }
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        let chunk = Chunk {
            index: out.len(),
            span: first.start..last.end,
            heading: headings.path(first.start),
            tokens: counter.count(&text),
            hash,
            text: text.into(),
        };
        out.push(Selection { chunk, sentences: spans });
    }
    out
}
