//! Performance that is estimated while labels are not there: confidence-based, as NannyML's CBPE.
//!
//! A classifier whose probabilities are calibrated says itself how often it is right: a row with probability `p` is a
//! positive `p` times. So every count is an expected one. It holds as long as the probabilities stay calibrated: a
//! change of what the inputs mean (concept drift) is invisible to it, and so an estimate is never a measurement: it is
//! of a type of its own, and [`back_test`] holds it to what came true later.

use serde::{Deserialize, Serialize};

use super::binary::{BinaryData, BinaryMetric, Confusion};
use super::interval::{Interval, IntervalMethod, between};
use super::ranking::Ranking;
use crate::error::same_length;
use crate::{Error, Seeded};

/// Metrics that can be estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatedMetric {
    /// Area under the ROC curve; of several classes, the mean of each against the rest.
    Auc,
    /// Average precision.
    PrAuc,
    /// Rows that are said right.
    Accuracy,
    /// The harmonic mean of precision and recall.
    F1,
    /// Precision.
    Precision,
    /// Recall.
    Recall,
    /// Specificity.
    Specificity,
}

/// What a classifier of two classes is likely to achieve on rows without labels. An estimate, no measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimated {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
    said: Vec<bool>,
    confusion: Confusion,
}

fn probability(values: &[f64]) -> Result<(), Error> {
    match values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        Some(&value) => Err(Error::Value { what: "a probability", value, why: "it is not within 0 and 1" }),
        None => Ok(()),
    }
}

/// Estimates from the model's scores (they order the rows), the calibrated probability of each row, and what the model
/// said.
///
/// # Errors
/// When they are not of one length, there is none, or a probability is none.
pub fn estimate(scores: Vec<f64>, probabilities: Vec<f64>, said: Vec<bool>) -> Result<Estimated, Error> {
    same_length("scores and probabilities", scores.len(), probabilities.len())?;
    same_length("scores and predictions", scores.len(), said.len())?;
    if scores.is_empty() {
        return Err(Error::TooFew { what: "a window", has: 0, needs: 1 });
    }
    probability(&probabilities)?;
    probability(&scores)?;
    let mut confusion = Confusion::default();
    said.iter().zip(&probabilities).for_each(|(&said, &p)| confusion.add(said, p));
    Ok(Estimated { scores, probabilities, said, confusion })
}

impl Estimated {
    /// The expected counts.
    pub fn confusion(&self) -> Confusion {
        self.confusion
    }

    /// The estimate; none where the rows do not define it.
    pub fn value(&self, metric: EstimatedMetric) -> Option<f64> {
        let ranking = || Ranking::new(self.scores.iter().copied().zip(self.probabilities.iter().copied()));
        match metric {
            EstimatedMetric::Auc => ranking().auc(),
            EstimatedMetric::PrAuc => ranking().average_precision(),
            metric => of_counts(&self.confusion, metric),
        }
    }

    /// Where the value will be with probability `level` once labels are there, if the probabilities are right: `times`
    /// draws of labels from `seed`.
    pub fn interval(&self, metric: EstimatedMetric, times: usize, level: f64, seed: u64) -> Option<Interval> {
        let mut draw = Seeded::new(seed);
        let mut found = Vec::with_capacity(times);
        for _ in 0..times {
            let labels: Vec<bool> = self.probabilities.iter().map(|&p| draw.unit() < p).collect();
            found.extend(match metric {
                EstimatedMetric::Auc | EstimatedMetric::PrAuc => {
                    let data = BinaryData::new(self.scores.clone(), labels).ok()?;
                    let auc = metric == EstimatedMetric::Auc;
                    data.value(if auc { BinaryMetric::Auc } else { BinaryMetric::PrAuc }, 0.5)
                }
                metric => {
                    let mut counts = Confusion::default();
                    let rows = self.said.iter().zip(labels);
                    rows.for_each(|(&said, label)| counts.add(said, f64::from(u8::from(label))));
                    of_counts(&counts, metric)
                }
            });
        }
        if found.len() * 2 < times { None } else { between(found, level, IntervalMethod::Drawn) }
    }
}

fn of_counts(counts: &Confusion, metric: EstimatedMetric) -> Option<f64> {
    match metric {
        EstimatedMetric::Accuracy => counts.accuracy(),
        EstimatedMetric::F1 => counts.f1(),
        EstimatedMetric::Precision => counts.precision(),
        EstimatedMetric::Recall => counts.recall(),
        EstimatedMetric::Specificity => counts.specificity(),
        EstimatedMetric::Auc | EstimatedMetric::PrAuc => None,
    }
}

/// What a classifier of several classes is likely to achieve: each class against the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct MulticlassEstimated {
    classes: Vec<Estimated>,
    accuracy: f64,
}

/// Estimates for several classes. `scores` and `probabilities` hold a row of numbers for each class; probabilities are
/// made to add up to one for each row (where all are zero, the same for every class). `said` is the number of the
/// class that the model chose.
///
/// # Errors
/// As [`estimate`], and when there are fewer than two classes.
pub fn estimate_classes(
    scores: Vec<Vec<f64>>,
    mut probabilities: Vec<Vec<f64>>,
    said: &[usize],
) -> Result<MulticlassEstimated, Error> {
    same_length("scores and probabilities", scores.len(), probabilities.len())?;
    if scores.len() < 2 {
        return Err(Error::TooFew { what: "classes", has: scores.len() as u64, needs: 2 });
    }
    for class in &probabilities {
        same_length("probabilities and predictions", class.len(), said.len())?;
        probability(class)?;
    }
    let sums: Vec<f64> =
        (0..said.len()).map(|row| probabilities.iter().filter_map(|class| class.get(row)).sum()).collect();
    let alike = 1.0 / scores.len() as f64;
    for class in &mut probabilities {
        class.iter_mut().zip(&sums).for_each(|(p, &sum)| *p = if sum > 0.0 { *p / sum } else { alike });
    }
    let right = said.iter().enumerate().filter_map(|(row, &class)| probabilities.get(class)?.get(row));
    let accuracy = right.sum::<f64>() / said.len().max(1) as f64;
    let classes =
        scores.into_iter().zip(probabilities).enumerate().map(|(class, (scores, probabilities))| {
            estimate(scores, probabilities, said.iter().map(|&s| s == class).collect())
        });
    Ok(MulticlassEstimated { classes: classes.collect::<Result<_, Error>>()?, accuracy })
}

impl MulticlassEstimated {
    /// The mean over the classes, each against the rest (where a class does not define it, 0 for it); accuracy over all
    /// rows.
    pub fn value(&self, metric: EstimatedMetric) -> f64 {
        match metric {
            EstimatedMetric::Accuracy => self.accuracy,
            metric => {
                let each = self.classes.iter().map(|class| class.value(metric).unwrap_or(0.0));
                each.sum::<f64>() / self.classes.len() as f64
            }
        }
    }

    /// One class against the rest.
    pub fn class(&self, class: usize) -> Option<&Estimated> {
        self.classes.get(class)
    }
}

/// How estimates have stood up to what came true.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackTest {
    /// Windows that were estimated and are mature now.
    pub windows: u64,
    /// The mean of |estimate − truth|.
    pub mean_absolute_error: f64,
    /// The mean of estimate − truth: above zero when it hopes too much.
    pub bias: f64,
    /// The share of truths within the interval of the estimate; none when no estimate had one.
    pub within: Option<f64>,
}

/// Holds estimates to the truth, for windows that have matured; none without any.
pub fn back_test(windows: &[(f64, Option<Interval>, f64)]) -> Option<BackTest> {
    let n = windows.len() as f64;
    let with: Vec<bool> =
        windows.iter().filter_map(|(_, interval, truth)| Some(interval.as_ref()?.holds(*truth))).collect();
    let held = with.iter().filter(|held| **held).count() as f64;
    (!windows.is_empty()).then(|| BackTest {
        windows: windows.len() as u64,
        mean_absolute_error: windows.iter().map(|(e, _, t)| (e - t).abs()).sum::<f64>() / n,
        bias: windows.iter().map(|(e, _, t)| e - t).sum::<f64>() / n,
        within: (!with.is_empty()).then(|| held / with.len() as f64),
    })
}
