//! Seeded randomness: equal seeds give equal plans on every machine and in every version of this program.
//!
//! Splitmix64 and the few distributions a plan needs. Not for secrets.

use std::f64::consts::TAU;

/// A sequence of numbers that its seed decides.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A sequence of its own for one purpose, so that one purpose more does not change the others.
    pub(super) fn fork(&self, purpose: u64) -> Self {
        let mut one = Random(self.0 ^ purpose.wrapping_mul(0xA076_1D64_78BD_642F));
        Random(one.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0 and at most 1: it has a logarithm.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Below `n`; 0 when there is nothing to choose from.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let n = n as u128;
        // The high half of the product: at most `n - 1`.
        usize::try_from((u128::from(self.next()) * n) >> 64).unwrap_or(0)
    }

    /// Standard normal, by Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (TAU * self.unit()).cos()
    }

    /// Exponential of mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Gamma of shape `shape` and mean 1, by Marsaglia and Tsang (2000); a shape below 1 by their boost.
    pub(super) fn gamma(&mut self, shape: f64) -> f64 {
        let boosted = if shape < 1.0 { shape + 1.0 } else { shape };
        let d = boosted - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        let drawn = loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                break d * v;
            }
        };
        let boost = if shape < 1.0 { self.unit().powf(1.0 / shape) } else { 1.0 };
        drawn * boost / shape
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mean(n: usize, mut draw: impl FnMut() -> f64) -> f64 {
        (0..n).map(|_| draw()).sum::<f64>() / n as f64
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn distributions_have_their_means(seed in any::<u64>()) {
            let mut r = Random::new(seed);
            prop_assert!((mean(20_000, || r.unit()) - 0.5).abs() < 0.02);
            prop_assert!(mean(20_000, || r.normal()).abs() < 0.05);
            prop_assert!((mean(20_000, || r.exponential()) - 1.0).abs() < 0.05);
            // A mean over draws of variance 9 has a deviation of 0.02.
            prop_assert!((mean(20_000, || r.gamma(1.0 / 9.0)) - 1.0).abs() < 0.12);
            prop_assert!((mean(20_000, || r.gamma(4.0)) - 1.0).abs() < 0.05);
        }

        #[test]
        fn a_choice_is_among_those_there_are(seed in any::<u64>(), n in 0usize..1_000) {
            let chosen = Random::new(seed).below(n);
            prop_assert!(chosen < n.max(1));
        }
    }
}
