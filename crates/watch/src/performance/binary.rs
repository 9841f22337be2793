//! A classifier of two classes against what was true.

use serde::{Deserialize, Serialize};

use super::interval::{self, Interval};
use super::ranking::Ranking;
use crate::Error;
use crate::error::same_length;

/// Bins of the calibration error, of equal width.
const ECE_BINS: usize = 10;
/// Probabilities are kept this far from 0 and 1 in the log loss.
const LOG_MARGIN: f64 = 1e-15;

/// Scores, and whether each row was positive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BinaryData {
    scores: Vec<f64>,
    labels: Vec<bool>,
}

/// Counts of what was said and what was true. They may be expected ones, and so no whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Confusion {
    /// Said yes, was yes.
    pub tp: f64,
    /// Said yes, was no.
    pub fp: f64,
    /// Said no, was yes.
    pub fn_: f64,
    /// Said no, was no.
    pub tn: f64,
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl Confusion {
    /// Takes a row in whose label is yes with the probability `positive`.
    pub fn add(&mut self, said: bool, positive: f64) {
        let (yes, no) = if said { (&mut self.tp, &mut self.fp) } else { (&mut self.fn_, &mut self.tn) };
        *yes += positive;
        *no += 1.0 - positive;
    }

    /// tp / (tp + fp); none when nothing was said yes to.
    pub fn precision(&self) -> Option<f64> {
        share(self.tp, self.tp + self.fp)
    }

    /// tp / (tp + fn); none without positives.
    pub fn recall(&self) -> Option<f64> {
        share(self.tp, self.tp + self.fn_)
    }

    /// tn / (tn + fp); none without negatives.
    pub fn specificity(&self) -> Option<f64> {
        share(self.tn, self.tn + self.fp)
    }

    /// Rows that were said right.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn_)
    }

    /// The harmonic mean of precision and recall; none when nothing was yes and nothing said so.
    pub fn f1(&self) -> Option<f64> {
        share(self.tp, self.tp + 0.5 * (self.fp + self.fn_))
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryMetric {
    /// Area under the ROC curve.
    Auc,
    /// Average precision.
    PrAuc,
    /// Mean negative log likelihood, in nats.
    LogLoss,
    /// Mean squared error of the probability.
    Brier,
    /// Expected calibration error over ten bins of equal width.
    Ece,
    /// Rows that were said right.
    Accuracy,
    /// The harmonic mean of precision and recall.
    F1,
    /// Of those said yes to, the share that was.
    Precision,
    /// Of those that were, the share said yes to.
    Recall,
    /// Of those that were not, the share said yes to.
    FalsePositiveRate,
    /// Of those that were, the share said no to.
    FalseNegativeRate,
    /// The largest recall at a precision of at least this.
    RecallAtPrecision(f64),
}

/// A value and how sure it is; none where the rows do not say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The value over these rows.
    pub value: f64,
    /// Where the true one is likely to be.
    pub interval: Option<Interval>,
}

impl BinaryData {
    /// Pairs scores with labels.
    ///
    /// # Errors
    /// When they are not of one length, or a score is no probability.
    pub fn new(scores: Vec<f64>, labels: Vec<bool>) -> Result<Self, Error> {
        same_length("scores and labels", scores.len(), labels.len())?;
        match scores.iter().find(|s| !(0.0..=1.0).contains(*s)) {
            Some(&value) => Err(Error::Value { what: "a score", value, why: "it is not within 0 and 1" }),
            None => Ok(BinaryData { scores, labels }),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Rows by their numbers, once for each time they are named: a slice, or a resample.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> BinaryData {
        let there = |&&row: &&usize| row < self.len();
        let picked = rows.iter().filter(there);
        let (scores, labels) =
            picked.filter_map(|&r| Some((*self.scores.get(r)?, *self.labels.get(r)?))).unzip();
        BinaryData { scores, labels }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (f64, bool)> {
        self.scores.iter().copied().zip(self.labels.iter().copied())
    }

    /// Counts at a cut: yes from `cut` on.
    pub fn confusion(&self, cut: f64) -> Confusion {
        let mut counts = Confusion::default();
        self.rows().for_each(|(score, label)| counts.add(score >= cut, f64::from(u8::from(label))));
        counts
    }

    fn ranking(&self) -> Ranking {
        Ranking::new(self.rows().map(|(score, label)| (score, f64::from(u8::from(label)))))
    }

    fn each(&self, of: impl Fn(f64, bool) -> f64) -> Vec<f64> {
        self.rows().map(|(score, label)| of(score, label)).collect()
    }

    fn ece(&self) -> Option<f64> {
        let mut bins = [(0.0, 0.0); ECE_BINS];
        for (score, label) in self.rows() {
            let bin = ((score * ECE_BINS as f64) as usize).min(ECE_BINS - 1);
            if let Some((said, was)) = bins.get_mut(bin) {
                (*said, *was) = (*said + score, *was + f64::from(u8::from(label)));
            }
        }
        (!self.is_empty())
            .then(|| bins.iter().map(|(said, was)| (said - was).abs()).sum::<f64>() / self.len() as f64)
    }

    /// The value of a metric, with yes from `cut` on where it needs a cut; none where these rows do not define it.
    pub fn value(&self, metric: BinaryMetric, cut: f64) -> Option<f64> {
        let mean = |values: Vec<f64>| share(values.iter().sum(), values.len() as f64);
        match metric {
            BinaryMetric::Auc => self.ranking().auc(),
            BinaryMetric::PrAuc => self.ranking().average_precision(),
            BinaryMetric::RecallAtPrecision(precision) => self.ranking().recall_at(precision),
            BinaryMetric::LogLoss => mean(self.each(log_loss)),
            BinaryMetric::Brier => mean(self.each(brier)),
            BinaryMetric::Ece => self.ece(),
            BinaryMetric::Accuracy => self.confusion(cut).accuracy(),
            BinaryMetric::F1 => self.confusion(cut).f1(),
            BinaryMetric::Precision => self.confusion(cut).precision(),
            BinaryMetric::Recall => self.confusion(cut).recall(),
            BinaryMetric::FalsePositiveRate => self.confusion(cut).specificity().map(|s| 1.0 - s),
            BinaryMetric::FalseNegativeRate => self.confusion(cut).recall().map(|r| 1.0 - r),
        }
    }

    /// The value with an interval of probability `level`: by formula for shares, means and AUC, by 500 resamples from
    /// `seed` for the rest.
    pub fn measure(&self, metric: BinaryMetric, cut: f64, level: f64, seed: u64) -> Option<Measure> {
        let value = self.value(metric, cut)?;
        let c = self.confusion(cut);
        let interval = match metric {
            BinaryMetric::Auc => {
                let of = |class: bool| -> Vec<f64> {
                    self.rows().filter(|(_, label)| *label == class).map(|(score, _)| score).collect()
                };
                interval::delong(&of(true), &of(false), level)
            }
            BinaryMetric::LogLoss => interval::normal_mean(&self.each(log_loss), level),
            BinaryMetric::Brier => interval::normal_mean(&self.each(brier), level),
            BinaryMetric::Accuracy => interval::wilson(c.tp + c.tn, self.len() as f64, level),
            BinaryMetric::Precision => interval::wilson(c.tp, c.tp + c.fp, level),
            BinaryMetric::Recall => interval::wilson(c.tp, c.tp + c.fn_, level),
            BinaryMetric::FalsePositiveRate => interval::wilson(c.fp, c.fp + c.tn, level),
            BinaryMetric::FalseNegativeRate => interval::wilson(c.fn_, c.fn_ + c.tp, level),
            BinaryMetric::PrAuc
            | BinaryMetric::Ece
            | BinaryMetric::F1
            | BinaryMetric::RecallAtPrecision(_) => {
                interval::bootstrap(self.len(), 500, level, seed, |rows| self.select(rows).value(metric, cut))
            }
        };
        Some(Measure { value, interval })
    }
}

fn log_loss(score: f64, label: bool) -> f64 {
    let p = score.clamp(LOG_MARGIN, 1.0 - LOG_MARGIN);
    -(if label { p } else { 1.0 - p }).ln()
}

fn brier(score: f64, label: bool) -> f64 {
    let off = score - f64::from(u8::from(label));
    off * off
}
