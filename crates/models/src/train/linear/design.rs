//! The columns as a linear model sees them: numbers imputed by their mean and standardised, words as one-hot without the zeros.
//!
//! What is taken from the rows (means, deviations, words) is taken from the training rows alone, weighted.

use crate::onnx::Term;
use crate::train::table::{Table, Values};

/// A column, ready.
#[derive(Debug)]
pub(super) enum Ready {
    /// Standardised values.
    Number { values: Vec<f64>, fill: f64, scale: f64 },
    /// Each row's word, or none; `words` of them were seen in training.
    Words { codes: Vec<u32>, words: Vec<String> },
}

impl Ready {
    /// How many coefficients it has for each score.
    pub(super) fn width(&self) -> usize {
        match self {
            Ready::Number { .. } => 1,
            Ready::Words { words, .. } => words.len(),
        }
    }
}

/// All columns of the training rows.
#[derive(Debug)]
pub(super) struct Design {
    pub(super) columns: Vec<Ready>,
    names: Vec<String>,
    pub(super) rows: usize,
}

impl Design {
    /// Of a table's rows, all of them.
    pub(super) fn of(table: &Table) -> Design {
        let rows = table.rows();
        let ones = vec![1.0; rows];
        let weights = table.weights().unwrap_or(&ones);
        let columns = table.features().iter().map(|column| match &column.values {
            Values::Category { codes, words } => seen(codes, words),
            Values::Number(all) => number(all, weights),
            Values::Time(_) => Ready::Words { codes: vec![Values::MISSING; rows], words: Vec::new() },
        });
        let names = table.features().iter().map(|column| column.name.clone()).collect();
        Design { columns: columns.collect(), names, rows }
    }

    /// How many coefficients there are for each score.
    pub(super) fn width(&self) -> usize {
        self.columns.iter().map(Ready::width).sum()
    }

    /// Adds what the coefficients of one score make of each row.
    pub(super) fn add(&self, weights: &[f64], to: &mut [f64]) {
        let mut rest = weights;
        for column in &self.columns {
            let (own, next) = rest.split_at(column.width().min(rest.len()));
            rest = next;
            match (column, own) {
                (Ready::Number { values, .. }, [weight]) => {
                    to.iter_mut().zip(values).for_each(|(to, x)| *to += weight * x);
                }
                (Ready::Words { codes, .. }, own) => {
                    to.iter_mut()
                        .zip(codes)
                        .for_each(|(to, code)| *to += own.get(*code as usize).unwrap_or(&0.0));
                }
                _ => {}
            }
        }
    }

    /// Adds what each row's residual says of the coefficients of one score.
    pub(super) fn pull(&self, residuals: &[f64], to: &mut [f64]) {
        let mut rest = to;
        for column in &self.columns {
            let (own, next) = std::mem::take(&mut rest).split_at_mut(column.width());
            rest = next;
            match (column, own) {
                (Ready::Number { values, .. }, [sum]) => {
                    *sum += values.iter().zip(residuals).map(|(x, r)| x * r).sum::<f64>();
                }
                (Ready::Words { codes, .. }, own) => {
                    for (code, residual) in codes.iter().zip(residuals) {
                        if let Some(sum) = own.get_mut(*code as usize) {
                            *sum += residual;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The terms of a model whose coefficients are, for each score, those of all columns.
    pub(super) fn terms(self, scores: &[Vec<f64>]) -> Vec<Term> {
        let mut at = 0;
        let mut terms = Vec::new();
        for (column, name) in self.columns.into_iter().zip(self.names) {
            let width = column.width();
            let of = |i: usize| scores.iter().map(move |score| score.get(at + i).copied().unwrap_or(0.0));
            terms.push(match column {
                Ready::Number { fill, scale, .. } => {
                    Term::Number { name, fill, center: fill, scale, weights: of(0).collect() }
                }
                Ready::Words { words, .. } => {
                    Term::Words { name, words, weights: (0..width).flat_map(of).collect() }
                }
            });
            at += width;
        }
        terms
    }
}

/// Numbers around their mean, in deviations; a missing one is at the mean.
fn number(all: &[f64], weights: &[f64]) -> Ready {
    let known = || all.iter().zip(weights).filter(|(x, _)| x.is_finite());
    let total: f64 = known().map(|(_, w)| w).sum();
    let fill = if total > 0.0 { known().map(|(x, w)| x * w).sum::<f64>() / total } else { 0.0 };
    // As if the missing ones were there, at the mean.
    let everything: f64 = weights.iter().sum();
    let variance =
        known().map(|(x, w)| w * (x - fill).powi(2)).sum::<f64>() / everything.max(f64::MIN_POSITIVE);
    let deviation = variance.sqrt();
    // A column that is the same in every row says nothing, and its rounding errors say less.
    let flat = deviation <= 1e-12 * fill.abs().max(1e-300);
    let scale = if flat { 1.0 } else { deviation };
    let ready = |x: &f64| if x.is_finite() && !flat { (x - fill) / scale } else { 0.0 };
    Ready::Number { values: all.iter().map(ready).collect(), fill, scale }
}

/// The words that these rows have, and their codes among them; a missing word is a word of its own where training has one.
fn seen(codes: &[u32], words: &[String]) -> Ready {
    let mut used = vec![false; words.len()];
    for code in codes {
        if let Some(used) = used.get_mut(*code as usize) {
            *used = true;
        }
    }
    let some_missing = codes.contains(&Values::MISSING);
    // The empty word comes first in any order of words.
    let mut kept: Vec<String> = some_missing.then(String::new).into_iter().collect();
    let mut places = vec![Values::MISSING; words.len()];
    for ((word, used), place) in words.iter().zip(used).zip(&mut places) {
        if used {
            *place = u32::try_from(kept.len()).unwrap_or(Values::MISSING);
            kept.push(word.clone());
        }
    }
    let missing = if some_missing { 0 } else { Values::MISSING };
    let code = |code: &u32| places.get(*code as usize).copied().unwrap_or(missing);
    Ready::Words { codes: codes.iter().map(code).collect(), words: kept }
}
