//! Maximum mean discrepancy between two sets of embeddings (Gretton and others, 2012), with a Gaussian kernel: the drift
//! of text and images that no single column shows.
//!
//! [`mmd`] is the unbiased estimate with a permutation test, in O((n + m)²); [`mmd_linear`] takes each vector once and
//! knows its own spread, for sets that are too large for that.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;

use crate::{Error, Seeded};

/// Vectors of one length, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Vectors<'a> {
    flat: &'a [f64],
    width: usize,
}

impl<'a> Vectors<'a> {
    /// `flat` in rows of `width`.
    ///
    /// # Errors
    /// When it does not divide into such rows, or holds what is not finite.
    pub fn new(flat: &'a [f64], width: usize) -> Result<Self, Error> {
        if width == 0 || !flat.len().is_multiple_of(width) {
            return Err(Error::Lengths { what: "vectors and their width", left: flat.len(), right: width });
        }
        match flat.iter().find(|x| !x.is_finite()) {
            Some(&value) => Err(Error::Value { what: "an embedding", value, why: "it is not finite" }),
            None => Ok(Vectors { flat, width }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flat.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    fn rows(&self) -> impl Iterator<Item = &'a [f64]> + Clone {
        self.flat.chunks_exact(self.width)
    }
}

/// The result of a test between two sets of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mmd {
    /// The estimate of MMD²; around zero, and below it as often as above, when nothing has changed.
    pub statistic: f64,
    /// The width σ of the kernel exp(−|x − y|² / 2σ²).
    pub bandwidth: f64,
    /// The probability of such a statistic when both sets come from one distribution.
    pub p_value: f64,
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn check(a: &Vectors<'_>, b: &Vectors<'_>, needs: u64) -> Result<(), Error> {
    if a.width != b.width {
        return Err(Error::Lengths { what: "vectors of two sets", left: a.width, right: b.width });
    }
    for (what, set) in [("the reference", a), ("the window", b)] {
        if (set.len() as u64) < needs {
            return Err(Error::TooFew { what, has: set.len() as u64, needs });
        }
    }
    Ok(())
}

/// The median of the distances between different vectors, as σ; 1 when all are the same.
fn median(mut squares: Vec<f64>) -> f64 {
    let half = squares.len() / 2;
    if squares.is_empty() {
        return 1.0;
    }
    let even = squares.len().is_multiple_of(2);
    let (below, &mut upper, _) = squares.select_nth_unstable_by(half, f64::total_cmp);
    let upper = upper.sqrt();
    let lower = if even { below.iter().copied().fold(0.0, f64::max).sqrt() } else { upper };
    let median = (lower + upper) / 2.0;
    if median > 0.0 { median } else { 1.0 }
}

/// The unbiased estimate over all pairs, σ the median distance of all pairs, and the probability by `permutations` random
/// divisions of all vectors: (1 + those at least as far) / (1 + all).
///
/// # Errors
/// When a side has fewer than two vectors, or the widths differ.
pub fn mmd(a: &Vectors<'_>, b: &Vectors<'_>, permutations: usize, seed: u64) -> Result<Mmd, Error> {
    check(a, b, 2)?;
    let (n, m) = (a.len(), b.len());
    let rows: Vec<&[f64]> = a.rows().chain(b.rows()).collect();
    let mut kernel = vec![0.0f64; rows.len() * rows.len()];
    let mut pairs = Vec::with_capacity(rows.len() * (rows.len() - 1) / 2);
    for (i, (x, line)) in rows.iter().zip(kernel.chunks_mut(rows.len())).enumerate() {
        for (y, cell) in rows.iter().zip(line.iter_mut()).skip(i + 1) {
            *cell = squared(x, y);
            pairs.push(*cell);
        }
    }
    let bandwidth = median(pairs);
    let scale = -1.0 / (2.0 * bandwidth * bandwidth);
    kernel.iter_mut().for_each(|cell| *cell = (*cell * scale).exp());
    let mut side: Vec<bool> = (0..n + m).map(|i| i >= n).collect();
    let statistic = unbiased(&kernel, &side, n, m);
    let mut draw = Seeded::new(seed);
    let mut further = 0usize;
    for _ in 0..permutations {
        draw.shuffle(&mut side);
        further += usize::from(unbiased(&kernel, &side, n, m) >= statistic);
    }
    let p_value = (further + 1) as f64 / (permutations + 1) as f64;
    Ok(Mmd { statistic, bandwidth, p_value })
}

/// `kernel` holds the pairs above its diagonal; `side` says who is in the window.
fn unbiased(kernel: &[f64], side: &[bool], n: usize, m: usize) -> f64 {
    let (mut within_a, mut within_b, mut between) = (0.0, 0.0, 0.0);
    for (i, (line, &x)) in kernel.chunks(side.len().max(1)).zip(side).enumerate() {
        let (mut same, mut other) = (0.0, 0.0);
        for (&k, &y) in line.iter().zip(side).skip(i + 1) {
            if x == y { same += k } else { other += k }
        }
        between += other;
        *(if x { &mut within_b } else { &mut within_a }) += same;
    }
    let (n, m) = (n as f64, m as f64);
    2.0 * within_a / (n * (n - 1.0)) + 2.0 * within_b / (m * (m - 1.0)) - 2.0 * between / (n * m)
}

/// Vectors that the width of the kernel is taken from when a set is large.
const WIDTH_FROM: usize = 500;

/// The estimate in linear time: pairs of neighbours, each vector once, over the shorter set's length. Its mean is
/// normal, and so is the probability. σ is the median distance among the first 500 of both.
///
/// Weaker than [`mmd`] for the same vectors: it is for sets where all pairs are out of reach. The order of the vectors
/// is to be random.
///
/// # Errors
/// When a side has fewer than four vectors, or the widths differ.
pub fn mmd_linear(a: &Vectors<'_>, b: &Vectors<'_>) -> Result<Mmd, Error> {
    check(a, b, 4)?;
    let some: Vec<&[f64]> = a.rows().take(WIDTH_FROM).chain(b.rows().take(WIDTH_FROM)).collect();
    let mut pairs = Vec::with_capacity(some.len() * some.len() / 2);
    for (i, x) in some.iter().enumerate() {
        pairs.extend(some.iter().skip(i + 1).map(|y| squared(x, y)));
    }
    let bandwidth = median(pairs);
    let scale = -1.0 / (2.0 * bandwidth * bandwidth);
    let k = |x: &[f64], y: &[f64]| (squared(x, y) * scale).exp();
    let first = a.rows().step_by(2).zip(a.rows().skip(1).step_by(2));
    let second = b.rows().step_by(2).zip(b.rows().skip(1).step_by(2));
    let (mut count, mut mean, mut spread) = (0.0, 0.0, 0.0);
    for ((x, x2), (y, y2)) in first.zip(second) {
        let h = k(x, x2) + k(y, y2) - k(x, y2) - k(x2, y);
        count += 1.0;
        let before = mean;
        mean += (h - mean) / count;
        spread += (h - before) * (h - mean);
    }
    let error = (spread / (count - 1.0) / count).sqrt();
    let p_value = if error > 0.0 {
        erfc(mean / error / std::f64::consts::SQRT_2) / 2.0
    } else {
        f64::from(u8::from(mean <= 0.0))
    };
    Ok(Mmd { statistic: mean, bandwidth, p_value })
}
