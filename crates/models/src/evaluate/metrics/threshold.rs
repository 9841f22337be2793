//! Figures of a decision: what was called positive, and what was.

use serde::{Deserialize, Serialize};

use super::{Weights, ratio, weight};

/// How a binary decision fares, by weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Positive, and called so.
    pub tp: f64,
    /// Negative, and called positive.
    pub fp: f64,
    /// Negative, and called so.
    pub tn: f64,
    /// Positive, and called negative.
    pub fn_: f64,
}

impl Confusion {
    /// Counts rows; `called` says what a row was called.
    pub fn count(labels: &[bool], called: impl Iterator<Item = bool>, weights: Weights<'_>) -> Confusion {
        let mut all = Confusion::default();
        for (row, (label, called)) in labels.iter().zip(called).enumerate() {
            *match (label, called) {
                (true, true) => &mut all.tp,
                (false, true) => &mut all.fp,
                (false, false) => &mut all.tn,
                (true, false) => &mut all.fn_,
            } += weight(weights, row);
        }
        all
    }

    /// Counts rows that are called positive from `threshold` up.
    pub fn at(labels: &[bool], scores: &[f64], weights: Weights<'_>, threshold: f64) -> Confusion {
        Confusion::count(labels, scores.iter().map(|s| *s >= threshold), weights)
    }

    /// The weight of all rows.
    pub fn total(&self) -> f64 {
        self.tp + self.fp + self.tn + self.fn_
    }

    /// The share that was called right.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.tp + self.tn, self.total())
    }

    /// The share of right ones among those called positive.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.tp, self.tp + self.fp)
    }

    /// The share of positives that were called so: the true positive rate.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.tp, self.tp + self.fn_)
    }

    /// The share of negatives that were called positive.
    pub fn fpr(&self) -> Option<f64> {
        ratio(self.fp, self.fp + self.tn)
    }

    /// The share of positives that were called negative.
    pub fn fnr(&self) -> Option<f64> {
        ratio(self.fn_, self.tp + self.fn_)
    }

    /// The harmonic mean of precision and recall; undefined only where neither positives nor calls are.
    pub fn f1(&self) -> Option<f64> {
        ratio(2.0 * self.tp, 2.0 * self.tp + self.fp + self.fn_)
    }

    /// The share that was called positive.
    pub fn selection_rate(&self) -> Option<f64> {
        ratio(self.tp + self.fp, self.total())
    }

    /// What mistakes cost a row, on average.
    pub fn cost(&self, false_positive: f64, false_negative: f64) -> Option<f64> {
        ratio(self.fp * false_positive + self.fn_ * false_negative, self.total())
    }
}
