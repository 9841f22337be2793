//! How sure a number is: an interval that holds the true one with a stated probability, by a formula where there is a
//! good one and by resampling where there is none.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erf_inv;

use crate::Seeded;

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Wilson's score interval of a share.
    Wilson,
    /// DeLong's variance of an AUC.
    DeLong,
    /// A mean of many is normal.
    Normal,
    /// Quantiles over resampled rows.
    Bootstrap,
    /// Quantiles over labels drawn from estimated probabilities.
    Drawn,
}

/// An interval around an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The probability that it holds the true value.
    pub level: f64,
    /// How it was made.
    pub method: IntervalMethod,
}

impl Interval {
    /// Whether a value lies in it.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// The half-width of a standard normal interval: 1.96 for 0.95.
pub(crate) fn z(level: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv(level.clamp(0.0, 1.0 - 1e-15))
}

/// Wilson (1927): a share of `hits` in `n`; none without rows.
pub fn wilson(hits: f64, n: f64, level: f64) -> Option<Interval> {
    if n <= 0.0 {
        return None;
    }
    let (p, z) = (hits / n, z(level));
    let z2 = z * z;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
        level,
        method: IntervalMethod::Wilson,
    })
}

/// The mean of independent values; none of fewer than two.
pub fn normal_mean(values: &[f64], level: f64) -> Option<Interval> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    let half = z(level) * (variance / n).sqrt();
    Some(Interval { low: mean - half, high: mean + half, level, method: IntervalMethod::Normal })
}

/// DeLong, DeLong and Clarke-Pearson (1988), by ranks (Sun and Xu, 2014): the AUC of scores, of positives against
/// negatives; none with fewer than two of either.
pub fn delong(positives: &[f64], negatives: &[f64], level: f64) -> Option<Interval> {
    let (m, n) = (positives.len() as f64, negatives.len() as f64);
    if positives.len() < 2 || negatives.len() < 2 {
        return None;
    }
    let sorted = |v: &[f64]| {
        let mut v = v.to_vec();
        v.sort_unstable_by(f64::total_cmp);
        v
    };
    let (up, down) = (sorted(positives), sorted(negatives));
    // The share of `others` below a value, ties by half.
    let below = |others: &[f64], value: f64| {
        let (less, upto) = (others.partition_point(|&o| o < value), others.partition_point(|&o| o <= value));
        (less + upto) as f64 / 2.0 / others.len() as f64
    };
    let variance = |of: &[f64], against: &[f64]| {
        let shares: Vec<f64> = of.iter().map(|&v| below(against, v)).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let squares = shares.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>();
        (mean, squares / (shares.len() - 1) as f64)
    };
    let (auc, of_positives) = variance(&up, &down);
    let (_, of_negatives) = variance(&down, &up);
    let half = z(level) * (of_positives / m + of_negatives / n).sqrt();
    Some(Interval {
        low: (auc - half).max(0.0),
        high: (auc + half).min(1.0),
        level,
        method: IntervalMethod::DeLong,
    })
}

/// The quantiles of a statistic over `times` resamples of `rows` rows with replacement. The statistic is given the row
/// numbers; where it is undefined it counts for nothing, and none is returned when it is undefined more often than not.
pub fn bootstrap(
    rows: usize,
    times: usize,
    level: f64,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    let mut draw = Seeded::new(seed);
    let mut picked = vec![0; rows];
    let mut found = Vec::with_capacity(times);
    for _ in 0..times {
        picked.iter_mut().for_each(|row| *row = draw.below(rows));
        found.extend(statistic(&picked).filter(|v| v.is_finite()));
    }
    if found.len() * 2 < times || rows == 0 {
        return None;
    }
    between(found, level, IntervalMethod::Bootstrap)
}

/// The middle of drawn values.
pub(super) fn between(mut found: Vec<f64>, level: f64, method: IntervalMethod) -> Option<Interval> {
    found.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (found.len().saturating_sub(1)) as f64;
        let (low, high) = (found.get(place.floor() as usize)?, found.get(place.ceil() as usize)?);
        Some(low + (high - low) * place.fract())
    };
    let tail = (1.0 - level) / 2.0;
    Some(Interval { low: at(tail)?, high: at(1.0 - tail)?, level, method })
}
