//! What a `rollout` says, and the settings that are made of it.

use pipeline::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a version comes to answer, as it is written in a configuration.
///
/// ```yaml
/// rollout:
///   shadow: 1h
///   canary: [5, 25, 100]
///   metrics: [{name: late, kind: proportion, better: lower, margin: 0.02}]
///   guardrails: {error_rate: 0.02, latency_p99: 200ms}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// How long it answers unheard beside the champion. Not at all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Time>,
    /// The fewest answers that are compared in the shadow.
    #[serde(default = "hundred")]
    pub shadow_samples: u64,
    /// The smallest share of shadow answers that agree with the champion's. With fewer the rollout holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_agreement: Option<f64>,
    /// The shares of traffic in percent, rising. A control, which is the champion in a place of its own, gets as much as the canary as
    /// far as there is as much. The last one is 100, where nothing is left to compare with.
    #[serde(default = "steps")]
    pub canary: Vec<f64>,
    /// How long a step takes, and what it must have seen.
    #[serde(default)]
    pub step: Step,
    /// How long it answers everybody, with the champion still warm, before it is the champion.
    #[serde(default = "ten_minutes")]
    pub bake: Time,
    /// What decides, each against the control.
    pub metrics: Vec<MetricRule>,
    /// What ends it at once.
    #[serde(default)]
    pub guardrails: Guardrails,
    /// The chance that a version that is as good as the champion is rolled back, over the whole rollout, however often it is looked at.
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Before what somebody must say yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approve_before: Vec<Point>,
    /// What users are divided by, besides who they are. The rollout's own name unless given; equal texts divide them equally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

fn hundred() -> u64 {
    100
}
fn steps() -> Vec<f64> {
    vec![5.0, 25.0, 100.0]
}
fn minutes(n: u64) -> Time {
    Time(std::time::Duration::from_secs(60 * n))
}
fn ten_minutes() -> Time {
    minutes(10)
}
fn five_percent() -> f64 {
    0.05
}

/// A step of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// The shortest time.
    pub at_least: Time,
    /// The longest time. What is not decided by then is held, and people are told; it is never promoted for it.
    pub at_most: Time,
    /// The fewest units (users, or whatever is divided) on either side, and the fewest values of each metric on either side.
    pub samples: u64,
}

impl Default for Step {
    fn default() -> Self {
        Step { at_least: minutes(10), at_most: minutes(24 * 60), samples: 100 }
    }
}

/// A metric that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricRule {
    /// Its name, by which values come in: `late`, `thumbs_up`, `judge`, `cost_usd`, `latency_ms`.
    pub name: String,
    /// What its values are.
    #[serde(default)]
    pub kind: Kind,
    /// Which way is better.
    pub better: Better,
    /// By how much it may be worse than the control, in its own unit: a change that would matter.
    pub margin: f64,
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Zero or one.
    Proportion,
    /// Any number.
    #[default]
    Mean,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
}

/// What ends a rollout at once, however little was seen, when it is beyond doubt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guardrails {
    /// The largest share of requests that fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// The longest 99th percentile: no more than one request in a hundred may take longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<Time>,
}

/// A point that somebody must approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before anybody is answered by it.
    Canary,
    /// Before everybody is.
    Champion,
}

/// Something that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer from the `rollout`.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A rollout that makes sense. Times are milliseconds, shares ten-thousandths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub(super) shadow_ms: i64,
    pub(super) shadow_samples: u64,
    pub(super) shadow_agreement: Option<f64>,
    /// The last is 10,000, all others are below.
    pub(super) shares: Vec<u32>,
    pub(super) at_least_ms: i64,
    pub(super) at_most_ms: i64,
    pub(super) samples: u64,
    pub(super) bake_ms: i64,
    pub(super) metrics: Vec<MetricRule>,
    pub(super) error_rate: Option<f64>,
    pub(super) latency_p99_ms: Option<i64>,
    pub(super) alpha: f64,
    pub(super) approve_before: Vec<Point>,
    pub(super) salt: Option<String>,
}

fn millis(t: Time) -> i64 {
    i64::try_from(t.0.as_millis()).unwrap_or(i64::MAX)
}

impl Settings {
    /// Settings from what was written.
    ///
    /// # Errors
    /// Everything that makes no sense.
    pub fn new(config: &RolloutConfig) -> Result<Settings, Vec<Problem>> {
        let problems = problems(config);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Settings {
            shadow_ms: config.shadow.map_or(0, millis),
            shadow_samples: if config.shadow.is_some() { config.shadow_samples } else { 0 },
            shadow_agreement: config.shadow_agreement,
            shares: config.canary.iter().map(|percent| (percent * 100.0).round() as u32).collect(),
            at_least_ms: millis(config.step.at_least),
            at_most_ms: millis(config.step.at_most),
            samples: config.step.samples,
            bake_ms: millis(config.bake),
            metrics: config.metrics.clone(),
            error_rate: config.guardrails.error_rate,
            latency_p99_ms: config.guardrails.latency_p99.map(millis),
            alpha: config.alpha,
            approve_before: config.approve_before.clone(),
            salt: config.salt.clone(),
        })
    }

    /// The metrics that decide.
    pub fn metrics(&self) -> &[MetricRule] {
        &self.metrics
    }

    /// The longest an answer may take before it counts as slow, in milliseconds: what a caller counts `slow` by.
    pub fn slow_above_ms(&self) -> Option<i64> {
        self.latency_p99_ms
    }

    /// The level of each test that can roll back: they share the chance of a false one.
    pub(super) fn level(&self) -> f64 {
        let guards = usize::from(self.error_rate.is_some()) + usize::from(self.latency_p99_ms.is_some());
        self.alpha / (self.metrics.len() + guards).max(1) as f64
    }
}

fn problems(config: &RolloutConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut hold = |holds: bool, pointer: String, message: &str, remedy: &str| {
        if !holds {
            found.push(Problem { pointer, message: message.to_owned(), remedy: remedy.to_owned() });
        }
    };
    let rising = config.canary.windows(2).all(|w| matches!(w, [a, b] if a < b));
    let within = config.canary.iter().all(|p| *p >= 0.01 && *p <= 100.0);
    hold(
        rising && within,
        "/canary".into(),
        "shares do not rise from 0.01 to 100",
        "write [5, 25, 100], say",
    );
    let ends = config.canary.last() == Some(&100.0) && config.canary.len() > 1;
    let remedy = "end with 100, and begin below it, so that there is something to compare with";
    hold(ends, "/canary".into(), "the steps do not lead from a part to everybody", remedy);
    let longer = config.step.at_most.0 > config.step.at_least.0;
    hold(longer, "/step/at_most".into(), "not longer than `at_least`", "give more time, or ask for less");
    hold(config.step.samples >= 30, "/step/samples".into(), "too few to say anything", "give at least 30");
    hold(
        !config.metrics.is_empty(),
        "/metrics".into(),
        "nothing decides",
        "name a metric: no data is not success",
    );
    for (at, metric) in config.metrics.iter().enumerate() {
        let sound = metric.margin > 0.0 && metric.margin.is_finite();
        let remedy = "give the change that would matter, above 0";
        hold(sound, format!("/metrics/{at}/margin"), "not a margin", remedy);
        let before = config.metrics.iter().take(at).any(|m| m.name == metric.name);
        hold(!before, format!("/metrics/{at}/name"), "named twice", "name it once");
    }
    let rate = config.guardrails.error_rate.is_none_or(|r| r > 0.0 && r < 1.0);
    hold(rate, "/guardrails/error_rate".into(), "not a share", "give 0.02, say");
    let alpha = config.alpha > 0.0 && config.alpha <= 0.5;
    hold(alpha, "/alpha".into(), "not a chance of error", "give a share such as 0.05");
    let agreement = config.shadow_agreement.is_none_or(|a| (0.0..=1.0).contains(&a));
    hold(agreement, "/shadow_agreement".into(), "not a share", "give 0.95, say");
    found
}
