//! ADWIN (Bifet and Gavaldà, 2007): a window that grows while nothing changes, and drops its older part when the means
//! of some cut differ by more than chance.
//!
//! The window is an exponential histogram: row `r` holds at most `max_buckets` buckets of `2^r` values each; when there
//! is one more, the two oldest become one of the next row. So memory and time are logarithmic in the window. The bound
//! is the one with the variance of the window. After a change it begins anew with the next value, as river's does.
//!
//! Invariant: the buckets' sizes add up to the width, their totals to the total.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// When a window counts as changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdwinSettings {
    /// The probability of a change that is none.
    pub delta: f64,
    /// A cut is looked for with each so many values.
    pub clock: u64,
    /// Buckets of one size.
    pub max_buckets: usize,
    /// Values that either side of a cut needs.
    pub min_window_length: f64,
    /// Values before anything is said.
    pub grace_period: f64,
}

impl Default for AdwinSettings {
    /// As river's.
    fn default() -> Self {
        AdwinSettings { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5.0, grace_period: 10.0 }
    }
}

/// The detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    settings: AdwinSettings,
    window: Window,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    /// Sum of squared distances from its mean.
    spread: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    rows: Vec<VecDeque<Bucket>>,
    width: f64,
    total: f64,
    spread: f64,
    ticks: u64,
}

/// The squared distances that come to two groups when they are put together.
fn between(n: f64, mean: f64, m: f64, other: f64) -> f64 {
    n * m * (mean - other) * (mean - other) / (n + m)
}

fn size(row: usize) -> f64 {
    2f64.powi(i32::try_from(row).unwrap_or(i32::MAX))
}

impl Adwin {
    /// A detector that has seen nothing.
    pub fn new(settings: AdwinSettings) -> Self {
        Adwin { settings, window: Window::default(), changed: false }
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.window.width as u64
    }

    /// Their mean; none of none.
    pub fn mean(&self) -> Option<f64> {
        (self.window.width > 0.0).then(|| self.window.total / self.window.width)
    }

    /// Their variance; none of none.
    pub fn variance(&self) -> Option<f64> {
        (self.window.width > 0.0).then(|| self.window.spread / self.window.width)
    }

    /// Takes a value in; whether the stream has changed with it. What is not finite is passed over.
    pub fn update(&mut self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        if self.changed {
            self.window = Window::default();
        }
        let (w, settings) = (&mut self.window, &self.settings);
        w.insert(value, settings.max_buckets.max(1));
        w.ticks += 1;
        self.changed = false;
        if w.ticks.is_multiple_of(settings.clock.max(1)) && w.width > settings.grace_period {
            while w.has_cut(settings) {
                self.changed = true;
                w.drop_oldest();
            }
        }
        self.changed
    }
}

impl Window {
    fn insert(&mut self, value: f64, most: usize) {
        if self.width > 0.0 {
            self.spread += between(self.width, self.total / self.width, 1.0, value);
        }
        self.width += 1.0;
        self.total += value;
        let mut carried = Some(Bucket { total: value, spread: 0.0 });
        let mut r = 0;
        while let Some(bucket) = carried.take() {
            if r == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            let Some(row) = self.rows.get_mut(r) else { return };
            row.push_back(bucket);
            if row.len() > most
                && let (Some(a), Some(b)) = (row.pop_front(), row.pop_front())
            {
                let n = size(r);
                let spread = a.spread + b.spread + between(n, a.total / n, n, b.total / n);
                carried = Some(Bucket { total: a.total + b.total, spread });
            }
            r += 1;
        }
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.len().checked_sub(1) else { return };
        let Some(bucket) = self.rows.last_mut().and_then(VecDeque::pop_front) else { return };
        let n = size(row);
        self.width -= n;
        self.total -= bucket.total;
        let rest = if self.width > 0.0 {
            between(n, bucket.total / n, self.width, self.total / self.width)
        } else {
            0.0
        };
        self.spread -= bucket.spread + rest;
        while self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
    }

    /// Whether some cut parts means that differ by more than chance.
    fn has_cut(&self, settings: &AdwinSettings) -> bool {
        let (mut n0, mut n1) = (0.0, self.width);
        let (mut total0, mut total1) = (0.0, self.total);
        for (r, row) in self.rows.iter().enumerate().rev() {
            for bucket in row {
                n0 += size(r);
                n1 -= size(r);
                total0 += bucket.total;
                total1 -= bucket.total;
                let enough = n1 >= settings.min_window_length && n0 >= settings.min_window_length;
                if enough && self.differ(n0, n1, total0 / n0 - total1 / n1, settings) {
                    return true;
                }
            }
        }
        false
    }

    fn differ(&self, n0: f64, n1: f64, by: f64, settings: &AdwinSettings) -> bool {
        let d = (2.0 * self.width.ln() / settings.delta).ln();
        let least = settings.min_window_length;
        let m = 1.0 / (n0 - least + 1.0) + 1.0 / (n1 - least + 1.0);
        let variance = self.spread / self.width;
        by.abs() > (2.0 * m * variance * d).sqrt() + 2.0 / 3.0 * d * m
    }
}
