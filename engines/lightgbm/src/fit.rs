//! One training: rows, binning, rounds until the metric has stopped becoming better, the model of the best ones.

use models::train::worker::protocol::{Ask, Fit, Fitted, LONGEST, Part, Round, Say};

use crate::ears::Ears;
use crate::error::Error;
use crate::native::{Booster, Dataset};
use crate::table::Table;

/// Which round was best so far. Pure: the metric of each round in, whether to go on out.
#[derive(Debug, Clone, Copy)]
struct Best {
    rising: bool,
    patience: Option<u32>,
    round: u32,
    value: Option<f64>,
}

impl Best {
    /// Takes the metric of a round; `false` when it has not become better for too long.
    fn take(&mut self, round: u32, value: f64) -> bool {
        let better = self.value.is_none_or(|best| if self.rising { value > best } else { value < best });
        if better && !value.is_nan() {
            (self.round, self.value) = (round, Some(value));
        }
        self.patience.is_none_or(|patience| round - self.round < patience)
    }
}

/// Reads which rows, trains, and says how it goes and what came of it.
pub(crate) fn fit(
    table: &Table,
    plan: &Fit,
    threads: u32,
    ears: &Ears,
    say: &mut dyn FnMut(&Say) -> Result<(), Error>,
) -> Result<(), Error> {
    let (train, valid) = rows(ears)?;
    let params = params(table, plan, threads);
    let data = Dataset::of(&table.rows(&train)?, table.features(), &params, None)?;
    let valid = if valid.is_empty() {
        None
    } else {
        Some(Dataset::of(&table.rows(&valid)?, table.features(), &params, Some(&data))?)
    };
    let mut booster = Booster::on(&data, valid.as_ref(), &params)?;
    let patience = plan.patience.filter(|_| valid.is_some());
    let mut best = Best { rising: plan.rising, patience, round: 0, value: None };
    let mut done = 0;
    for round in 1..=plan.rounds {
        if ears.is_stopped() || !booster.round()? {
            break;
        }
        done = round;
        let value = if valid.is_some() { booster.metric()? } else { None };
        say(&Say::Round(Round { round, value }))?;
        if value.is_some_and(|value| !best.take(round, value)) {
            break;
        }
    }
    let rounds = if patience.is_some() && best.round > 0 { best.round } else { done };
    for piece in booster.text(rounds)?.chunks(LONGEST) {
        say(&Say::Model(piece.to_vec()))?;
    }
    say(&Say::Fitted(Fitted { rounds, value: best.value, stopped: ears.is_stopped() }))
}

/// Which rows, up to `Go`.
fn rows(ears: &Ears) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    loop {
        match ears.next()? {
            Ask::Rows(part, rows) => {
                let all: &mut Vec<u32> = if part == Part::Train { &mut train } else { &mut valid };
                all.try_reserve(rows.len()).map_err(|_| Error::Memory("the rows"))?;
                all.extend(rows);
                if all.len() > i32::MAX as usize {
                    return Err(Error::Broken("too many rows".to_owned()));
                }
            }
            Ask::Go => return Ok((train, valid)),
            _ => return Err(Error::Broken("a frame out of place".to_owned())),
        }
    }
}

/// All parameters as one text. Words with spaces or signs in them would be other parameters: they are left out.
fn params(table: &Table, plan: &Fit, threads: u32) -> String {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    let given = plan.params.iter().filter(|(key, value)| plain(key) && plain(value));
    let mut all: Vec<String> = given.map(|(key, value)| format!("{key}={value}")).collect();
    all.push(format!("num_threads={threads}"));
    all.push("verbosity=-1".to_owned());
    let categories = table.categories();
    if !categories.is_empty() {
        all.push(format!("categorical_feature={categories}"));
    }
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_round_is_the_first_with_the_best_metric(
            values in prop::collection::vec(-9..9_i32, 1..60), rising: bool, patience in 1..9_u32,
        ) {
            let mut best = Best { rising, patience: Some(patience), round: 0, value: None };
            let mut seen = Vec::new();
            for (round, value) in (1_u32..).zip(&values) {
                seen.push(f64::from(*value));
                if !best.take(round, f64::from(*value)) {
                    break;
                }
            }
            let top = seen.iter().copied().reduce(|a, b| if (b > a) == rising && a != b { b } else { a });
            prop_assert_eq!(best.value, top);
            prop_assert_eq!(seen.get(best.round as usize - 1).copied(), top);
            prop_assert!(seen[..best.round as usize - 1].iter().all(|value| Some(*value) != top));
            prop_assert!(seen.len() == values.len() || seen.len() == (best.round + patience) as usize);
        }
    }
}
