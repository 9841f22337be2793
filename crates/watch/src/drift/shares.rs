//! Distances and a test between counts in the same bins: PSI, Jensen–Shannon and chi-squared.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::{checked_gamma_ur, ln_gamma};

use crate::Error;
use crate::error::same_length;

/// The share that an empty bin is given in [`psi`]: without one, a single row in a new bin would be infinitely far away.
pub const EMPTY: f64 = 1e-4;

fn total(what: &'static str, counts: &[u64]) -> Result<f64, Error> {
    let sum: u64 = counts.iter().sum();
    if sum == 0 { Err(Error::TooFew { what, has: 0, needs: 1 }) } else { Ok(sum as f64) }
}

fn shares<'a>(
    reference: &'a [u64],
    current: &'a [u64],
) -> Result<impl Iterator<Item = (f64, f64)> + 'a, Error> {
    same_length("two rows of bins", reference.len(), current.len())?;
    let (n, m) = (total("the reference", reference)?, total("the window", current)?);
    Ok(reference.iter().zip(current).map(move |(&r, &c)| (r as f64 / n, c as f64 / m)))
}

/// Population stability index: Σ (c − r) ln(c / r) over the shares of the bins; a bin that is empty on one side alone
/// counts there as [`EMPTY`], one that is empty on both as nothing.
///
/// # Errors
/// When the bins are not of one number, or one side holds nothing.
pub fn psi(reference: &[u64], current: &[u64]) -> Result<f64, Error> {
    let filled = |share: f64| if share > 0.0 { share } else { EMPTY };
    Ok(shares(reference, current)?
        .map(|(r, c)| (filled(r), filled(c)))
        .map(|(r, c)| (c - r) * (c / r).ln())
        .sum())
}

/// Jensen–Shannon distance: the square root of the divergence in bits, between 0 (the same) and 1 (nothing in common).
///
/// # Errors
/// When the bins are not of one number, or one side holds nothing.
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> Result<f64, Error> {
    let part = |share: f64, middle: f64| if share > 0.0 { share * (share / middle).ln() } else { 0.0 };
    let divergence: f64 = shares(reference, current)?
        .map(|(r, c)| {
            let middle = (r + c) / 2.0;
            part(r, middle) + part(c, middle)
        })
        .sum();
    Ok((divergence / 2.0 / std::f64::consts::LN_2).clamp(0.0, 1.0).sqrt())
}

/// The result of a chi-squared test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChiSquared {
    /// Σ (seen − expected)² / expected.
    pub statistic: f64,
    /// Bins that hold anything, less one.
    pub degrees: u64,
    /// The probability of such a statistic when both come from one distribution.
    pub p_value: f64,
}

/// The two-sample chi-squared test of homogeneity, without Yates' correction; bins that are empty on both sides do not
/// count. As SciPy's `chi2_contingency(…, correction=False)`.
///
/// # Errors
/// When the bins are not of one number, or one side holds nothing.
pub fn chi_squared(reference: &[u64], current: &[u64]) -> Result<ChiSquared, Error> {
    same_length("two rows of bins", reference.len(), current.len())?;
    let (n, m) = (total("the reference", reference)?, total("the window", current)?);
    let (mut statistic, mut bins) = (0.0, 0u64);
    for (&r, &c) in reference.iter().zip(current).filter(|(r, c)| **r + **c > 0) {
        let both = (r + c) as f64;
        for (seen, side) in [(r, n), (c, m)] {
            let expected = both * side / (n + m);
            statistic += (seen as f64 - expected) * (seen as f64 - expected) / expected;
        }
        bins += 1;
    }
    let degrees = bins.saturating_sub(1);
    Ok(ChiSquared { statistic, degrees, p_value: chi_squared_tail(statistic, degrees) })
}

/// Rows that a bin is expected to hold on either side for its part of χ² to be what the theory says (Cochran, 1954).
const EXPECTED: f64 = 5.0;

/// [`chi_squared`] with all bins that are expected to hold fewer than five rows on one side taken together: many rare
/// categories in a small window would otherwise be an alarm in themselves (at 200 categories and 100 rows, one in twelve
/// windows at a level of one in a hundred).
///
/// # Errors
/// As [`chi_squared`].
pub fn chi_squared_pooled(reference: &[u64], current: &[u64]) -> Result<ChiSquared, Error> {
    same_length("two rows of bins", reference.len(), current.len())?;
    let (n, m) = (total("the reference", reference)?, total("the window", current)?);
    let least = n.min(m) / (n + m);
    let (mut kept, mut rare) = ((Vec::new(), Vec::new()), (0, 0));
    for (&r, &c) in reference.iter().zip(current) {
        if (r + c) as f64 * least >= EXPECTED {
            kept.0.push(r);
            kept.1.push(c);
        } else {
            rare = (rare.0 + r, rare.1 + c);
        }
    }
    kept.0.push(rare.0);
    kept.1.push(rare.1);
    chi_squared(&kept.0, &kept.1)
}

/// Whether a share has changed: so many of so many rows, and so many of so many. χ² where both kinds are expected five
/// times on either side, and Fisher's exact probability (twice that of the smaller tail) where not: a single null in a
/// column that has hardly any is no drift.
///
/// # Errors
/// When one side has no rows.
pub fn share_test(reference: (u64, u64), current: (u64, u64)) -> Result<ChiSquared, Error> {
    let rest = |(hits, rows): (u64, u64)| [hits, rows.saturating_sub(hits)];
    let found = chi_squared(&rest(reference), &rest(current))?;
    let (n, m) = (reference.1 as f64, current.1 as f64);
    let hits = (reference.0 + current.0) as f64;
    let least = hits.min(n + m - hits) * n.min(m) / (n + m);
    if least >= EXPECTED || found.degrees == 0 {
        return Ok(found);
    }
    let p_value = (2.0 * fisher_tail(reference, current).min(fisher_tail(current, reference))).min(1.0);
    Ok(ChiSquared { p_value, ..found })
}

/// The probability that the second side holds at least as many of all hits as it does.
fn fisher_tail(other: (u64, u64), of: (u64, u64)) -> f64 {
    let ln_choose = |n: f64, k: f64| ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    let (hits, rows) = ((other.0 + of.0) as f64, of.1 as f64);
    let misses = (other.1 + of.1) as f64 - hits;
    let all = ln_choose(hits + misses, rows);
    let (mut k, mut sum) = (of.0 as f64, 0.0);
    let mut term = (ln_choose(hits, k) + ln_choose(misses, rows - k) - all).exp();
    while k <= hits.min(rows) {
        sum += term;
        // From one k to the next; once past the middle of the distribution the terms only fall.
        let ratio = (hits - k) * (rows - k) / ((k + 1.0) * (misses - rows + k + 1.0));
        term *= ratio;
        if ratio < 1.0 && term < sum * 1e-17 {
            break;
        }
        k += 1.0;
    }
    sum
}

/// P(χ² with `degrees` degrees of freedom ≥ `statistic`).
fn chi_squared_tail(statistic: f64, degrees: u64) -> f64 {
    if degrees == 0 || statistic.is_nan() || statistic <= 0.0 {
        return 1.0;
    }
    checked_gamma_ur(degrees as f64 / 2.0, statistic / 2.0).map_or(0.0, |p| p.clamp(0.0, 1.0))
}
