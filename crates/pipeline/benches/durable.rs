//! What the scheduler costs: durable runs of stages that do nothing, on SQLite, in a line and side by side, of 1,000 and of
//! 10,000 stages; and what all of a durable pipeline's stage costs: its folder, its log, its inputs and its kept value, when
//! each is made and when each is taken from the run before. Prints milliseconds of wall clock a stage.
//!
//! `cargo bench -p forebay-pipeline --bench durable`; beside peers: `bench/runs/run.py`
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::{
    BoxFuture, Budget, Clock, Context, Effort, Error, Inputs, Kind, Outcome, RequestId, RunId, Signature,
    Stage, StageName, SystemClock, UnixMillis, Value,
};
use pipeline::durable::{Asked, Definition, Definitions, Durable, Means};
use pipeline::runs::{
    ByKind, Execute, Finished, Plan, Run, Scheduler, SchedulerSettings, StagePlan, Submission, Task,
};
use pipeline::{
    OnFailure, PipelineSpec, Problem, Registry, Site, Source, StageInRuns, StageKind, StageSpec, task,
};
use serde_json::{Value as Json, json};
use store::{Database, NewDelivery, RunHead, RunStore as _, SqliteResults, SqliteRuns};

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

fn settings() -> SchedulerSettings {
    SchedulerSettings {
        parallel: 8,
        groups: BTreeMap::new(),
        lease: Duration::from_secs(60),
        keep: Duration::from_secs(60),
        open: 100,
        worker: "bench".into(),
    }
}

async fn run(folder: &std::path::Path, number: u128, stages: Vec<StagePlan>) -> Result<Duration, Error> {
    let db = Database::open(&folder.join(format!("{number}.db"))).await.unwrap();
    let store = Arc::new(SqliteRuns::new(db));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let settings = settings();
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
    ended(&store).await;
    Ok(clock.now().since(begun))
}

async fn ended(store: &SqliteRuns) {
    while store.open().await.unwrap() > 0 {
        task::sleep(Duration::from_millis(2)).await;
    }
}

/// A kind of stage that gives what it is given.
struct Give;

struct Given(Signature);

impl StageKind for Give {
    fn name(&self) -> &'static str {
        "give"
    }
    fn schema(&self) -> Json {
        json!({"type": "object"})
    }
    fn durable(&self) -> bool {
        true
    }
    fn build(&self, _: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let inputs = [("a".to_owned(), Kind::Any)].into_iter().collect();
        let signature =
            Signature { inputs, output: Kind::Text, streams: false, instant: true, effort: Effort::Waits };
        Ok(Arc::new(Given(signature)))
    }
}

impl Stage for Given {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn run<'a>(&'a self, _: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        let text = inputs.values().next().map(|v| v.to_text()).unwrap_or_default();
        Box::pin(async move { Outcome::Complete(Value::text(text)) })
    }
}

/// A pipeline of stages in a line, twice: as it is made, and as it is taken from the first run.
async fn pipeline_twice(folder: &std::path::Path, name: &str, n: usize) -> [Duration; 2] {
    let db = Database::open(&folder.join(format!("{name}.db"))).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = Arc::new(SqliteRuns::new(db.clone()));
    let durable = Durable::new(Means {
        project: folder.to_owned(),
        root: folder.join(name),
        clock: clock.clone(),
        results: Arc::new(SqliteResults::new(db)),
        keep: Duration::from_secs(3_600),
        keepers: Vec::new(),
        lineage: None,
    });
    let execute = Arc::new(ByKind::new(Arc::new(durable.clone()), HashMap::new()));
    let scheduler = Scheduler::new(settings(), store.clone(), clock.clone(), execute);
    durable.on(scheduler.clone());
    let mut registry = Registry::default();
    registry.register(Give);
    let stage = |at: usize| StageSpec {
        name: format!("s{at}").into(),
        kind: "give".into(),
        config: json!({}),
        from: Source::One(
            at.checked_sub(1).map_or_else(|| "input".to_owned(), |before| format!("s{before}")),
        ),
        each: None,
        parallel: None,
        on_failure: OnFailure::Fail,
        stream: None,
        draft: None,
        budget: Budget::default(),
        runs: StageInRuns::default(),
    };
    let spec = PipelineSpec {
        input: Kind::Json(None),
        output: Kind::Text,
        budget: Budget::default(),
        stages: (0..n).map(stage).collect(),
        result: None,
        durable: Default::default(),
    };
    let graph = pipeline::check(&spec, &registry).unwrap();
    let definition = Definition { name: "p".into(), spec, graph: Arc::new(graph), version: "v".into() };
    let pipelines = BTreeMap::from([("p".into(), Arc::new(definition))]);
    durable.replace(Definitions { registry, pipelines });
    let _work = task::spawn("work", scheduler.clone().work());
    let mut took = [Duration::ZERO; 2];
    for (number, took) in (1..).zip(&mut took) {
        let id = RunId::of(RequestId::from_parts(UnixMillis(1_700_000_000_000), number));
        let begun = clock.now();
        durable.submit(Asked::of(id, "t".into(), "p".into())).await.unwrap();
        ended(&store).await;
        *took = clock.now().since(begun);
        let run = scheduler.load(id).await.unwrap().unwrap();
        assert!(run.status().is_end(), "{run:?}");
    }
    took
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = std::env::var_os("BENCH_FOLDER").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).unwrap();
    runtime.block_on(async {
        let mut number = 0;
        let mut of = [Vec::new(), Vec::new()];
        for at in 0..3 {
            let took = pipeline_twice(folder.path(), &format!("p{at}"), 1_000).await;
            for (all, took) in of.iter_mut().zip(took) {
                all.push(took.as_secs_f64());
            }
        }
        for (times, said) in of.iter_mut().zip(["made", "taken from the run before"]) {
            times.sort_by(f64::total_cmp);
            let [low, middle, high] = [times[0], times[1], times[2]];
            println!("pipeline of 1000, each {said}: {middle:.3} ms a stage ({low:.3} to {high:.3})");
        }
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
