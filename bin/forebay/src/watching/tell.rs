//! Who is told of an alert: the log, a webhook, an address that takes messages as Slack does, an Alertmanager.
//!
//! A channel has a name of its own in what is kept: its kind and a sum of its address, which may be a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, TenantId};
use pipeline::outside::{Asked, Call as _, Came};
use pipeline::runs::{Deliver as _, Delivered, Message, Signed};
use serde_json::{Value as Json, json};
use watch::alert::{NotificationKind, Severity};
use watch::monitor::{Pending, Sent, Text, text};
use webhooks::{Caller, Sealing, Webhooks};

use super::alertmanager;
use crate::config::Config;

/// How long one try may take.
const WITHIN: Duration = Duration::from_secs(15);
/// How much of an answer is read.
const ANSWER: usize = 4 << 10;

enum Channel {
    Log,
    Webhook(String, Box<Webhooks>),
    Slack(String),
    /// With the time after which what fires is said again.
    Alertmanager(String, Duration),
}

/// The channels of a configuration.
pub struct Tell {
    channels: BTreeMap<String, Channel>,
    caller: Caller,
    clock: Arc<dyn Clock>,
}

impl Tell {
    /// Those of a configuration. An address that cannot be told is left out, and said in the log.
    pub fn of(config: &Config, clock: Arc<dyn Clock>) -> Tell {
        let (alerts, hook) = (&config.alerts, &config.jobs.webhook);
        let mut channels = BTreeMap::new();
        if alerts.log {
            channels.insert("log".to_owned(), Channel::Log);
        }
        for url in &alerts.webhooks {
            let settings = webhooks::Settings {
                secrets: hook.secret.iter().chain(&hook.old_secret).cloned().collect(),
                // The operator's own: signed with the configured secret itself.
                own: Some(url.clone()),
                allow_private: hook.allow_private,
                timeout: WITHIN,
                sealing: Sealing::default(),
            };
            match Webhooks::new(&settings, clock.clone()) {
                Ok(webhooks) => drop(
                    channels.insert(named("webhook", url), Channel::Webhook(url.clone(), Box::new(webhooks))),
                ),
                Err(error) => tracing::warn!(%error, "an address of `alerts.webhooks` cannot be told"),
            }
        }
        for url in &alerts.slack {
            channels.insert(named("slack", url), Channel::Slack(url.clone()));
        }
        for url in &alerts.alertmanager {
            let channel = Channel::Alertmanager(alertmanager::address(url), alerts.repeat.0);
            channels.insert(named("alertmanager", url), channel);
        }
        Tell { channels, caller: Caller::new(hook.allow_private, clock.clone()), clock }
    }

    /// The names of its channels.
    pub fn names(&self) -> Vec<String> {
        self.channels.keys().cloned().collect()
    }

    /// Tells one channel, once.
    pub async fn send(&self, monitor: &str, pending: &Pending) -> Sent {
        let said = text(&pending.message, &pending.said);
        match self.channels.get(&pending.to) {
            // It was configured when the message was made, and is not any more.
            None => Sent::Never,
            Some(Channel::Log) => {
                log(monitor, &said);
                Sent::Taken
            }
            Some(Channel::Webhook(url, webhooks)) => {
                let body = self.event(monitor, pending, &said);
                let message = Message {
                    id: format!("msg_{}", pending.id()),
                    tenant: TenantId::of_the_project(),
                    signed: Signed::Tenant(Vec::new()),
                    url: url.clone(),
                    body,
                };
                match webhooks.deliver(message).await {
                    Delivered::Answer { status: 200..=299, .. } => Sent::Taken,
                    Delivered::Answer { status: 410, .. } => refused(monitor, "webhook", "it answered 410"),
                    Delivered::Answer { .. } | Delivered::Unreachable(_) => Sent::Later,
                    Delivered::Forbidden(why) => refused(monitor, "webhook", &why),
                }
            }
            Some(Channel::Slack(url)) => {
                self.post(monitor, ("slack", url), &json!({"text": said.whole()})).await
            }
            Some(Channel::Alertmanager(url, repeat)) => {
                let now = self.clock.wall();
                let alerts = alertmanager::alerts(&pending.message, &pending.said, *repeat, now);
                self.post(monitor, ("alertmanager", url), &alerts).await
            }
        }
    }

    async fn post(&self, monitor: &str, (channel, url): (&str, &str), body: &Json) -> Sent {
        let asked = Asked {
            method: "POST",
            url: url.to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            timeout: WITHIN,
            at_most: ANSWER,
        };
        match self.caller.call(asked).await {
            Came::Answer { status: 200..=299, .. } => Sent::Taken,
            Came::Answer { status: 408 | 425 | 429 | 500.., .. } | Came::Late | Came::Unreachable(_) => {
                Sent::Later
            }
            Came::Answer { status, .. } => refused(monitor, channel, &format!("it answered {status}")),
            Came::Forbidden(why) => refused(monitor, channel, &why),
        }
    }

    /// A message as a CloudEvent, which begins with its version.
    fn event(&self, monitor: &str, pending: &Pending, said: &Text) -> Vec<u8> {
        let message = &pending.message;
        let kind = match message.kind {
            NotificationKind::Firing => "firing",
            NotificationKind::Resolved => "resolved",
            NotificationKind::Repeat => "repeat",
        };
        let event = json!({
            "specversion": "1.0",
            "id": format!("msg_{}", pending.id()),
            "source": format!("/monitors/{monitor}"),
            "type": format!("forebay.alert.{kind}"),
            "subject": monitor,
            "time": message.at.rfc3339(),
            "datacontenttype": "application/json",
            "data": {
                "title": said.title, "lines": said.lines, "severity": said.severity,
                "firing": message.firing, "resolved": message.resolved, "sent_at": self.clock.wall().rfc3339(),
            },
        });
        event.to_string().into_bytes()
    }
}

fn named(kind: &str, url: &str) -> String {
    let sum = blake3::hash(url.as_bytes()).to_hex();
    format!("{kind}:{}", sum.get(..12).unwrap_or_default())
}

fn refused(monitor: &str, channel: &str, why: &str) -> Sent {
    tracing::warn!(monitor, channel, "nobody can be told of an alert there: {why}");
    Sent::Never
}

fn log(monitor: &str, said: &Text) {
    let text = said.whole();
    match said.severity {
        Severity::Info => tracing::info!(monitor, "alert: {text:?}"),
        Severity::Warning => tracing::warn!(monitor, "alert: {text:?}"),
        Severity::Critical => tracing::error!(monitor, "alert: {text:?}"),
    }
}
