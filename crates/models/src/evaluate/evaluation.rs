//! An evaluation: every figure of a model on some rows, in total, by slice and by group, with the curves of its plots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fairness::{self, Fairness};
use super::metrics::calibration::{self, Bin, Bins};
use super::metrics::rank::{Ranking, pr_points, roc_points};
use super::metrics::threshold::Confusion;
use super::points::thinned;
use super::{Choices, Error, EvaluateConfig, Measure, Metric, Rows, Truth};

/// Points of a curve that is kept.
const POINTS: usize = 200;

/// What a model is worth on some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The form of this record: `forebay.evaluation/1`.
    pub schema: String,
    /// What was predicted.
    pub task: String,
    /// How many rows there were.
    pub rows: u64,
    /// The hash of what was asked: equal for two models that were asked the same.
    pub asked: String,
    /// From which score up a row was called positive.
    pub threshold: f64,
    /// The figures by their names; nothing where one is not defined for these rows.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// How rows were called, of a binary classification.
    pub confusion: Option<Confusion>,
    /// The parts of the rows that are large enough.
    pub slices: Vec<Slice>,
    /// How groups fare.
    pub fairness: Vec<Fairness>,
    /// The calibration curve, over bins of equal width; empty where scores are no probabilities.
    pub calibration: Vec<Bin>,
    /// The ROC curve, thinned.
    pub roc: Vec<(f64, f64)>,
    /// The precision-recall curve, thinned.
    pub precision_recall: Vec<(f64, f64)>,
    /// How it did on the rows that must be right, when there are any.
    pub kept: Option<Kept>,
}

/// The figures of the rows by the values of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The column.
    pub column: String,
    /// The values that had too few rows to tell, with how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub small: BTreeMap<String, u64>,
    /// The parts, by value.
    pub parts: Vec<Part>,
}

/// The rows that share a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The value.
    pub value: String,
    /// Its rows.
    pub rows: u64,
    /// Its figures.
    pub metrics: BTreeMap<String, Option<f64>>,
}

/// How a model did on rows that must be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// How many there are.
    pub rows: u64,
    /// The ones that were wrong, by name; at most a hundred.
    pub wrong: Vec<String>,
    /// How many were wrong.
    pub failed: u64,
}

/// Evaluates.
///
/// # Errors
/// The configuration names a column that is not there or a metric that predictions of this kind do not have.
pub fn evaluate(rows: &Rows, config: &EvaluateConfig) -> Result<Evaluation, Error> {
    let choices = config.choices();
    let metrics = wanted(rows, config);
    let mut evaluation = Evaluation {
        schema: "forebay.evaluation/1".to_owned(),
        task: rows.truth().task().to_owned(),
        rows: rows.len() as u64,
        asked: rows.asked(),
        threshold: config.threshold,
        metrics: figures(rows, &metrics, choices)?,
        confusion: None,
        slices: Vec::new(),
        fairness: Vec::new(),
        calibration: Vec::new(),
        roc: Vec::new(),
        precision_recall: Vec::new(),
        kept: None,
    };
    if let Truth::Binary { labels, scores } = rows.truth() {
        let weights = rows.weights();
        evaluation.confusion = Some(Confusion::at(labels, scores, weights, config.threshold));
        let cuts = Ranking::of(scores).cuts(labels, weights);
        evaluation.roc = thinned(&roc_points(&cuts), POINTS);
        evaluation.precision_recall = thinned(&pr_points(&cuts), POINTS);
        if rows.probable() {
            evaluation.calibration =
                calibration::curve(labels, scores, weights, (Bins::EqualWidth, choices.bins));
        }
    }
    for column in &config.slices {
        evaluation.slices.push(slice(rows, column, &metrics, config)?);
    }
    for column in &config.groups {
        let key = rows.column(column)?;
        let compared =
            fairness::compare(rows, key, config.threshold, config.group_minimum, config.resampling());
        evaluation.fairness.extend(compared);
    }
    Ok(evaluation)
}

fn wanted(rows: &Rows, config: &EvaluateConfig) -> Vec<Metric> {
    if config.metrics.is_empty() {
        Metric::all().filter(|m| m.fits(rows.truth())).collect()
    } else {
        config.metrics.clone()
    }
}

fn figures(
    rows: &Rows,
    metrics: &[Metric],
    choices: Choices,
) -> Result<BTreeMap<String, Option<f64>>, Error> {
    let figure = |m: &Metric| Ok((m.to_string(), Measure::new(*m, rows, choices)?.value()));
    metrics.iter().map(figure).collect()
}

fn slice(rows: &Rows, column: &str, metrics: &[Metric], config: &EvaluateConfig) -> Result<Slice, Error> {
    let mut slice = Slice { column: column.to_owned(), small: BTreeMap::new(), parts: Vec::new() };
    for (value, chosen) in rows.column(column)?.parts() {
        let value = value.to_owned();
        match rows.subset(&chosen).filter(|_| chosen.len() as u64 >= config.slice_minimum) {
            Some(part) => {
                let metrics = figures(&part, metrics, config.choices())?;
                slice.parts.push(Part { value, rows: chosen.len() as u64, metrics });
            }
            None => {
                slice.small.insert(value, chosen.len() as u64);
            }
        }
    }
    Ok(slice)
}

/// Looks whether rows that must be right are; `names` says which they are. Binary ones are called at the threshold, numbers may be
/// off by `tolerance`.
pub fn kept(rows: &Rows, names: &[String], threshold: f64, tolerance: f64) -> Kept {
    let right: Vec<bool> = match rows.truth() {
        Truth::Binary { labels, scores } => {
            labels.iter().zip(scores).map(|(label, score)| *label == (*score >= threshold)).collect()
        }
        Truth::Multiclass { classes, labels, probabilities } => {
            let called = super::metrics::multiclass::called(probabilities, classes.len());
            labels.iter().zip(called).map(|(label, called)| *label == called).collect()
        }
        Truth::Regression { truth, predicted } => {
            truth.iter().zip(predicted).map(|(y, p)| (y - p).abs() <= tolerance).collect()
        }
    };
    let wrong = right.iter().enumerate().filter(|(_, right)| !**right);
    let name = |row: usize| names.get(row).cloned().unwrap_or_else(|| format!("row {row}"));
    Kept {
        rows: right.len() as u64,
        failed: wrong.clone().count() as u64,
        wrong: wrong.take(100).map(|(row, _)| name(row)).collect(),
    }
}
