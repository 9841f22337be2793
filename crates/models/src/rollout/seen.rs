//! What comes in about a rollout, and what is kept of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::moments::Moments;
use super::sequential::Guard;

/// What one side did since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArmBatch {
    /// Units (users, or whatever is divided) that were seen for the first time in this step. Not requests: those of one user come
    /// together, and a ratio of them would be off by chance.
    pub units: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests that took longer than [`super::Settings::slow_above_ms`].
    pub slow: u64,
    /// Values of metrics, by name. One value a unit makes them independent of each other, which the tests take them to be.
    pub metrics: BTreeMap<String, Moments>,
}

/// What both sides did since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// In which step, from zero: that in which the units were answered, also when their labels come later.
    pub step: usize,
    /// The challenger.
    pub canary: ArmBatch,
    /// The control.
    pub control: ArmBatch,
}

/// What the challenger did unheard since the last batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowBatch {
    /// Answers compared with the champion's on the same features.
    pub compared: u64,
    /// Those that agreed.
    pub agreed: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests that took too long.
    pub slow: u64,
    /// Copies that were dropped because the shadow was busy.
    pub dropped: u64,
}

/// What is kept of a shadow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShadowSeen {
    pub(super) compared: u64,
    pub(super) agreed: u64,
    pub(super) dropped: u64,
}

/// What is kept of one side in one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ArmSeen {
    pub(super) units: u64,
    pub(super) requests: u64,
    pub(super) metrics: BTreeMap<String, Moments>,
}

impl ArmSeen {
    fn add(&mut self, batch: &ArmBatch, known: &[super::MetricRule]) {
        self.units = self.units.saturating_add(batch.units);
        self.requests = self.requests.saturating_add(batch.requests);
        for (name, moments) in &batch.metrics {
            // What nothing is decided by is not kept: names come from outside.
            if known.iter().any(|m| m.name == *name) {
                self.metrics.entry(name.clone()).or_default().add(*moments);
            }
        }
    }
}

/// What is kept of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StepSeen {
    pub(super) canary: ArmSeen,
    pub(super) control: ArmSeen,
}

impl StepSeen {
    pub(super) fn add(&mut self, batch: &Batch, known: &[super::MetricRule]) {
        self.canary.add(&batch.canary, known);
        self.control.add(&batch.control, known);
    }
}

/// The guards of the challenger's requests, of the shadow's too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Guards {
    pub(super) errors: Option<Guard>,
    pub(super) slow: Option<Guard>,
    /// Requests of the control: all, failed, slow. When it fails too, it is not the challenger.
    control: (u64, u64, u64),
}

/// One request in so many may be slow: the 99th percentile.
const SLOW: f64 = 0.01;

impl Guards {
    pub(super) fn new(settings: &super::Settings) -> Guards {
        Guards {
            errors: settings.error_rate.map(Guard::new),
            slow: settings.latency_p99_ms.map(|_| Guard::new(SLOW)),
            control: (0, 0, 0),
        }
    }

    pub(super) fn see(&mut self, errors: u64, slow: u64, requests: u64) {
        if let Some(guard) = &mut self.errors {
            guard.see(errors, requests);
        }
        if let Some(guard) = &mut self.slow {
            guard.see(slow, requests);
        }
    }

    pub(super) fn see_control(&mut self, batch: &ArmBatch) {
        let (requests, errors, slow) = self.control;
        self.control = (
            requests.saturating_add(batch.requests),
            errors.saturating_add(batch.errors.min(batch.requests)),
            slow.saturating_add(batch.slow.min(batch.requests)),
        );
    }

    /// The guards by name, each with the control's share of the same.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &Guard, Option<f64>)> {
        let (requests, errors, slow) = self.control;
        let share = move |bad: u64| (requests > 0).then(|| bad as f64 / requests as f64);
        let named = [("error_rate", &self.errors, share(errors)), ("latency_p99", &self.slow, share(slow))];
        named.into_iter().filter_map(|(name, guard, share)| Some((name, guard.as_ref()?, share)))
    }
}
