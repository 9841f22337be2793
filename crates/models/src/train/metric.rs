//! The figures that a training looks at: to stop early, to choose among tries, to say how it went. Weighted; pure.
//!
//! The full evaluation of a model is not here: these are the few that steer, by the formulas that an evaluation has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::Label;
use crate::evaluate::metrics::multiclass::{self, Matrix};
use crate::evaluate::metrics::{rank, regression};

/// A figure of predictions against what was true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The chance that a row of the second class is ranked above one of the first; two classes only. More is better.
    Auc,
    /// The mean of −ln of the true class's probability. Less is better.
    LogLoss,
    /// The share of rows whose likeliest class is the true one. More is better.
    Accuracy,
    /// The root of the mean squared error. Less is better.
    Rmse,
    /// The mean absolute error. Less is better.
    Mae,
}

impl Metric {
    /// What steers when nothing is said.
    pub fn usual(label: &Label) -> Metric {
        match label {
            Label::Value(_) => Metric::Rmse,
            Label::Class { classes, .. } if classes.len() <= 2 => Metric::Auc,
            Label::Class { .. } => Metric::LogLoss,
        }
    }

    /// Whether it can be had of this label.
    pub fn fits(self, label: &Label) -> bool {
        match (self, label) {
            (Metric::Rmse | Metric::Mae, Label::Value(_)) => true,
            (Metric::Auc, Label::Class { classes, .. }) => classes.len() <= 2,
            (Metric::LogLoss | Metric::Accuracy, Label::Class { .. }) => true,
            _ => false,
        }
    }

    /// Whether more is better.
    pub fn rising(self) -> bool {
        matches!(self, Metric::Auc | Metric::Accuracy)
    }

    /// Whether `a` is better than `b`.
    pub fn better(self, a: f64, b: f64) -> bool {
        if self.rising() { a > b } else { a < b }
    }

    /// Its name in LightGBM; accuracy is steered by its opposite.
    pub(super) fn of_lightgbm(self, scores: usize) -> &'static str {
        match (self, scores > 1) {
            (Metric::Auc, _) => "auc",
            (Metric::LogLoss, false) => "binary_logloss",
            (Metric::LogLoss, true) => "multi_logloss",
            (Metric::Accuracy, false) => "binary_error",
            (Metric::Accuracy, true) => "multi_error",
            (Metric::Rmse, _) => "rmse",
            (Metric::Mae, _) => "l1",
        }
    }

    /// The figure, by the formulas of [`crate::evaluate::metrics`]. `answers` holds what a model answers for each row: a value, or a
    /// probability for each class. NaN where the rows do not determine it: there are none, or one class alone is asked for its AUC.
    pub fn of(self, answers: &[Vec<f64>], truth: &Label, weights: Option<&[f64]>) -> f64 {
        let figure = match truth {
            Label::Value(truth) => {
                let predicted: Vec<f64> =
                    answers.iter().map(|answer| answer.first().copied().unwrap_or(f64::NAN)).collect();
                match self {
                    Metric::Rmse => regression::rmse(truth, &predicted, weights),
                    Metric::Mae => regression::mae(truth, &predicted, weights),
                    Metric::Auc | Metric::LogLoss | Metric::Accuracy => None,
                }
            }
            Label::Class { of, classes } => {
                let (flat, n) = (answers.concat(), classes.len());
                match self {
                    Metric::Auc => {
                        let labels: Vec<bool> = of.iter().map(|class| *class > 0).collect();
                        let scores: Vec<f64> =
                            answers.iter().map(|answer| answer.last().copied().unwrap_or(f64::NAN)).collect();
                        rank::roc_auc(&labels, &scores, weights)
                    }
                    Metric::LogLoss => multiclass::log_loss(of, &flat, weights, n),
                    Metric::Accuracy => {
                        Matrix::count(of, &multiclass::called(&flat, n), weights, n).accuracy()
                    }
                    Metric::Rmse | Metric::Mae => None,
                }
            }
        };
        figure.unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Classes;
    use proptest::prelude::*;

    fn classes(of: Vec<u32>) -> Label {
        Label::Class { of, classes: Classes::Numbers(vec![0, 1]) }
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_order(rows in prop::collection::vec((0..6_u8, 0..2_u32, 1..4_u8), 2..40)) {
            let answers: Vec<Vec<f64>> = rows.iter().map(|(s, ..)| vec![0.0, f64::from(*s)]).collect();
            let weights: Vec<f64> = rows.iter().map(|(.., w)| f64::from(*w)).collect();
            let (mut right, mut all) = (0.0, 0.0);
            for (a, _, u) in rows.iter().filter(|(_, c, _)| *c == 1) {
                for (b, _, v) in rows.iter().filter(|(_, c, _)| *c == 0) {
                    let w = f64::from(*u) * f64::from(*v);
                    all += w;
                    right += w * if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            let ours = Metric::Auc.of(&answers, &classes(rows.iter().map(|(_, c, _)| *c).collect()), Some(&weights));
            prop_assert!((ours - right / all).abs() < 1e-12 || all == 0.0 && ours.is_nan());
        }
    }

    #[test]
    fn figures_are_those_of_the_textbook() {
        let answers = vec![vec![0.8, 0.2], vec![0.3, 0.7], vec![0.6, 0.4]];
        let truth = classes(vec![0, 1, 1]);
        let expected = -(0.8_f64.ln() + 0.7_f64.ln() + 0.4_f64.ln()) / 3.0;
        assert!((Metric::LogLoss.of(&answers, &truth, None) - expected).abs() < 1e-12);
        assert!((Metric::Accuracy.of(&answers, &truth, Some(&[1.0, 1.0, 2.0])) - 0.5).abs() < 1e-12);
        let values = Label::Value(vec![1.0, 3.0]);
        assert!((Metric::Rmse.of(&[vec![2.0], vec![1.0]], &values, None) - 2.5_f64.sqrt()).abs() < 1e-12);
        assert!((Metric::Mae.of(&[vec![2.0], vec![1.0]], &values, None) - 1.5).abs() < 1e-12);
    }
}
