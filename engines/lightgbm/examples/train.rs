//! Trains on a CSV file as `forebay` would, for `bench/train/run.py`:
//! `train TABLE.csv CONFIG.json MODEL.onnx`, with `FOREBAY_LIGHTGBM` naming the worker. Prints the report as JSON.
//!
//! The first line names the columns, with `:category`, `:time` (milliseconds) or nothing behind each. An empty cell is missing.
#![allow(clippy::print_stdout, reason = "a tool for benches")]

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use contract::{Clock as _, SystemClock};
use models::onnx::About;
use models::train::worker::{Worker, WorkerSettings};
use models::train::{Column, Frame, Job, TrainConfig, Unwatched, Values, problems, run};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, table, config, out] = args.as_slice() else {
        bail!("usage: train TABLE.csv CONFIG.json MODEL.onnx")
    };
    let config: TrainConfig = serde_json::from_slice(&std::fs::read(config)?)?;
    let wrong: Vec<String> =
        problems(&config).into_iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    let frame = read(table)?;
    let (memory, threads) = config.gbdt.as_ref().map_or((8 << 30, None), |g| (g.memory.0, g.threads));
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let program = std::env::var_os("FOREBAY_LIGHTGBM").context("FOREBAY_LIGHTGBM names the worker")?.into();
    let worker = Worker::new(WorkerSettings { program, memory, threads: threads.unwrap_or(cores) });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock = SystemClock::default();
    // From columns in memory to the file's bytes: what is measured.
    let began = clock.now();
    let job = Job { frame, config, about: About::default() };
    let trained = runtime.block_on(run(job, &worker, &clock, &Unwatched))?;
    let seconds = clock.now().since(began).as_secs_f64();
    std::fs::write(out, &trained.onnx)?;
    println!(
        "{}",
        serde_json::json!({"seconds": seconds, "bytes": trained.onnx.len(), "report": trained.report})
    );
    Ok(())
}

fn read(path: &str) -> anyhow::Result<Frame> {
    let mut reader = csv::Reader::from_path(path)?;
    let heads: Vec<(String, String)> = reader
        .headers()?
        .iter()
        .map(|head| {
            head.split_once(':')
                .map_or((head.to_owned(), String::new()), |(a, b)| (a.to_owned(), b.to_owned()))
        })
        .collect();
    let empty = |kind: &str| match kind {
        "category" => Values::Category { codes: Vec::new(), words: Vec::new() },
        "time" => Values::Time(Vec::new()),
        _ => Values::Number(Vec::new()),
    };
    let mut columns: Vec<Column> =
        heads.iter().map(|(name, kind)| Column { name: name.clone(), values: empty(kind) }).collect();
    let mut seen: Vec<HashMap<String, u32>> = vec![HashMap::new(); columns.len()];
    for record in reader.records() {
        for ((cell, column), seen) in record?.iter().zip(&mut columns).zip(&mut seen) {
            match &mut column.values {
                Values::Number(all) => all.push(if cell.is_empty() { f64::NAN } else { cell.parse()? }),
                Values::Time(all) => all.push(cell.parse()?),
                Values::Category { codes, .. } if cell.is_empty() => codes.push(Values::MISSING),
                Values::Category { codes, words } => {
                    let next = u32::try_from(words.len())?;
                    codes.push(*seen.entry(cell.to_owned()).or_insert_with(|| {
                        words.push(cell.to_owned());
                        next
                    }));
                }
            }
        }
    }
    Ok(Frame::new(columns)?)
}
