//! A training from table to file: parts → tries → the best one → its figures on what was held back → ONNX.
//!
//! Nothing is read or written here, and nothing is drawn but from the seed: the same table, configuration and program give the
//! same bytes. Dropping the future ends all of it, the worker too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::{Clock, Tick};
use pipeline::task;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::{ClassWeights, Prune, SearchConfig, Task, TrainConfig};
use super::fitted::Model;
use super::gbdt::Grow;
use super::importance::{self, Importance};
use super::metric::Metric;
use super::search::{self, Pruner, Trial};
use super::split::{self, Parts};
use super::table::{Frame, Label, Roles, Table};
use super::trial::{Cut, Judge, Params};
use super::{Error, mixed};
use crate::onnx::{About, Classes};

/// What a training is asked to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// The table.
    pub frame: Frame,
    /// What was configured, without problems.
    pub config: TrainConfig,
    /// What is said of the model in its file: its id, which names what it is made of, and the version of its data.
    pub about: About,
}

/// How far a training is.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The rows are split.
    Split {
        /// Rows to learn from, to steer by, and held back.
        rows: [usize; 3],
    },
    /// A try is over.
    Trial {
        /// The try.
        trial: Trial,
        /// How many there are at most.
        of: u32,
    },
    /// A round of the final model is over.
    Round {
        /// Its number.
        round: u32,
        /// The most there can be.
        of: u32,
        /// The figure on the validation part.
        value: Option<f64>,
    },
}

/// Hears how far a training is. Must not wait.
pub trait Watch: Send + Sync {
    /// Something is over.
    fn progress(&self, progress: Progress);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: Progress) {}
}

/// What came of a training, for people and for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model's id.
    pub model_id: String,
    /// Rows to learn from, to steer by, and held back.
    pub rows: [usize; 3],
    /// Rows that had no label and were left out.
    pub unlabelled: usize,
    /// The figure that decided.
    pub metric: Metric,
    /// It on the validation part.
    pub validation: Option<f64>,
    /// All figures on the held-back part, by their names.
    pub holdout: BTreeMap<String, f64>,
    /// The parameters of the model.
    pub params: serde_json::Value,
    /// Its rounds, or steps of the solver.
    pub rounds: u32,
    /// The figure on the validation part, round by round.
    pub curve: Vec<f64>,
    /// All tries.
    pub trials: Vec<Trial>,
    /// How much each column matters.
    pub importance: Vec<Importance>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Its file.
    pub onnx: Vec<u8>,
    /// What came of it.
    pub report: Report,
}

/// Set when whoever waits is gone: work on another thread looks at it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Trains. `trees` grows them, when trees are configured.
///
/// # Errors
/// A column cannot be what it is to be, a part has no rows, the trainer fails, or memory does not suffice.
pub async fn run(job: Job, trees: &dyn Grow, clock: &dyn Clock, watch: &dyn Watch) -> Result<Trained, Error> {
    let Job { frame, config, about } = job;
    let plain = Table::of(&frame, &roles(&config))?;
    drop(frame);
    let metric = config.metric.unwrap_or_else(|| Metric::usual(plain.label()));
    if !metric.fits(plain.label()) {
        let why = format!(
            "`metric: {}` cannot be had of it; leave `metric` out",
            json!(metric).as_str().unwrap_or("")
        );
        return Err(Error::Column { column: roles(&config).target, why });
    }
    let parts = split::split(&plain, &config.split, config.seed)?;
    let sizes = [parts.train.len(), parts.valid.len(), parts.holdout.len()];
    watch.progress(Progress::Split { rows: sizes });
    let weights = class_weights(&plain, &config, &parts.train)?;
    let plain = Arc::new(plain);
    // What is learnt from has the classes' weights; figures are told without.
    let table =
        if weights.is_some() { Arc::new(Table::clone(&plain).weighted(weights)) } else { plain.clone() };
    let cancel = Cancel(Arc::default());
    let mut judge = Judge::open(&config, table.clone(), metric, trees, cancel.0.clone()).await?;
    let params = Params::of(&config);
    let cuts = cuts(&plain, &config, &parts)?;
    let (params, trials) = match &config.search {
        Some(search) => look(&mut judge, params, (search, config.seed), &cuts, clock, watch).await?,
        None => (params, Vec::new()),
    };
    let mut hear = |round: u32, value: Option<f64>| {
        watch.progress(Progress::Round { round, of: params.rounds(), value })
    };
    let cut = Cut { train: parts.train.clone(), valid: parts.valid.clone() };
    let mut fitted = judge.fit(&params, &cut, params.rounds(), &mut hear).await?;
    let (validation, curve) = (fitted.value, std::mem::take(&mut fitted.curve));
    if config.refit && !parts.valid.is_empty() {
        let mut all = [parts.train.as_slice(), &parts.valid].concat();
        all.sort_unstable();
        let cut = Cut { train: all, valid: Vec::new() };
        let rounds = fitted.rounds.max(1);
        fitted = judge.fit(&params, &cut, rounds, &mut hear).await?;
    }
    drop(judge);
    let mut report = Report {
        model_id: about.model_id.clone(),
        rows: sizes,
        unlabelled: plain.unlabelled(),
        metric,
        validation,
        holdout: BTreeMap::new(),
        params: params.to_json(),
        rounds: fitted.rounds,
        curve,
        trials,
        importance: Vec::new(),
        warnings: fitted.warnings,
    };
    let (seed, permutation, stop) = (config.seed, config.permutation_importance, cancel.0.clone());
    let finished = task::blocking("train", move || {
        let model = fitted.model;
        report.holdout = figures(&model, &plain, &parts);
        report.importance = importance::of(&model, &plain);
        if permutation {
            let judged = (&model, metric);
            importance::permutation(&mut report.importance, judged, &plain, &parts.holdout, seed, &stop)?;
        }
        let onnx = model.onnx(&plain, &about)?;
        Ok(Trained { model, onnx, report })
    });
    finished.await.map_err(|_| Error::Cancelled)?
}

/// Which columns are what.
pub(super) fn roles(config: &TrainConfig) -> Roles {
    let (target, task) = match (&config.gbdt, &config.linear, &config.adopted) {
        (Some(gbdt), ..) => (gbdt.target.clone(), gbdt.task),
        (None, Some(linear), _) => (linear.target.clone(), linear.task),
        (None, None, Some(own)) => (own.target.clone(), own.task),
        (None, None, None) => (String::new(), None),
    };
    Roles {
        target,
        classes: task.map(|task| task == Task::Classification),
        features: config.features.clone(),
        exclude: config.exclude.clone(),
        time: config.time.clone(),
        weight: config.weight.clone(),
        group: config.group.clone(),
    }
}

/// What tries are judged by: folds, or the validation part.
fn cuts(table: &Table, config: &TrainConfig, parts: &Parts) -> Result<Vec<Cut>, Error> {
    let Some(count) = config.folds.filter(|_| config.search.is_some()) else {
        return Ok(vec![Cut { train: parts.train.clone(), valid: parts.valid.clone() }]);
    };
    let mut rows = [parts.train.as_slice(), &parts.valid].concat();
    rows.sort_unstable();
    let folds = split::folds(table, &config.split, &rows, count, mixed(config.seed, 2))?;
    Ok(folds.into_iter().map(|fold| Cut { train: fold.train, valid: fold.valid }).collect())
}

/// Tries, and keeps the best.
async fn look(
    judge: &mut Judge,
    first: Params,
    (search, seed): (&SearchConfig, u64),
    cuts: &[Cut],
    clock: &dyn Clock,
    watch: &dyn Watch,
) -> Result<(Params, Vec<Trial>), Error> {
    let began = clock.now();
    let late = |now: Tick| search.time.is_some_and(|limit| now.since(began) >= limit.0);
    let params = |number: u32| {
        if number == 0 {
            first.clone()
        } else {
            first.drawn(&search.tune, mixed(seed, 100 + u64::from(number)))
        }
    };
    let halving = search.prune == Prune::Halving && first.has_rounds();
    let mut pruner = (search.prune == Prune::Median).then(|| Pruner::new(judge.metric()));
    let mut numbers: Vec<u32> = (0..search.trials).collect();
    let mut trials: Vec<Trial> = Vec::new();
    let rungs = search::rungs(first.rounds());
    for rung in if halving { &rungs[..] } else { &rungs[2..] } {
        let mut values = Vec::new();
        for number in std::mem::take(&mut numbers) {
            // The first one is always judged: there has to be one.
            if late(clock.now()) && !trials.is_empty() {
                break;
            }
            let trial = judge.judge(number, &params(number), cuts, *rung, pruner.as_mut()).await?;
            watch.progress(Progress::Trial { trial: trial.clone(), of: search.trials });
            values.push((number, trial.value.filter(|_| !trial.pruned)));
            trials.retain(|other| other.number != number);
            trials.push(trial);
        }
        if *rung != first.rounds() {
            numbers = search::better_third(&values, judge.metric());
            let given_up = |trial: &mut Trial| trial.pruned |= !numbers.contains(&trial.number);
            trials.iter_mut().for_each(given_up);
        }
    }
    trials.sort_by_key(|trial| trial.number);
    let mut best: Option<&Trial> = None;
    for trial in trials.iter().filter(|trial| !trial.pruned) {
        let value = |trial: &Trial| trial.value.unwrap_or(f64::NAN);
        if best.is_none_or(|best| judge.metric().better(value(trial), value(best))) {
            best = Some(trial);
        }
    }
    let number = best.map_or(0, |trial| trial.number);
    Ok((params(number), trials))
}

/// Weights of rows, with those of their classes, when there are some.
fn class_weights(table: &Table, config: &TrainConfig, train: &[u32]) -> Result<Option<Vec<f64>>, Error> {
    let Some(asked) = &config.class_weights else { return Ok(None) };
    let bad = |why: &str| Error::Column { column: roles(config).target, why: why.to_owned() };
    let Label::Class { of, classes } = table.label() else {
        return Err(bad("`class_weights` mean nothing for numbers; remove them"));
    };
    let own = |row: usize| table.weights().map_or(1.0, |all| all.get(row).copied().unwrap_or(0.0));
    let factors: Vec<f64> = match asked {
        ClassWeights::Balanced => {
            let mut sums = vec![0.0; classes.len()];
            for row in train {
                if let Some(sum) = of.get(*row as usize).and_then(|class| sums.get_mut(*class as usize)) {
                    *sum += own(*row as usize);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "a number of classes")]
            let each = sums.iter().sum::<f64>() / classes.len() as f64;
            sums.iter().map(|sum| if *sum > 0.0 { each / sum } else { 1.0 }).collect()
        }
        ClassWeights::By(named) => {
            let names: Vec<String> = match classes {
                Classes::Numbers(all) => all.iter().map(ToString::to_string).collect(),
                Classes::Texts(all) => all.clone(),
            };
            if let Some(unknown) = named.keys().find(|name| !names.contains(name)) {
                return Err(bad(&format!(
                    "`class_weights` name `{unknown}`; there are {}",
                    names.join(", ")
                )));
            }
            names.iter().map(|name| named.get(name).copied().unwrap_or(1.0)).collect()
        }
    };
    let factor = |class: &u32| factors.get(*class as usize).copied().unwrap_or(1.0);
    Ok(Some(of.iter().enumerate().map(|(row, class)| own(row) * factor(class)).collect()))
}

/// All figures that can be had of the held-back part.
fn figures(model: &Model, table: &Table, parts: &Parts) -> BTreeMap<String, f64> {
    let answers = model.answers(table, &parts.holdout);
    let part = table.only(&parts.holdout);
    let all = [Metric::Auc, Metric::LogLoss, Metric::Accuracy, Metric::Rmse, Metric::Mae];
    let figure = |metric: Metric| {
        let value = metric.of(&answers, part.label(), part.weights());
        let name = json!(metric).as_str().unwrap_or("").to_owned();
        value.is_finite().then_some((name, value))
    };
    all.into_iter().filter(|metric| metric.fits(table.label())).filter_map(figure).collect()
}
