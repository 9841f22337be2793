//! One alert. The arrows are in [`crate::alert`].
//!
//! Two thresholds: as long as it does not fire, windows are held against `fire`; while it fires, the same windows
//! against `clear`. A window with too few samples is no window: it neither counts nor keeps data from being stale.

use std::collections::VecDeque;
use std::time::Duration;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::rule::{NoData, Rule};

/// Beginnings that are remembered at most.
const MOST_FIRES: usize = 1_000;

/// What a rule is told of a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The end of the window.
    pub at: UnixMillis,
    /// What was measured; none when it could not be.
    pub value: Option<f64>,
    /// From how many rows.
    pub samples: u64,
}

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    Inactive,
    /// Too much, not for long enough.
    Pending,
    /// Too much.
    Firing,
}

/// Why it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Of what was measured.
    Value,
    /// Of nothing being measured.
    NoData,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// From.
    pub from: State,
    /// To. From firing to inactive is *resolved*.
    pub to: State,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub because: Because,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    state: State,
    /// When it came to be pending: names the episode. By the time of the windows, not of the clock.
    episode: UnixMillis,
    /// Since when it fires.
    fired: UnixMillis,
    /// Since when it has been too much (pending) or well (firing); none while it is the other.
    turned: Option<UnixMillis>,
    /// The last windows: beyond `fire`, beyond `clear`.
    windows: VecDeque<(bool, bool)>,
    #[serde(with = "crate::exact::maybe")]
    value: Option<f64>,
    /// The end of the last window that counted; at first, when the alert was made.
    seen: UnixMillis,
    /// When it began to fire, lately.
    fires: VecDeque<UnixMillis>,
}

fn later(at: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

impl Alert {
    /// An inactive one.
    pub fn new(now: UnixMillis) -> Self {
        Alert {
            state: State::Inactive,
            episode: now,
            fired: now,
            turned: None,
            windows: VecDeque::new(),
            value: None,
            seen: now,
            fires: VecDeque::new(),
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When what it is about began, by the time of the windows: the name of the episode.
    pub fn episode(&self) -> UnixMillis {
        self.episode
    }

    /// Since when it fires, while it does.
    pub fn firing_since(&self) -> Option<UnixMillis> {
        (self.state == State::Firing).then_some(self.fired)
    }

    /// The last value.
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    /// The end of the last window that counted.
    pub fn last_seen(&self) -> UnixMillis {
        self.seen
    }

    /// Whether it fires, and its last window is one of those that it fires for.
    pub fn is_bad(&self) -> bool {
        self.state == State::Firing && self.windows.back().is_some_and(|(fire, _)| *fire)
    }

    /// How often it began to fire within the time that flapping is counted in.
    pub fn flaps(&self) -> u32 {
        u32::try_from(self.fires.len()).unwrap_or(u32::MAX)
    }

    /// Takes a window in. `now` is not before the last one.
    pub fn observe(&mut self, rule: &Rule, now: UnixMillis, sample: Sample) -> Vec<Transition> {
        let usable = sample.value.filter(|v| v.is_finite() && sample.samples >= rule.min_samples);
        if let Some(value) = usable {
            // A late window is no news.
            if self.value.is_some() && sample.at <= self.seen {
                return self.tick(rule, now);
            }
            self.value = Some(value);
            self.seen = sample.at;
            self.windows.push_back(rule.judge(value));
            while self.windows.len() > rule.quorum.n {
                self.windows.pop_front();
            }
        }
        self.tick(rule, now)
    }

    /// Lets time pass.
    pub fn tick(&mut self, rule: &Rule, now: UnixMillis) -> Vec<Transition> {
        let stale_from = later(self.seen, rule.stale_after);
        let stale = now >= stale_from;
        let (bad, because, began) = match (stale, rule.no_data) {
            (false, _) => (self.too_much(rule), Because::Value, self.seen),
            (true, NoData::Ok) => {
                self.windows.clear();
                (false, Because::NoData, stale_from)
            }
            (true, NoData::Alert) => (true, Because::NoData, stale_from),
            (true, NoData::Keep) => return Vec::new(),
        };
        self.fires.retain(|fired| later(*fired, rule.flapping.within) > now);
        let mut found = Vec::new();
        // At most inactive → pending → firing in one step.
        while let Some(to) = self.next(rule, now, bad, began) {
            found.push(Transition { from: self.state, to, at: now, because });
            self.enter(to, now, began);
        }
        found
    }

    fn too_much(&self, rule: &Rule) -> bool {
        let firing = self.state == State::Firing;
        self.windows.iter().filter(|(fire, clear)| if firing { *clear } else { *fire }).count()
            >= rule.quorum.m
    }

    fn next(&mut self, rule: &Rule, now: UnixMillis, bad: bool, began: UnixMillis) -> Option<State> {
        match (self.state, bad) {
            (State::Inactive, true) => Some(State::Pending),
            (State::Inactive, false) => None,
            (State::Pending, false) => Some(State::Inactive),
            (State::Pending, true) => {
                let since = *self.turned.get_or_insert(began);
                (now >= later(since, rule.wait)).then_some(State::Firing)
            }
            (State::Firing, true) => {
                self.turned = None;
                None
            }
            (State::Firing, false) => {
                let since = *self.turned.get_or_insert(now);
                let flaps = self.flaps() >= rule.flapping.times.max(1);
                let keep = if flaps { rule.keep.max(rule.flapping.hold) } else { rule.keep };
                (now >= later(since, keep)).then_some(State::Inactive)
            }
        }
    }

    fn enter(&mut self, to: State, now: UnixMillis, began: UnixMillis) {
        match to {
            State::Pending => {
                self.episode = began;
                self.turned = Some(began);
            }
            State::Firing => {
                self.fired = now;
                self.turned = None;
                self.fires.push_back(now);
                while self.fires.len() > MOST_FIRES {
                    self.fires.pop_front();
                }
            }
            State::Inactive => self.turned = None,
        }
        self.state = to;
    }
}
