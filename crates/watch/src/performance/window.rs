//! Predictions by the time they were made, joined with labels that come later, and whether a window's labels are in.
//!
//! ```text
//! open ── its end has passed ──▶ waiting ── all labelled, or the watermark is past end + wait and enough are ──▶ mature
//!                                   └── the watermark is past end + wait and too few are ──▶ incomplete
//! ```
//!
//! The *watermark* is what the source of labels promises: all that became known before it has come. Without such a
//! promise it does not move, and only windows that are wholly labelled mature. Labels may come before their prediction,
//! twice (the first counts), and after their window matured (it is measured again then).
//!
//! Only a mature window can be measured: [`Matured`] comes from [`Windows::matured`] alone, a [`MatureValue`] from
//! [`Matured`] alone, and [`compare`] takes nothing else; so an immature window is never compared with a mature one.
//!
//! Invariants: at most `max_rows` predictions and as many early labels are held, and what did not fit is counted; a
//! prediction is in one window and counted once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahash::AHashMap;
use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::interval::Interval;
use crate::Error;

/// How windows are cut, and when their labels count as in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSettings {
    /// How long a window is; windows begin at multiples of it since 1970 (UTC).
    pub width: Duration,
    /// How long after the end of a window its labels come.
    pub wait: Duration,
    /// The share of its predictions that has to be labelled then.
    pub min_share: f64,
    /// Predictions held at most, over all windows; and as many labels whose prediction has not come.
    pub max_rows: usize,
    /// Windows held at most: the oldest goes.
    pub max_windows: usize,
}

impl Default for WindowSettings {
    /// A day, labels within a day, 80 % of them, a million rows, 400 windows.
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        WindowSettings { width: day, wait: day, min_share: 0.8, max_rows: 1_000_000, max_windows: 400 }
    }
}

/// How far the labels of a window are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// Predictions may still come.
    Open,
    /// Labels may still come.
    Waiting,
    /// Labels are in.
    Mature,
    /// Labels are overdue and too few: it is not compared.
    Incomplete,
}

/// A window for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowState {
    /// Its first moment.
    pub start: UnixMillis,
    /// Its first moment past it.
    pub end: UnixMillis,
    /// Predictions in it.
    pub predicted: u64,
    /// Those with a label.
    pub labelled: u64,
    /// How far its labels are.
    pub maturity: Maturity,
}

/// Windows of predictions of one model; `P` is what was predicted and `L` what became known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Windows<P, L> {
    settings: WindowSettings,
    /// By their starts.
    windows: BTreeMap<i64, Rows<P, L>>,
    /// The window of each prediction.
    places: AHashMap<Box<str>, i64>,
    /// Labels whose prediction has not come.
    early: AHashMap<Box<str>, L>,
    /// Their ids as they came, with those of predictions that have come since.
    early_order: VecDeque<Box<str>>,
    watermark: UnixMillis,
    dropped: u64,
}

/// What was predicted, and what was true if it is known; by the prediction's id.
type Rows<P, L> = AHashMap<Box<str>, (P, Option<L>)>;

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX).max(1)
}

impl<P: Clone, L: Clone> Windows<P, L> {
    /// No windows yet.
    ///
    /// # Errors
    /// When `min_share` is no share above zero.
    pub fn new(settings: WindowSettings) -> Result<Self, Error> {
        if !(settings.min_share > 0.0 && settings.min_share <= 1.0) {
            return Err(Error::Setting {
                name: "min_share",
                why: "it is a share, above 0 and at most 1".into(),
            });
        }
        Ok(Windows {
            settings,
            windows: BTreeMap::new(),
            places: AHashMap::new(),
            early: AHashMap::new(),
            early_order: VecDeque::new(),
            watermark: UnixMillis(i64::MIN),
            dropped: 0,
        })
    }

    /// A prediction was made. One that is known already is not taken again.
    pub fn predicted(&mut self, id: &str, at: UnixMillis, prediction: P) {
        if self.places.contains_key(id) {
            return;
        }
        let width = millis(self.settings.width);
        let start = at.0.div_euclid(width) * width;
        let new = !self.windows.contains_key(&start);
        let full = self.places.len() >= self.settings.max_rows
            || (new && self.windows.len() >= self.settings.max_windows.max(1));
        if full && !self.make_room(start) {
            self.dropped += 1;
            return;
        }
        let label = self.early.remove(id);
        self.places.insert(id.into(), start);
        self.windows.entry(start).or_default().insert(id.into(), (prediction, label));
    }

    /// Lets the oldest window go, if it is older than this one.
    fn make_room(&mut self, start: i64) -> bool {
        let Some(oldest) = self.windows.first_entry().filter(|oldest| *oldest.key() < start) else {
            return false;
        };
        for id in oldest.remove().keys() {
            self.places.remove(id);
        }
        true
    }

    /// What was true became known.
    pub fn labelled(&mut self, id: &str, label: L) {
        let Some(start) = self.places.get(id) else {
            if self.early.contains_key(id) {
                return;
            }
            // Some never have a prediction here: the oldest goes.
            while self.early_order.len() >= self.settings.max_rows.max(1) {
                let Some(oldest) = self.early_order.pop_front() else { break };
                self.dropped += u64::from(self.early.remove(&oldest).is_some());
            }
            self.early_order.push_back(id.into());
            self.early.insert(id.into(), label);
            return;
        };
        if let Some((_, place)) = self.windows.get_mut(start).and_then(|rows| rows.get_mut(id)) {
            place.get_or_insert(label);
        }
    }

    /// The source of labels says that all that became known before `upto` have come. It never goes back.
    pub fn advance(&mut self, upto: UnixMillis) {
        self.watermark = self.watermark.max(upto);
    }

    /// Predictions, and labels without one, that there was no room for. Windows that went because of their age do not
    /// count.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn state(&self, now: UnixMillis, start: i64, rows: &Rows<P, L>) -> WindowState {
        let end = start.saturating_add(millis(self.settings.width));
        let predicted = rows.len() as u64;
        let labelled = rows.values().filter(|(_, label)| label.is_some()).count() as u64;
        let due = self.watermark.0 >= end.saturating_add(millis(self.settings.wait));
        let enough = labelled > 0 && labelled as f64 >= self.settings.min_share * predicted as f64;
        let maturity = match () {
            () if now.0 < end => Maturity::Open,
            () if labelled == predicted => Maturity::Mature,
            () if !due => Maturity::Waiting,
            () if enough => Maturity::Mature,
            () => Maturity::Incomplete,
        };
        WindowState { start: UnixMillis(start), end: UnixMillis(end), predicted, labelled, maturity }
    }

    /// All windows, the oldest first.
    pub fn states(&self, now: UnixMillis) -> Vec<WindowState> {
        self.windows.iter().map(|(&start, rows)| self.state(now, start, rows)).collect()
    }

    /// The rows of a window whose labels are in.
    ///
    /// # Errors
    /// When they are not, or there is no such window.
    pub fn matured(&self, now: UnixMillis, start: UnixMillis) -> Result<Matured<P, L>, Error> {
        let none = Error::Immature { labelled: 0, predicted: 0 };
        let rows = self.windows.get(&start.0).ok_or(none)?;
        let state = self.state(now, start.0, rows);
        if state.maturity != Maturity::Mature {
            return Err(Error::Immature { labelled: state.labelled, predicted: state.predicted });
        }
        let mut pairs: Vec<(&Box<str>, P, L)> =
            rows.iter().filter_map(|(id, (p, label))| Some((id, p.clone(), label.clone()?))).collect();
        // The order of a hash map is not the same in the next process, and resampling goes by row numbers.
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let pairs = pairs.into_iter().map(|(_, p, l)| (p, l)).collect();
        Ok(Matured { state, pairs })
    }

    /// The predictions of a window, labelled or not, for an estimate; in the order of their ids.
    pub fn predictions(&self, start: UnixMillis) -> Vec<P> {
        let rows = self.windows.get(&start.0);
        let mut all: Vec<(&Box<str>, &P)> = rows.into_iter().flatten().map(|(id, (p, _))| (id, p)).collect();
        all.sort_by(|a, b| a.0.cmp(b.0));
        all.into_iter().map(|(_, p)| p.clone()).collect()
    }
}

/// A window whose labels are in.
#[derive(Debug, Clone, PartialEq)]
pub struct Matured<P, L> {
    state: WindowState,
    pairs: Vec<(P, L)>,
}

impl<P, L> Matured<P, L> {
    /// Which window, and how much of it is labelled.
    pub fn state(&self) -> WindowState {
        self.state
    }

    /// The labelled rows.
    pub fn pairs(&self) -> &[(P, L)] {
        &self.pairs
    }

    /// A value of this window, which can be compared with that of another.
    pub fn measured(&self, measure: super::Measure) -> MatureValue {
        MatureValue { window: self.state, value: measure.value, interval: measure.interval }
    }
}

/// What was measured in a window whose labels were in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MatureValue {
    window: WindowState,
    value: f64,
    interval: Option<Interval>,
}

impl MatureValue {
    /// Of which window.
    pub fn window(&self) -> WindowState {
        self.window
    }

    /// The value.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Where the true one is likely to be.
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }
}

/// How a value has moved from one mature window to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Later less earlier.
    pub by: f64,
    /// Whether the intervals have nothing in common: a move that chance alone is unlikely to make. None without
    /// intervals.
    pub apart: Option<bool>,
}

/// Compares two mature windows.
pub fn compare(earlier: &MatureValue, later: &MatureValue) -> Change {
    let apart = earlier.interval.zip(later.interval).map(|(a, b)| a.high < b.low || b.high < a.low);
    Change { by: later.value - earlier.value, apart }
}
