//! What an `evaluate` stage says.

use serde::{Deserialize, Serialize};

use super::{Choices, Metric, Resampling};

/// What is evaluated, as it is written in a configuration.
///
/// ```yaml
/// evaluate:
///   metrics: [auc, log_loss, recall@precision=0.5]
///   slices: [carrier]
///   groups: [region]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// The figures. Without any, all that predictions of the kind have.
    pub metrics: Vec<Metric>,
    /// Columns whose values divide the rows: each figure is told for each part.
    pub slices: Vec<String>,
    /// The fewest rows of a part that is told. Smaller ones are counted.
    pub slice_minimum: u64,
    /// Columns whose values are groups that are to be treated alike.
    pub groups: Vec<String>,
    /// The fewest rows of a group that is compared.
    pub group_minimum: u64,
    /// From which score up a row is called positive.
    pub threshold: f64,
    /// What mistakes cost, for `cost`.
    pub cost: CostConfig,
    /// Bins of the calibration curve.
    pub bins: u32,
    /// How often rows are drawn anew for an interval.
    pub replicates: u32,
    /// How sure intervals are.
    pub confidence: f64,
    /// Where the randomness of intervals comes from.
    pub seed: u64,
}

/// What mistakes cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CostConfig {
    /// A negative that is called positive.
    pub false_positive: f64,
    /// A positive that is called negative.
    pub false_negative: f64,
}

impl Default for CostConfig {
    fn default() -> Self {
        CostConfig { false_positive: 1.0, false_negative: 1.0 }
    }
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        let (choices, resampling) = (Choices::default(), Resampling::default());
        EvaluateConfig {
            metrics: Vec::new(),
            slices: Vec::new(),
            slice_minimum: 50,
            groups: Vec::new(),
            group_minimum: 100,
            threshold: choices.threshold,
            cost: CostConfig::default(),
            bins: 10,
            replicates: resampling.replicates,
            confidence: resampling.confidence,
            seed: resampling.seed,
        }
    }
}

impl EvaluateConfig {
    /// What does not make sense, each with the field it is about and what to write.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let mut hold = |holds: bool, field, remedy| {
            if !holds {
                found.push((field, remedy));
            }
        };
        hold(self.threshold.is_finite(), "threshold", "give a number");
        hold((1..=1_000).contains(&self.bins), "bins", "give 1 to 1000");
        hold((100..=100_000).contains(&self.replicates), "replicates", "give 100 to 100000");
        hold(self.confidence > 0.5 && self.confidence < 1.0, "confidence", "give a share such as 0.95");
        let costs = [self.cost.false_positive, self.cost.false_negative];
        hold(costs.iter().all(|c| *c >= 0.0 && c.is_finite()), "cost", "give costs that are not negative");
        found
    }

    /// What the figures of a decision depend on.
    pub fn choices(&self) -> Choices {
        Choices {
            threshold: self.threshold,
            false_positive: self.cost.false_positive,
            false_negative: self.cost.false_negative,
            bins: self.bins as usize,
        }
    }

    /// How intervals are had.
    pub fn resampling(&self) -> Resampling {
        Resampling { replicates: self.replicates, confidence: self.confidence, seed: self.seed }
    }
}
