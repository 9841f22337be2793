//! Sums of values, that can be added to each other without loss: count, mean, and squares around it.

use serde::{Deserialize, Serialize};

/// What is known of some values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// The sum of the squares of their distances from it.
    pub squares: f64,
}

impl Moments {
    /// Those of values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Moments {
        let mut all = Moments::default();
        for value in values {
            all.add(Moments { n: 1, mean: value, squares: 0.0 });
        }
        all
    }

    /// Those of `n` values of which `hits` are one and the others zero.
    pub fn hits(hits: u64, n: u64) -> Moments {
        let mean = hits.min(n) as f64 / n.max(1) as f64;
        Moments { n, mean, squares: n as f64 * mean * (1.0 - mean) }
    }

    /// Adds others (Chan, Golub, LeVeque 1979). What is not finite is not added: it would never go away.
    pub fn add(&mut self, other: Moments) {
        if other.n == 0 || !(other.mean.is_finite() && other.squares.is_finite() && other.squares >= 0.0) {
            return;
        }
        let (a, b) = (self.n as f64, other.n as f64);
        let distance = other.mean - self.mean;
        self.n += other.n;
        self.mean += distance * b / (a + b);
        self.squares += other.squares + distance * distance * a * b / (a + b);
    }
}
