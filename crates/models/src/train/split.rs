//! Which rows are learnt from, which steer, and which are held back. Pure.
//!
//! By time, what is held back is later than everything that was seen, with a gap where labels arrive late; rows of one moment
//! are never torn apart. By group, a group is on one side. Otherwise rows are drawn, from a seed, the same share of each class.

use std::time::Duration;

use rand::seq::SliceRandom;

use super::config::{By, Part, SplitConfig};
use super::table::{Label, Table};
use super::{Error, seeded};

/// The rows of each part, in order. A fold holds nothing back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// To learn from.
    pub train: Vec<u32>,
    /// To stop early and to choose by.
    pub valid: Vec<u32>,
    /// To say what it is worth; nothing of it was seen.
    pub holdout: Vec<u32>,
}

/// Splits the table's rows.
///
/// # Errors
/// A part would have no rows, or what the split goes by is not there.
pub fn split(table: &Table, config: &SplitConfig, seed: u64) -> Result<Parts, Error> {
    let all: Vec<u32> =
        (0..u32::try_from(table.rows()).map_err(|_| Error::TooMany { rows: table.rows() })?).collect();
    let (rest, holdout) = cut(table, config, all, config.holdout, seed)?;
    let (train, valid) = match config.validation {
        Some(part) => cut(table, config, rest, part, seed ^ 1)?,
        None => (rest, Vec::new()),
    };
    Ok(Parts { train, valid, holdout })
}

/// Training and validation rows, once for each fold, out of `rows`.
///
/// By time, fold `i` learns from the first `i` of `folds + 1` equal periods and is judged on the next (forward chaining).
///
/// # Errors
/// There are too few rows or groups for so many folds.
pub fn folds(
    table: &Table,
    config: &SplitConfig,
    rows: &[u32],
    folds: u32,
    seed: u64,
) -> Result<Vec<Parts>, Error> {
    let few = || Error::TooFew {
        what: format!("there are too few rows for {folds} folds"),
        remedy: "ask for fewer",
    };
    let made: Vec<Parts> = match config.by {
        By::Time => {
            let times = times(table)?;
            let ordered = by_time(rows, times);
            let periods = folds as usize + 1;
            let at = |i: usize| ordered.get(i * ordered.len() / periods).and_then(|row| time(times, *row));
            let fold = |i: usize| {
                let (from, to) = (at(i)?, at(i + 1));
                let until = from.saturating_sub(millis(config.gap()));
                let train = ordered
                    .iter()
                    .copied()
                    .filter(|row| time(times, *row).is_some_and(|t| t < from && t <= until));
                let valid = ordered.iter().copied().filter(|row| {
                    time(times, *row)
                        .is_some_and(|t| t >= from && to.is_none_or(|to| t < to || i + 1 == periods))
                });
                Some(Parts {
                    train: in_order(train.collect()),
                    valid: in_order(valid.collect()),
                    holdout: Vec::new(),
                })
            };
            (1..periods).map(fold).collect::<Option<_>>().ok_or_else(few)?
        }
        By::Random | By::Group => {
            let part = drawn(table, config.by, rows, seed)?;
            let count = folds as usize;
            let of = |fold: usize, inside: bool| {
                let picked = part.iter().filter(|(_, number)| (number % count == fold) == inside);
                in_order(picked.map(|(row, _)| *row).collect())
            };
            (0..count)
                .map(|fold| Parts { train: of(fold, false), valid: of(fold, true), holdout: Vec::new() })
                .collect()
        }
    };
    if made.iter().any(|fold| fold.train.is_empty() || fold.valid.is_empty()) { Err(few()) } else { Ok(made) }
}

/// Cuts the later, or the drawn, part off.
fn cut(
    table: &Table,
    config: &SplitConfig,
    rows: Vec<u32>,
    part: Part,
    seed: u64,
) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let parts = match config.by {
        By::Time => cut_by_time(rows, times(table)?, part, config.gap()),
        By::Random | By::Group => {
            let Part::Share(share) = part else {
                return Err(Error::TooFew {
                    what: "a length of time was given for a split that is not by time".to_owned(),
                    remedy: "say `by: time`, or give a share such as 0.2",
                });
            };
            let numbered = drawn(table, config.by, &rows, seed)?;
            let units = numbered.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
            let limit = share_of(units, share);
            let side = |late: bool| {
                in_order(numbered.iter().filter(|(_, n)| (*n < limit) == late).map(|(row, _)| *row).collect())
            };
            (side(false), side(true))
        }
    };
    if parts.0.is_empty() || parts.1.is_empty() {
        let what = format!("of {} rows nothing is left on one side of {part}", rows_of(&parts));
        return Err(Error::TooFew { what, remedy: "hold back less, or bring more rows" });
    }
    Ok(parts)
}

fn rows_of(parts: &(Vec<u32>, Vec<u32>)) -> usize {
    parts.0.len() + parts.1.len()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of rows"
)]
fn share_of(count: usize, share: f64) -> usize {
    (count as f64 * share).round() as usize
}

/// The last of them: those behind the moment at which the part begins.
fn cut_by_time(rows: Vec<u32>, times: &[i64], part: Part, gap: Duration) -> (Vec<u32>, Vec<u32>) {
    let ordered = by_time(&rows, times);
    let first_held = match part {
        Part::Share(share) => {
            let at = ordered.len() - share_of(ordered.len(), share).min(ordered.len());
            ordered.get(at).and_then(|row| time(times, *row)).unwrap_or(i64::MAX)
        }
        Part::Last(length) => {
            let last = ordered.last().and_then(|row| time(times, *row)).unwrap_or(0);
            last.saturating_sub(millis(length)).saturating_add(1)
        }
    };
    let until = first_held.saturating_sub(millis(gap));
    let held = |row: &u32| time(times, *row).is_some_and(|t| t >= first_held);
    let seen = |row: &u32| time(times, *row).is_some_and(|t| t < first_held && t <= until);
    (rows.iter().copied().filter(seen).collect(), rows.iter().copied().filter(held).collect())
}

/// Rows with the numbers of what is drawn: groups as a whole, or rows class by class in turn.
fn drawn(table: &Table, by: By, rows: &[u32], seed: u64) -> Result<Vec<(u32, usize)>, Error> {
    let mut rng = seeded(seed);
    if by == By::Group {
        let groups = table.groups().ok_or_else(|| missing("group", "say `group: COLUMN`"))?;
        let of = |row: &u32| groups.get(*row as usize).copied().unwrap_or(0);
        let mut order: Vec<u32> = rows.iter().map(of).collect();
        order.sort_unstable();
        order.dedup();
        order.shuffle(&mut rng);
        let mut place = std::collections::BTreeMap::new();
        for (number, group) in order.iter().enumerate() {
            place.insert(*group, number);
        }
        return Ok(rows.iter().map(|row| (*row, place.get(&of(row)).copied().unwrap_or(0))).collect());
    }
    let mut order = rows.to_vec();
    order.shuffle(&mut rng);
    if let Label::Class { of, .. } = table.label() {
        // Spread evenly: a row's place is its share of its own class, so that any cut takes the same share of each.
        let mut seen = std::collections::BTreeMap::new();
        let class = |row: &u32| of.get(*row as usize).copied().unwrap_or(0);
        let ranks: Vec<(u32, u32)> = order
            .iter()
            .map(|row| {
                let rank: &mut u32 = seen.entry(class(row)).or_insert(0);
                *rank += 1;
                (*row, *rank)
            })
            .collect();
        let mut placed: Vec<(f64, u32)> = ranks
            .iter()
            .map(|(row, rank)| {
                (f64::from(*rank) / f64::from(seen.get(&class(row)).copied().unwrap_or(1)), *row)
            })
            .collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        order = placed.into_iter().map(|(_, row)| row).collect();
    }
    Ok(order.into_iter().enumerate().map(|(number, row)| (row, number)).collect())
}

fn missing(column: &str, why: &str) -> Error {
    Error::Column { column: column.to_owned(), why: why.to_owned() }
}

fn times(table: &Table) -> Result<&[i64], Error> {
    table.times().ok_or_else(|| missing("time", "a split by time needs `time: COLUMN`"))
}

fn time(times: &[i64], row: u32) -> Option<i64> {
    times.get(row as usize).copied()
}

fn by_time(rows: &[u32], times: &[i64]) -> Vec<u32> {
    let mut ordered = rows.to_vec();
    ordered.sort_by_key(|row| (time(times, *row), *row));
    ordered
}

fn in_order(mut rows: Vec<u32>) -> Vec<u32> {
    rows.sort_unstable();
    rows
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}
