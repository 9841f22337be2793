//! The two-sample Kolmogorov–Smirnov test, as SciPy's `ks_2samp(method="auto")`: exact where both samples hold at most
//! 10,000 values, and by the limiting one-sample distribution above. Both are the same test of the same distance: only
//! the way its probability is computed changes, and nothing is ever sampled down.

use serde::{Deserialize, Serialize};

use super::distance::{self, Distances};
use super::kolmogorov::{gcd, one_sample_tail, two_samples_exact};
use crate::Error;
use crate::sketch::Steps;

/// Up to here the probability is counted out.
const EXACT: u64 = 10_000;

/// How the probability was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KsMethod {
    /// Every order of the two samples is counted.
    Exact,
    /// One sample of `n·m / (n + m)` values against a known distribution.
    Asymptotic,
}

/// The result of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ks {
    /// The largest distance between the two cumulative shares.
    pub statistic: f64,
    /// How far the distance can be off: 0 from samples, the sum of both bounds from sketches.
    pub error: f64,
    /// The probability of such a distance when both come from one distribution. From sketches: of the distance less its
    /// error, so that a sketch's error never passes for drift.
    pub p_value: f64,
    /// How it was computed.
    pub method: KsMethod,
}

/// Tests two samples, each sorted in ascending order, without NaN.
///
/// # Errors
/// When one is empty.
pub fn ks(reference: &[f64], current: &[f64]) -> Result<Ks, Error> {
    let found = distance::walk_samples(reference, current)?;
    Ok(from_distances(&found))
}

/// Tests two distributions in steps, of sketches or of samples.
///
/// # Errors
/// When one is empty.
pub fn ks_of_steps(reference: &Steps, current: &Steps) -> Result<Ks, Error> {
    let mut found = distance::walk(reference, current)?;
    found.error = reference.error() + current.error();
    Ok(from_distances(&found))
}

/// The test of a distance that a walk has found.
pub(super) fn from_distances(found: &Distances) -> Ks {
    let (n, m) = (found.reference, found.current);
    let sure = (found.ks - found.error).max(0.0);
    let exact = n.max(m) <= EXACT && found.error == 0.0;
    let (method, p_value) = if exact {
        let lcm = n / gcd(n, m) * m;
        (KsMethod::Exact, two_samples_exact(n, m, (sure * lcm as f64).round() as u64))
    } else {
        let (n, m) = (n as f64, m as f64);
        // Half to even, as NumPy rounds.
        let size = (n * m / (n + m)).round_ties_even().max(1.0) as u64;
        (KsMethod::Asymptotic, one_sample_tail(size, sure))
    };
    Ks { statistic: found.ks, error: found.error, p_value, method }
}
