//! What the scheduler costs: durable runs of stages that do nothing, on SQLite, in a line and side by side, of 1,000 and of
//! 10,000 stages. Prints milliseconds of wall clock a stage, and those of a plain commit of the same database beside them.
//!
//! `cargo bench -p forebay-pipeline --bench durable`
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Clock, Error, RequestId, RunId, StageName, SystemClock, UnixMillis};
use pipeline::runs::{
    ByKind, Execute, Finished, Plan, Run, Scheduler, SchedulerSettings, StagePlan, Submission, Task,
};
use pipeline::task;
use store::{Database, NewDelivery, RunHead, RunStore as _, SqliteRuns};

/// Does nothing.
struct Nothing;

impl Execute for Nothing {
    fn execute(&self, _: Task) -> BoxFuture<'static, Finished> {
        Box::pin(async { Finished::done(b"null".to_vec()) })
    }
    fn progress(&self, _: RunId, _: &StageName) -> Option<(u64, Option<u64>)> {
        None
    }
    fn announce(&self, _: &Run, _: &RunHead, _: Option<&[u8]>) -> Option<NewDelivery> {
        None
    }
    fn ended(&self, _: &RunHead) {}
}

fn line(n: usize) -> Vec<StagePlan> {
    let stage = |at: usize| StagePlan {
        after: at.checked_sub(1).map(|before| format!("s{before}").into()).into_iter().collect(),
        ..StagePlan::new(format!("s{at}"), "")
    };
    (0..n).map(stage).collect()
}

/// One stage, then all but two side by side, then one.
fn wide(n: usize) -> Vec<StagePlan> {
    let middle = 1..n.saturating_sub(1);
    let mut stages = vec![StagePlan::new("s0", "")];
    stages.extend(
        middle
            .clone()
            .map(|at| StagePlan { after: vec!["s0".into()], ..StagePlan::new(format!("s{at}"), "") }),
    );
    let after = middle.map(|at| format!("s{at}").into()).collect();
    stages.push(StagePlan { after, ..StagePlan::new("end", "") });
    stages
}

async fn run(folder: &std::path::Path, number: u128, stages: Vec<StagePlan>) -> Result<Duration, Error> {
    let db = Database::open(&folder.join(format!("{number}.db"))).await.unwrap();
    let store = Arc::new(SqliteRuns::new(db));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let settings = SchedulerSettings {
        parallel: 8,
        groups: BTreeMap::new(),
        lease: Duration::from_secs(60),
        keep: Duration::from_secs(60),
        open: 100,
        worker: "bench".into(),
    };
    let execute = Arc::new(ByKind::new(Arc::new(Nothing), HashMap::new()));
    let scheduler = Scheduler::new(settings, store.clone(), clock.clone(), execute);
    let _work = task::spawn("work", scheduler.clone().work());
    let id = RunId::of(RequestId::from_parts(UnixMillis(1_700_000_000_000), number));
    let submission = Submission {
        id,
        tenant: "t".into(),
        kind: "pipeline".into(),
        plan: Plan::of(stages),
        about: String::new(),
        target: "t".into(),
        input: Vec::new(),
        key: None,
        part: None,
        adopt: None,
    };
    let begun = clock.now();
    scheduler.submit(vec![submission]).await?;
    while store.open().await.unwrap() > 0 {
        task::sleep(Duration::from_millis(2)).await;
    }
    Ok(clock.now().since(begun))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = std::env::var_os("BENCH_FOLDER").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).unwrap();
    runtime.block_on(async {
        let mut number = 0;
        for (shape, make) in [("line", line as fn(usize) -> Vec<StagePlan>), ("wide", wide)] {
            let mut of = Vec::new();
            for n in [1_000, 10_000] {
                let mut times = Vec::new();
                for _ in 0..3 {
                    number += 1;
                    times.push(
                        run(folder.path(), number, make(n)).await.unwrap().as_secs_f64() * 1e3 / n as f64,
                    );
                }
                times.sort_by(f64::total_cmp);
                println!("{shape} of {n}: {:.3} ms a stage ({:.3} to {:.3})", times[1], times[0], times[2]);
                of.push(times[1]);
            }
            println!("{shape}: ten times the stages cost {:.2} times as much each", of[1] / of[0]);
        }
    });
}
