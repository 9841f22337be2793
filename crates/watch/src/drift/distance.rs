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

/// Walks two samples: the same, in whole numbers and without branches that nobody can predict. The gap is
/// |i·m − j·n| until the end, so that equal shares are exactly equal.
pub(super) fn walk_samples(a: &[f64], b: &[f64]) -> Result<Distances, Error> {
    let (n, m) = (a.len() as i64, b.len() as i64);
    let (Some(&first_a), Some(&first_b)) = (a.first(), b.first()) else {
        return walk(&Sorted(a), &Sorted(b));
    };
    // n·m has to fit: it does up to three billion rows each.
    if n.checked_mul(m).is_none() {
        return walk(&Sorted(a), &Sorted(b));
    }
    let first = first_a.min(first_b);
    let (mut i, mut j, mut gap, mut ks, mut w1, mut last) = (0, 0, 0i64, 0i64, 0.0, first);
    let mut step = |value: f64, gap: i64| {
        // Within one value the gap is not done; its width is zero there.
        ks = ks.max(if value > last { gap.abs() } else { 0 });
        w1 += gap.abs() as f64 * (value - last);
        last = value;
    };
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        step(if x < y { x } else { y }, gap);
        let (from_a, from_b) = (x <= y, y <= x);
        i += usize::from(from_a);
        j += usize::from(from_b);
        gap += (if from_a { m } else { 0 }) - (if from_b { n } else { 0 });
    }
    for &x in a.get(i..).unwrap_or_default() {
        step(x, gap);
        gap += m;
    }
    for &y in b.get(j..).unwrap_or_default() {
        step(y, gap);
        gap -= n;
    }
    let all = (n * m) as f64;
    let range = last - first;
    Ok(Distances {
        ks: ks as f64 / all,
        w1: w1 / all,
        reference: n as u64,
        current: m as u64,
        range,
        error: 0.0,
    })
}

/// Wasserstein-1 of two samples, each sorted in ascending order, without NaN: the area between their cumulative shares,
/// in the units of the column. Exact.
///
/// # Errors
/// When one is empty.
pub fn wasserstein(reference: &[f64], current: &[f64]) -> Result<f64, Error> {
    Ok(walk_samples(reference, current)?.w1)
}

/// Wasserstein-1 of two distributions in steps, and how far it can be off: both bounds times the range of the values.
///
/// # Errors
/// When one is empty.
pub fn wasserstein_of_steps(reference: &Steps, current: &Steps) -> Result<(f64, f64), Error> {
    let found = walk(reference, current)?;
    Ok((found.w1, (reference.error() + current.error()) * found.range))
}
