//! The point-in-time join at the size that it is compared with Feast at: 864,000 rows of a view (1,000 entities, one row an
//! hour for 36 days, three features) beside 100,000 entity rows at random times.
//!
//! ```text
//! cargo run --release -p forebay-data --example pit -- make DIR     # once
//! cargo run --release -p forebay-data --example pit -- join DIR     # prints the times and the peak of memory
//! ```
//!
//! They are two processes so that the peak is that of the join alone.
#![allow(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use contract::{Clock, SystemClock};
use data::features::{AsOf, Entities, FeatureView, FeatureViewConfig, NaiveTimes, TrainingSetSpec, Use};
use data::{At, Change, Format, Select, Settings, Source, Warehouse};

type Failed = Box<dyn std::error::Error>;

const ENTITIES: u64 = 1000;
const HOURS: u64 = 864;
const ROWS: u64 = 100_000;

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let (Some(what), Some(folder)) = (args.next(), args.next()) else {
        return Err("say `make DIR` or `join DIR`".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock = Arc::new(SystemClock::default());
    let warehouse = Warehouse::open(&format!("{folder}/warehouse"), clock.clone(), Settings::default())?;
    match what.as_str() {
        "make" => runtime.block_on(make(&warehouse, Path::new(&folder))),
        "join" => runtime.block_on(join(&warehouse, Path::new(&folder), &*clock)),
        other => Err(format!("`{other}` is neither `make` nor `join`").into()),
    }
}

/// A number that looks random, the same at every run.
fn scattered(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn at(second: u64) -> String {
    let (day, rest) = (second / 86_400, second % 86_400);
    let (month, day) = if day < 31 { (1, day + 1) } else { (2, day - 30) };
    format!("2026-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

async fn make(warehouse: &Warehouse, folder: &Path) -> Result<(), Failed> {
    let csv = folder.join("features.csv");
    let mut file = BufWriter::new(File::create(&csv)?);
    writeln!(file, "entity,hour,received,a,b,c")?;
    // By time, as an hourly pipeline appends them; one row in twenty came a day late.
    for hour in 0..HOURS {
        for entity in 0..ENTITIES {
            let n = scattered(hour * ENTITIES + entity);
            let late = if n.is_multiple_of(20) { 86_400 } else { 60 };
            let (event, received) = (at(hour * 3600), at(hour * 3600 + late));
            writeln!(file, "{entity},{event},{received},{},{},{}.5", n % 1000, n % 77, n % 100)?;
        }
    }
    file.into_inner()?;
    warehouse.dataset("features")?.add(&Source::file(&csv), &Change::default()).await?;
    let mut file = BufWriter::new(File::create(folder.join("entities.csv"))?);
    writeln!(file, "entity,at,label")?;
    for row in 0..ROWS {
        let n = scattered(row + 1_000_000_007);
        writeln!(file, "{},{},{}", n % ENTITIES, at((n >> 20) % (HOURS * 3600)), n % 2)?;
    }
    file.into_inner()?;
    let entities = warehouse.dataset("entities")?;
    entities.add(&Source::file(folder.join("entities.csv")), &Change::default()).await?;
    let file = folder.join("entities.parquet");
    entities.export(&At::Newest, &Select::default(), &file, Format::Parquet).await?;
    Ok(())
}

async fn join(warehouse: &Warehouse, folder: &Path, clock: &dyn Clock) -> Result<(), Failed> {
    let view = FeatureViewConfig {
        dataset: "features".to_owned(),
        keys: vec!["entity".to_owned()],
        event_time: "hour".to_owned(),
        ingest_time: Some("received".to_owned()),
        ttl_seconds: Some(86_400),
        features: ["a", "b", "c"].map(str::to_owned).to_vec(),
        naive_times: NaiveTimes::Refuse,
    };
    for as_of in [AsOf::Cut, AsOf::Event] {
        let spec = TrainingSetSpec {
            entities: Entities::Source(Source::file(folder.join("entities.parquet"))),
            time: "at".to_owned(),
            views: vec![Use::of(FeatureView::new("hourly", view.clone())?)],
            cut: None,
            as_of,
        };
        for _ in 0..5 {
            let begun = clock.now();
            let set = warehouse.training_set(&spec).await?;
            let joined = clock.now().since(begun);
            let matched = set.views.first().map_or(0, |view| view.matched);
            let rows = set.rows.write(&folder.join("set.parquet"), Format::Parquet).await?;
            let all = clock.now().since(begun);
            println!("{as_of:?}: joined in {joined:?}, {rows} rows written after {all:?}, {matched} matched");
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: not known here");
    println!("{peak}");
    Ok(())
}
