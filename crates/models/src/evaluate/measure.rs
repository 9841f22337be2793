//! A metric made ready for some rows, so that it can be had again for other weights: what a bootstrap repeats is made once.

use super::metrics::calibration::{self, Bins};
use super::metrics::multiclass::{self, Matrix};
use super::metrics::rank::Ranking;
use super::metrics::threshold::Confusion;
use super::metrics::{Weights, mean, regression};
use super::rows::{Rows, Truth};
use super::{Error, Metric};

/// What the figures of a decision depend on besides the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choices {
    /// From which score up a row is called positive.
    pub threshold: f64,
    /// What a row that is called positive by mistake costs.
    pub false_positive: f64,
    /// What a row that is called negative by mistake costs.
    pub false_negative: f64,
    /// Bins of a calibration curve.
    pub bins: usize,
}

impl Default for Choices {
    /// Positive from 0.5 up; either mistake costs one; ten bins.
    fn default() -> Self {
        Choices { threshold: 0.5, false_positive: 1.0, false_negative: 1.0, bins: 10 }
    }
}

/// A metric on some rows.
#[derive(Debug)]
pub struct Measure<'a> {
    metric: Metric,
    rows: &'a Rows,
    choices: Choices,
    made: Made,
}

/// What is made once.
#[derive(Debug)]
enum Made {
    /// The order of scores.
    Order(Ranking),
    /// A loss of each row, to be averaged.
    Each(Vec<f64>),
    /// What each row was called.
    Called(Vec<u32>),
    Nothing,
}

impl<'a> Measure<'a> {
    /// Makes a metric ready.
    ///
    /// # Errors
    /// [`Error::NoMetric`] when predictions of this kind do not have it.
    pub fn new(metric: Metric, rows: &'a Rows, choices: Choices) -> Result<Measure<'a>, Error> {
        use Metric::*;
        let truth = rows.truth();
        if !metric.fits(truth) {
            let known = Metric::all().filter(|m| m.fits(truth)).map(|m| format!("`{m}`"));
            return Err(Error::NoMetric {
                metric: metric.to_string(),
                task: truth.task(),
                known: known.collect::<Vec<_>>().join(", "),
            });
        }
        let made = match truth {
            Truth::Binary { labels, scores } => match metric {
                Auc | AveragePrecision | RecallAtPrecision(_) => Made::Order(Ranking::of(scores)),
                LogLoss if rows.probable() => Made::Each(calibration::log_losses(labels, scores).collect()),
                Brier if rows.probable() => Made::Each(calibration::briers(labels, scores).collect()),
                _ => Made::Nothing,
            },
            Truth::Multiclass { classes, probabilities, .. } => {
                Made::Called(multiclass::called(probabilities, classes.len()))
            }
            Truth::Regression { .. } => Made::Nothing,
        };
        Ok(Measure { metric, rows, choices, made })
    }

    /// The rows.
    pub fn rows(&self) -> &'a Rows {
        self.rows
    }

    /// The figure for the rows as they are weighted.
    pub fn value(&self) -> Option<f64> {
        self.weighted(self.rows.weights())
    }

    /// The figure for the rows weighted in another way. `None` where it is not defined.
    pub fn weighted(&self, weights: Weights<'_>) -> Option<f64> {
        match self.rows.truth() {
            Truth::Binary { labels, scores } => self.binary(labels, scores, weights),
            Truth::Multiclass { classes, labels, probabilities } => {
                let Made::Called(called) = &self.made else { return None };
                let matrix = || Matrix::count(labels, called, weights, classes.len());
                match self.metric {
                    Metric::MacroF1 => matrix().macro_f1(),
                    Metric::Accuracy | Metric::MicroF1 => matrix().accuracy(),
                    Metric::LogLoss if self.rows.probable() => {
                        multiclass::log_loss(labels, probabilities, weights, classes.len())
                    }
                    _ => None,
                }
            }
            Truth::Regression { truth, predicted } => match self.metric {
                Metric::Mae => regression::mae(truth, predicted, weights),
                Metric::Rmse => regression::rmse(truth, predicted, weights),
                Metric::R2 => regression::r2(truth, predicted, weights),
                Metric::Mape => regression::mape(truth, predicted, weights),
                _ => None,
            },
        }
    }

    fn binary(&self, labels: &[bool], scores: &[f64], weights: Weights<'_>) -> Option<f64> {
        let at = || Confusion::at(labels, scores, weights, self.choices.threshold);
        let ece = |bins| {
            let curve = || calibration::curve(labels, scores, weights, (bins, self.choices.bins));
            self.rows.probable().then(curve).and_then(|curve| calibration::ece(&curve))
        };
        match (self.metric, &self.made) {
            (Metric::Auc, Made::Order(order)) => order.roc_auc(labels, weights),
            (Metric::AveragePrecision, Made::Order(order)) => order.average_precision(labels, weights),
            (Metric::RecallAtPrecision(p), Made::Order(order)) => {
                order.recall_at_precision(labels, weights, p)
            }
            (Metric::LogLoss | Metric::Brier, Made::Each(losses)) => mean(losses.iter().copied(), weights),
            (Metric::Accuracy, _) => at().accuracy(),
            (Metric::Precision, _) => at().precision(),
            (Metric::Recall, _) => at().recall(),
            (Metric::F1, _) => at().f1(),
            (Metric::Fpr, _) => at().fpr(),
            (Metric::Fnr, _) => at().fnr(),
            (Metric::Cost, _) => at().cost(self.choices.false_positive, self.choices.false_negative),
            (Metric::Ece, _) => ece(Bins::EqualWidth),
            (Metric::EceMass, _) => ece(Bins::EqualMass),
            _ => None,
        }
    }

    /// The loss of each row, when the metric is the mean of one: what a paired t-test takes. Smaller is better.
    pub fn losses(&self) -> Option<Vec<f64>> {
        match (self.rows.truth(), self.metric, &self.made) {
            (_, _, Made::Each(losses)) => Some(losses.clone()),
            (Truth::Regression { truth, predicted }, Metric::Mae, _) => {
                Some(truth.iter().zip(predicted).map(|(y, p)| (y - p).abs()).collect())
            }
            _ => None,
        }
    }

    /// Whether each row was called right, when that is what the metric counts: what McNemar's test takes.
    pub fn right(&self) -> Option<Vec<bool>> {
        match (self.rows.truth(), self.metric) {
            (Truth::Binary { labels, scores }, Metric::Accuracy) => {
                let right = |(label, score): (&bool, &f64)| *label == (*score >= self.choices.threshold);
                Some(labels.iter().zip(scores).map(right).collect())
            }
            (Truth::Multiclass { labels, .. }, Metric::Accuracy | Metric::MicroF1) => {
                let Made::Called(called) = &self.made else { return None };
                Some(labels.iter().zip(called).map(|(label, called)| label == called).collect())
            }
            _ => None,
        }
    }
}
