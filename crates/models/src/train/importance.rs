//! How much each column matters: by what its splits gained, by how often it is split on, by how much worse the model is when its
//! values are shuffled (Breiman, 2001).

use std::sync::atomic::{AtomicBool, Ordering};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::fitted::Model;
use super::metric::Metric;
use super::table::Table;
use super::{Error, seeded};
use crate::onnx::Term;

/// Rows that shuffling looks at: enough for two digits, and bounded whatever the table.
const ROWS: usize = 4_000;
/// How often each column is shuffled.
const TIMES: u64 = 3;

/// A column's weight in the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The column.
    pub column: String,
    /// The gain of its splits, all together; trees only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// How many splits ask for it; trees only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<u64>,
    /// The largest of its standardised coefficients; linear models only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficient: Option<f64>,
    /// By how much the metric becomes worse when its values are shuffled, on rows that were not learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permutation: Option<f64>,
}

/// What the model itself tells, in the order of the columns.
pub(super) fn of(model: &Model, table: &Table) -> Vec<Importance> {
    let mut all: Vec<Importance> = table
        .features()
        .iter()
        .map(|column| Importance {
            column: column.name.clone(),
            gain: None,
            splits: None,
            coefficient: None,
            permutation: None,
        })
        .collect();
    match model {
        Model::Trees { forest, text } => {
            for (feature, gain) in gains(text) {
                if let Some(one) = all.get_mut(feature) {
                    *one.gain.get_or_insert(0.0) += gain;
                }
            }
            for one in &mut all {
                one.gain.get_or_insert(0.0);
                one.splits = Some(0);
            }
            for node in forest.trees.iter().flat_map(|tree| &tree.nodes) {
                if let Some(splits) = all.get_mut(node.feature as usize).and_then(|one| one.splits.as_mut()) {
                    *splits += 1;
                }
            }
        }
        Model::Linear(linear) => {
            for (one, term) in all.iter_mut().zip(&linear.terms) {
                let weights: &[f64] = match term {
                    Term::Number { weights, .. } | Term::Words { weights, .. } => weights,
                    Term::Hashed { weights, .. } => weights,
                };
                one.coefficient = Some(weights.iter().fold(0.0, |top: f64, w| top.max(w.abs())));
            }
        }
    }
    all
}

/// Feature and gain of every split in LightGBM's text.
fn gains(text: &str) -> Vec<(usize, f64)> {
    let mut all = Vec::new();
    let mut features: Vec<usize> = Vec::new();
    for line in text.lines() {
        if let Some(list) = line.strip_prefix("split_feature=") {
            features = list.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        } else if let Some(list) = line.strip_prefix("split_gain=") {
            let gains = list.split_whitespace().filter_map(|word| word.parse().ok());
            all.extend(features.drain(..).zip(gains));
        }
    }
    all
}

/// Adds what shuffling tells, on up to 4000 of `rows`.
pub(super) fn permutation(
    all: &mut [Importance],
    (model, metric): (&Model, Metric),
    table: &Table,
    rows: &[u32],
    seed: u64,
    cancel: &AtomicBool,
) -> Result<(), Error> {
    let mut rng = seeded(seed ^ 0x5eed);
    let mut drawn = rows.to_vec();
    drawn.shuffle(&mut rng);
    drawn.truncate(ROWS);
    drawn.sort_unstable();
    let part = table.only(&drawn);
    let every: Vec<u32> = (0_u32..).take(part.rows()).collect();
    let figure = |table: &Table| metric.of(&model.answers(table, &every), part.label(), part.weights());
    let whole = figure(&part);
    for (feature, one) in all.iter_mut().enumerate() {
        let mut sum = 0.0;
        for _ in 0..TIMES {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let mut order: Vec<usize> = (0..part.rows()).collect();
            order.shuffle(&mut rng);
            let worse = figure(&part.permuted(feature, &order));
            sum += if metric.rising() { whole - worse } else { worse - whole };
        }
        #[expect(clippy::cast_precision_loss, reason = "three")]
        let times = TIMES as f64;
        one.permutation = Some(sum / times);
    }
    Ok(())
}
