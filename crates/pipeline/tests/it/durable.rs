//! Durable runs of whole pipelines over a real database: contracts, what is run again and what is not, crashes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{
    BoxFuture, Budget, Clock, Code, Context, Effort, Error, Inputs, Kind, Outcome, RequestId, RunId,
    Signature, Stage, UnixMillis, Value,
};
use pipeline::artifacts::Artifacts;
use pipeline::durable::{Asked, Definition, Definitions, Durable, Kept, Means};
use pipeline::runs::{ByKind, Phase, Run, Scheduler, SchedulerSettings, Status};
use pipeline::task::{self, RuntimeClock};
use pipeline::{OnFailure, PipelineSpec, Problem, Registry, Site, Source, StageInRuns, StageKind, StageSpec};
use serde_json::{Value as Json, json};
use store::{Database, ResultStore, RunStore, SqliteResults, SqliteRuns};

/// What stages did, by name.
type Did = Arc<Mutex<Vec<String>>>;

/// Joins its inputs with the text of its configuration. `fail: N` fails so often, `sleep: S` takes so long.
struct Join {
    did: Did,
    inputs: Vec<&'static str>,
    name: &'static str,
    tries: Arc<Mutex<HashMap<String, u32>>>,
}

struct Joined {
    signature: Signature,
    config: Json,
    name: String,
    did: Did,
    tries: Arc<Mutex<HashMap<String, u32>>>,
}

impl StageKind for Join {
    fn name(&self) -> &'static str {
        self.name
    }
    fn schema(&self) -> Json {
        json!({"type": "object"})
    }
    fn durable(&self) -> bool {
        true
    }
    fn build(&self, config: &Json, site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let inputs = self.inputs.iter().map(|n| ((*n).to_owned(), Kind::Any)).collect();
        let output = if config.get("list").is_some() { Kind::List(Box::new(Kind::Text)) } else { Kind::Text };
        let signature = Signature { inputs, output, streams: false, instant: false, effort: Effort::Waits };
        let (did, tries) = (self.did.clone(), self.tries.clone());
        Ok(Arc::new(Joined { signature, config: config.clone(), name: site.name.to_string(), did, tries }))
    }
}

impl Stage for Joined {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let attempt = cx.attempt.as_ref().expect("a durable run has one");
            std::fs::create_dir_all(&attempt.folder).unwrap();
            let own = format!("left by {}", attempt.number);
            std::fs::write(attempt.folder.join(&own), "x").unwrap();
            // Elements of a list share it with each other, and with no other attempt.
            let there: Vec<_> =
                std::fs::read_dir(&attempt.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(there, [own.as_str()]);
            attempt.log.line(&format!("{} is at it", self.name));
            self.did.lock().unwrap().push(self.name.clone());
            if let Some(seconds) = self.config.get("sleep").and_then(Json::as_u64) {
                task::sleep(Duration::from_secs(seconds)).await;
            }
            let n = {
                let mut tries = self.tries.lock().unwrap();
                let n = tries.entry(self.name.clone()).or_default();
                *n += 1;
                u64::from(*n)
            };
            if self.config.get("fail").and_then(Json::as_u64).is_some_and(|fails| n <= fails) {
                return Outcome::Failed(Error::new(Code::UpstreamError, "it does not work"));
            }
            if let Some(list) = self.config.get("list").and_then(Json::as_array) {
                let items = list.iter().map(|i| Some(Value::text(i.as_str().unwrap_or_default()))).collect();
                return Outcome::Complete(Value::List(items));
            }
            if self.config.get("json").is_some() {
                return Outcome::Complete(Value::Json(Arc::new(self.config.clone())));
            }
            let mut text =
                self.config.get("text").map(|t| t.as_str().map_or_else(|| t.to_string(), str::to_owned));
            for value in inputs.values() {
                text =
                    Some(format!("{}({})", text.unwrap_or_default(), value.to_text().replace("\n\n", "+")));
            }
            Outcome::Complete(Value::text(text.unwrap_or_default()))
        })
    }
}

pub(crate) fn stage(name: &str, kind: &str, config: Json, from: &[(&str, &str)]) -> StageSpec {
    StageSpec {
        name: name.into(),
        kind: kind.into(),
        config,
        from: Source::Named(from.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()),
        each: None,
        parallel: None,
        on_failure: OnFailure::Fail,
        stream: None,
        draft: None,
        budget: Budget::default(),
        runs: StageInRuns::default(),
    }
}

pub(crate) struct World {
    pub(crate) durable: Durable,
    pub(crate) scheduler: Scheduler,
    pub(crate) store: Arc<SqliteRuns>,
    results: Arc<SqliteResults>,
    did: Did,
    pub(crate) registry: Registry,
    _work: task::Task<()>,
    n: u128,
}

impl World {
    pub(crate) async fn new(folder: &Path, worker: &str) -> World {
        let db = Database::open(&folder.join("forebay.db")).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::starting_at(UnixMillis(1_700_000_000_000)));
        let store = Arc::new(SqliteRuns::new(db.clone()));
        let results = Arc::new(SqliteResults::new(db));
        let durable = Durable::new(Means {
            project: folder.to_owned(),
            root: folder.join("runs"),
            clock: clock.clone(),
            results: results.clone(),
            keep: Duration::from_secs(3_600),
            keepers: vec![Arc::new(Artifacts::new(folder.join("artifacts")))],
            lineage: None,
        });
        let settings = SchedulerSettings {
            parallel: 4,
            groups: BTreeMap::from([("one".to_owned(), 1)]),
            lease: Duration::from_secs(60),
            keep: Duration::from_secs(60),
            open: 100,
            worker: worker.into(),
        };
        let execute = Arc::new(ByKind::new(Arc::new(durable.clone()), HashMap::new()));
        let scheduler = Scheduler::new(settings, store.clone(), clock, execute);
        durable.on(scheduler.clone());
        let (did, tries) = (Did::default(), Arc::default());
        let mut registry = Registry::default();
        for (name, inputs) in [("say", vec![]), ("wrap", vec!["a"]), ("both", vec!["a", "b"])] {
            registry.register(Join { did: did.clone(), inputs, name, tries: Arc::clone(&tries) });
        }
        let work = task::spawn("work", scheduler.clone().work());
        World {
            durable,
            scheduler,
            store,
            results,
            did,
            registry,
            _work: work,
            n: u128::from(worker.as_bytes()[0]) << 20,
        }
    }

    fn define(&self, stages: Vec<StageSpec>) {
        let mut spec = PipelineSpec {
            input: Kind::Json(None),
            output: Kind::Text,
            budget: Budget::default(),
            stages,
            result: None,
            durable: Default::default(),
        };
        spec.durable.params.insert("x".into(), json!("1"));
        let graph = pipeline::check(&spec, &self.registry).unwrap_or_else(|found| panic!("{found:?}"));
        let definition = Definition { name: "p".into(), spec, graph: Arc::new(graph), version: "v".into() };
        let pipelines = BTreeMap::from([("p".into(), Arc::new(definition))]);
        self.durable.replace(Definitions { registry: self.registry.clone(), pipelines });
    }

    pub(crate) async fn submit(&mut self, change: impl FnOnce(&mut Asked)) -> RunId {
        self.n += 1;
        let id = RunId::of(RequestId::from_parts(UnixMillis(1_700_000_000_000), self.n));
        let mut asked = Asked::of(id, "t".into(), "p".into());
        change(&mut asked);
        self.durable.submit(asked).await.unwrap()
    }

    pub(crate) async fn end(&self, id: RunId) -> Run {
        for _ in 0..10_000 {
            let run = self.scheduler.load(id).await.unwrap().unwrap();
            if run.status().is_end() {
                return run;
            }
            task::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not end: {:?}", self.scheduler.load(id).await.unwrap());
    }

    async fn run(&mut self) -> Run {
        let id = self.submit(|_| {}).await;
        self.end(id).await
    }

    pub(crate) async fn text(&self, run: &Run, stage: &str) -> String {
        let output = self.store.output(run.id(), &run.key(&stage.into())).await.unwrap();
        output.map(|bytes| Kept::value(&bytes).unwrap().to_text()).unwrap_or_default()
    }

    pub(crate) fn did(&self) -> Vec<String> {
        let mut did = std::mem::take(&mut *self.did.lock().unwrap());
        did.sort();
        did
    }
}

fn phase(run: &Run, stage: &str) -> &'static str {
    run.stage(&stage.into()).unwrap().1.phase.as_str()
}

fn diamond(text: &str) -> Vec<StageSpec> {
    vec![
        stage("a", "say", json!({"text": "a{{ params.x }}"}), &[]),
        stage("b", "wrap", json!({ "text": text }), &[("a", "a")]),
        stage("c", "wrap", json!({"text": "c"}), &[("a", "a")]),
        stage("d", "both", json!({"text": "d"}), &[("a", "b"), ("b", "c")]),
    ]
}

#[tokio::test]
async fn equal_inputs_run_nothing_again_and_an_edit_what_it_affects_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    w.define(diamond("b"));
    let first = w.run().await;
    assert_eq!(first.status(), Status::Succeeded, "{first:?}");
    assert_eq!(w.text(&first, "d").await, "d(b(a1))(c(a1))");
    assert_eq!(w.did(), ["a", "b", "c", "d"]);
    let again = w.run().await;
    assert_eq!((again.status(), w.did()), (Status::Succeeded, vec![]));
    assert_eq!(again.stage(&"d".into()).unwrap().1.reused, Some(first.id()));
    w.define(diamond("B"));
    let edited = w.run().await;
    assert_eq!(w.text(&edited, "d").await, "d(B(a1))(c(a1))");
    assert_eq!(w.did(), ["b", "d"], "exactly what the edit affects");
    let note = |run: &Run, s: &str| run.stage(&s.into()).unwrap().1.note.clone().unwrap_or_default();
    assert_eq!(note(&edited, "b"), "made again: config changed: text");
    assert!(note(&edited, "d").starts_with("made again: input a: "), "{}", note(&edited, "d"));
    assert!(note(&edited, "c").starts_with("taken from run_"), "{}", note(&edited, "c"));
    let id = w.submit(|a| a.params = json!({"x": 2}).as_object().cloned().unwrap()).await;
    let other = w.end(id).await;
    assert_eq!(w.text(&other, "d").await, "d(B(a2))(c(a2))");
    let left =
        |run: &Run| std::fs::read_dir(folder.path().join("runs").join(run.id().to_string())).unwrap().count();
    assert_eq!(left(&first), 4, "a log for each stage, and no folder is left");
}

#[tokio::test]
async fn what_depends_on_a_failed_stage_is_not_run_and_what_does_not_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let mut stages = diamond("b");
    stages[1].config = json!({"text": "b", "fail": 99});
    stages.push(stage("e", "wrap", json!({"text": "e"}), &[("a", "c")]));
    w.define(stages);
    let run = w.run().await;
    assert_eq!(run.status(), Status::Failed);
    assert_eq!(
        ["a", "b", "c", "d", "e"].map(|s| phase(&run, s)),
        ["done", "failed", "done", "skipped", "done"]
    );
    assert!(run.error().unwrap().message.contains("does not work"));
}

#[tokio::test]
async fn a_failed_run_goes_on_where_it_failed() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let mut stages = diamond("b");
    for s in &mut stages {
        s.runs.cache = Some(false);
    }
    stages[1].config = json!({"text": "b", "fail": 1});
    w.define(stages);
    let failed = w.run().await;
    assert_eq!((failed.status(), w.did()), (Status::Failed, vec!["a".into(), "b".into(), "c".into()]));
    let id = w.submit(|a| a.resumes = Some(failed.id())).await;
    let run = w.end(id).await;
    assert_eq!((run.status(), w.did()), (Status::Succeeded, vec!["b".into(), "d".into()]));
    assert_eq!(w.text(&run, "d").await, "d(b(a1))(c(a1))");
    assert_eq!(run.stage(&"a".into()).unwrap().1.reused, Some(failed.id()));
}

#[tokio::test]
async fn contracts_retry_fall_back_skip_and_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let failing = |name: &str, on: OnFailure| StageSpec {
        on_failure: on,
        ..stage(name, "say", json!({"text": name, "fail": 99}), &[])
    };
    w.define(vec![
        failing("broken", OnFailure::Fallback("spare".into())),
        stage("spare", "say", json!({"text": "spare"}), &[]),
        stage("unused", "say", json!({"text": "unused"}), &[]),
        StageSpec {
            on_failure: OnFailure::Fallback("unused".into()),
            ..stage("works", "say", json!({"text": "w"}), &[])
        },
        failing("gone", OnFailure::Skip),
        failing("known", OnFailure::Default(Value::text("known"))),
        StageSpec {
            on_failure: OnFailure::Retry(2),
            ..stage("flaky", "say", json!({"text": "ok", "fail": 1}), &[])
        },
        stage("x", "both", json!({}), &[("a", "broken"), ("b", "gone")]),
        stage("y", "both", json!({}), &[("a", "known"), ("b", "flaky")]),
        stage("z", "wrap", json!({}), &[("a", "works")]),
    ]);
    let run = w.run().await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    assert_eq!(w.text(&run, "x").await, "(spare)");
    assert_eq!(w.text(&run, "y").await, "(known)(ok)");
    assert_eq!(phase(&run, "unused"), "cancelled", "nobody needed it");
    assert_eq!(run.stage(&"flaky".into()).unwrap().1.failures, 1);
}

#[tokio::test]
async fn a_stage_is_run_for_each_element_and_for_every_combination_of_a_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let mut each = stage("each", "wrap", json!({"text": "e"}), &[]);
    (each.each, each.from) = (Some("many".into()), Source::Auto);
    let mut matrix = stage("matrix", "say", json!({"text": "{{ matrix.x }}-{{ matrix.y }}"}), &[]);
    matrix.runs.matrix =
        vec![("x".into(), vec![json!(1), json!(2)]), ("y".into(), vec![json!("a"), json!("b")])];
    w.define(vec![
        stage("many", "say", json!({"list": ["p", "q"]}), &[]),
        each,
        matrix,
        stage("all", "both", json!({}), &[("a", "each"), ("b", "matrix")]),
    ]);
    let run = w.run().await;
    assert_eq!(w.text(&run, "all").await, "(e(p)+e(q))(1-a+1-b+2-a+2-b)", "{run:?}");
    assert_eq!(phase(&run, "matrix[x=2,y=a]"), "done");
}

#[tokio::test]
async fn a_stage_waits_for_approval_and_a_refusal_is_its_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let mut stages = diamond("b");
    stages[3].runs.approval = Some("is it right?".into());
    w.define(stages);
    for approved in [true, false] {
        let id = w.submit(|_| {}).await;
        loop {
            let run = w.scheduler.load(id).await.unwrap().unwrap();
            if phase(&run, "d") == "waiting" {
                break;
            }
            task::sleep(Duration::from_millis(5)).await;
        }
        let reason = Some("no good".to_owned());
        w.scheduler.decide(id, "d".into(), "ann".into(), approved, reason).await.unwrap().unwrap();
        let run = w.end(id).await;
        match approved {
            true => assert_eq!(run.status(), Status::Succeeded),
            false => {
                let e = run.error().unwrap();
                assert_eq!((e.code, phase(&run, "d")), (Code::NotApproved, "failed"));
                assert!(e.message.contains("ann") && e.message.contains("no good"), "{e}");
            }
        }
    }
}

#[tokio::test]
async fn a_dead_workers_stages_are_taken_over_and_a_group_has_no_more_places_than_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let mut stages: Vec<StageSpec> =
        (0..4).map(|n| stage(&format!("s{n}"), "say", json!({"text": n, "sleep": 60}), &[])).collect();
    for s in &mut stages {
        s.runs.group = Some("one".into());
    }
    stages.push(stage("free", "say", json!({"text": "f"}), &[]));
    w.define(stages.clone());
    let id = w.submit(|_| {}).await;
    loop {
        let run = w.scheduler.load(id).await.unwrap().unwrap();
        if phase(&run, "free") == "done" && phase(&run, "s0") == "running" {
            assert_eq!(["s1", "s2", "s3"].map(|s| phase(&run, s)), ["ready"; 3]);
            break;
        }
        task::sleep(Duration::from_millis(5)).await;
    }
    // As kill -9 would: nothing is given back.
    drop(w);
    let w = World::new(folder.path(), "x").await;
    for s in &mut stages {
        s.config = json!({"text": 1});
    }
    w.define(stages);
    loop {
        let run = w.scheduler.load(id).await.unwrap().unwrap();
        if run.stage(&"s0".into()).unwrap().1.losses == 1 {
            break;
        }
        task::sleep(Duration::from_millis(5)).await;
    }
    let run = w.scheduler.cancel(id).await.unwrap().unwrap();
    assert_eq!(run.status(), Status::Cancelled);
    assert_eq!(run.stage(&"free".into()).unwrap().1.phase, Phase::Done);
    assert_eq!(w.store.open().await.unwrap(), 0);
}

#[tokio::test]
async fn what_died_attempts_left_goes_with_the_end_of_their_run_and_all_of_a_run_that_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    w.define(diamond("b"));
    let (ended, removed) = (w.run().await, w.run().await);
    let of = |run: &Run| folder.path().join("runs").join(run.id().to_string());
    for run in [&ended, &removed] {
        std::fs::create_dir_all(of(run).join("a.7")).unwrap();
    }
    assert!(w.store.remove(removed.id()).await.unwrap());
    w.durable.sweep_once().await.unwrap();
    assert!(!of(&removed).exists());
    assert!(!of(&ended).join("a.7").exists() && of(&ended).join("a.1.log").exists());
}

#[tokio::test]
async fn files_that_neither_a_run_nor_a_result_names_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut w = World::new(folder.path(), "w").await;
    let artifacts = Artifacts::new(folder.path().join("artifacts"));
    let long_ago = UnixMillis(1_600_000_000_000);
    let put = |text: &str| artifacts.put(text, &mut text.as_bytes(), 99, long_ago).unwrap();
    let (named, nameless) = (put("named"), put("nameless"));
    w.define(vec![stage("a", "say", json!({"hash": named.hash, "json": true}), &[])]);
    let run = w.run().await;
    w.durable.collect(Duration::from_secs(60)).await.unwrap();
    let is_there = |of: &pipeline::artifacts::Artifact| artifacts.open(&of.hash).is_ok();
    assert!(is_there(&named) && !is_there(&nameless));
    // The result outlives its run.
    assert!(w.store.remove(run.id()).await.unwrap());
    w.durable.collect(Duration::from_secs(60)).await.unwrap();
    assert!(is_there(&named));
    w.results.expire(UnixMillis(i64::MAX)).await.unwrap();
    w.durable.collect(Duration::from_secs(60)).await.unwrap();
    assert!(!is_there(&named));
}
