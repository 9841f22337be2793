//! The holdout of a training, found again: the rows that nothing was learnt from, so that any model can be asked them.
//!
//! Pure: equal tables and configurations freeze equal rows, whoever looks and however often
//! [test: the_holdout_that_is_found_again_is_the_one_that_was_held_back].

use super::config::TrainConfig;
use super::run::roles;
use super::split::{Parts, split};
use super::table::{Frame, Label, Table, labelled};
use super::{Column, Error, Values};

/// Rows of a table that were held back, and what was true of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// The rows, by their numbers in the table.
    pub rows: Vec<usize>,
    /// What was true of each.
    pub label: Label,
    /// How much each counts, where rows are weighted.
    pub weights: Option<Vec<f64>>,
    /// When the first and the last of them happened, in milliseconds since the epoch; nothing where rows have no time.
    pub between: Option<(i64, i64)>,
    /// When the last row happened that was learnt from or steered by.
    pub learnt_until: Option<i64>,
}

impl Frozen {
    /// What a training of that configuration holds back of that table.
    ///
    /// # Errors
    /// As the training's own: a column is not there, or a part has no rows.
    pub fn of(frame: &Frame, config: &TrainConfig) -> Result<Frozen, Error> {
        let roles = roles(config);
        let table = Table::of(frame, &roles)?;
        let parts = match config.adopted.as_ref().is_some_and(|own| own.whole) {
            true => Parts { holdout: (0..).take(table.rows()).collect(), ..Parts::default() },
            false => split(&table, &config.split, config.seed)?,
        };
        let numbers = labelled(frame.column(&roles.target)?)?;
        let rows = parts.holdout.iter().filter_map(|row| numbers.get(*row as usize).copied()).collect();
        let held = table.only(&parts.holdout);
        let time = |row: &u32| table.times().and_then(|all| all.get(*row as usize).copied());
        let first = parts.holdout.iter().filter_map(time).min();
        let last = parts.holdout.iter().filter_map(time).max();
        let learnt = parts.train.iter().chain(&parts.valid).filter_map(time).max();
        Ok(Frozen {
            rows,
            label: held.label().clone(),
            weights: held.weights().map(<[f64]>::to_vec),
            between: first.zip(last),
            learnt_until: learnt,
        })
    }
}

impl Frame {
    /// These rows as a table of their own, in that order.
    #[must_use]
    pub fn only(&self, rows: &[usize]) -> Frame {
        let pick = |column: &Column| Column { name: column.name.clone(), values: column.values.rows(rows) };
        Frame { columns: self.columns.iter().map(pick).collect(), rows: rows.len() }
    }

    /// A column's texts, row by row: words as they are, numbers as people write them; nothing where a value is missing.
    ///
    /// # Errors
    /// There is no such column, or it holds times.
    pub fn texts(&self, name: &str) -> Result<Vec<Option<String>>, Error> {
        match &self.column(name)?.values {
            Values::Number(all) => Ok(all.iter().map(|x| (!x.is_nan()).then(|| x.to_string())).collect()),
            Values::Category { codes, words } => {
                Ok(codes.iter().map(|code| words.get(*code as usize).cloned()).collect())
            }
            Values::Time(_) => Err(Error::Column {
                column: name.to_owned(),
                why: "a time does not divide rows; make something coarser of it, such as the month"
                    .to_owned(),
            }),
        }
    }
}
