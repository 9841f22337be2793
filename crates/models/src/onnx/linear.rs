//! A linear model with its pre-processing, in doubles: missing numbers are imputed, numbers are scaled, a category adds the
//! coefficients of its word (one-hot encoding, without the zeros).

use super::features::{Feature, rows_of_words};
use super::forest::Link;
use super::graph::{self, Builder, Edge};

/// What a column adds to the scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// `weight * ((x or `fill`) - center) / scale`.
    Number {
        /// The column.
        name: String,
        /// What stands for a missing value.
        fill: f64,
        /// What is subtracted.
        center: f64,
        /// What is divided by; never zero.
        scale: f64,
        /// The coefficients, one for each score.
        weights: Vec<f64>,
    },
    /// The coefficients of the text's word; nothing for what is no word.
    Words {
        /// The column.
        name: String,
        /// The words. An empty one stands for a missing value.
        words: Vec<String>,
        /// The coefficients, a row of all scores for each word.
        weights: Vec<f64>,
    },
    /// The coefficients of the bucket that the text's hash falls into: MurmurHash3 (x86, 32 bits) of its UTF-8 with `seed`,
    /// modulo the number of buckets.
    Hashed {
        /// The column.
        name: String,
        /// The seed.
        seed: u32,
        /// The coefficients of the buckets, a row of all scores for each.
        weights: std::sync::Arc<[f64]>,
    },
}

/// A linear model.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// One for each score.
    pub intercepts: Vec<f64>,
    /// The columns.
    pub terms: Vec<Term>,
    /// What the scores mean.
    pub link: Link,
}

/// A value of a row, for [`Linear::answer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A number; NaN when it is missing.
    Number(f64),
    /// A text; empty when it is missing.
    Text(&'a str),
}

impl Term {
    /// What it adds for a cell, score by score. A cell of the wrong kind adds nothing.
    fn add(&self, cell: Cell<'_>, scores: &mut [f64]) {
        let width = scores.len();
        let row = |weights: &[f64], at: usize, scores: &mut [f64]| {
            for (score, weight) in scores.iter_mut().zip(weights.iter().skip(at * width)) {
                *score += weight;
            }
        };
        match (self, cell) {
            (Term::Number { fill, center, scale, weights, .. }, Cell::Number(x)) => {
                let x = (if x.is_nan() { *fill } else { x } - center) / scale;
                for (score, weight) in scores.iter_mut().zip(weights) {
                    *score += weight * x;
                }
            }
            (Term::Words { words, weights, .. }, Cell::Text(text)) => {
                if let Some(at) = words.iter().position(|word| word == text) {
                    row(weights, at, scores);
                }
            }
            (Term::Hashed { seed, weights, .. }, Cell::Text(text)) => {
                let buckets = weights.len() / width.max(1);
                if buckets > 0 {
                    row(weights, murmur3(text.as_bytes(), *seed) as usize % buckets, scores);
                }
            }
            _ => {}
        }
    }

    /// The column, as an input of a graph.
    pub(super) fn feature(&self) -> Feature {
        match self {
            Term::Number { name, .. } => Feature::number(name),
            Term::Words { name, words, .. } => Feature::category(name, words.clone()),
            Term::Hashed { name, .. } => Feature::category(name, Vec::new()),
        }
    }
}

impl Linear {
    /// What is answered for a row whose cells are in the order of the terms: a value, or a probability for each class.
    pub fn answer<'a>(&self, cells: impl IntoIterator<Item = Cell<'a>>) -> Vec<f64> {
        let mut scores = self.intercepts.clone();
        for (term, cell) in self.terms.iter().zip(cells) {
            term.add(cell, &mut scores);
        }
        self.link.apply(&scores)
    }
}

/// The scores, `rows × scores`, before the link; the inputs are made on the way, in the order of the terms.
pub(super) fn scores(builder: &mut Builder, linear: &Linear) -> Option<Edge> {
    let width = linear.intercepts.len();
    let mut parts = Vec::new();
    let (mut columns, mut fills, mut centers, mut scales, mut matrix) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for term in &linear.terms {
        let input = term.feature().input(builder);
        match term {
            Term::Number { fill, center, scale, weights, .. } => {
                columns.push(input);
                fills.push(*fill);
                centers.push(*center);
                scales.push(*scale);
                matrix.extend(weights.iter().copied());
            }
            Term::Words { words, weights, .. } => {
                let at = rows_of_words(builder, &input, words);
                // The row behind the last is that of no word.
                let mut weights = weights.clone();
                weights.resize((words.len() + 1) * width, 0.0);
                parts.push(gather(builder, &at, &weights, width));
            }
            Term::Hashed { seed, weights, .. } => {
                let at = buckets(builder, &input, *seed, weights.len() / width.max(1));
                parts.push(gather(builder, &at, weights, width));
            }
        }
    }
    if let Some(x) = builder.beside(&columns) {
        let row = |builder: &mut Builder, values: &[f64]| {
            builder.constant(graph::doubles(&[1, values.len()], values))
        };
        let missing = builder.node("IsNaN", &[&x], Vec::new());
        let fills = row(builder, &fills);
        let x = builder.node("Where", &[&missing, &fills, &x], Vec::new());
        let centers = row(builder, &centers);
        let x = builder.node("Sub", &[&x, &centers], Vec::new());
        let scales = row(builder, &scales);
        let x = builder.node("Div", &[&x, &scales], Vec::new());
        let weights = builder.constant(graph::doubles(&[columns.len(), width], &matrix));
        parts.push(builder.node("MatMul", &[&x, &weights], Vec::new()));
    }
    let mut parts = parts.into_iter();
    let first = parts.next()?;
    let sum = parts.fold(first, |sum, part| builder.node("Add", &[&sum, &part], Vec::new()));
    let intercepts = builder.constant(graph::doubles(&[1, width], &linear.intercepts));
    Some(builder.node("Add", &[&sum, &intercepts], Vec::new()))
}

/// The rows of `weights` that `at`, `rows × 1`, says: `rows × width`.
fn gather(builder: &mut Builder, at: &Edge, weights: &[f64], width: usize) -> Edge {
    let rows = weights.len() / width.max(1);
    let table = builder.constant(graph::doubles(&[rows, width], weights));
    let picked = builder.node("Gather", &[&table, at], vec![graph::int("axis", 0)]);
    let axis = builder.constant(graph::integers(&[1], &[1]));
    builder.node("Squeeze", &[&picked, &axis], Vec::new())
}

/// The buckets of texts. The operator is ONNX Runtime's own: no standard one hashes.
fn buckets(builder: &mut Builder, texts: &Edge, seed: u32, buckets: usize) -> Edge {
    let seed = graph::int("seed", seed.into());
    let hash = builder.of(graph::RUNTIME, "MurmurHash3", &[texts], vec![seed, graph::int("positive", 1)]);
    let hash = builder.cast(&hash, super::proto::element::INT64);
    let buckets = builder.constant(graph::integers(&[1], &[graph::long(buckets)]));
    builder.node("Mod", &[&hash, &buckets], Vec::new())
}

/// MurmurHash3 for x86 with 32 bits, as its author published it: what the operator computes
/// [test: the_hash_is_the_one_that_onnx_runtime_computes].
pub fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mix = |k: u32| k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut h = seed;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        let k = chunk.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte));
        h = (h ^ mix(k)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        h ^= mix(rest.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte)));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the length enters modulo 2^32")]
    let len = bytes.len() as u32;
    h ^= len;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}
