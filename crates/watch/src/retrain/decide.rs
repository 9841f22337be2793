//! The decision. Its arrows and promises are in [`crate::retrain`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::settings::{Reason, RetrainSettings};

/// What would be trained now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inputs {
    /// The version of the data, by its content.
    pub data: String,
    /// Code, parameters, seed and environment, by their sum.
    pub code: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The challenger became the champion.
    Promoted,
    /// There is a challenger, and it was not taken.
    Rejected,
    /// There is no challenger: the same may be tried again.
    Failed,
}

/// What holds a run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "hold", content = "until")]
pub enum Hold {
    /// Others may come: until then.
    Quiet(UnixMillis),
    /// One is under way.
    Running,
    /// The last one ended not long ago: until then.
    Cooldown(UnixMillis),
    /// The day's runs are used up: until then.
    Budget(UnixMillis),
    /// The data failed their validation.
    Validation,
    /// A version is being rolled out.
    Rollout,
    /// The last ones were of no use: until a person resumes.
    Stopped,
}

/// A run to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Names the run: the same when it is decided again.
    pub key: String,
    /// Why, in order.
    pub reasons: BTreeMap<Reason, String>,
    /// From what.
    pub inputs: Inputs,
    /// Whether its challenger may become the champion by the gate alone; with drift as the only reason a person has to
    /// say so.
    pub may_promote: bool,
}

/// What the host has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start a run, unless one with its key was started.
    Start(Start),
    /// Write down that the reasons came to nothing: this was trained already.
    Dropped(BTreeMap<Reason, String>, Inputs),
    /// Tell a person that no more are trained until somebody resumes.
    Stopped {
        /// Challengers rejected in a row.
        rejected: u32,
        /// Runs failed in a row.
        failed: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    since: UnixMillis,
    /// Each with what is behind it: the last that was said of it.
    reasons: BTreeMap<Reason, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    key: String,
    inputs: Inputs,
}

/// How it stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Why it is to be trained; empty when it is not.
    pub reasons: BTreeMap<Reason, String>,
    /// What holds that back.
    pub holds: Vec<Hold>,
    /// The run under way.
    pub running: Option<String>,
    /// Challengers rejected in a row.
    pub rejected: u32,
    /// Runs failed in a row.
    pub failed: u32,
}

/// The decision for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retraining {
    model: String,
    settings: RetrainSettings,
    wanted: Option<Wanted>,
    running: Option<Running>,
    ended: Option<UnixMillis>,
    /// Sums of what was trained. One a run: it grows as slowly as the registry does.
    trained: BTreeSet<String>,
    /// The UTC day, and runs that no person asked for on it.
    day: (i64, u32),
    runs: u64,
    rejected: u32,
    failed: u32,
    stopped: bool,
    invalid: bool,
    rollout: bool,
    now: UnixMillis,
}

const DAY: i64 = 86_400_000;

fn after(at: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// A sum over parts, each with its length, so that no two lists run into one another.
fn sum(parts: &[&str]) -> String {
    let mut sum = blake3::Hasher::new();
    for part in parts {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part.as_bytes());
    }
    let mut text = sum.finalize().to_hex().to_string();
    text.truncate(32);
    text
}

impl Retraining {
    /// Nothing is wanted and nothing was trained.
    pub fn new(model: impl Into<String>, settings: RetrainSettings) -> Self {
        Retraining {
            model: model.into(),
            settings,
            wanted: None,
            running: None,
            ended: None,
            trained: BTreeSet::new(),
            day: (i64::MIN, 0),
            runs: 0,
            rejected: 0,
            failed: 0,
            stopped: false,
            invalid: false,
            rollout: false,
            now: UnixMillis(i64::MIN),
        }
    }

    /// Other settings come into force.
    pub fn set_settings(&mut self, settings: RetrainSettings) {
        self.settings = settings;
    }

    /// Takes the other's time over: what is left of a difference is more than time.
    pub(crate) fn at_the_time_of(&mut self, other: &Retraining) {
        self.now = other.now;
    }

    /// What was trained before this was there, or elsewhere: it is not trained again.
    pub fn already_trained(&mut self, inputs: &Inputs) {
        let of = self.sum_of(inputs);
        self.trained.insert(of);
    }

    fn pass(&mut self, now: UnixMillis) {
        self.now = self.now.max(now);
        let day = self.now.utc_day();
        if self.day.0 != day {
            self.day = (day, 0);
        }
    }

    fn sum_of(&self, inputs: &Inputs) -> String {
        sum(&[&self.model, &inputs.data, &inputs.code])
    }

    /// There is a reason to train. `detail` is what is behind it: an alert, a commit, a person.
    pub fn ask(&mut self, now: UnixMillis, reason: Reason, detail: &str) {
        self.pass(now);
        let since = self.now;
        let wanted = self.wanted.get_or_insert_with(|| Wanted { since, reasons: BTreeMap::new() });
        wanted.reasons.insert(reason, detail.to_owned());
        if reason == Reason::Manual {
            self.resume();
        }
    }

    /// A reason that was there goes on in what came since: a run that has ended did not do away with it, so it is a reason again once
    /// the pause behind that run is over. Before the first run it is none beside the one that it was when it began.
    pub fn still(&mut self, now: UnixMillis, reason: Reason, detail: &str) {
        self.pass(now);
        let rested = self.ended.is_some_and(|ended| self.now >= after(ended, self.settings.cooldown));
        if self.running.is_none() && rested {
            self.ask(now, reason, detail);
        }
    }

    /// Whether the data of the next run passed their validation; until it is said that they failed, they did.
    pub fn validated(&mut self, passed: bool) {
        self.invalid = !passed;
    }

    /// Whether a version of the model is being rolled out.
    pub fn rolling_out(&mut self, active: bool) {
        self.rollout = active;
    }

    /// A person says that it may go on after a stop.
    pub fn resume(&mut self) {
        (self.stopped, self.rejected, self.failed) = (false, 0, 0);
    }

    /// A run has ended. Of another run than the one under way it is passed over.
    pub fn ended(&mut self, now: UnixMillis, key: &str, how: Ended) -> Vec<Action> {
        self.pass(now);
        let Some(running) = self.running.take_if(|running| running.key == key) else { return Vec::new() };
        self.ended = Some(self.now);
        match how {
            Ended::Promoted => (self.rejected, self.failed) = (0, 0),
            Ended::Rejected => (self.rejected, self.failed) = (self.rejected.saturating_add(1), 0),
            Ended::Failed => {
                self.failed = self.failed.saturating_add(1);
                let of = self.sum_of(&running.inputs);
                self.trained.remove(&of);
            }
        }
        let useless = self.rejected >= self.settings.rejected || self.failed >= self.settings.failed;
        if useless && !self.stopped {
            self.stopped = true;
            return vec![Action::Stopped { rejected: self.rejected, failed: self.failed }];
        }
        Vec::new()
    }

    /// Everything that holds a wanted run back.
    fn holds(&self) -> Vec<Hold> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        let mut holds = Vec::new();
        if self.running.is_some() {
            holds.push(Hold::Running);
        }
        if self.invalid {
            holds.push(Hold::Validation);
        }
        if self.rollout {
            holds.push(Hold::Rollout);
        }
        if wanted.reasons.contains_key(&Reason::Manual) {
            return holds;
        }
        if self.stopped {
            holds.push(Hold::Stopped);
        }
        let quiet = after(wanted.since, self.settings.quiet);
        if self.now < quiet {
            holds.push(Hold::Quiet(quiet));
        }
        let rest = self.ended.map(|ended| after(ended, self.settings.cooldown));
        if let Some(rest) = rest.filter(|rest| self.now < *rest) {
            holds.push(Hold::Cooldown(rest));
        }
        if self.day.1 >= self.settings.per_day {
            holds.push(Hold::Budget(UnixMillis(self.day.0.saturating_add(1).saturating_mul(DAY))));
        }
        holds
    }

    /// Lets time pass: what is to be done, if training were from `inputs` now. To be called when anything has changed,
    /// and every minute or so.
    pub fn tick(&mut self, now: UnixMillis, inputs: &Inputs) -> Vec<Action> {
        self.pass(now);
        if !self.holds().is_empty() {
            return Vec::new();
        }
        let Some(wanted) = self.wanted.take() else { return Vec::new() };
        let of = self.sum_of(inputs);
        if !self.trained.insert(of) {
            return vec![Action::Dropped(wanted.reasons, inputs.clone())];
        }
        if !wanted.reasons.contains_key(&Reason::Manual) {
            self.day.1 += 1;
        }
        self.runs += 1;
        let key = sum(&[&self.model, &inputs.data, &inputs.code, &self.runs.to_string()]);
        self.running = Some(Running { key: key.clone(), inputs: inputs.clone() });
        let may_promote = wanted.reasons.keys().any(|reason| *reason != Reason::Drift);
        vec![Action::Start(Start { key, reasons: wanted.reasons, inputs: inputs.clone(), may_promote })]
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        Status {
            reasons: self.wanted.as_ref().map(|wanted| wanted.reasons.clone()).unwrap_or_default(),
            holds: self.holds(),
            running: self.running.as_ref().map(|running| running.key.clone()),
            rejected: self.rejected,
            failed: self.failed,
        }
    }
}
