//! What people read: which series, how far beyond, since when, and what to do.

use std::collections::BTreeMap;

use crate::alert::{Notification, NotificationKind, Said, Severity};

/// Series that a message names; of more it tells how many.
const NAMED: usize = 10;

/// A message in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub title: String,
    /// One line for each series, the worst first, then what to do.
    pub lines: Vec<String>,
    /// How loud.
    pub severity: Severity,
}

impl Text {
    /// All of it.
    pub fn whole(&self) -> String {
        let mut whole = self.title.clone();
        for line in &self.lines {
            whole.push('\n');
            whole.push_str(line);
        }
        whole
    }
}

/// A message in words. `said` are the words of figures, by series.
pub fn text(message: &Notification, said: &BTreeMap<String, String>) -> Text {
    let all = || message.firing.iter().chain(&message.resolved);
    let of = message.group.get("monitor").or_else(|| message.group.get("rule"));
    let of = of.map_or("alerts", String::as_str);
    let word = match message.kind {
        NotificationKind::Firing => "fires",
        NotificationKind::Repeat => "still fires",
        NotificationKind::Resolved => "is resolved",
    };
    let severity = all().map(|s| s.severity).max().unwrap_or_default();
    let mut firing: Vec<&Said> = message.firing.iter().collect();
    firing.sort_by(|a, b| b.value.unwrap_or(f64::MIN).total_cmp(&a.value.unwrap_or(f64::MIN)));
    let line = |mark: &str, one: &Said| {
        let what = figure(one, said);
        let labels: Vec<&str> =
            one.key.labels.iter().filter(|(name, _)| *name != "monitor").map(|(_, v)| v.as_str()).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" {}", labels.join(", ")) };
        let flaps = if one.flaps > 1 { format!(" ({} times lately)", one.flaps) } else { String::new() };
        format!("{mark} {}{labels}: {what}, since {}{flaps}", one.key.rule, one.episode.rfc3339())
    };
    let mut lines: Vec<String> = firing.iter().take(NAMED).map(|one| line("▲", one)).collect();
    if firing.len() > NAMED {
        lines.push(format!("… and {} more", firing.len() - NAMED));
    }
    lines.extend(message.resolved.iter().take(NAMED).map(|one| line("▽", one)));
    let mut runbooks: Vec<&str> = all().map(|s| s.runbook.as_str()).filter(|r| !r.is_empty()).collect();
    runbooks.sort_unstable();
    runbooks.dedup();
    lines.extend(runbooks.into_iter().map(|runbook| format!("→ {runbook}")));
    let count = match message.firing.len() {
        0 | 1 => String::new(),
        n => format!(" ({n} series)"),
    };
    Text { title: format!("{of} {word}{count}"), lines, severity }
}

/// The figure of a series in words: those that were `said` of it, else its last value.
pub fn figure(one: &Said, said: &BTreeMap<String, String>) -> String {
    let what = said.get(&one.key.to_string()).filter(|what| !what.is_empty());
    what.cloned().or_else(|| one.value.map(|value| format!("{value:.3}"))).unwrap_or_default()
}

/// The id of a message to one channel.
pub(super) fn id(message: &str, to: &str) -> String {
    let mut sum = blake3::Hasher::new();
    sum.update(message.as_bytes());
    sum.update(&[0]);
    sum.update(to.as_bytes());
    let mut id = sum.finalize().to_hex().to_string();
    id.truncate(32);
    id
}
