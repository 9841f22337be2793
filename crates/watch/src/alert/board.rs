//! All alerts of a process, and the one place that says what is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::group::{Firing, Group, Notification, Said};
use super::machine::{Alert, Sample, State, Transition};
use super::rule::Rule;
use super::silence::Silence;
use super::{AlertKey, Severity};
use crate::Error;

/// When messages are sent, and how much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsSettings {
    /// How long the first message of a group waits for others of the group.
    pub group_wait: Duration,
    /// The least time between two messages of a group that hold news.
    pub group_interval: Duration,
    /// After how long what still fires is said again; zero for never.
    pub repeat: Duration,
    /// Series held at most; a further one is refused and counted.
    pub max_series: usize,
}

impl Default for AlertsSettings {
    /// 30 s, 5 minutes, 4 hours, 10,000 series.
    fn default() -> Self {
        AlertsSettings {
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat: Duration::from_secs(4 * 3_600),
            max_series: 10_000,
        }
    }
}

/// What the host has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Write down that an alert has changed.
    Changed(AlertKey, Transition),
    /// Send a message, unless one with its id was sent.
    Send(Notification),
}

/// An alert for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    pub key: AlertKey,
    /// How it stands.
    pub state: State,
    /// When what it is about began, unless it is inactive.
    pub episode: Option<UnixMillis>,
    /// The last value.
    pub value: Option<f64>,
    /// How loud.
    pub severity: Severity,
    /// How often it began to fire lately.
    pub flaps: u32,
    /// Whether a silence is of it.
    pub silenced: bool,
    /// The rule whose firing makes it not worth saying.
    pub inhibited_by: Option<String>,
}

/// All alerts. Serialised and read again it goes on as if nothing had been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    settings: AlertsSettings,
    rules: BTreeMap<String, Rule>,
    #[serde(with = "pairs")]
    alerts: BTreeMap<AlertKey, Alert>,
    #[serde(with = "pairs")]
    groups: BTreeMap<BTreeMap<String, String>, Group>,
    silences: BTreeMap<String, Silence>,
    now: UnixMillis,
    refused: u64,
}

/// Maps whose keys are no text, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, K: Serialize, V: Serialize>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, K: Deserialize<'de> + Ord, V: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

impl Alerts {
    /// No alerts and no rules.
    pub fn new(settings: AlertsSettings) -> Self {
        Alerts {
            settings,
            rules: BTreeMap::new(),
            alerts: BTreeMap::new(),
            groups: BTreeMap::new(),
            silences: BTreeMap::new(),
            now: UnixMillis(i64::MIN),
            refused: 0,
        }
    }

    /// Other rules come into force; alerts of rules that stay keep their states, those of rules that go are gone
    /// without a word.
    ///
    /// # Errors
    /// When a rule contradicts itself: none is taken then.
    pub fn set_rules(&mut self, rules: BTreeMap<String, Rule>) -> Result<(), Error> {
        rules.values().try_for_each(Rule::check)?;
        self.alerts.retain(|key, _| rules.contains_key(&key.rule));
        self.rules = rules;
        Ok(())
    }

    /// Other settings come into force.
    pub fn set_settings(&mut self, settings: AlertsSettings) {
        self.settings = settings;
    }

    /// Takes the other's time over: what is left of a difference is more than time.
    pub(crate) fn at_the_time_of(&mut self, other: &Alerts) {
        self.now = other.now;
    }

    /// Series that there was no room for, and samples of rules that are not there.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a silence, or changes the one of its id.
    pub fn silence(&mut self, silence: Silence) {
        self.silences.insert(silence.id.clone(), silence);
    }

    /// Ends a silence now. Returns whether there was one.
    pub fn end_silence(&mut self, id: &str) -> bool {
        self.silences.remove(id).is_some()
    }

    /// The silences that hold or will.
    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.values()
    }

    /// Forgets a series that will not come again. It is not said to be resolved.
    pub fn forget(&mut self, key: &AlertKey) {
        self.alerts.remove(key);
    }

    /// Takes a window of a series in. A series is there from its first window on, usable or not: only then can its data
    /// be missing. What is to be sent of it, the next [`Alerts::tick`] says.
    pub fn observe(&mut self, now: UnixMillis, key: &AlertKey, sample: Sample) -> Vec<Action> {
        self.now = self.now.max(now);
        let full = self.alerts.len() >= self.settings.max_series;
        let Some(rule) = self.rules.get(&key.rule).filter(|_| !full || self.alerts.contains_key(key)) else {
            self.refused += 1;
            return Vec::new();
        };
        let alert = self.alerts.entry(key.clone()).or_insert_with(|| Alert::new(sample.at.min(self.now)));
        let changes = alert.observe(rule, self.now, sample);
        changes.into_iter().map(|t| Action::Changed(key.clone(), t)).collect()
    }

    /// The alert of a series; nothing of one that nothing was seen of.
    pub fn alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.alerts.get(key)
    }

    /// Lets time pass, and says what is to be sent: to be called after a round of windows, and every few seconds.
    pub fn tick(&mut self, now: UnixMillis) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        for (key, alert) in &mut self.alerts {
            let Some(rule) = self.rules.get(&key.rule) else { continue };
            let changes = alert.tick(rule, self.now);
            actions.extend(changes.into_iter().map(|t| Action::Changed(key.clone(), t)));
        }
        let now = self.now;
        self.silences.retain(|_, silence| silence.ends > now);
        self.send(&mut actions);
        actions
    }

    fn silenced(&self, key: &AlertKey) -> bool {
        self.silences.values().any(|silence| silence.active(self.now) && silence.of(key))
    }

    /// The rule whose firing makes an alert not worth saying.
    fn inhibited<'r>(&self, key: &AlertKey, rule: &'r Rule, firing: &[&AlertKey]) -> Option<&'r str> {
        let fires = |inhibition: &&'r super::Inhibition| {
            let alike = |source: &AlertKey| {
                inhibition.equal.iter().all(|label| source.labels.get(label) == key.labels.get(label))
            };
            firing.iter().any(|&source| source.rule == inhibition.rule && source != key && alike(source))
        };
        rule.inhibited_by.iter().find(fires).map(|inhibition| inhibition.rule.as_str())
    }

    fn firing(&self) -> Vec<&AlertKey> {
        let fires = self.alerts.iter().filter(|(_, alert)| alert.state() == State::Firing);
        fires.map(|(key, _)| key).collect()
    }

    fn group_of(&self, key: &AlertKey) -> BTreeMap<String, String> {
        let by = self.rules.get(&key.rule).map(|rule| rule.group_by.as_slice()).unwrap_or_default();
        let picked = by.iter().filter_map(|label| Some((label.clone(), key.labels.get(label)?.clone())));
        let mut group: BTreeMap<String, String> = picked.collect();
        if by.is_empty() {
            group.insert("rule".to_owned(), key.rule.clone());
        }
        group
    }

    fn send(&mut self, actions: &mut Vec<Action>) {
        let all_firing = self.firing();
        let mut firing: BTreeMap<BTreeMap<String, String>, Vec<Firing>> = BTreeMap::new();
        for &key in &all_firing {
            let (Some(rule), Some(alert)) = (self.rules.get(&key.rule), self.alerts.get(key)) else {
                continue;
            };
            let said = Said {
                key: key.clone(),
                episode: alert.episode(),
                value: alert.value(),
                severity: rule.severity,
                flaps: alert.flaps(),
                runbook: rule.runbook.clone(),
            };
            let muted = self.silenced(key) || self.inhibited(key, rule, &all_firing).is_some();
            firing.entry(self.group_of(key)).or_default().push(Firing { said, muted });
        }
        let all: BTreeSet<BTreeMap<String, String>> =
            firing.keys().chain(self.groups.keys()).cloned().collect();
        for labels in all {
            let mut group = self.groups.remove(&labels).unwrap_or_default();
            let here = firing.get(&labels).map(Vec::as_slice).unwrap_or_default();
            // Whatever has no rule any more ends without a word.
            let muted = |key: &AlertKey| self.silenced(key) || !self.alerts.contains_key(key);
            let message = group.step(self.now, &labels, here, muted, &self.settings);
            actions.extend(message.map(Action::Send));
            if !group.done() || !here.is_empty() {
                self.groups.insert(labels, group);
            }
        }
    }

    /// All alerts, for people.
    pub fn list(&self) -> Vec<Listed> {
        let firing = self.firing();
        let listed = |(key, alert): (&AlertKey, &Alert)| {
            let rule = self.rules.get(&key.rule)?;
            Some(Listed {
                key: key.clone(),
                state: alert.state(),
                episode: (alert.state() != State::Inactive).then(|| alert.episode()),
                value: alert.value(),
                severity: rule.severity,
                flaps: alert.flaps(),
                silenced: self.silenced(key),
                inhibited_by: self.inhibited(key, rule, &firing).map(ToOwned::to_owned),
            })
        };
        self.alerts.iter().filter_map(listed).collect()
    }

    /// Series of which something was said that is not resolved.
    pub fn told(&self) -> Vec<AlertKey> {
        self.groups.values().flat_map(Group::told).cloned().collect()
    }
}
