//! Samples and their figures.

use std::time::Duration;

/// Durations of equal things.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, d: Duration) {
        self.0.push(d);
    }

    pub(crate) fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that a share of all does not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1].as_secs_f64() * 1e3
    }

    /// A line of a table: name, count, median, p99, largest.
    pub(crate) fn row(&self, name: &str) {
        let q = |share| self.quantile(share);
        println!("| {name} | {} | {:.2} | {:.2} | {:.2} |", self.len(), q(0.5), q(0.99), q(1.0));
    }
}

/// The head of a table of such lines.
pub(crate) fn head(title: &str) {
    println!("\n### {title}\n\n| what | n | median ms | p99 ms | max ms |\n|---|---|---|---|---|");
}
