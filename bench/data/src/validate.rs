//! A version of a dataset against expectations.

use std::sync::Arc;

use contract::{Clock, SystemClock};
use data::expect::Written;
use data::{At, Change, Settings, Source, Warehouse};
use serde_json::{Map, Value, json};

use crate::{Result, USAGE};

/// Runs `prepare` or `run` and says in one line of JSON what came of it.
pub(crate) async fn run(words: &[&str]) -> Result<Value> {
    let clock = Arc::new(SystemClock::default());
    let [what, warehouse, dataset, file] = words else { return Err(USAGE.into()) };
    let dataset = Warehouse::open(warehouse, Arc::<SystemClock>::clone(&clock), Settings::default())?
        .dataset(dataset)?;
    let start = clock.now();
    match *what {
        "prepare" => {
            let added = dataset.add(&Source::file(*file), &Change::default()).await?;
            Ok(json!({"rows": added.rows, "seconds": clock.now().since(start).as_secs_f64()}))
        }
        "run" => {
            let text = std::fs::read_to_string(file)?;
            let written = Written::parse(&text).map_err(|problems| format!("{file}: {problems:?}"))?;
            let report = dataset.validate(&At::default(), &written.suite).await?;
            let mut failed = Map::new();
            for outcome in &report.outcomes {
                if let Some(problem) = &outcome.problem {
                    return Err(format!("{}: {problem}", outcome.name).into());
                }
                failed.insert(outcome.name.clone(), outcome.rows_failed.into());
            }
            let seconds = clock.now().since(start).as_secs_f64();
            Ok(json!({"rows": report.rows, "seconds": seconds, "failed": failed}))
        }
        _ => Err(USAGE.into()),
    }
}
