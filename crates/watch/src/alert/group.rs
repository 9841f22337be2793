//! What is sent of a group of alerts: the first message after a short wait (so that what breaks together is told
//! together), news not more often than each `interval`, and what still fires again after `repeat`.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{AlertKey, AlertsSettings, Severity};

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// Something fires that was not said before.
    Firing,
    /// What was said to fire is resolved, and nothing fires any more.
    Resolved,
    /// Nothing new fires, and something still does: it is said again, or some of it is resolved.
    Repeat,
}

/// One alert in a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Which.
    pub key: AlertKey,
    /// When what it is about began.
    pub episode: UnixMillis,
    /// The last value.
    #[serde(with = "crate::exact::maybe")]
    pub value: Option<f64>,
    /// How loud.
    pub severity: Severity,
    /// How often it began to fire lately.
    pub flaps: u32,
    /// What to do.
    pub runbook: String,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The same for the same content of the same turn of the same group: whoever has sent it does not send it again.
    pub id: String,
    /// The labels that make the group.
    pub group: BTreeMap<String, String>,
    /// Why.
    pub kind: NotificationKind,
    /// When it was made.
    pub at: UnixMillis,
    /// All of the group that fires.
    pub firing: Vec<Said>,
    /// What was said to fire and no longer does.
    pub resolved: Vec<Said>,
}

/// A group that has, or is about to have, something said of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// What was said to fire and has not been said to be resolved, by its key as text.
    told: BTreeMap<String, Said>,
    /// Since when there is news.
    news: Option<UnixMillis>,
    /// When the last message was made.
    sent: Option<UnixMillis>,
    /// Messages so far.
    turn: u64,
}

/// What a group is told of an alert that fires or was said to.
pub(super) struct Firing {
    pub(super) said: Said,
    /// Silenced or inhibited.
    pub(super) muted: bool,
}

impl Group {
    /// Whether there is nothing left to say, now or later.
    pub(super) fn done(&self) -> bool {
        self.told.is_empty() && self.news.is_none()
    }

    /// Keys that it may have to say something of.
    pub(super) fn told(&self) -> impl Iterator<Item = &AlertKey> {
        self.told.values().map(|said| &said.key)
    }

    /// Looks at all alerts of the group that fire. `muted` says of one that no longer fires whether it is silenced.
    pub(super) fn step(
        &mut self,
        now: UnixMillis,
        labels: &BTreeMap<String, String>,
        firing: &[Firing],
        muted: impl Fn(&AlertKey) -> bool,
        settings: &AlertsSettings,
    ) -> Option<Notification> {
        let current: BTreeMap<String, &Firing> = firing.iter().map(|f| (f.said.key.to_string(), f)).collect();
        let goes_on = |key: &String, said: &Said| {
            current.get(key).is_some_and(|firing| firing.said.episode == said.episode)
        };
        // What ended while it was silenced is forgotten without a word.
        self.told.retain(|key, said| goes_on(key, said) || !muted(&said.key));
        let resolved: Vec<Said> = self
            .told
            .iter()
            .filter(|(key, said)| !goes_on(key, said))
            .map(|(_, said)| said.clone())
            .collect();
        let audible: Vec<&Said> = firing.iter().filter(|f| !f.muted).map(|f| &f.said).collect();
        let is_new = |said: &Said| {
            self.told.get(&said.key.to_string()).is_none_or(|told| told.episode != said.episode)
        };
        let new = audible.iter().any(|said| is_new(said));
        let (kind, due) = match (new, resolved.is_empty(), self.sent) {
            (false, true, None) => {
                self.news = None;
                return None;
            }
            (false, true, Some(sent)) => {
                self.news = None;
                let repeats = !audible.is_empty() && !settings.repeat.is_zero();
                (NotificationKind::Repeat, repeats && now >= after(sent, settings.repeat))
            }
            (new, _, sent) => {
                let since = *self.news.get_or_insert(now);
                let due = match sent {
                    None => now >= after(since, settings.group_wait),
                    Some(sent) => now >= after(sent, settings.group_interval),
                };
                let kind = match (new, audible.is_empty()) {
                    (true, _) => NotificationKind::Firing,
                    (false, true) => NotificationKind::Resolved,
                    (false, false) => NotificationKind::Repeat,
                };
                (kind, due)
            }
        };
        if !due {
            return None;
        }
        let firing: Vec<Said> = audible.into_iter().cloned().collect();
        let id = id(labels, self.turn, kind, &firing, &resolved);
        for said in &resolved {
            self.told.remove(&said.key.to_string());
        }
        for said in &firing {
            self.told.insert(said.key.to_string(), said.clone());
        }
        (self.news, self.sent) = (None, Some(now));
        self.turn += 1;
        Some(Notification { id, group: labels.clone(), kind, at: now, firing, resolved })
    }
}

fn after(at: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// A sum of what is said: not of when, and not of values.
fn id(
    labels: &BTreeMap<String, String>,
    turn: u64,
    kind: NotificationKind,
    firing: &[Said],
    resolved: &[Said],
) -> String {
    let mut sum = blake3::Hasher::new();
    // Lengths first, so that no two contents run into one another.
    let mut text = |part: &str| {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part.as_bytes());
    };
    text(match kind {
        NotificationKind::Firing => "firing",
        NotificationKind::Resolved => "resolved",
        NotificationKind::Repeat => "repeat",
    });
    text(&turn.to_string());
    text(&labels.len().to_string());
    labels.iter().for_each(|(name, value)| {
        text(name);
        text(value);
    });
    for list in [firing, resolved] {
        text(&list.len().to_string());
        for said in list {
            text(&said.key.to_string());
            text(&said.episode.0.to_string());
        }
    }
    let mut id = sum.finalize().to_hex().to_string();
    id.truncate(32);
    id
}
