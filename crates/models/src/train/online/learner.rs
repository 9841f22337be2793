//! The coefficients, and how a gradient moves one. Pure.

use super::config::Learner;

/// What is kept of a coefficient: itself under SGD; under FTRL the sum `z` it follows from, and the gradients' squares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Kept {
    pub(super) z: f64,
    pub(super) n: f64,
}

impl Kept {
    /// The coefficient.
    pub(super) fn weight(self, learner: Learner) -> f64 {
        match learner {
            Learner::Sgd { .. } => self.z,
            Learner::Ftrl { alpha, beta, l1, l2 } => {
                if self.z.abs() <= l1 {
                    0.0
                } else {
                    (self.z.signum() * l1 - self.z) / ((beta + self.n.sqrt()) / alpha + l2)
                }
            }
        }
    }

    /// Moves it by the gradient of a row's loss.
    pub(super) fn learn(&mut self, learner: Learner, gradient: f64) {
        match learner {
            Learner::Sgd { rate, l2 } => self.z -= rate * (gradient + l2 * self.z),
            Learner::Ftrl { alpha, .. } => {
                let weight = self.weight(learner);
                let n = self.n + gradient * gradient;
                let sigma = (n.sqrt() - self.n.sqrt()) / alpha;
                self.z += gradient - sigma * weight;
                self.n = n;
            }
        }
    }
}

/// Mean and variance of what came so far (Welford, 1962).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Moments {
    pub(super) count: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Moments {
    pub(super) fn take(&mut self, x: f64) {
        self.count += 1.0;
        let off = x - self.mean;
        self.mean += off / self.count;
        self.squares += off * (x - self.mean);
    }

    /// The deviation; 1 when there is none.
    pub(super) fn scale(&self) -> f64 {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        if deviation > 0.0 { deviation } else { 1.0 }
    }

    /// `x` around the mean, in deviations; a missing one, and one of no variance, is at the mean.
    pub(super) fn standard(&self, x: f64) -> f64 {
        if x.is_nan() || self.squares <= 0.0 { 0.0 } else { (x - self.mean) / self.scale() }
    }
}
