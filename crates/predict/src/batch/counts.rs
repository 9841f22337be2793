//! What became of requests, since the model was loaded.

use std::collections::BTreeMap;
use std::time::Duration;

/// Runs of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfSize {
    /// How many runs.
    pub runs: u64,
    /// How long they took together.
    pub took: Duration,
}

/// Counters. Each request is in exactly one of `answered`, `failed`, `refused`, `expired` and `cancelled` when it has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests with an answer.
    pub answered: u64,
    /// Rows of those.
    pub rows: u64,
    /// Requests whose run failed.
    pub failed: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// Requests whose deadline passed while they waited.
    pub expired: u64,
    /// Requests whose caller left while they waited.
    pub cancelled: u64,
    /// Batches that failed and were run again one by one.
    pub parted: u64,
    /// Waiting of all that were run, together.
    pub queued: Duration,
    /// Runs by rows.
    pub runs: BTreeMap<usize, OfSize>,
}

impl Counts {
    /// All runs.
    pub fn all_runs(&self) -> OfSize {
        let sum = |a: OfSize, b: &OfSize| OfSize { runs: a.runs + b.runs, took: a.took + b.took };
        self.runs.values().fold(OfSize::default(), sum)
    }

    pub(super) fn ran(&mut self, rows: usize, took: Duration) {
        // Sizes beyond are counted as the power of two that they reach, so that the table is bounded.
        let size = if rows <= 64 { rows } else { 1 << rows.ilog2() };
        let of = self.runs.entry(size).or_default();
        of.runs += 1;
        of.took += took;
    }
}
