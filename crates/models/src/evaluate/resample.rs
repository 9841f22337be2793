//! Resampling from a seed: the same seed and the same rows give the same intervals, on every machine.

use rand::RngExt;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::metrics::calibration::quantile;

/// How resampling is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resampling {
    /// How many times.
    pub replicates: u32,
    /// How sure an interval is: 0.95.
    pub confidence: f64,
    /// Where the randomness comes from.
    pub seed: u64,
}

impl Default for Resampling {
    /// A thousand times, 95 %.
    fn default() -> Self {
        Resampling { replicates: 1_000, confidence: 0.95, seed: 1 }
    }
}

/// A figure with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// The low end.
    pub low: f64,
    /// The high end.
    pub high: f64,
}

impl Resampling {
    /// The generator for a purpose: what is drawn for one does not depend on what is drawn for another.
    pub(crate) fn generator(&self, purpose: &str) -> Pcg64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Pcg64::from_seed(*hasher.finalize().as_bytes())
    }

    /// The percentile interval of replicated figures (Efron 1979), at this confidence. `None` when fewer than half of the replicates
    /// are defined: then nothing is known.
    pub(crate) fn percentiles(&self, value: f64, mut replicates: Vec<f64>) -> Option<Interval> {
        if replicates.len() * 2 < self.replicates as usize || replicates.is_empty() {
            return None;
        }
        replicates.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { value, low: quantile(&replicates, tail)?, high: quantile(&replicates, 1.0 - tail)? })
    }
}

/// Draws as many rows as there are, with replacement, and says how often each was drawn, times its weight.
pub(crate) fn draw(generator: &mut Pcg64, weights: super::metrics::Weights<'_>, out: &mut [f64]) {
    out.fill(0.0);
    for _ in 0..out.len() {
        let at = generator.random_range(0..out.len() as u64);
        if let Some(count) = out.get_mut(at as usize) {
            *count += 1.0;
        }
    }
    if let Some(weights) = weights {
        out.iter_mut().zip(weights).for_each(|(count, w)| *count *= w);
    }
}
