//! How a rollout stands: what is known of every metric, guard and ratio, as it is kept with each decision.

use serde::{Deserialize, Serialize};

use super::config::{Better, Settings};
use super::moments::Moments;
use super::seen::{Guards, ShadowSeen, StepSeen};
use super::sequential::{Ratio, Sequence, difference};

/// The chance of taking a sound division for an unsound one, over all steps.
const RATIO_LEVEL: f64 = 0.001;

/// How a rollout stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The metrics.
    pub metrics: Vec<MetricReport>,
    /// The guardrails.
    pub guardrails: Vec<GuardReport>,
    /// The division of units in the step.
    pub ratio: Option<Ratio>,
    /// Units of the challenger in the step.
    pub canary_units: u64,
    /// Units of the control in the step.
    pub control_units: u64,
    /// Answers compared in the shadow.
    pub shadow_compared: u64,
    /// The share of them that agreed.
    pub shadow_agreed: Option<f64>,
    /// Copies the shadow dropped.
    pub shadow_dropped: u64,
}

/// How a metric stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// Which.
    pub name: String,
    /// The challenger's mean over all steps, and of how many values.
    pub canary: (f64, u64),
    /// The control's.
    pub control: (f64, u64),
    /// How much better the challenger is, whichever way is better, with its interval at all times.
    pub gain: Option<Sequence>,
    /// By how much it may be worse.
    pub margin: f64,
    /// What follows.
    pub verdict: Standing,
}

/// What follows from what is known of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There are fewer values than are asked for.
    NoData,
    /// It can be either.
    Undecided,
    /// It is not worse by the margin.
    NonInferior,
    /// It is worse by more than the margin.
    Inferior,
}

/// How a guardrail stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardReport {
    /// Which.
    pub name: String,
    /// The share of the challenger's requests that were bad.
    pub share: f64,
    /// The share of the control's, when it had any requests.
    pub control: Option<f64>,
    /// What may be.
    pub limit: f64,
    /// Requests.
    pub requests: u64,
    /// How many times likelier what was seen is if the limit is broken, as a logarithm to the base of ten.
    pub log10_evidence: f64,
    /// Whether it is broken beyond doubt.
    pub broken: bool,
}

/// What is looked at.
pub(super) struct Seen<'a> {
    pub(super) steps: &'a [StepSeen],
    /// The step, when units are being divided with a control in it.
    pub(super) controlled: Option<usize>,
    pub(super) guards: &'a Guards,
    pub(super) shadow: ShadowSeen,
}

impl Report {
    pub(super) fn of(settings: &Settings, seen: &Seen<'_>) -> Report {
        let level = settings.level();
        let guard = |(name, guard, control): (&str, &super::sequential::Guard, Option<f64>)| GuardReport {
            name: name.to_owned(),
            share: guard.share(),
            control,
            limit: guard.limit,
            requests: guard.requests,
            log10_evidence: guard.log_evidence() / std::f64::consts::LN_10,
            broken: guard.broken(level),
        };
        let step = seen.controlled.and_then(|step| Some((seen.steps.get(step)?, settings.shares.get(step)?)));
        let ratio = step.map(|(step, share)| {
            let control = f64::from(super::Split::of(*share).control);
            let share = f64::from(*share);
            Ratio::of(step.canary.units, step.control.units, share / (share + control))
        });
        Report {
            metrics: settings.metrics.iter().map(|m| metric(settings, m, seen.steps)).collect(),
            guardrails: seen.guards.all().map(guard).collect(),
            ratio,
            canary_units: step.map_or(0, |(step, _)| step.canary.units),
            control_units: step.map_or(0, |(step, _)| step.control.units),
            shadow_compared: seen.shadow.compared,
            shadow_agreed: (seen.shadow.compared > 0)
                .then(|| seen.shadow.agreed as f64 / seen.shadow.compared as f64),
            shadow_dropped: seen.shadow.dropped,
        }
    }

    /// The first guardrail that is broken.
    pub(super) fn broken(&self) -> Option<&GuardReport> {
        self.guardrails.iter().find(|g| g.broken)
    }

    /// The first metric that stands so.
    pub(super) fn standing(&self, standing: Standing) -> Option<&MetricReport> {
        self.metrics.iter().find(|m| m.verdict == standing)
    }

    /// Whether every metric stands so.
    pub(super) fn all(&self, standing: Standing) -> bool {
        self.metrics.iter().all(|m| m.verdict == standing)
    }

    /// The division, when it is not what it was to be. At every look by the test that may be looked at all the time, and by Pearson's,
    /// which sees more, once: when the step is left. The two share the chance of a false alarm.
    pub(super) fn mismatch(&self, settings: &Settings, leaving: bool) -> Option<&Ratio> {
        let steps = settings.shares.len().saturating_sub(1).max(1);
        let level = RATIO_LEVEL / 2.0 / steps as f64;
        self.ratio.as_ref().filter(|ratio| ratio.p < level || (leaving && ratio.chi_squared_p < level))
    }
}

fn metric(settings: &Settings, rule: &super::MetricRule, steps: &[StepSeen]) -> MetricReport {
    let of = |arm: &super::seen::ArmSeen| arm.metrics.get(&rule.name).copied().unwrap_or_default();
    // Where everybody gets the challenger there is nothing to compare with.
    let controlled = settings.shares.iter().zip(steps).filter(|(share, _)| **share < 10_000);
    let pairs: Vec<(Moments, Moments)> = controlled.map(|(_, s)| (of(&s.canary), of(&s.control))).collect();
    let (mut canary, mut control) = (Moments::default(), Moments::default());
    for (a, b) in &pairs {
        canary.add(*a);
        control.add(*b);
    }
    let found = difference(&pairs, rule.kind, rule.margin, settings.level());
    let gain = found.map(|d| match rule.better {
        Better::Higher => d,
        Better::Lower => Sequence { estimate: -d.estimate, low: -d.high, high: -d.low },
    });
    let enough = canary.n.min(control.n) >= settings.samples;
    let verdict = match gain.filter(|_| enough) {
        None => Standing::NoData,
        Some(gain) if gain.high < -rule.margin => Standing::Inferior,
        Some(gain) if gain.low >= -rule.margin => Standing::NonInferior,
        Some(_) => Standing::Undecided,
    };
    MetricReport {
        name: rule.name.clone(),
        canary: (canary.mean, canary.n),
        control: (control.mean, control.n),
        gain,
        margin: rule.margin,
        verdict,
    }
}

impl MetricReport {
    /// The metric in words.
    pub fn sentence(&self) -> String {
        let (name, canary, control) = (&self.name, said(self.canary.0), said(self.control.0));
        let values = format!(
            "{name} is {canary} over {} values against {control} over {}",
            self.canary.1, self.control.1
        );
        let Some(gain) = self.gain else { return format!("{values}, too few to compare") };
        let interval = format!("better by {} to {}", said(gain.low), said(gain.high));
        match self.verdict {
            Standing::NoData => format!("{values}, fewer than are asked for"),
            Standing::Undecided => {
                format!(
                    "{values}: {interval}, which leaves open whether it is worse by {}",
                    said(self.margin)
                )
            }
            Standing::NonInferior => format!("{values}: {interval}, so not worse by {}", said(self.margin)),
            Standing::Inferior => {
                format!("{values}: {interval}, so worse by more than {}", said(self.margin))
            }
        }
    }
}

impl GuardReport {
    /// The guardrail in words.
    pub fn sentence(&self) -> String {
        let what = if self.name == "latency_p99" { "are too slow" } else { "fail" };
        let percent = |share: f64| said(share * 100.0);
        let control =
            self.control.map(|c| format!("; of the control's it is {} %", percent(c))).unwrap_or_default();
        format!(
            "{} % of {} requests {what}, and {} % may{control}",
            percent(self.share),
            self.requests,
            percent(self.limit)
        )
    }
}

/// A number with four significant digits.
pub(super) fn said(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return "0".to_owned();
    }
    let behind = (3 - x.abs().log10().floor() as i64).clamp(0, 12) as usize;
    let text = format!("{x:.behind$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
