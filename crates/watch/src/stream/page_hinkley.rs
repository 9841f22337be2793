//! Page (1954) and Hinkley: the sum of what lies above the mean so far, against the lowest it has been; and the same
//! below.
//!
//! After a change it begins anew with the next value. Constant memory.

use serde::{Deserialize, Serialize};

/// Which changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The mean rises.
    Up,
    /// The mean falls.
    Down,
    /// Either.
    Both,
}

/// When a stream counts as changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageHinkleySettings {
    /// Values before anything is said.
    pub min_instances: u64,
    /// The change of the mean that is borne.
    pub delta: f64,
    /// How large the sum has to get.
    pub threshold: f64,
    /// How much of the sum is kept with each value.
    pub alpha: f64,
    /// Which changes count.
    pub direction: Direction,
}

impl Default for PageHinkleySettings {
    /// As river's.
    fn default() -> Self {
        PageHinkleySettings {
            min_instances: 30,
            delta: 0.005,
            threshold: 50.0,
            alpha: 1.0 - 0.0001,
            direction: Direction::Both,
        }
    }
}

/// The detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    sums: Sums,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sums {
    n: u64,
    mean: f64,
    above: f64,
    below: f64,
    /// None before the first value.
    lowest: Option<f64>,
    highest: f64,
}

impl Sums {
    // The highest begins at −1, as in river.
    const NONE: Sums = Sums { n: 0, mean: 0.0, above: 0.0, below: 0.0, lowest: None, highest: -1.0 };
}

impl PageHinkley {
    /// A detector that has seen nothing.
    pub fn new(settings: PageHinkleySettings) -> Self {
        PageHinkley { settings, sums: Sums::NONE, changed: false }
    }

    /// Takes a value in; whether the stream has changed with it. What is not finite is passed over.
    pub fn update(&mut self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        if self.changed {
            self.sums = Sums::NONE;
        }
        let (s, settings) = (&mut self.sums, &self.settings);
        s.n += 1;
        s.mean += (value - s.mean) / s.n as f64;
        let off = value - s.mean;
        s.above = settings.alpha * s.above + off - settings.delta;
        s.below = settings.alpha * s.below + off + settings.delta;
        let lowest = s.lowest.map_or(s.above, |low| low.min(s.above));
        s.lowest = Some(lowest);
        s.highest = s.highest.max(s.below);
        let (up, down) = (s.above - lowest > settings.threshold, s.highest - s.below > settings.threshold);
        self.changed = s.n >= settings.min_instances
            && match settings.direction {
                Direction::Up => up,
                Direction::Down => down,
                Direction::Both => up || down,
            };
        self.changed
    }
}
