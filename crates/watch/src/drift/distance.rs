//! One walk over two ordered distributions, which gives the Kolmogorov–Smirnov distance and Wasserstein-1 at once.

use crate::Error;
use crate::sketch::steps::{Cumulative, Sorted, Steps};

/// What one walk finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Distances {
    /// max |F − G|.
    pub(super) ks: f64,
    /// ∫ |F − G|.
    pub(super) w1: f64,
    /// Values of the reference.
    pub(super) reference: u64,
    /// Values of the window.
    pub(super) current: u64,
    /// From the smallest to the largest value of both.
    pub(super) range: f64,
    /// How far |F − G| can be off anywhere.
    pub(super) error: f64,
}

/// Walks both in ascending order.
pub(super) fn walk(a: &impl Cumulative, b: &impl Cumulative) -> Result<Distances, Error> {
    let (n, m) = (a.total(), b.total());
    for (what, has) in [("the reference", n), ("the window", m)] {
        if has == 0 {
            return Err(Error::TooFew { what, has, needs: 1 });
        }
    }
    let (nf, mf) = (n as f64, m as f64);
    let (mut i, mut j) = (0, 0);
    let (mut ks, mut w1) = (0.0f64, 0.0f64);
    let (mut gap, mut last, mut first) = (0.0f64, f64::NAN, f64::NAN);
    loop {
        let value = match (a.value(i), b.value(j)) {
            (Some(x), Some(y)) => x.min(y),
            (Some(x), None) => x,
            (None, Some(y)) => y,
            (None, None) => break,
        };
        if last.is_nan() {
            first = value;
        } else {
            w1 += gap * (value - last);
        }
        (i, j) = (a.past(i, value), b.past(j, value));
        gap = (a.before(i) as f64 / nf - b.before(j) as f64 / mf).abs();
        ks = ks.max(gap);
        last = value;
    }
    Ok(Distances { ks, w1, reference: n, current: m, range: last - first, error: 0.0 })
}

/// Wasserstein-1 of two samples, each sorted in ascending order, without NaN: the area between their cumulative shares, in
/// the units of the column. Exact.
///
/// # Errors
/// When one is empty.
pub fn wasserstein(reference: &[f64], current: &[f64]) -> Result<f64, Error> {
    Ok(walk(&Sorted(reference), &Sorted(current))?.w1)
}

/// Wasserstein-1 of two distributions in steps, and how far it can be off: both bounds times the range of the values.
///
/// # Errors
/// When one is empty.
pub fn wasserstein_of_steps(reference: &Steps, current: &Steps) -> Result<(f64, f64), Error> {
    let found = walk(reference, current)?;
    Ok((found.w1, (reference.error() + current.error()) * found.range))
}
