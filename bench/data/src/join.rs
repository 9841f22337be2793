//! A point-in-time training set, and what is online of the same view.

use std::path::Path;
use std::sync::Arc;

use contract::{Clock, SystemClock};
use data::features::online::{Ask, Mode, Online};
use data::features::{AsOf, Entities, FeatureView, FeatureViewConfig, NaiveTimes, TrainingSetSpec, Use};
use data::{At, Change, Format, Settings, Source, Warehouse};
use serde_json::{Value, json};

use crate::{Result, USAGE};

/// Questions that are asked of what is online.
const ASKED: u32 = 100_000;

fn view() -> Result<FeatureView> {
    let config = FeatureViewConfig {
        dataset: "features".to_owned(),
        sql: None,
        keys: vec!["driver_id".to_owned()],
        event_time: "event_timestamp".to_owned(),
        ingest_time: Some("created".to_owned()),
        ttl_seconds: Some(86_400),
        features: ["a", "b", "c"].map(str::to_owned).to_vec(),
        naive_times: NaiveTimes::Refuse,
    };
    Ok(FeatureView::new("hourly", config)?)
}

/// Runs `prepare`, `run` or `online` and says in one line of JSON what came of it.
pub(crate) async fn run(words: &[&str]) -> Result<Value> {
    let clock = Arc::new(SystemClock::default());
    let open = |folder: &str| Warehouse::open(folder, Arc::<SystemClock>::clone(&clock), Settings::default());
    let start = clock.now();
    let since = || clock.now().since(start).as_secs_f64();
    match words {
        ["prepare", warehouse, file] => {
            let dataset = open(warehouse)?.dataset("features")?;
            let added = dataset.add(&Source::file(*file), &Change::default()).await?;
            Ok(json!({"rows": added.rows, "seconds": since()}))
        }
        ["run", warehouse, entities, out] => {
            let spec = TrainingSetSpec {
                entities: Entities::Source(Source::file(*entities)),
                time: "event_timestamp".to_owned(),
                views: vec![Use { at: At::Newest, ..Use::of(view()?) }],
                cut: None,
                as_of: AsOf::Cut,
            };
            let set = open(warehouse)?.training_set(&spec).await?;
            let (joined, matched) = (since(), set.views.first().map_or(0, |view| view.matched));
            let rows = set.rows.write(Path::new(out), Format::Parquet).await?;
            Ok(json!({"rows": rows, "matched": matched, "joined": joined, "seconds": since()}))
        }
        ["online", warehouse, folder] => {
            let warehouse = open(warehouse)?;
            let online = Online::open(&warehouse, Path::new(folder), vec![view()?], Mode::Write).await?;
            let done = online.materialize(&[], None).await?;
            let materialized = since();
            let features: Vec<_> =
                ["a", "b", "c"].iter().map(|name| ("hourly".to_owned(), (*name).to_owned())).collect();
            let mut took = Vec::with_capacity(ASKED as usize);
            for n in 0..ASKED {
                let entities = vec![("driver_id".to_owned(), vec![json!(n % 1000)])];
                let begun = clock.now();
                let columns = online.get(&Ask { features: &features, entities: &entities })?;
                took.push(clock.now().since(begun).as_nanos());
                if columns.len() != 3 {
                    return Err("an answer is not whole".into());
                }
            }
            took.sort_unstable();
            let at = |share: usize| took.get(took.len() * share / 1000).copied().unwrap_or_default();
            let rows: u64 = done.iter().map(|view| view.read).sum();
            Ok(json!({"rows": rows, "seconds": materialized, "p50_ns": at(500), "p99_ns": at(990)}))
        }
        _ => Err(USAGE.into()),
    }
}
