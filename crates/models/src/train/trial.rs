//! One model after another on one table: what a try's parameters are, how it is fitted, and what it is worth.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pipeline::task;
use serde::Serialize;

use super::Error;
use super::config::{GbdtConfig, LinearConfig, TrainConfig, Tuned};
use super::fitted::Model;
use super::gbdt::{self, Go, Grow, Growing, Plot};
use super::linear;
use super::metric::Metric;
use super::search::{Pruner, Trial};
use super::table::Table;
use crate::onnx::lightgbm;

/// What a model is fitted with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Params {
    /// Trees.
    Gbdt(GbdtConfig),
    /// A linear model.
    Linear(LinearConfig),
}

impl Params {
    pub(super) fn of(config: &TrainConfig) -> Params {
        match (&config.gbdt, &config.linear) {
            (Some(gbdt), _) => Params::Gbdt(gbdt.clone()),
            (None, Some(linear)) => Params::Linear(linear.clone()),
            (None, None) => {
                Params::Linear(LinearConfig { target: String::new(), task: None, l1: 0.0, l2: 0.0, steps: 1 })
            }
        }
    }

    /// The most rounds, or steps.
    pub(super) fn rounds(&self) -> u32 {
        match self {
            Params::Gbdt(gbdt) => gbdt.rounds,
            Params::Linear(linear) => linear.steps,
        }
    }

    /// Whether fewer rounds make a worse model of the same kind.
    pub(super) fn has_rounds(&self) -> bool {
        matches!(self, Params::Gbdt(_))
    }

    /// The parameters of another try.
    pub(super) fn drawn(&self, tuned: &Tuned, seed: u64) -> Params {
        match self {
            Params::Gbdt(gbdt) => Params::Gbdt(gbdt::drawn(gbdt, tuned, seed)),
            Params::Linear(linear) => Params::Linear(linear::drawn(linear, tuned, seed)),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Rows to learn from and rows to be judged by.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut {
    pub(super) train: Vec<u32>,
    pub(super) valid: Vec<u32>,
}

/// A model of a try.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) model: Model,
    /// The figure on the rows it is judged by.
    pub(super) value: Option<f64>,
    /// Its rounds or steps.
    pub(super) rounds: u32,
    /// The figure round by round.
    pub(super) curve: Vec<f64>,
    pub(super) warnings: Vec<String>,
}

/// Fits models to one table.
pub(super) struct Judge {
    table: Arc<Table>,
    metric: Metric,
    seed: u64,
    growing: Option<Box<dyn Growing>>,
    cancel: Arc<AtomicBool>,
}

impl Judge {
    /// Starts whoever grows trees, when some are to be grown.
    pub(super) async fn open(
        config: &TrainConfig,
        table: Arc<Table>,
        metric: Metric,
        trees: &dyn Grow,
        cancel: Arc<AtomicBool>,
    ) -> Result<Judge, Error> {
        let growing = if config.gbdt.is_some() { Some(trees.open(&table).await?) } else { None };
        Ok(Judge { table, metric, seed: config.seed, growing, cancel })
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    /// Fits a model; `hear` is told of every round.
    pub(super) async fn fit(
        &mut self,
        params: &Params,
        cut: &Cut,
        rounds: u32,
        hear: &mut (dyn FnMut(u32, Option<f64>) + Send),
    ) -> Result<Fitted, Error> {
        let mut on = |round: u32, value: Option<f64>| {
            hear(round, value);
            Go::On
        };
        self.fit_until(params, cut, rounds, &mut on).await
    }

    /// The same, until `go` says that it is enough. What a model that was stopped has beyond that round is chance.
    async fn fit_until(
        &mut self,
        params: &Params,
        cut: &Cut,
        rounds: u32,
        go: &mut (dyn FnMut(u32, Option<f64>) -> Go + Send),
    ) -> Result<Fitted, Error> {
        match params {
            Params::Gbdt(config) => self.grow(config, cut, rounds, go).await,
            Params::Linear(config) => self.linear(config, cut).await,
        }
    }

    async fn grow(
        &mut self,
        config: &GbdtConfig,
        cut: &Cut,
        rounds: u32,
        go: &mut (dyn FnMut(u32, Option<f64>) -> Go + Send),
    ) -> Result<Fitted, Error> {
        let Some(growing) = &mut self.growing else {
            return Err(Error::Trainer { what: "nobody grows trees here".to_owned() });
        };
        // LightGBM steers by the share of errors.
        let accuracy = self.metric == Metric::Accuracy;
        let figure = |value: f64| if accuracy { 1.0 - value } else { value };
        let plot = Plot {
            params: gbdt::params(config, &self.table, self.metric, self.seed),
            rounds,
            patience: (config.early_stopping > 0 && !cut.valid.is_empty()).then_some(config.early_stopping),
            rising: self.metric.rising() && !accuracy,
            train: cut.train.clone(),
            valid: cut.valid.clone(),
        };
        let mut curve = Vec::new();
        let grown = {
            let mut watch = |round: super::worker::protocol::Round| {
                let value = round.value.map(figure);
                curve.extend(value);
                go(round.round, value)
            };
            growing.grow(&plot, &mut watch).await?
        };
        let mut forest = lightgbm::read(&grown.text)?;
        forest.names = self.table.features().iter().map(|column| column.name.clone()).collect();
        let mut warnings = Vec::new();
        if !grown.stopped && plot.patience.is_some() && grown.rounds == rounds {
            warnings.push(format!("the last of {rounds} rounds was the best: more `rounds` may be better"));
        }
        let model = Model::Trees { forest, text: grown.text };
        let value = grown.value.map(figure);
        Ok(Fitted { model, value, rounds: grown.rounds, curve, warnings })
    }

    async fn linear(&mut self, config: &LinearConfig, cut: &Cut) -> Result<Fitted, Error> {
        let (table, metric, cancel) = (self.table.clone(), self.metric, self.cancel.clone());
        let (config, cut) = (config.clone(), cut.clone());
        let work = move || {
            let fit = linear::fit(&table.only(&cut.train), &config, &cancel)?;
            let mut warnings = Vec::new();
            if !fit.converged {
                warnings.push(format!(
                    "the solver had not converged after {} steps: raise `steps` or `l2`",
                    fit.steps
                ));
            }
            let model = Model::Linear(fit.model);
            let part = table.only(&cut.valid);
            let value = (!cut.valid.is_empty())
                .then(|| metric.of(&model.answers(&table, &cut.valid), part.label(), part.weights()));
            Ok(Fitted { model, value, rounds: fit.steps, curve: Vec::new(), warnings })
        };
        task::blocking("train", work).await.map_err(|_| Error::Cancelled)?
    }

    /// Judges parameters by the mean over the cuts; given up at the first of them, when the pruner says so.
    pub(super) async fn judge(
        &mut self,
        number: u32,
        params: &Params,
        cuts: &[Cut],
        rounds: u32,
        mut pruner: Option<&mut Pruner>,
    ) -> Result<Trial, Error> {
        let metric = self.metric;
        let mut values = Vec::new();
        let (mut most, mut curve) = (0, Vec::new());
        for (i, cut) in cuts.iter().enumerate() {
            let looked_at = if i == 0 { pruner.as_deref() } else { None };
            let mut best: Option<f64> = None;
            // The round at which it was given up. How far it came until it heard of it is chance, and is not looked at.
            let mut given_up: Option<u32> = None;
            let mut go = |round: u32, value: Option<f64>| {
                let Some(value) = value else { return Go::On };
                if best.is_none_or(|best| metric.better(value, best)) {
                    best = Some(value);
                }
                if best.is_some_and(|best| looked_at.is_some_and(|pruner| !pruner.goes_on(round, best))) {
                    given_up.get_or_insert(round);
                }
                if given_up.is_none() { Go::On } else { Go::Stop }
            };
            let fitted = self.fit_until(params, cut, rounds, &mut go).await?;
            if let Some(rounds) = given_up {
                return Ok(Trial { number, params: params.to_json(), value: None, rounds, pruned: true });
            }
            if i == 0 {
                curve = fitted.curve;
            }
            values.extend(fitted.value);
            most = most.max(fitted.rounds);
        }
        if let Some(pruner) = &mut pruner
            && !curve.is_empty()
        {
            pruner.finish(&curve);
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of folds")]
        let value = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        Ok(Trial { number, params: params.to_json(), value, rounds: most, pruned: false })
    }
}
