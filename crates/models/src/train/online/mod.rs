//! Learning row by row: logistic and linear regression by SGD or FTRL-Proximal, next to training in batches.
//!
//! [`Online::learn`] takes a row: it is predicted, judged, and learnt from, in this order; what is judged was never seen. A learner is
//! saved and goes on bit for bit [test: a_learner_goes_on_from_a_checkpoint_as_if_nothing_had_been], and is written as ONNX at any
//! time. Pure: rows in, coefficients out; memory is bounded by the configuration.

mod checkpoint;
mod config;
mod learner;
mod prequential;

use std::collections::BTreeMap;

use indexmap::IndexMap;

use self::learner::{Kept, Moments};
use self::prequential::Prequential;
use super::Error;
use super::config::Task;
use crate::onnx::{About, Cell, Classes, Linear, Link, Scorer, Term, murmur3, write};

pub use config::{Learner, OnlineConfig, Words, problems};

/// What kind a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Number,
    /// Words.
    Words,
}

/// A column, and what was learnt of it.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: String,
    coefficients: Coefficients,
}

#[derive(Debug, Clone, PartialEq)]
enum Coefficients {
    Number(Kept, Moments),
    Words { words: IndexMap<String, u32>, kept: Vec<Kept> },
    Buckets { seed: u32, kept: Vec<Kept> },
}

/// A learner.
#[derive(Debug, Clone, PartialEq)]
pub struct Online {
    config: OnlineConfig,
    columns: Vec<Column>,
    intercept: Kept,
    figures: Prequential,
}

/// What the hash of a column's words begins with: the operator takes 31 bits of it.
fn seed(column: &str) -> u32 {
    murmur3(column.as_bytes(), 0) & 0x7fff_ffff
}

impl Online {
    /// A learner of these columns that has seen nothing.
    ///
    /// # Errors
    /// There is no column, or two have one name.
    pub fn new(config: OnlineConfig, columns: &[(&str, Kind)]) -> Result<Online, Error> {
        let mut names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != columns.len() || columns.is_empty() {
            return Err(Error::Table("there is no column, or two have one name".to_owned()));
        }
        let column = |(name, kind): &(&str, Kind)| Column {
            name: (*name).to_owned(),
            coefficients: match (kind, config.words) {
                (Kind::Number, _) => Coefficients::Number(Kept::default(), Moments::default()),
                (Kind::Words, Words::Dictionary { .. }) => {
                    Coefficients::Words { words: IndexMap::new(), kept: Vec::new() }
                }
                (Kind::Words, Words::Hashed { bits }) => {
                    Coefficients::Buckets { seed: seed(name), kept: vec![Kept::default(); 1 << bits.min(24)] }
                }
            },
        };
        let columns = columns.iter().map(column).collect();
        Ok(Online::empty(config, columns))
    }

    fn empty(config: OnlineConfig, columns: Vec<Column>) -> Online {
        let figures = Prequential::new(config.task == Task::Classification, config.window);
        Online { config, columns, intercept: Kept::default(), figures }
    }

    /// What is answered for a row: the probability of 1, or a number. Cells are in the order of the columns.
    pub fn predict<'a>(&self, cells: impl IntoIterator<Item = Cell<'a>>) -> f64 {
        let learner = self.config.learner;
        let mut score = self.intercept.weight(learner);
        for (column, cell) in self.columns.iter().zip(cells) {
            let (at, x) = column.place(cell, self.config.standardise);
            score += column.kept(at).map_or(0.0, |kept| kept.weight(learner) * x);
        }
        match self.config.task {
            Task::Classification => 1.0 / (1.0 + (-score).exp()),
            Task::Regression => score,
        }
    }

    /// Predicts a row, judges the prediction, and learns from it; what was predicted. A row whose target is missing is predicted
    /// only.
    pub fn learn<'a>(&mut self, cells: &[Cell<'a>], target: f64, weight: f64) -> f64 {
        let answer = self.predict(cells.iter().copied());
        if !(target.is_finite() && weight.is_finite() && weight >= 0.0) {
            return answer;
        }
        self.figures.take(answer, target);
        self.meet(cells);
        // The slope is that of what would be answered now: the row itself has moved the mean.
        let slope = weight * (self.predict(cells.iter().copied()) - target);
        let (learner, standardise) = (self.config.learner, self.config.standardise);
        self.intercept.learn(learner, slope);
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let (at, x) = column.place(*cell, standardise);
            if x != 0.0
                && let Some(kept) = column.kept_mut(at)
            {
                kept.learn(learner, slope * x);
            }
        }
        answer
    }

    /// Takes the numbers into the means, and new words into the dictionaries.
    fn meet(&mut self, cells: &[Cell<'_>]) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (&mut column.coefficients, cell) {
                (Coefficients::Number(_, moments), Cell::Number(x)) if x.is_finite() => moments.take(*x),
                (Coefficients::Words { words, kept }, Cell::Text(text)) => {
                    let Words::Dictionary { most } = self.config.words else { continue };
                    if !words.contains_key(*text) && kept.len() < most as usize {
                        let next = u32::try_from(kept.len()).unwrap_or(u32::MAX);
                        words.insert((*text).to_owned(), next);
                        kept.push(Kept::default());
                    }
                }
                _ => {}
            }
        }
    }

    /// How many rows were learnt from.
    pub fn rows(&self) -> u64 {
        self.figures.rows
    }

    /// Figures of all rows, each of before it was learnt from, by the metrics' names.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        self.figures.all()
    }

    /// The same of the last rows, as many as the configuration's window.
    pub fn recent_figures(&self) -> BTreeMap<String, f64> {
        self.figures.recent()
    }

    /// What there is, as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        checkpoint::save(self)
    }

    /// Goes on from a checkpoint. `config` and `columns` are what is configured now.
    ///
    /// # Errors
    /// It is damaged, of another release, or of another configuration.
    pub fn resume(bytes: &[u8], config: &OnlineConfig, columns: &[(&str, Kind)]) -> Result<Online, Error> {
        let online = checkpoint::load(bytes)?;
        let kind = |column: &Column| match column.coefficients {
            Coefficients::Number(..) => Kind::Number,
            _ => Kind::Words,
        };
        let same = online
            .columns
            .iter()
            .map(|column| (column.name.as_str(), kind(column)))
            .eq(columns.iter().copied());
        if !same || online.config != *config {
            return Err(Error::Checkpoint(
                "it is of another configuration or of other columns; begin anew".to_owned(),
            ));
        }
        Ok(online)
    }

    /// The model as it is now.
    pub fn model(&self) -> Linear {
        let link = match self.config.task {
            Task::Classification => Link::Sigmoid { scale: 1.0 },
            Task::Regression => Link::Identity,
        };
        let terms = self.columns.iter().map(|column| column.term(&self.config)).collect();
        Linear { intercepts: vec![self.intercept.weight(self.config.learner)], terms, link }
    }

    /// Its file as it is now.
    ///
    /// # Errors
    /// As [`write`].
    pub fn onnx(&self, about: &About) -> Result<Vec<u8>, Error> {
        let classes = (self.config.task == Task::Classification).then(|| Classes::Numbers(vec![0, 1]));
        Ok(write(Scorer::Linear(&self.model()), classes.as_ref(), about)?)
    }
}

impl Column {
    /// Which coefficient a cell meets, and with what factor.
    fn place(&self, cell: Cell<'_>, standardise: bool) -> (usize, f64) {
        match (&self.coefficients, cell) {
            (Coefficients::Number(_, moments), Cell::Number(x)) => {
                let known = if x.is_nan() { 0.0 } else { x };
                (0, if standardise { moments.standard(x) } else { known })
            }
            (Coefficients::Words { words, .. }, Cell::Text(text)) => {
                words.get(text).map_or((usize::MAX, 0.0), |at| (*at as usize, 1.0))
            }
            (Coefficients::Buckets { seed, kept }, Cell::Text(text)) => {
                (murmur3(text.as_bytes(), *seed) as usize % kept.len().max(1), 1.0)
            }
            _ => (usize::MAX, 0.0),
        }
    }

    fn kept(&self, at: usize) -> Option<Kept> {
        match &self.coefficients {
            Coefficients::Number(kept, _) => (at == 0).then_some(*kept),
            Coefficients::Words { kept, .. } | Coefficients::Buckets { kept, .. } => kept.get(at).copied(),
        }
    }

    fn kept_mut(&mut self, at: usize) -> Option<&mut Kept> {
        match &mut self.coefficients {
            Coefficients::Number(kept, _) => (at == 0).then_some(kept),
            Coefficients::Words { kept, .. } | Coefficients::Buckets { kept, .. } => kept.get_mut(at),
        }
    }

    fn term(&self, config: &OnlineConfig) -> Term {
        let name = self.name.clone();
        let weights =
            |all: &[Kept]| -> Vec<f64> { all.iter().map(|kept| kept.weight(config.learner)).collect() };
        match &self.coefficients {
            Coefficients::Number(kept, moments) => {
                let (center, scale) =
                    if config.standardise { (moments.mean, moments.scale()) } else { (0.0, 1.0) };
                // Without variance a number says nothing yet.
                let silent = config.standardise && moments.squares <= 0.0;
                let weight = if silent { 0.0 } else { kept.weight(config.learner) };
                Term::Number { name, fill: center, center, scale, weights: vec![weight] }
            }
            Coefficients::Words { words, kept } => {
                Term::Words { name, words: words.keys().cloned().collect(), weights: weights(kept) }
            }
            Coefficients::Buckets { seed, kept } => {
                Term::Hashed { name, seed: *seed, weights: weights(kept).into() }
            }
        }
    }
}
