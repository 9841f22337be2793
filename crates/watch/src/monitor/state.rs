//! The state. Its arrows and promises are in [`crate::monitor`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::Window;
use crate::Error;
use crate::alert::{
    Action, Alert, AlertKey, Alerts, AlertsSettings, Because, Listed, Notification, Rule, Sample, Silence,
    State,
};
use crate::performance::{BackTest, Interval, Maturity, back_test};
use crate::retrain::{self, Ended, Inputs, Reason, RetrainSettings, Retraining, Start};

/// Figures whose words are kept: those of the last window.
const SAID: usize = 2_000;
/// Windows whose rows are kept.
const COUNTS: usize = 60;
/// Messages that wait, at most: beyond them the oldest go, and are counted.
const WAITING: usize = 100;
/// How long a claim of a message holds.
const CLAIM: Duration = Duration::from_secs(60);
/// How often a message is tried, and how long after each failure.
const TRIES: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(7_200),
    Duration::from_secs(18_000),
];

/// What a monitor goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorSettings {
    /// Its rules by name.
    pub rules: BTreeMap<String, Rule>,
    /// When messages are made.
    pub alerts: AlertsSettings,
    /// When a model is trained again, if anything is started.
    pub retrain: Option<RetrainSettings>,
}

/// A message that is to be sent to a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// What.
    pub message: Notification,
    /// The words of its figures when it was made.
    pub said: BTreeMap<String, String>,
    /// To where.
    pub to: String,
    /// How often it was tried.
    pub tries: u32,
    /// Not before then: it was tried, or is being sent by somebody.
    pub after: UnixMillis,
}

impl Pending {
    /// The same for every try at one message to one channel, and for nothing else.
    pub fn id(&self) -> String {
        crate::monitor::message::id(&self.message.id, &self.to)
    }
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was taken.
    Taken,
    /// It was not; it may be another time.
    Later,
    /// It never will be.
    Never,
}

/// A run that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The decision.
    pub start: Start,
    /// When it was made.
    #[serde(default)]
    pub since: UnixMillis,
    /// The run, once it is known.
    pub run: Option<String>,
}

/// How right a model was in a window of the time of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Performed {
    /// The first moment past the window.
    pub end: UnixMillis,
    /// Its rows.
    pub rows: u64,
    /// Those of which it is known what was true.
    pub labelled: u64,
    /// How far its labels are.
    pub maturity: Maturity,
    /// What was measured; nothing before the labels are in, or when they are too few.
    pub value: Option<f64>,
    /// Where the true value is likely to be.
    pub interval: Option<Interval>,
    /// What was to be expected by the model's own probabilities: an estimate, and no measurement.
    pub estimate: Option<f64>,
}

/// A monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    name: String,
    alerts: Alerts,
    retraining: Option<Retraining>,
    running: Option<Running>,
    outbox: Vec<Pending>,
    /// The end of the last window that was looked at.
    seen: Option<UnixMillis>,
    /// When data were last looked at, and which version.
    looked: Option<(UnixMillis, u64)>,
    /// The newest row of the data.
    newest: Option<UnixMillis>,
    /// Rows of the last windows.
    counts: Vec<(UnixMillis, u64)>,
    /// How right the model was in the last windows, the oldest first.
    #[serde(default)]
    performance: Vec<Performed>,
    /// Words of the last figures, by series.
    said: BTreeMap<String, String>,
    /// Why nothing can be looked at.
    problem: Option<String>,
    lost: u64,
}

/// The reason to train that an alert is; none where data are old, few or broken.
fn reason(key: &AlertKey) -> Option<Reason> {
    match key.rule.rsplit_once('/').map_or("", |(_, kind)| kind) {
        "performance" => Some(Reason::Performance),
        "fairness" => Some(Reason::Fairness),
        "" => Some(Reason::Drift),
        _ => None,
    }
}

impl Monitor {
    /// One that has seen nothing.
    pub fn new(name: &str) -> Monitor {
        Monitor {
            name: name.to_owned(),
            alerts: Alerts::new(AlertsSettings::default()),
            retraining: None,
            running: None,
            outbox: Vec::new(),
            seen: None,
            looked: None,
            newest: None,
            counts: Vec::new(),
            performance: Vec::new(),
            said: BTreeMap::new(),
            problem: None,
            lost: 0,
        }
    }

    /// These settings are in force.
    ///
    /// # Errors
    /// When a rule contradicts itself: nothing is taken then.
    pub fn set(&mut self, settings: &MonitorSettings) -> Result<(), Error> {
        if let Some(retrain) = &settings.retrain {
            retrain.check()?;
        }
        self.alerts.set_rules(settings.rules.clone())?;
        self.alerts.set_settings(settings.alerts);
        match (&mut self.retraining, settings.retrain) {
            (Some(retraining), Some(settings)) => retraining.set_settings(settings),
            (none, Some(settings)) => *none = Some(Retraining::new(&self.name, settings)),
            (some, None) => *some = None,
        }
        Ok(())
    }

    /// Whether anything but the time is another than before, so that it has to be written down.
    pub fn differs(&self, before: &Monitor) -> bool {
        let mut before = before.clone();
        before.alerts.at_the_time_of(&self.alerts);
        if let (Some(before), Some(own)) = (&mut before.retraining, &self.retraining) {
            before.at_the_time_of(own);
        }
        *self != before
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of the last window that was looked at.
    pub fn seen(&self) -> Option<UnixMillis> {
        self.seen
    }

    /// When data were last looked at, and which version.
    pub fn looked(&self) -> Option<(UnixMillis, u64)> {
        self.looked
    }

    /// The newest row of the data.
    pub fn newest(&self) -> Option<UnixMillis> {
        self.newest
    }

    /// Rows of the last windows, the oldest first, and where each ends.
    pub fn counts(&self) -> &[(UnixMillis, u64)] {
        &self.counts
    }

    /// How right the model was in the last windows, the oldest first.
    pub fn performance(&self) -> &[Performed] {
        &self.performance
    }

    /// How right the model's estimates of itself were in windows whose labels came; nothing without such.
    pub fn estimates(&self) -> Option<BackTest> {
        let both = |p: &Performed| Some((p.estimate?, p.interval, p.value?));
        back_test(&self.performance.iter().filter_map(both).collect::<Vec<_>>())
    }

    /// Why nothing can be looked at.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Messages that nobody could be told in time, or that there was no room for.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Its alerts, each with the words of its last figure.
    pub fn list(&self) -> Vec<(Listed, Option<&str>)> {
        let said = |key: &AlertKey| self.said.get(&key.to_string()).map(String::as_str);
        self.alerts
            .list()
            .into_iter()
            .map(|listed| (said(&listed.key), listed))
            .map(|(s, l)| (l, s))
            .collect()
    }

    /// Why it would train, and what holds it back; nothing when it starts nothing.
    pub fn retraining(&self) -> Option<retrain::Status> {
        self.retraining.as_ref().map(Retraining::status)
    }

    /// The run under way.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The data cannot be looked at.
    pub fn failed(&mut self, why: String) {
        self.problem = Some(why);
    }

    /// The silences are these and no others.
    pub fn silence(&mut self, silences: &[Silence]) {
        let gone: Vec<String> = self.alerts.silences().map(|s| s.id.clone()).collect();
        for id in &gone {
            self.alerts.end_silence(id);
        }
        silences.iter().for_each(|silence| self.alerts.silence(silence.clone()));
    }

    /// A version of the data was looked at, and these windows of it, the oldest first. One that was seen before is passed over.
    pub fn observe(
        &mut self,
        now: UnixMillis,
        (version, newest): (u64, Option<UnixMillis>),
        windows: &[Window],
    ) {
        self.problem = None;
        self.looked = Some((now, version));
        self.newest = newest;
        for (at, window) in (0..).zip(windows) {
            if self.seen.is_some_and(|seen| window.end <= seen) {
                continue;
            }
            self.seen = Some(window.end);
            self.counts.push((window.end, window.rows));
            self.said.clear();
            // Windows that are looked at together are still one after another.
            let at = UnixMillis(now.0.saturating_add(at));
            self.figures(now, at, window);
        }
        let from = self.counts.len().saturating_sub(COUNTS);
        self.counts.drain(..from);
    }

    /// A window was measured, or is said to wait for its labels; its figures raise alerts. What was said of it before is forgotten. One
    /// whose labels were in is not measured again.
    pub fn performed(&mut self, now: UnixMillis, performed: Performed, window: Option<&Window>) {
        let settled = |p: &Performed| p.end == performed.end && p.maturity != Maturity::Waiting;
        if self.performance.iter().any(settled) {
            return;
        }
        self.performance.retain(|p| p.end != performed.end);
        let at = self.performance.partition_point(|p| p.end < performed.end);
        self.performance.insert(at, performed);
        let from = self.performance.len().saturating_sub(COUNTS);
        self.performance.drain(..from);
        if let Some(window) = window {
            self.figures(now, now, window);
        }
    }

    /// Figures that are of no window: how old the data are.
    pub fn figures(&mut self, now: UnixMillis, at: UnixMillis, window: &Window) {
        for figure in &window.figures {
            let mut labels = figure.labels.clone();
            labels.insert("monitor".to_owned(), self.name.clone());
            let key = AlertKey { rule: figure.rule.clone(), labels };
            if self.said.len() < SAID {
                self.said.insert(key.to_string(), figure.said.clone());
            }
            let sample = Sample { at, value: figure.value, samples: figure.samples };
            let before = self.alerts.alert(&key).map(Alert::last_seen);
            let changed = self.alerts.observe(now, &key, sample);
            self.reasons(now, &changed);
            let news = |alert: &&Alert| before.is_some_and(|before| alert.last_seen() > before);
            let bad = self.alerts.alert(&key).filter(news).is_some_and(Alert::is_bad);
            if let (true, Some(reason), Some(retraining)) = (bad, reason(&key), &mut self.retraining) {
                retraining.still(now, reason, &key.to_string());
            }
        }
    }

    /// What began to fire because of what was measured is a reason to train.
    fn reasons(&mut self, now: UnixMillis, changed: &[Action]) {
        let Some(retraining) = &mut self.retraining else { return };
        for action in changed {
            let Action::Changed(key, t) = action else { continue };
            if t.to != State::Firing || t.because != Because::Value {
                continue;
            }
            if let Some(reason) = reason(key) {
                retraining.ask(now, reason, &key.to_string());
            }
        }
    }

    /// Somebody asks for a run; it ends a stop too.
    pub fn ask(&mut self, now: UnixMillis, who: &str) {
        if let Some(retraining) = &mut self.retraining {
            retraining.ask(now, Reason::Manual, who);
        }
    }

    /// Lets time pass, and says whether a run is to be started: until it is told which one that is, it says so again. Messages go to the
    /// channels `to`, by the host's own names. `inputs` is what would be trained now.
    pub fn tick(&mut self, now: UnixMillis, to: &[String], inputs: Option<&Inputs>) -> Option<Start> {
        let actions = self.alerts.tick(now);
        self.reasons(now, &actions);
        for action in actions {
            let Action::Send(message) = action else { continue };
            let keys: BTreeSet<String> =
                message.firing.iter().chain(&message.resolved).map(|said| said.key.to_string()).collect();
            let said = self.said.iter().filter(|(key, _)| keys.contains(*key));
            let said: BTreeMap<String, String> = said.map(|(k, v)| (k.clone(), v.clone())).collect();
            for to in to {
                let (message, said, to) = (message.clone(), said.clone(), to.clone());
                self.outbox.push(Pending { message, said, to, tries: 0, after: now });
            }
        }
        let over = self.outbox.len().saturating_sub(WAITING);
        self.outbox.drain(..over);
        self.lost += over as u64;
        self.train(now, inputs);
        self.running.as_ref().filter(|running| running.run.is_none()).map(|running| running.start.clone())
    }

    fn train(&mut self, now: UnixMillis, inputs: Option<&Inputs>) {
        let (Some(retraining), Some(inputs), None) = (&mut self.retraining, inputs, &self.running) else {
            return;
        };
        for action in retraining.tick(now, inputs) {
            if let retrain::Action::Start(start) = action {
                self.running = Some(Running { start, since: now, run: None });
            }
        }
    }

    /// A start has its run.
    pub fn started(&mut self, key: &str, run: &str) {
        if let Some(running) = self.running.as_mut().filter(|running| running.start.key == key) {
            running.run = Some(run.to_owned());
        }
    }

    /// The run has ended, or can never be.
    pub fn ended(&mut self, now: UnixMillis, key: &str, how: Ended) {
        if self.running.take_if(|running| running.start.key == key).is_some()
            && let Some(retraining) = &mut self.retraining
        {
            retraining.ended(now, key, how);
        }
    }

    /// A message that is to be sent now. It is claimed: nobody else is given it until it was not heard of for a minute.
    pub fn claim(&mut self, now: UnixMillis) -> Option<Pending> {
        let pending = self.outbox.iter_mut().find(|pending| pending.after <= now)?;
        let given = pending.clone();
        pending.after = after(now, CLAIM);
        Some(given)
    }

    /// What came of a message that was claimed.
    pub fn sent(&mut self, now: UnixMillis, id: &str, how: Sent) {
        let Some(at) = self.outbox.iter().position(|pending| pending.id() == id) else { return };
        let Some(pending) = self.outbox.get_mut(at) else { return };
        let wait = TRIES.get(pending.tries as usize);
        match (how, wait) {
            (Sent::Later, Some(wait)) => {
                pending.tries += 1;
                pending.after = after(now, *wait);
            }
            (how, _) => {
                self.outbox.remove(at);
                self.lost += u64::from(how != Sent::Taken);
            }
        }
    }

    /// Messages that wait.
    pub fn waiting(&self) -> &[Pending] {
        &self.outbox
    }
}

fn after(at: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
