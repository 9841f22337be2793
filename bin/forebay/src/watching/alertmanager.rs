//! A message in the words of Prometheus' Alertmanager (`POST /api/v2/alerts`), which groups, silences and passes it on as it does those of
//! Prometheus.
//!
//! It takes an alert for resolved that nobody repeats, so each that fires is said to end only after it would have been said again; and one
//! that is resolved, to have ended.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::UnixMillis;
use serde_json::{Map, Value as Json, json};
use watch::alert::{Notification, Said};
use watch::monitor::figure;

/// What is said once only is believed for this long.
const ONCE: Duration = Duration::from_secs(30 * 86_400);
/// What is said again may be late by this.
const LATE: Duration = Duration::from_secs(600);

/// Where Alertmanager takes alerts.
pub(super) fn address(url: &str) -> String {
    format!("{}/api/v2/alerts", url.trim_end_matches('/'))
}

/// The alerts of a message. `said` are the words of figures by series; what fires is said again after `repeat`, or never when that is zero.
pub(super) fn alerts(
    message: &Notification,
    said: &BTreeMap<String, String>,
    repeat: Duration,
    now: UnixMillis,
) -> Json {
    let stays = if repeat.is_zero() { ONCE } else { repeat.saturating_mul(2).saturating_add(LATE) };
    let ends = |after: Duration| {
        UnixMillis(now.0.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))).rfc3339()
    };
    let one = |one: &Said, ends: String| {
        let mut labels: Map<String, Json> =
            one.key.labels.iter().map(|(name, value)| (plain(name), json!(value))).collect();
        labels.insert("alertname".to_owned(), json!(one.key.rule));
        labels.insert("severity".to_owned(), json!(one.severity));
        labels.insert("source".to_owned(), json!("forebay"));
        json!({
            "labels": labels,
            "annotations": {"summary": figure(one, said), "runbook": one.runbook},
            "startsAt": one.episode.rfc3339(),
            "endsAt": ends,
        })
    };
    let firing = message.firing.iter().map(|it| one(it, ends(stays)));
    let resolved = message.resolved.iter().map(|it| one(it, message.at.rfc3339()));
    firing.chain(resolved).collect()
}

/// A label's name as Prometheus has them.
fn plain(name: &str) -> String {
    let fits = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || at > 0 && c.is_ascii_digit();
    name.char_indices().map(|(at, c)| if fits((at, c)) { c } else { '_' }).collect()
}
