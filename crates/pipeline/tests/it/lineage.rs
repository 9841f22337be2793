//! Walks over facts: upstream, downstream, versions, columns, circles.

use std::sync::Arc;

use contract::lineage::{ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind, Via};
use contract::{Code, RequestId, RunId, UnixMillis};
use pipeline::lineage::{Direction, Told, Walk, Wanted, event, fact, graph};
use serde_json::{Value as Json, json};
use store::{Backend as _, Database, LineageStore};

struct Facts {
    store: Arc<dyn LineageStore>,
    _folder: tempfile::TempDir,
}

fn run(n: u128) -> RunId {
    RunId::of(RequestId::from_parts(UnixMillis(1_000), n))
}

fn dataset(text: &str) -> Thing {
    match text.split_once('@') {
        Some((name, number)) => Thing {
            number: number.parse().ok(),
            ..Thing::new(ThingKind::Dataset, name).at(format!("content-{number}"))
        },
        None => Thing::new(ThingKind::Dataset, text),
    }
}

/// `out = a.x:identity b.y:join` for each column.
fn columns(all: &[&str]) -> Vec<ColumnMade> {
    let source = |text: &str| {
        let (input, rest) = text.split_once('.').unwrap();
        let (column, via) = rest.split_once(':').unwrap();
        let via = serde_json::from_value::<Via>(via.into()).unwrap();
        FromColumn { input: input.parse().unwrap(), column: column.into(), via }
    };
    let one = |text: &&str| {
        let (name, from) = text.split_once('=').unwrap();
        let from = from.split_whitespace().map(source).collect();
        ColumnMade { name: name.trim().into(), ty: "int".into(), from }
    };
    all.iter().map(one).collect()
}

impl Facts {
    async fn new() -> Facts {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("forebay.db")).await.unwrap();
        Facts { store: database.lineage(), _folder: folder }
    }

    async fn told(&self, n: u128, job: &str, inputs: &[&str], output: &str, of: &[&str]) {
        let output = Output { columns: columns(of), ..Output::from(dataset(output)) };
        let lineage =
            Lineage { outputs: vec![output], ..Lineage::of(inputs.iter().map(|i| dataset(i)).collect()) };
        self.keep(n, job, Told { lineage, kind: "sql".into(), ..Told::default() }).await;
    }

    async fn keep(&self, n: u128, job: &str, told: Told) {
        let key = *blake3::hash(format!("{n} {job}").as_bytes()).as_bytes();
        let at = UnixMillis(i64::try_from(n).unwrap());
        self.store.put(&[fact(key, &"t".into(), (&run(n).to_string(), job), at, told)]).await.unwrap();
    }

    async fn walk(&self, of: &str, direction: Direction, depth: u32) -> Result<Json, contract::Error> {
        let wanted = Wanted { of: of.into(), direction, depth, columns: true, tenant: None };
        let (found, all) = Walk::over(self.store.clone()).walk(&wanted).await?;
        Ok(graph(&wanted, &found, &all))
    }

    /// The names of nodes, in the order they were found; jobs in brackets, columns behind a dot.
    async fn names(&self, of: &str, direction: Direction) -> Vec<String> {
        names(&self.walk(of, direction, 10).await.unwrap())
    }
}

fn names(graph: &Json) -> Vec<String> {
    let text = |node: &Json, name: &str| node[name].as_str().map(str::to_owned);
    let one = |node: &Json| {
        let column = text(node, "column").map(|c| format!(".{c}")).unwrap_or_default();
        let number = node["number"].as_u64().map(|n| format!("@{n}")).unwrap_or_default();
        let name = text(node, "name").unwrap();
        if node["type"] == "job" { format!("[{name}{column}]") } else { format!("{name}{number}{column}") }
    };
    graph["nodes"].as_array().unwrap().iter().map(one).collect()
}

async fn flights() -> Facts {
    let facts = Facts::new().await;
    let raw = &["k=0.k:identity", "delay=0.dep:transformation", "day=0.day:identity"];
    facts.told(1, "p.clean", &["raw@1"], "clean@1", raw).await;
    facts.told(2, "p.clean", &["raw@2"], "clean@2", raw).await;
    facts
        .told(
            3,
            "p.join",
            &["clean@2", "weather@5"],
            "set@1",
            &["delay=0.delay:identity 0.k:join 1.k:join", "wind=1.wind:aggregation 0.day:filter"],
        )
        .await;
    facts.told(4, "q.report", &["set@1"], "report@1", &["wind=0.wind:identity"]).await;
    facts
}

#[tokio::test]
async fn a_dataset_is_followed_to_its_sources_and_to_what_was_made_of_it() {
    let facts = flights().await;
    assert_eq!(
        facts.names("set", Direction::Up).await,
        ["set", "[p.join]", "clean", "weather", "[p.clean]", "raw"]
    );
    assert_eq!(
        facts.names("clean", Direction::Down).await,
        ["clean", "[p.join]", "set", "[q.report]", "report"]
    );
    assert_eq!(facts.names("raw", Direction::Up).await, ["raw"]);
    let both = facts.names("clean", Direction::Both).await;
    assert!(both.contains(&"raw".to_owned()) && both.contains(&"report".to_owned()), "{both:?}");
    let near = facts.walk("report", Direction::Up, 1).await.unwrap();
    assert_eq!(
        (names(&near), &near["more"]),
        (vec!["report".into(), "[q.report]".into(), "set".into()], &json!(true))
    );
    assert_eq!(facts.walk("report", Direction::Up, 9).await.unwrap()["more"], json!(false));
}

#[tokio::test]
async fn a_version_is_followed_through_the_versions_that_it_was_made_of_alone() {
    let facts = flights().await;
    assert_eq!(facts.names("clean@1", Direction::Both).await, ["clean@1", "[p.clean]", "raw@1"]);
    assert_eq!(
        facts.names("set@1", Direction::Up).await,
        ["set@1", "[p.join]", "clean@2", "weather@5", "[p.clean]", "raw@2"]
    );
    let several = facts.walk("content-1", Direction::Down, 9).await.unwrap_err();
    assert!(several.message.contains("dataset:raw@content-1"), "{several}");
    assert_eq!(facts.names("content-5", Direction::Down).await[..2], ["weather@5", "[p.join]"]);
}

#[tokio::test]
async fn a_run_and_a_job_are_followed_from_what_they_did() {
    let facts = flights().await;
    let of = run(3).to_string();
    assert_eq!(
        facts.names(&of, Direction::Both).await,
        ["[p.join]", "clean@2", "weather@5", "[p.clean]", "raw@2", "set@1", "[q.report]", "report@1"]
    );
    assert_eq!(facts.names("p.clean", Direction::Up).await, ["[p.clean]", "raw@2"], "its newest run");
    assert_eq!(facts.walk(&of, Direction::Up, 1).await.unwrap()["kind"], "run");
}

#[tokio::test]
async fn a_column_is_followed_where_its_values_come_from_and_where_they_go() {
    let facts = flights().await;
    assert_eq!(
        facts.names("set.delay", Direction::Up).await,
        ["set.delay", "[p.join.delay]", "clean.delay", "clean.k", "weather.k", "[p.clean.delay]", "raw.dep"],
        "what rows are joined by is told, and not gone on with"
    );
    let report = facts.walk("report.wind", Direction::Up, 9).await.unwrap();
    assert_eq!(
        names(&report),
        ["report.wind", "[q.report.wind]", "set.wind", "[p.join.wind]", "weather.wind", "clean.day"]
    );
    let of = |from: usize, to: usize| {
        let links = report["links"].as_array().unwrap();
        links.iter().find(|l| l["from"] == from && l["to"] == to).map(|l| l["via"].clone())
    };
    assert_eq!(of(4, 3), Some(json!(["aggregation"])));
    assert_eq!(of(5, 3), Some(json!(["filter"])));
    assert_eq!(
        facts.names("weather.wind", Direction::Down).await,
        ["weather.wind", "[p.join.wind]", "set.wind", "[q.report.wind]", "report.wind"]
    );
    assert_eq!(
        facts.names("raw@2.day", Direction::Down).await,
        ["raw@2.day", "[p.clean.day]", "clean@2.day", "[p.join.wind]", "set@1.wind"]
    );
    let missing = facts.walk("set.nothing", Direction::Up, 9).await.unwrap_err();
    assert!(missing.code == Code::NotFound && missing.message.contains("delay, wind"), "{missing}");
}

#[tokio::test]
async fn where_nobody_knows_the_columns_of_a_job_a_column_is_followed_to_all_that_it_read() {
    let facts = flights().await;
    facts.told(5, "x.train", &["set@1", "weather@5"], "scores@1", &[]).await;
    assert_eq!(
        facts.names("scores.y", Direction::Up).await,
        ["scores.y", "[x.train.y]", "set", "weather", "[p.join]", "clean", "[p.clean]", "raw"]
    );
    let down = facts.names("set.wind", Direction::Down).await;
    assert!(down.contains(&"scores".to_owned()) && down.contains(&"report.wind".to_owned()), "{down:?}");
}

#[tokio::test]
async fn what_is_appended_to_is_no_circle_and_circles_end() {
    let facts = Facts::new().await;
    facts.told(1, "p.add", &["raw@1", "all@0"], "all@1", &["x=0.x:identity 1.x:identity"]).await;
    facts.told(2, "p.add", &["raw@2", "all@1"], "all@2", &["x=0.x:identity 1.x:identity"]).await;
    assert_eq!(facts.names("all", Direction::Up).await, ["all", "[p.add]", "raw"]);
    assert_eq!(
        facts.names("all@2", Direction::Up).await,
        ["all@2", "[p.add]", "raw@2", "all@1", "[p.add]", "raw@1", "all@0"]
    );
    for (n, (from, to)) in (10..).zip([("a", "b"), ("b", "c"), ("c", "a")]) {
        facts.told(n, &format!("j{n}"), &[from], to, &["x=0.x:identity"]).await;
    }
    assert_eq!(facts.names("a", Direction::Both).await.len(), 6);
    assert_eq!(facts.names("a.x", Direction::Both).await.len(), 6);
}

#[tokio::test]
async fn what_a_run_took_over_is_made_of_what_the_first_one_made_it_of() {
    let facts = flights().await;
    let lineage = Lineage { outputs: vec![dataset("clean@2").into()], ..Lineage::default() };
    let told = Told { lineage, kind: "sql".into(), reused: Some(run(2)), ..Told::default() };
    facts.keep(9, "p.clean", told).await;
    assert_eq!(
        facts.names("clean.delay", Direction::Up).await,
        ["clean.delay", "[p.clean.delay]", "raw.dep"]
    );
    let newest = facts.walk("clean", Direction::Up, 1).await.unwrap();
    assert_eq!((&newest["nodes"][1]["run"], &newest["nodes"][1]["reused"]), (&json!(run(9)), &json!(run(2))));
}

#[tokio::test]
async fn what_others_tell_piece_by_piece_is_one_run_in_the_same_graph() {
    let facts = flights().await;
    let told = |kind: &str, body: Json| {
        let mut all = json!({
            "eventType": kind, "eventTime": "2026-01-31T08:00:00Z", "producer": "https://dbt.example",
            "run": {"runId": "0197"}, "job": {"namespace": "dbt", "name": "mart"},
        });
        all.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        event(&all, "forebay", (&"t".into(), pipeline::lineage::Teller::Operator)).unwrap().unwrap()
    };
    let inputs = json!({"inputs": [{"namespace": "forebay", "name": "set"}]});
    let outputs = json!({"outputs": [{"namespace": "pg://db", "name": "public.mart"}]});
    let events = [told("START", inputs), told("COMPLETE", outputs)];
    assert_eq!(facts.store.put(&events).await.unwrap(), 2);
    assert_eq!(facts.store.put(&events).await.unwrap(), 0, "the same events again");
    let down = facts.names("set", Direction::Down).await;
    assert!(
        down.contains(&"[dbt/mart]".to_owned()) && down.contains(&"pg://db/public.mart".to_owned()),
        "{down:?}"
    );
    let up = facts.walk("pg://db/public.mart", Direction::Up, 9).await.unwrap();
    assert_eq!(names(&up)[..3], ["pg://db/public.mart", "[dbt/mart]", "set"]);
    assert_eq!((&up["nodes"][1]["state"], &up["nodes"][1]["run"]), (&json!("complete"), &json!("0197")));
    assert_eq!(facts.names("0197", Direction::Up).await[..2], ["[dbt/mart]", "set"]);
}

#[tokio::test]
async fn what_nobody_knows_is_an_error_that_names_what_there_is() {
    let facts = flights().await;
    let asked = |of: &'static str| {
        let facts = &facts;
        async move { facts.walk(of, Direction::Both, 3).await.unwrap_err() }
    };
    let e = asked("fligths").await;
    assert!(e.code == Code::NotFound && e.message.contains("clean, raw, report, set, weather"), "{e}");
    assert!(asked("set@77").await.message.contains("version 77 of `set`"));
    let none = run(99).to_string();
    let e = facts.walk(&none, Direction::Both, 3).await.unwrap_err();
    assert!(e.code == Code::NotFound && e.message.contains(&none), "{e}");
    for hostile in ["", ".", "@", "..@..", "set@", "set.", "'; DROP", "run_", "\0", "a.b.c.d.e.f.g.h.i.j"] {
        let e = asked(hostile).await;
        assert_eq!(e.code, Code::NotFound, "{hostile:?}: {e}");
    }
    let twice = |kind| Lineage {
        outputs: vec![Thing::new(ThingKind::Value, "run_1/x").into()],
        ..Lineage::of(vec![Thing::new(kind, "m")])
    };
    let mut both = twice(ThingKind::File);
    both.add(twice(ThingKind::Model));
    facts.keep(20, "p.x", Told { lineage: both, ..Told::default() }).await;
    let e = asked("m").await;
    assert!(e.code == Code::InvalidRequest && e.message.contains("file:m, model:m"), "{e}");
    assert_eq!(facts.names("model:m", Direction::Down).await[..2], ["m", "[p.x]"]);
}

#[tokio::test]
async fn a_walk_over_more_than_a_graph_holds_ends_and_says_so() {
    let facts = Facts::new().await;
    for n in 0..40_u128 {
        let inputs: Vec<String> = (0..60).map(|i| format!("in_{n}_{i}")).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        facts.told(n + 1, &format!("j{n}"), &inputs, "all", &[]).await;
    }
    let found = facts.walk("all", Direction::Up, 10).await.unwrap();
    assert_eq!(found["more"], json!(true));
    assert!(found["nodes"].as_array().unwrap().len() < 2_200);
}
