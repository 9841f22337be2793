//! Stages that call pipelines, and stages that are run for each element: types and circles, what is kept, children and their ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{
    BoxFuture, Budget, Code, Context, Error, Kind, Money, Outcome, PipelineName, RunId, Usage, Value,
};
use pipeline::durable::{Definition, Definitions};
use pipeline::nested::{Answer, Call, Given, Live, with_pipelines};
use pipeline::runs::{Run, Status};
use pipeline::task;
use pipeline::{
    Collect, DurableSpec, Finding, OnFailure, PipelineSpec, Registry, StageInRuns, StageSpec, Tables,
};
use serde_json::{Value as Json, json};
use store::{Backend as _, RunStore as _};
use tokio::sync::Semaphore;

use crate::durable::{World, stage};

/// Answers in capitals. What begins with `bad` is refused, `wait` waits for a place, `busy` has none the first time.
struct Loud {
    asked: Mutex<Vec<(String, contract::RequestId)>>,
    places: Semaphore,
}

/// A handle on it.
struct Handle(Arc<Loud>);

impl Live for Handle {
    fn call(&self, call: Call) -> BoxFuture<'static, Answer> {
        let own = self.0.clone();
        Box::pin(async move {
            let text = match call.input {
                Given::Value(value) => value.to_text(),
                Given::File { name, bytes } => format!("{name} {}", String::from_utf8_lossy(&bytes)),
            };
            let before = {
                let mut asked = own.asked.lock().unwrap();
                let before = asked.iter().filter(|(t, _)| *t == text).count();
                asked.push((text.clone(), call.id));
                before
            };
            if text.starts_with("wait") {
                drop(own.places.acquire().await.unwrap());
            }
            let usage = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
            let cost = Money::from_nanos(1_000_000);
            let outcome = if text.starts_with("bad") {
                Outcome::Failed(Error::new(Code::ContentFiltered, "not that"))
            } else if text.starts_with("half") {
                Outcome::Partial(json!("HA"), Error::new(Code::DeadlineExceeded, "late"))
            } else if text.starts_with("busy") && before == 0 {
                let after = contract::RetryHint::After(Duration::from_millis(1));
                Outcome::Failed(Error::new(Code::Overloaded, "full").retry(after))
            } else {
                Outcome::Complete(json!(text.to_uppercase()))
            };
            Answer { outcome, usage, cost, models: vec![("m".into(), Some("m-1".to_owned()))] }
        })
    }
}

impl Loud {
    fn asked(&self) -> Vec<String> {
        let mut asked: Vec<String> =
            std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().map(|(text, _)| text).collect();
        asked.sort();
        asked
    }
}

/// Tables are files of lines by their names.
struct Files(PathBuf);

impl Tables for Files {
    fn rows<'a>(&'a self, table: &'a str, _: &'a Path) -> BoxFuture<'a, Result<PathBuf, Error>> {
        Box::pin(async move { Ok(self.0.join(table)) })
    }

    fn table<'a>(
        &'a self,
        _: &'a Context,
        rows: &'a Path,
        types: &'a [(String, &'static str)],
    ) -> BoxFuture<'a, Result<Value, Error>> {
        Box::pin(async move {
            assert_eq!(types.len(), 7);
            let mut lines: Vec<String> =
                std::fs::read_to_string(rows).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            std::fs::write(self.0.join("made"), lines.join("\n")).unwrap();
            Ok(Value::Table("made".into()))
        })
    }
}

fn pipeline(input: Kind, stages: Vec<StageSpec>) -> PipelineSpec {
    PipelineSpec {
        input,
        output: Kind::Text,
        budget: Budget::default(),
        stages,
        result: None,
        durable: DurableSpec::default(),
    }
}

/// A world whose pipelines call `loud`, which answers requests, and each other.
struct Nested {
    world: World,
    loud: Arc<Loud>,
    folder: PathBuf,
    version: String,
}

impl Nested {
    async fn new(folder: &Path, worker: &str) -> Nested {
        let world = World::new(folder, worker).await;
        let loud = Arc::new(Loud { asked: Mutex::default(), places: Semaphore::new(0) });
        world.durable.calls().live_by(Arc::new(Handle(loud.clone())));
        Nested { world, loud, folder: folder.to_owned(), version: "1".to_owned() }
    }

    fn define(&mut self, pipelines: Vec<(&str, Vec<StageSpec>)>) -> Result<(), Vec<Finding>> {
        let mut base = self.world.registry.clone();
        base.set_tables(Arc::new(Files(self.folder.clone())));
        let loud = PipelineSpec { durable: DurableSpec::default(), ..pipeline(Kind::Text, Vec::new()) };
        let mut specs: BTreeMap<PipelineName, PipelineSpec> = pipelines
            .into_iter()
            .map(|(name, stages)| (name.into(), pipeline(Kind::Json(None), stages)))
            .collect();
        let names: Vec<PipelineName> = specs.keys().cloned().collect();
        specs.insert("loud".into(), loud);
        let versions = BTreeMap::from([("loud".into(), self.version.clone())]);
        let registry = with_pipelines(&base, &specs, &versions, self.world.durable.calls());
        let definition = |name: &PipelineName| {
            let spec = specs[name].clone();
            let graph = Arc::new(pipeline::check(&spec, &registry)?);
            let own = Definition { name: name.clone(), spec, graph, version: "v".into() };
            Ok((name.clone(), Arc::new(own)))
        };
        let pipelines = names.iter().map(definition).collect::<Result<_, Vec<Finding>>>()?;
        self.world.durable.replace(Definitions { registry, pipelines });
        Ok(())
    }

    async fn run(&mut self) -> Run {
        let id = self.world.submit(|_| {}).await;
        self.world.end(id).await
    }

    fn rows(&self, name: &str, rows: &[Json]) {
        let lines: Vec<String> = rows.iter().map(Json::to_string).collect();
        std::fs::write(self.folder.join(name), lines.join("\n")).unwrap();
    }

    fn made(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.folder.join("made")).unwrap();
        let mut rows: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        rows.sort_by_key(|row| row["path"].as_str().map(str::to_owned));
        rows
    }
}

fn each(list: &[&str], on_failure: OnFailure) -> Vec<StageSpec> {
    vec![
        stage("list", "say", json!({ "list": list }), &[]),
        StageSpec {
            from: pipeline::Source::Auto,
            each: Some("list".into()),
            parallel: Some(2),
            on_failure,
            ..stage("calls", "pipeline", json!({"name": "loud"}), &[])
        },
    ]
}

fn note(run: &Run, stage: &str) -> String {
    run.stage(&stage.into()).unwrap().1.note.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_stage_calls_a_pipeline_that_answers_requests_and_its_failure_is_the_stages() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let call = |text: &str| {
        vec![
            stage("text", "say", json!({ "text": text }), &[]),
            stage("call", "pipeline", json!({"name": "loud"}), &[("input", "text")]),
        ]
    };
    n.define(vec![("p", call("quiet"))]).unwrap();
    let run = n.run().await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    assert_eq!(n.world.text(&run, "call").await, "QUIET");
    assert!(note(&run, "call").contains("asked `loud`: req_"), "{}", note(&run, "call"));
    // Kept by what it is made of: neither asked again nor paid.
    assert_eq!(n.run().await.status(), Status::Succeeded);
    assert_eq!(n.loud.asked(), ["quiet"]);
    // Another version of what it calls is another.
    n.version = "2".into();
    n.define(vec![("p", call("quiet"))]).unwrap();
    let again = n.run().await;
    assert!(note(&again, "call").contains("pipeline loud: 1 → 2"), "{}", note(&again, "call"));
    assert_eq!(n.loud.asked(), ["quiet"]);
    n.define(vec![("p", call("bad one"))]).unwrap();
    let failed = n.run().await;
    assert_eq!(failed.status(), Status::Failed);
    let e = failed.error().unwrap();
    assert!(e.code == Code::ContentFiltered && e.message.contains("`loud` (req_"), "{e}");
}

#[tokio::test]
async fn of_many_elements_what_changed_is_made_again_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    n.define(vec![("p", each(&["a", "b", "c"], OnFailure::Fail))]).unwrap();
    let run = n.run().await;
    assert_eq!(n.world.text(&run, "calls").await, "A\n\nB\n\nC");
    assert_eq!(n.loud.asked(), ["a", "b", "c"]);
    n.define(vec![("p", each(&["c", "x", "a"], OnFailure::Fail))]).unwrap();
    let edited = n.run().await;
    assert_eq!(n.world.text(&edited, "calls").await, "C\n\nX\n\nA");
    assert_eq!(n.loud.asked(), ["x"]);
    assert!(note(&edited, "calls").contains("3 elements: 1 made, 2 kept"), "{}", note(&edited, "calls"));
    // The model that answered then is an input of what is put together of kept elements alone.
    n.define(vec![("p", each(&["c", "a"], OnFailure::Fail))]).unwrap();
    let kept = n.run().await;
    assert!(n.loud.asked().is_empty());
    let facts = store::Database::open(&folder.path().join("forebay.db")).await.unwrap().lineage();
    let facts = facts.of_run(None, &kept.id().to_string(), Some("p.calls"), 9).await.unwrap();
    assert!(facts.len() == 1 && facts[0].body.contains("m-1"), "{facts:?}");
}

#[tokio::test]
async fn an_element_that_fails_ends_the_stage_or_is_left_out_as_its_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    n.define(vec![("p", each(&["a", "bad", "c", "d"], OnFailure::Fail))]).unwrap();
    let failed = n.run().await;
    assert_eq!(failed.status(), Status::Failed);
    assert!(failed.error().unwrap().message.contains("element 2"), "{failed:?}");
    // What was made beside it is kept: it is not asked again.
    let first = n.loud.asked();
    assert!(first.contains(&"a".to_owned()) && !first.contains(&"d".to_owned()), "{first:?}");
    n.define(vec![("p", each(&["a", "bad", "c", "d"], OnFailure::Partial))]).unwrap();
    let partial = n.run().await;
    assert_eq!(partial.status(), Status::Succeeded);
    let state = partial.stage(&"calls".into()).unwrap().1;
    assert!(state.error.as_ref().is_some_and(|e| e.message.contains("1 of 4")), "{state:?}");
    assert!(!n.loud.asked().contains(&"a".to_owned()));
    n.define(vec![("p", each(&["a", "bad", "c", "d"], OnFailure::Skip))]).unwrap();
    let skipped = n.run().await;
    assert_eq!(skipped.stage(&"calls".into()).unwrap().1.error, None);
    assert_eq!(n.world.text(&skipped, "calls").await, "A\n\nC\n\nD");
    assert_eq!(n.loud.asked(), ["bad"], "the whole is not kept while something is missing");
}

#[tokio::test]
async fn want_of_room_costs_no_element_and_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    n.define(vec![("p", each(&["a", "busy", "c"], OnFailure::Partial))]).unwrap();
    let run = n.run().await;
    assert_eq!(n.world.text(&run, "calls").await, "A\n\nBUSY\n\nC");
    let state = run.stage(&"calls".into()).unwrap().1;
    assert_eq!((state.failures, state.postponed, state.error.as_ref()), (0, 1, None));
    let asked = n.loud.asked();
    assert_eq!(asked.iter().filter(|t| *t == "a").count(), 1, "{asked:?}");
}

#[tokio::test]
async fn each_row_of_a_table_becomes_a_row_of_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let row = |path: &str, text: &str, at: u64| json!({"path": path, "text": text, "modified": at});
    n.rows("docs", &[row("a.md", "one", 1), row("b.md", "bad", 1), row("c.md", "half", 1)]);
    let stages = |field: &str| {
        let calls = stage("calls", "pipeline", json!({"name": "loud", "field": field}), &[]);
        let runs = StageInRuns {
            collect: Some(Collect { keep: vec!["path".into()], output: "summary".into() }),
            ..StageInRuns::default()
        };
        vec![
            stage("docs", "table", json!({"table": "docs"}), &[]),
            StageSpec {
                from: pipeline::Source::Auto,
                each: Some("docs".into()),
                on_failure: OnFailure::Partial,
                runs,
                ..calls
            },
        ]
    };
    n.world.registry.register(Table);
    n.define(vec![("p", stages("text"))]).unwrap();
    let run = n.run().await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    let rows = n.made();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[0]["path"], &rows[0]["summary"], &rows[0]["status"]),
        (&json!("a.md"), &json!("ONE"), &json!("done"))
    );
    assert_eq!((&rows[0]["input_tokens"], &rows[0]["cost_usd"]), (&json!(10), &json!(0.001)));
    assert!(rows[0]["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!((&rows[1]["status"], &rows[1]["summary"]), (&json!("failed"), &Json::Null));
    assert!(rows[1]["error"].as_str().unwrap().contains("not that"));
    assert_eq!((&rows[2]["status"], &rows[2]["summary"]), (&json!("partial"), &json!("HA")));
    assert_eq!(n.loud.asked(), ["bad", "half", "one"]);
    // A file that was only touched is the same text; what is kept keeps what it cost.
    let before = rows[0].clone();
    n.rows("docs", &[row("a.md", "one", 2), row("d.md", "two", 2)]);
    n.run().await;
    assert_eq!(n.loud.asked(), ["two"]);
    assert_eq!(n.made()[0], before);
    // A field that the rows do not have is told of each.
    n.define(vec![("p", stages("txt"))]).unwrap();
    let wrong = n.run().await;
    assert!(wrong.error().unwrap().message.contains("there is no `txt`"), "{wrong:?}");
}

#[tokio::test]
async fn a_budget_of_a_stage_ends_what_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let mut stages = each(&["a", "b", "c", "d", "e"], OnFailure::Partial);
    stages[1].parallel = Some(1);
    stages[1].budget.tokens = Some(24);
    n.define(vec![("p", stages)]).unwrap();
    let run = n.run().await;
    assert_eq!(n.world.text(&run, "calls").await, "A\n\nB");
    let error = run.stage(&"calls".into()).unwrap().1.error.clone().unwrap();
    assert!(error.message.contains("3 of 5") && error.message.contains("24 tokens"), "{error}");
}

/// Gives the table that its configuration names.
struct Table;
struct Named(contract::Signature, String);

impl pipeline::StageKind for Table {
    fn name(&self) -> &'static str {
        "table"
    }
    fn schema(&self) -> Json {
        json!({"type": "object"})
    }
    fn cached(&self, _: &Json) -> bool {
        false
    }
    fn build(
        &self,
        config: &Json,
        _: &pipeline::Site<'_>,
    ) -> Result<Arc<dyn contract::Stage>, Vec<pipeline::Problem>> {
        let signature = contract::Signature {
            inputs: Default::default(),
            output: Kind::Table,
            streams: false,
            instant: false,
            effort: contract::Effort::Waits,
        };
        Ok(Arc::new(Named(signature, config["table"].as_str().unwrap().to_owned())))
    }
}

impl contract::Stage for Named {
    fn signature(&self) -> &contract::Signature {
        &self.0
    }
    fn run<'a>(&'a self, _: &'a Context, _: contract::Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move { Outcome::Complete(Value::Table(self.1.as_str().into())) })
    }
}

#[tokio::test]
async fn elements_that_a_dead_attempt_had_made_are_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let mut n = Nested::new(folder.path(), "a").await;
        let mut stages = each(&["a", "b", "wait", "d"], OnFailure::Fail);
        stages[1].parallel = Some(1);
        // Not even kept for other runs: this run takes them.
        stages[1].runs.cache = Some(false);
        n.define(vec![("p", stages)]).unwrap();
        let id = n.world.submit(|_| {}).await;
        while !n.loud.asked.lock().unwrap().iter().any(|(text, _)| text == "wait") {
            task::sleep(Duration::from_millis(5)).await;
        }
        // Dropped in the middle: its process is gone.
        id
    };
    let mut n = Nested::new(folder.path(), "b").await;
    n.loud.places.add_permits(9);
    let mut stages = each(&["a", "b", "wait", "d"], OnFailure::Fail);
    stages[1].parallel = Some(1);
    stages[1].runs.cache = Some(false);
    n.define(vec![("p", stages)]).unwrap();
    let run = n.world.end(id).await;
    assert_eq!(run.status(), Status::Succeeded);
    assert_eq!(n.world.text(&run, "calls").await, "A\n\nB\n\nWAIT\n\nD");
    assert_eq!(n.loud.asked(), ["d", "wait"]);
}

fn parent(retries: u32) -> Vec<StageSpec> {
    let runs = StageInRuns { retries: Some(retries), ..StageInRuns::default() };
    vec![
        StageSpec { runs, ..stage("child", "pipeline", json!({"name": "q"}), &[]) },
        stage("after", "wrap", json!({"text": "after"}), &[("a", "child")]),
    ]
}

async fn children(n: &Nested, of: RunId) -> Vec<Run> {
    let mut found = Vec::new();
    for head in n.world.store.list("pipeline", None, None, 100).await.unwrap() {
        let about: Json = serde_json::from_str(&head.about).unwrap();
        if about["cause"]["run"] == json!(of) {
            assert_eq!(about["cause"]["stage"], "child");
            found.push(n.world.scheduler.load(head.id).await.unwrap().unwrap());
        }
    }
    found
}

#[tokio::test]
async fn a_durable_pipeline_is_called_as_a_run_that_the_parent_waits_for_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let own = |text: &str| vec![stage("a", "say", json!({ "text": text }), &[])];
    n.define(vec![("p", parent(0)), ("q", own("x"))]).unwrap();
    let run = n.run().await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    assert_eq!(n.world.text(&run, "after").await, "after(x)");
    let all = children(&n, run.id()).await;
    assert_eq!((all.len(), all[0].status()), (1, Status::Succeeded));
    assert!(note(&run, "child").contains(&all[0].id().to_string()), "{}", note(&run, "child"));
    // One run's child is no other's.
    let other = n.run().await;
    assert_eq!(children(&n, other.id()).await.len(), 1);
}

#[tokio::test]
async fn a_child_that_fails_is_a_failure_of_its_stage_and_the_next_one_resumes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let own = vec![
        stage("a", "say", json!({"text": "a"}), &[]),
        stage("b", "wrap", json!({"text": "b", "fail": 1}), &[("a", "a")]),
    ];
    n.define(vec![("p", parent(1)), ("q", own)]).unwrap();
    let run = n.run().await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    let mut all: Vec<Status> = children(&n, run.id()).await.iter().map(Run::status).collect();
    all.sort_by_key(|s| s.as_str());
    assert_eq!(all, [Status::Failed, Status::Succeeded]);
    assert_eq!(n.world.did(), ["a", "after", "b", "b"], "what the first child had done is not done again");
}

#[tokio::test]
async fn a_child_outlives_the_death_of_its_parents_process_and_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let own = || {
        vec![
            stage("a", "say", json!({"text": "a"}), &[]),
            stage("b", "wrap", json!({"text": "b", "sleep": 1}), &[("a", "a")]),
        ]
    };
    let id = {
        let mut n = Nested::new(folder.path(), "a").await;
        n.define(vec![("p", parent(0)), ("q", own())]).unwrap();
        let id = n.world.submit(|_| {}).await;
        while children(&n, id).await.is_empty() {
            task::sleep(Duration::from_millis(5)).await;
        }
        id
    };
    let mut n = Nested::new(folder.path(), "b").await;
    n.define(vec![("p", parent(0)), ("q", own())]).unwrap();
    let run = n.world.end(id).await;
    assert_eq!(run.status(), Status::Succeeded, "{run:?}");
    assert_eq!(children(&n, id).await.len(), 1);
}

#[tokio::test]
async fn a_cancelled_parent_ends_its_child() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let own = vec![stage("a", "say", json!({"text": "a", "sleep": 3_000}), &[])];
    n.define(vec![("p", parent(0)), ("q", own)]).unwrap();
    let id = n.world.submit(|_| {}).await;
    while children(&n, id).await.is_empty() {
        task::sleep(Duration::from_millis(5)).await;
    }
    n.world.scheduler.cancel(id).await.unwrap();
    let child = children(&n, id).await[0].id();
    assert_eq!(n.world.end(child).await.status(), Status::Cancelled);
}

#[tokio::test]
async fn parents_that_wait_take_no_place_of_those_they_wait_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let grouped = |stages: Vec<StageSpec>| -> Vec<StageSpec> {
        let own = |s: StageSpec| {
            let runs = StageInRuns { group: Some("one".into()), ..s.runs.clone() };
            StageSpec { runs, ..s }
        };
        stages.into_iter().map(own).collect()
    };
    let own = grouped(vec![stage("a", "say", json!({"text": "a"}), &[])]);
    n.define(vec![("p", grouped(parent(0))), ("q", own)]).unwrap();
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(n.world.submit(|_| {}).await);
    }
    for id in ids {
        assert_eq!(n.world.end(id).await.status(), Status::Succeeded);
    }
}

fn found(n: &mut Nested, pipelines: Vec<(&str, Vec<StageSpec>)>) -> String {
    let found = n.define(pipelines).unwrap_err();
    let one = |f: &Finding| format!("{} {}", f.place.path.join("."), f.message);
    found.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_check_sees_names_types_circles_and_parameters_of_what_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = Nested::new(folder.path(), "w").await;
    let call = |config: Json| vec![stage("s", "pipeline", config, &[])];
    let from = |config: Json| {
        vec![stage("t", "say", json!({"text": "t"}), &[]), stage("s", "pipeline", config, &[("input", "t")])]
    };
    assert_eq!(
        found(&mut n, vec![("p", call(json!({"name": "lout"})))]),
        "pipeline.name there is no pipeline `lout`"
    );
    let circle = found(&mut n, vec![("p", call(json!({"name": "q"}))), ("q", call(json!({"name": "p"})))]);
    assert_eq!(circle, "pipeline.name the pipelines call each other without end: q → p → q");
    let own = found(&mut n, vec![("p", call(json!({"name": "p"})))]);
    assert_eq!(own, "pipeline.name the pipelines call each other without end: p → p");
    // Each takes and gives what it says.
    let types = found(&mut n, vec![("p", call(json!({"name": "loud"})))]);
    assert!(types.contains("takes text as `input`, but the pipeline's input gives json"), "{types}");
    let params = found(&mut n, vec![("p", from(json!({"name": "loud", "params": {"x": 1}})))]);
    assert!(params.contains("`loud` answers requests, which have no parameters"), "{params}");
    let child = || vec![stage("a", "say", json!({}), &[])];
    let params = found(&mut n, vec![("p", call(json!({"name": "q", "params": {"x": 1}}))), ("q", child())]);
    assert_eq!(params, "pipeline.params.x the pipeline `q` has no parameter `x`");
    let file = found(&mut n, vec![("p", call(json!({"name": "q", "file": "path"}))), ("q", child())]);
    assert!(file.contains("a durable pipeline is not given a file"), "{file}");
    let both = found(&mut n, vec![("p", from(json!({"name": "loud", "file": "a", "field": "b"})))]);
    assert!(both.contains("a field or a file"), "{both}");
    let out = found(&mut n, vec![("p", from(json!({"name": "loud", "file": "a", "folder": "../x"})))]);
    assert!(out.contains("`../x` is no folder below"), "{out}");
    // A table collects of elements, under names of its own.
    let mut once = from(json!({"name": "loud"}));
    once[1].runs.collect = Some(Collect { keep: vec!["status".into()], output: "o".into() });
    let collect = found(&mut n, vec![("p", once)]);
    assert!(
        collect.contains("collect `collect` makes a table") && collect.contains("collect.keep two columns"),
        "{collect}"
    );
    let _ = Registry::default();
}
