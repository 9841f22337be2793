//! What a gate asks for: a file `gates/NAME.yaml`. Everything that is written is a check, and all must hold.

use std::collections::BTreeMap;

use pipeline::units::{Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paired::Test;
use crate::evaluate::{CostConfig, Metric};

/// A gate.
///
/// ```yaml
/// primary: {metric: auc, margin: 0.005}
/// calibration: {ece: 0.05, brier: 0.002}
/// slices: {columns: [carrier], minimum: 300, margin: 0.03}
/// fairness: {columns: [region], dp_difference: 0.1}
/// latency: {p99: 10ms}
/// lineage: [data, code, params]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// The figure that decides: the challenger must be shown not to be worse than the champion by more than a margin.
    pub primary: Primary,
    /// What the holdout must be.
    #[serde(default)]
    pub holdout: HoldoutRule,
    /// Figures that must be reached, whatever the champion has: `{auc: 0.7}`. Where less is better, they are the most that may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floors: BTreeMap<String, f64>,
    /// Whether probabilities must mean what they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Whether the worst part of the rows must be good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
    /// Whether groups must be treated alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<FairnessRule>,
    /// How long an answer may take, as measured on the machine that evaluates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// How large the model may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeRule>,
    /// How many of the rows that must be right may be wrong. Without it none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regression_set: Option<RegressionSet>,
    /// What may change in what a model takes and gives. `compatible` unless given.
    #[serde(default)]
    pub signature: SignatureRule,
    /// What the model's record must name: `data`, `code`, `params`, `environment`, `features`, `seed`. The first three unless given.
    #[serde(default = "lineage")]
    pub lineage: Vec<String>,
    /// Who must have said yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What holds where there is no champion yet.
    #[serde(default)]
    pub first: First,
    /// From which score up a row is called positive.
    #[serde(default = "half")]
    pub threshold: f64,
    /// What mistakes cost, for the metric `cost`.
    #[serde(default)]
    pub cost: CostConfig,
    /// How often rows are drawn anew where a test or an interval does so.
    #[serde(default = "replicates")]
    pub replicates: u32,
    /// Where the randomness comes from. It is kept in the decision, so that it can be made again.
    #[serde(default = "one")]
    pub seed: u64,
}

fn lineage() -> Vec<String> {
    ["data", "code", "params"].map(str::to_owned).to_vec()
}
fn half() -> f64 {
    0.5
}
fn replicates() -> u32 {
    2_000
}
fn one() -> u64 {
    1
}
fn five_percent() -> f64 {
    0.05
}
fn ninety_five_percent() -> f64 {
    0.95
}
fn hundred() -> u64 {
    100
}

/// The figure that decides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Primary {
    /// Which one.
    pub metric: Metric,
    /// By how much the challenger may be worse and still pass. With 0 it must be shown not to be worse at all.
    pub margin: f64,
    /// The chance of taking a model that is worse by the margin.
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Which test. The one made for the metric unless given.
    #[serde(default)]
    pub test: Test,
}

/// What the holdout must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HoldoutRule {
    /// The fewest rows.
    pub rows: u64,
    /// Whether it must lie behind the data that the models were trained on, in time. True unless given.
    pub time_ordered: bool,
}

impl Default for HoldoutRule {
    fn default() -> Self {
        HoldoutRule { rows: 100, time_ordered: true }
    }
}

/// Whether probabilities mean what they say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The largest expected calibration error, over ten bins of equal mass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// By how much the Brier score may be worse than the champion's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
}

/// The worst part of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slices {
    /// Columns whose values divide the rows.
    pub columns: Vec<String>,
    /// The metric; the primary one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// The fewest rows of a part that is looked at.
    #[serde(default = "hundred")]
    pub minimum: u64,
    /// By how much a part may be worse than it is with the champion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// What every part must reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
}

/// Groups that are to be treated alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FairnessRule {
    /// Columns whose values are the groups.
    pub columns: Vec<String>,
    /// The largest difference of selection rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp_difference: Option<f64>,
    /// The largest difference of true or of false positive rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eo_difference: Option<f64>,
    /// The smallest ratio of selection rates: 0.8 is the 80 % rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The fewest rows of a group that is compared. When fewer than two groups have them, the check fails.
    #[serde(default = "hundred")]
    pub minimum: u64,
    /// How sure the intervals are.
    #[serde(default = "ninety_five_percent")]
    pub confidence: f64,
    /// What is held against the limits: the unfavourable end of the interval, so that few rows do not pass, or the figure itself.
    #[serde(default)]
    pub judge: Judge,
}

/// What is held against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The unfavourable end of the interval.
    #[default]
    Interval,
    /// The figure itself.
    Figure,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The longest 99th percentile of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Time>,
    /// How many times the champion's 99th percentile it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_champion: Option<f64>,
}

/// How large a model may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeRule {
    /// The largest artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Size>,
    /// The most memory while it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// How many times the champion's artifact it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_champion: Option<f64>,
}

/// Rows that must be right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegressionSet {
    /// How many may be wrong. None unless given.
    #[serde(default)]
    pub wrong: u64,
}

/// What may change in what a model takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureRule {
    /// Whoever calls the champion can call the challenger.
    #[default]
    Compatible,
    /// Nothing.
    Same,
    /// Anything: callers are told some other way.
    Any,
}

/// Who must have said yes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// How many different people.
    #[serde(default)]
    pub people: u64,
    /// Roles, of each of which somebody must be among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// What holds where there is no champion yet. The checks that compare with one are left out, and in place of the paired test:
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct First {
    /// What the primary figure must be shown to reach. Without it, the model must be shown to be better than one that says the same of
    /// every row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// How many people must say yes to a first model, when that is more than `approval` says.
    #[serde(default)]
    pub people: u64,
}
