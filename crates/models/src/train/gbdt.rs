//! Gradient-boosted trees: what a training asks of whoever grows them, and what comes back.
//!
//! The trait lives here, with its user; `worker::Worker` fits it. A model is LightGBM's text, which `onnx::lightgbm` reads.

use std::collections::BTreeMap;

use contract::BoxFuture;
use rand::RngExt;

use super::config::{GbdtConfig, Tuned};
use super::metric::Metric;
use super::table::{Label, Table};
use super::worker::protocol::Round;
use super::{Error, seeded};

/// Whether a training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// It does.
    On,
    /// It ends after the round that is under way.
    Stop,
}

/// One model to be grown.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Parameters, by LightGBM's names.
    pub params: BTreeMap<String, String>,
    /// The most rounds.
    pub rounds: u32,
    /// Stop when the metric has not become better for so many.
    pub patience: Option<u32>,
    /// Whether more of the metric is better.
    pub rising: bool,
    /// Rows of the table to learn from, in order.
    pub train: Vec<u32>,
    /// Rows that early stopping looks at.
    pub valid: Vec<u32>,
}

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub struct Grown {
    /// LightGBM's text.
    pub text: String,
    /// The rounds it has.
    pub rounds: u32,
    /// The metric of these on the validation rows.
    pub value: Option<f64>,
    /// Whether it was told to stop.
    pub stopped: bool,
}

/// Whoever grows trees.
pub trait Grow: Send + Sync {
    /// Takes the table, once for all models of a training.
    fn open<'a>(&'a self, table: &'a Table) -> BoxFuture<'a, Result<Box<dyn Growing>, Error>>;
}

/// Has a table, and grows trees on it. Dropping it ends whatever it does.
pub trait Growing: Send {
    /// Grows a model; `watch` hears of every round. After a dropped future it must not be asked again.
    fn grow<'a>(
        &'a mut self,
        plot: &'a Plot,
        watch: &'a mut (dyn FnMut(Round) -> Go + Send),
    ) -> BoxFuture<'a, Result<Grown, Error>>;
}

/// LightGBM's parameters for a configuration. Everything that could make two equal trainings differ is fixed.
pub(super) fn params(
    config: &GbdtConfig,
    table: &Table,
    metric: Metric,
    seed: u64,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |key: &str, value: String| drop(all.insert(key.to_owned(), value));
    match table.label() {
        Label::Value(_) => set("objective", "regression".to_owned()),
        Label::Class { classes, .. } if classes.len() <= 2 => set("objective", "binary".to_owned()),
        Label::Class { classes, .. } => {
            set("objective", "multiclass".to_owned());
            set("num_class", classes.len().to_string());
        }
    }
    set("metric", metric.of_lightgbm(table.label().scores()).to_owned());
    set("learning_rate", config.learning_rate.to_string());
    set("num_leaves", config.leaves.to_string());
    set("max_depth", config.depth.map_or("-1".to_owned(), |depth| depth.to_string()));
    set("min_data_in_leaf", config.min_rows.to_string());
    set("lambda_l1", config.l1.to_string());
    set("lambda_l2", config.l2.to_string());
    set("max_bin", config.bins.to_string());
    if config.rows_share < 1.0 {
        set("bagging_fraction", config.rows_share.to_string());
        set("bagging_freq", "1".to_owned());
    }
    if config.columns_share < 1.0 {
        set("feature_fraction", config.columns_share.to_string());
    }
    // LightGBM's seeds are of 31 bits.
    set("seed", (seed & 0x7fff_ffff).to_string());
    set("deterministic", "true".to_owned());
    set("force_col_wise", "true".to_owned());
    all
}

/// Another try of the search: what is tuned is drawn anew, the rest stays.
pub(super) fn drawn(config: &GbdtConfig, tuned: &Tuned, seed: u64) -> GbdtConfig {
    let mut rng = seeded(seed);
    let mut unit = || rng.random::<f64>();
    let mut next = config.clone();
    let mut between =
        |range: Option<[f64; 2]>, log: bool| {
            // One number is drawn for each range, whether it is tuned or not: leaving one out leaves the others as they were.
            let at = unit();
            range.map(|[low, high]| {
                if log { (low.ln() + at * (high.ln() - low.ln())).exp() } else { low + at * (high - low) }
            })
        };
    if let Some(x) = between(tuned.learning_rate, true) {
        next.learning_rate = x;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranges are checked when they are read"
    )]
    let whole = |x: f64| x.round() as u32;
    if let Some(x) = between(tuned.leaves, true) {
        next.leaves = whole(x);
    }
    if let Some(x) = between(tuned.min_rows, true) {
        next.min_rows = whole(x);
    }
    if let Some(x) = between(tuned.rows_share, false) {
        next.rows_share = x;
    }
    if let Some(x) = between(tuned.columns_share, false) {
        next.columns_share = x;
    }
    if let Some(x) = between(tuned.l1, true) {
        next.l1 = x;
    }
    if let Some(x) = between(tuned.l2, true) {
        next.l2 = x;
    }
    next
}
