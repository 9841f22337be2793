//! What each kind does with good and bad input.

use std::time::Duration;

use contract::{Code, Outcome, Value};
use data::stages::{collect, place};
use data::{At, Format, Gc, How, Policy, Source};
use serde_json::{Value as Json, json};

use super::{Hand, configured, context};
use crate::support::{append, overwrite, sorted};

fn name(table: &Value) -> &str {
    let Value::Table(text) = table else { panic!("{table:?}") };
    text.rsplit_once('@').unwrap().1
}

#[tokio::test]
async fn a_source_that_has_not_changed_gives_the_same_table_and_one_that_has_another() {
    let hand = Hand::new();
    hand.bench.file("a.csv", "k,v\n1,NA\n2,x\n");
    let ingest = ("ingest", json!({"files": ["a.csv"], "nulls": ["NA"], "columns": {"k": "float"}}));
    assert!(!hand.cached("ingest", &ingest.1));
    let first = hand.run(ingest.clone(), ("in", "e1"), &[]).await;
    assert_eq!(hand.rows(&first).await, [r#"{"k":1.0,"v":null}"#, r#"{"k":2.0,"v":"x"}"#]);
    assert_eq!(first, hand.run(ingest.clone(), ("in", "e2"), &[]).await);
    assert_eq!(hand.versions("staging.p.in").await, 1);
    hand.bench.file("a.csv", "k,v\n1,y\n");
    let other = hand.run(ingest.clone(), ("in", "e3"), &[]).await;
    assert_ne!(first, other);
    // What crossed the boundary before stays what it was.
    assert_eq!(hand.rows(&first).await.len(), 2);
    let error = hand.fail(("ingest", json!({"files": ["none.csv"]})), ("in", "e4"), &[]).await;
    assert_eq!((error.code, error.message.contains("none.csv")), (Code::NotFound, true));
    hand.bench.file("bad.csv", "k\n1\nsecret\n");
    let wrong = json!({"files": ["bad.csv"], "columns": {"k": "int"}});
    let error = hand.fail(("ingest", wrong), ("in", "e5"), &[]).await;
    assert!(error.message.contains("bad.csv") && error.message.contains("line 3"), "{error}");
    assert!(
        !error.message.contains("secret") && hand.lines().contains("secret"),
        "{error}\n{}",
        hand.lines()
    );
    assert_eq!(hand.versions("staging.p.in").await, 2);
}

#[tokio::test]
async fn files_are_a_name_or_a_list_also_when_a_parameter_is_one() {
    let hand = Hand::new();
    hand.bench.file("a.csv", "k\n1\n");
    hand.bench.file("b.csv", "k\n2\n");
    for (effect, files) in [
        ("e1", json!(["a.csv", "b.csv"])),
        // What is filled in stands in the place of what it is filled into.
        ("e2", json!([["a.csv", "b.csv"]])),
        ("e3", json!([["a.csv"], "b.csv"])),
    ] {
        let table = hand.run(("ingest", json!({"files": files})), ("in", effect), &[]).await;
        assert_eq!(hand.rows(&table).await, [r#"{"k":1}"#, r#"{"k":2}"#], "{files}");
    }
    let one = hand.run(("ingest", json!({"files": "a.csv"})), ("in", "e4"), &[]).await;
    assert_eq!(hand.rows(&one).await, [r#"{"k":1}"#]);
    assert!(hand.build("ingest", &json!({"files": "{{ params.files }}"})).is_ok());
    for (files, says) in [
        (json!(3), "and not 3"),
        (json!(["a.csv", 3]), "and not 3"),
        (json!({"a": 1}), "and not {"),
        (json!([]), "names no file"),
    ] {
        let problem = &hand.problems("ingest", &json!({"files": files}))[0];
        assert!(problem.message.contains("`files`") && problem.message.contains(says), "{problem:?}");
    }
}

#[tokio::test]
async fn a_configured_dataset_is_read_as_what_it_is_already() {
    let hand = Hand::new();
    let source = hand.bench.source("b.csv", "k,v\n1,\n2,\n");
    hand.configure("x", configured(How::Append), source);
    append(&hand.bench.dataset("x"), &hand.bench.source("a.csv", "k,v\n1,2.5\n")).await.unwrap();
    let table = hand.run(("ingest", json!({"dataset": "x"})), ("in", "e1"), &[]).await;
    let done = hand.run(("commit", json!({"dataset": "x"})), ("out", "e2"), &[("table", &table)]).await;
    assert_eq!(hand.rows(&done).await.len(), 3, "a column of which nothing is known is no other column");
    let problem = &hand.problems("ingest", &json!({"dataset": "y"}))[0];
    assert_eq!((problem.pointer.as_str(), problem.message.contains("`y`")), ("/dataset", true));
    assert_eq!(hand.problems("ingest", &json!({})).len(), 1);
    assert_eq!(
        hand.problems("ingest", &json!({"files": ["a"], "encoding": "x", "columns": {"a": "b"}})).len(),
        2
    );
}

#[tokio::test]
async fn a_query_has_inputs_and_pinned_datasets_and_its_result_is_named_by_content() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    hand.configure("x", configured(How::Append), Source::default());
    append(&x, &hand.bench.source("x.csv", "k,v\n1,a\n2,b\n")).await.unwrap();
    hand.bench.file("t.csv", "k\n2\n3\n");
    let t = hand.run(("ingest", json!({"files": ["t.csv"]})), ("t", "e0"), &[]).await;
    let query =
        json!({"query": "select t.k, x.v, $n as n from t left join x on x.k = t.k", "values": {"n": 7}});
    assert!(!hand.cached("sql", &query), "it reads the newest of a dataset");
    assert!(hand.cached("sql", &json!({"query": "select k from t"})));
    assert!(hand.cached("sql", &json!({"query": "select k from \"x@1\""})));
    assert!(!hand.cached("sql", &json!({"query": "select k from \"x@july\""})), "a tag moves");
    let first = hand.run(("sql", query.clone()), ("q", "e1"), &[("t", &t)]).await;
    let rows = [r#"{"k":2,"v":"b","n":7}"#, r#"{"k":3,"v":null,"n":7}"#];
    assert_eq!(hand.rows(&first).await, rows);
    let made = hand.bench.dataset("staging.p.q").log(Some(1)).await.unwrap().remove(0);
    assert_eq!(made.source.as_deref(), Some("a query of staging.p.t@0, x@0"));
    assert_eq!(made.effect.as_deref(), Some("e1"));
    // Another order of the rows, in another run: the same table.
    let again = json!({"query": "select t.k, x.v, 7 as n from t left join x on x.k = t.k order by t.k desc"});
    assert_eq!(first, hand.run(("sql", again), ("q", "e2"), &[("t", &t)]).await);
    append(&x, &hand.bench.source("y.csv", "k,v\n3,c\n")).await.unwrap();
    let other = hand.run(("sql", query), ("q", "e3"), &[("t", &t)]).await;
    assert_ne!(first, other);
    assert_eq!(hand.rows(&first).await, rows);
    let pinned = json!({"query": "select count(*) as n from \"x@0\""});
    assert_eq!(hand.rows(&hand.run(("sql", pinned), ("q", "e4"), &[]).await).await, [r#"{"n":2}"#]);
    let error =
        hand.fail(("sql", json!({"query": "select nothing from t"})), ("q", "e5"), &[("t", &t)]).await;
    assert!(error.message.contains("nothing") && error.code == Code::InvalidRequest, "{error}");
    let error = hand.fail(("sql", json!({"query": "select count(*) from x"})), ("q", "e6"), &[]).await;
    assert!(error.message.contains("as total"), "{error}");
}

#[test]
fn a_query_that_cannot_be_read_is_refused_with_its_place_before_anything_runs() {
    let hand = Hand::new();
    hand.configure("x", configured(How::Append), Source::default());
    hand.bench.file("q.sql", "select *\nfrom x where ) = 1");
    let problem = &hand.problems("sql", &json!({"file": "q.sql"}))[0];
    assert!(problem.message.starts_with("q.sql: ") && problem.message.contains("Line: 2"), "{problem:?}");
    assert_eq!(problem.pointer, "/file");
    assert_eq!(hand.problems("sql", &json!({"query": "drop table x"}))[0].pointer, "/query");
    assert_eq!(hand.problems("sql", &json!({"file": "none.sql"}))[0].pointer, "/file");
    assert_eq!(hand.problems("sql", &json!({})).len(), 1);
    assert_eq!(
        hand.problems("sql", &json!({"query": "select 1 as a", "how": "merge", "key": ["a"]}))[0].pointer,
        "/how"
    );
    assert_eq!(
        hand.problems("sql", &json!({"query": "select 1 as a", "into": "x", "how": "merge"}))[0].pointer,
        "/how"
    );
    assert_eq!(
        hand.problems("sql", &json!({"query": "select a from b", "inputs": ["c"]}))[0].pointer,
        "/inputs"
    );
    // What is still to be filled in is no problem yet.
    let open =
        json!({"query": "select a from b where month = {{ params.month }}", "into": "{{ params.into }}"});
    let stage = hand.build("sql", &open).unwrap();
    assert_eq!(stage.signature().inputs.keys().collect::<Vec<_>>(), ["b"]);
}

const CHECKS: &str = r#"{"expectations": [
    {"name": "v is positive", "range": {"column": "v", "min": 0}},
    {"name": "k is known", "set": {"column": "k", "values": ["a", "b"]}},
    {"name": "there are rows", "volume": {"min": 2}}
]}"#;

async fn table(hand: &Hand, text: &str, effect: &str) -> Value {
    hand.bench.file("t.csv", text);
    hand.run(("ingest", json!({"files": ["t.csv"]})), ("t", effect), &[]).await
}

#[tokio::test]
async fn bad_rows_are_put_aside_with_reasons_and_the_others_are_given_on() {
    let hand = Hand::new();
    hand.bench.file("checks.json", CHECKS);
    let gate =
        json!({"expect": "checks.json", "dataset": "x", "bad_rows": "quarantine", "max_bad_share": 0.5});
    assert!(hand.cached("validate", &gate));
    let good = table(&hand, "k,v\na,1\nb,2\n", "e1").await;
    assert_eq!(good, hand.run(("validate", gate.clone()), ("v", "e2"), &[("table", &good)]).await);
    assert!(!hand.bench.dataset("staging.p.v").exists().await.unwrap(), "nothing was written anew");
    let some = table(&hand, "k,v\na,1\nb,2\nc,3\na,-4\n", "e3").await;
    let kept = hand.run(("validate", gate.clone()), ("v", "e4"), &[("table", &some)]).await;
    assert_eq!(name(&kept), name(&good), "equal data has an equal name");
    let x = hand.bench.dataset("x");
    let held = x.quarantine(None, 10).await.unwrap();
    let mut reasons: Vec<_> = held.iter().map(|q| q.reasons.join(",")).collect();
    reasons.sort();
    assert_eq!(reasons, ["k is known", "v is positive"]);
    // Tried again after it died: nothing is put aside twice.
    assert_eq!(kept, hand.run(("validate", gate.clone()), ("v", "e4"), &[("table", &some)]).await);
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 2);
    // Neither by another run of the same rows, which is told where they are.
    assert_eq!(kept, hand.run(("validate", gate.clone()), ("v", "e9"), &[("table", &some)]).await);
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 2);
    assert_eq!(hand.lines().matches(&format!("in quarantine of x: attempt {}", held[0].attempt)).count(), 3);
    let report = x.report(&held[0].attempt).await.unwrap().unwrap();
    assert_eq!((report.rows, report.passed, report.outcomes[0].rows_failed), (4, false, Some(1)));
    assert!(
        hand.lines().contains(&format!("x/_forebay/reports/{}.html", held[0].attempt)),
        "{}",
        hand.lines()
    );
    // Too many, and none that is good.
    let most = table(&hand, "k,v\na,1\nb,2\nc,3\nd,3\ne,3\n", "e5").await;
    let error = hand.fail(("validate", gate), ("v", "e6"), &[("table", &most)]).await;
    assert_eq!(error.code, Code::ExpectationsFailed);
    for part in ["1 of 3", "`k is known` (3 rows)", "3 of 5 rows", "forebay data quarantine list x"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 5);
    assert!(!x.exists().await.unwrap());
}

#[tokio::test]
async fn a_table_that_is_refused_is_put_aside_and_fails_the_stage() {
    let hand = Hand::new();
    hand.bench.file("checks.json", CHECKS);
    let gate = ("validate", json!({"expect": "checks.json", "dataset": "x"}));
    let some = table(&hand, "k,v\na,1\nb,-2\n", "e1").await;
    for _ in 0..2 {
        let error = hand.fail(gate.clone(), ("v", "e2"), &[("table", &some)]).await;
        assert!(
            error.code == Code::ExpectationsFailed && error.message.contains("`v is positive` (1 rows)"),
            "{error}"
        );
    }
    let few = table(&hand, "k,v\na,1\n", "e3").await;
    let error = hand.fail(gate, ("v", "e4"), &[("table", &few)]).await;
    assert!(error.message.contains("`there are rows`"), "{error}");
    let held = hand.bench.dataset("x").quarantine(None, 10).await.unwrap();
    assert_eq!(held.len(), 2, "one row, and what was wrong with a whole table");
    assert!(!hand.bench.dataset("staging.p.v").exists().await.unwrap());
    let history = json!({"expectations": [{"volume": {"history": {"versions": 3, "within": 0.5}}}]});
    hand.bench.file("history.json", history.to_string());
    assert!(!hand.cached("validate", &json!({"expect": "history.json"})), "it looks at versions before");
    append(&hand.bench.dataset("x"), &hand.bench.source("x.csv", "k,v\na,1\nb,2\na,3\nb,4\n")).await.unwrap();
    let error = hand
        .fail(
            ("validate", json!({"expect": "history.json", "dataset": "x"})),
            ("v", "e5"),
            &[("table", &few)],
        )
        .await;
    assert!(error.message.contains("volume"), "{error}");
    assert!(hand.problems("validate", &json!({"expect": "none.json"}))[0].pointer == "/expect");
    assert_eq!(hand.problems("validate", &json!({})).len(), 1);
}

#[tokio::test]
async fn a_dataset_with_expectations_takes_no_rows_that_break_them() {
    let hand = Hand::new();
    hand.bench.file("checks.json", CHECKS);
    let policy = Policy::Quarantine { max_share: 0.5 };
    let with = data::stages::Configured {
        expectations: Some("checks.json".into()),
        policy,
        ..configured(How::Append)
    };
    hand.configure("x", with, Source::default());
    let some = table(&hand, "k,v\na,1\nb,2\nc,3\n", "e1").await;
    let commit = json!({"dataset": "x", "tag": "july", "message": "monthly"});
    let made = hand.run(("commit", commit), ("c", "e2"), &[("table", &some)]).await;
    assert_eq!(hand.rows(&made).await.len(), 2);
    let x = hand.bench.dataset("x");
    let version = x.log(None).await.unwrap().remove(0);
    assert_eq!((version.message.as_deref(), version.tags), (Some("monthly"), vec!["july".to_owned()]));
    assert!(version.who.unwrap().starts_with("run_"));
    let bad = table(&hand, "k,v\nc,1\nd,2\na,3\n", "e3").await;
    let error = hand.fail(("commit", json!({"dataset": "x"})), ("c", "e4"), &[("table", &bad)]).await;
    assert_eq!((error.code, hand.versions("x").await), (Code::ExpectationsFailed, 1));
    let problem = hand.problems("sql", &json!({"query": "select 1 as k", "into": "x"})).remove(0);
    assert!(problem.pointer == "/into" && problem.message.contains("expectations"), "{problem:?}");
}

#[tokio::test]
async fn a_schema_that_changed_under_a_running_pipeline_is_told_and_the_version_is_as_it_was() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    append(&x, &hand.bench.source("a.csv", "k,v\n1,2\n")).await.unwrap();
    let rows = table(&hand, "k,v\n3,4\n", "e1").await;
    overwrite(&x, &hand.bench.source("b.csv", "k,v,w\na,2,true\n")).await.unwrap();
    let error = hand.fail(("commit", json!({"dataset": "x"})), ("c", "e2"), &[("table", &rows)]).await;
    assert_eq!(error.code, Code::InvalidRequest);
    for part in ["`k` is text there and int in the rows", "`w` is missing", "overwrite"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"k":"a","v":2,"w":true}"#]);
    let error = hand
        .fail(
            ("commit", json!({"dataset": "x", "how": "merge", "key": ["z"]})),
            ("c", "e3"),
            &[("table", &rows)],
        )
        .await;
    assert_eq!((error.code, hand.versions("x").await), (Code::InvalidRequest, 2));
}

#[tokio::test]
async fn a_training_set_has_what_was_known_then_and_no_label_that_came_after_the_cut() {
    let hand = Hand::new();
    let weather = "airport,hour,seen,temp\nJFK,2026-01-01T10:00:00Z,2026-01-01T10:05:00Z,1.0\n\
                   JFK,2026-01-01T12:00:00Z,2026-01-01T12:05:00Z,3.0\n";
    append(&hand.bench.dataset("weather"), &hand.bench.source("w.csv", weather)).await.unwrap();
    hand.view("hourly", json!({"dataset": "weather", "keys": ["airport"], "event_time": "hour", "ingest_time": "seen", "ttl_seconds": 7200, "features": ["temp"]}));
    let flights = "id,origin,at,delay,landed\n1,JFK,2026-01-01T11:00:00Z,5,2026-01-01T14:00:00Z\n\
                   2,JFK,2026-01-01T12:30:00Z,9,2026-01-01T18:00:00Z\n3,JFK,2026-01-02T12:30:00Z,7,\n";
    let entities = table(&hand, flights, "e1").await;
    let config = |late: &str| {
        json!({
            "views": {"weather_at_origin": {"view": "hourly", "keys": {"airport": "origin"}}},
            "as_of": "at", "cut": "2026-01-01T15:00:00Z",
            "label": {"columns": ["delay"], "known_at": "landed", "late": late},
        })
    };
    assert!(!hand.cached("features", &config("null")));
    let set = hand.run(("features", config("null")), ("f", "e2"), &[("entities", &entities)]).await;
    let rows = hand.rows(&set).await;
    let told: Vec<(Json, Json)> = rows
        .iter()
        .map(|row| serde_json::from_str::<Json>(row).unwrap())
        .map(|row| (row["temp"].clone(), row["delay"].clone()))
        .collect();
    assert_eq!(told, [(json!(1.0), json!(5)), (json!(3.0), Json::Null), (Json::Null, Json::Null)]);
    let dropped = hand.run(("features", config("drop")), ("f", "e3"), &[("entities", &entities)]).await;
    assert_eq!(hand.rows(&dropped).await.len(), 1);
    let made = hand.bench.dataset("staging.p.f").log(None).await.unwrap();
    assert_eq!(made[1].source.as_deref(), Some("features of staging.p.t@0, weather@0"));
    assert!(
        hand.lines().contains("weather_at_origin: of weather@0, 2 of 3 rows have it"),
        "{}",
        hand.lines()
    );
    let wrong = json!({"views": {"none": {}, "h": {"view": "hourly", "keys": {"port": "origin"}}}, "as_of": "at", "label": {"columns": ["a"], "known_at": "b"}});
    let pointers: Vec<_> = hand.problems("features", &wrong).into_iter().map(|p| p.pointer).collect();
    assert_eq!(pointers, ["/views/none", "/views/h/keys/port", "/label"]);
}

#[tokio::test]
async fn a_view_that_is_a_query_is_read_at_the_versions_that_are_told() {
    let hand = Hand::new();
    let dataset = hand.bench.dataset("weather");
    let weather =
        |temp| hand.bench.source("w.csv", format!("airport,hour,temp\nJFK,2026-01-01T10:00:00Z,{temp}\n"));
    overwrite(&dataset, &weather(1)).await.unwrap();
    let first = dataset.log(None).await.unwrap()[0].name.clone().unwrap();
    overwrite(&dataset, &weather(2)).await.unwrap();
    let sql = "select airport, hour, temp from weather";
    hand.view(
        "doubled",
        json!({"sql": sql, "keys": ["airport"], "event_time": "hour", "features": ["temp"]}),
    );
    let entities = table(&hand, "airport,at\nJFK,2026-01-01T11:00:00Z\n", "e1").await;
    for (at, version, temp) in [("0", 0, 1), ("", 1, 2)] {
        hand.made();
        let config = json!({"views": {"doubled": {"at": at}}, "as_of": "at"});
        let effect = format!("f{version}");
        let set = hand.run(("features", config), ("f", &effect), &[("entities", &entities)]).await;
        assert!(hand.rows(&set).await[0].contains(&format!(r#""temp":{temp}"#)));
        let made = hand.bench.dataset("staging.p.f").log(Some(1)).await.unwrap().remove(0);
        let told = format!("features of staging.p.t@0, weather@{version}");
        assert_eq!(made.source.as_deref(), Some(told.as_str()));
        let said = serde_json::to_string(&hand.made()).unwrap();
        assert_eq!(said.contains(first.as_str()), version == 0, "{said}");
    }
}

#[tokio::test]
async fn a_table_is_placed_as_a_file_and_what_no_run_keeps_is_collected() {
    let hand = Hand::new();
    let first = table(&hand, "k\n1\n", "e1").await;
    let second = table(&hand, "k\n2\n", "e2").await;
    let third = table(&hand, "k\n3\n", "e3").await;
    let Value::Table(text) = &first else { panic!() };
    let folder = tempfile::tempdir().unwrap();
    let file = place(&*hand.project, text, folder.path(), Format::Csv).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "k\n1\n");
    assert_eq!(file.file_name().unwrap(), "staging.p.t.csv");
    append(&hand.bench.dataset("x"), &hand.bench.source("x.csv", "k\n1\n")).await.unwrap();
    overwrite(&hand.bench.dataset("x"), &hand.bench.source("y.csv", "k\n2\n")).await.unwrap();
    hand.bench.clock.advance(Duration::from_secs(3600));
    let gc = Gc { older_than: Duration::ZERO, dry_run: false };
    let kept = [text.to_string(), format!("staging.p.t@{}", "0".repeat(64)), "x@1".to_owned()];
    let gone = collect(&hand.bench.warehouse, &kept, &gc).await.unwrap();
    assert_eq!(gone.len(), 1, "staging datasets alone: {gone:?}");
    assert_eq!((hand.rows(&first).await.len(), hand.rows(&third).await.len()), (1, 1));
    let read = hand
        .bench
        .dataset("staging.p.t")
        .read(&At::Name(name(&second).into()), &data::Select::default())
        .await;
    let read = match read {
        Ok(rows) => rows.all().await.map(|_| ()),
        Err(e) => Err(e),
    };
    assert!(read.is_err(), "its file is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_placed_in_one_order_for_a_version() {
    let hand = Hand::new();
    let folder = tempfile::tempdir().unwrap();
    let placed = async |table: &Value| {
        let Value::Table(text) = table else { panic!() };
        let file = place(&*hand.project, text, folder.path(), Format::Csv).await.unwrap();
        std::fs::read_to_string(file).unwrap()
    };
    // One file: as the rows came, over many batches.
    let own: String = (0..20_000).rev().map(|k| format!("{k},x\n")).collect();
    let own = format!("k,v\n{own}");
    assert!(placed(&table(&hand, &own, "own").await).await == own);
    // Several: sorted.
    let mut last = None;
    for i in 0..6 {
        let rows = table(&hand, &format!("k,v\n{},b\n5,{i}\n,a\n", 9 - i), &format!("t{i}")).await;
        let commit = ("commit", json!({"dataset": "x"}));
        last = Some(hand.run(commit, ("c", &format!("c{i}")), &[("table", &rows)]).await);
    }
    let text = placed(&last.unwrap()).await;
    let nulls = ",a\n".repeat(6);
    let middle = "4,b\n5,0\n5,1\n5,2\n5,3\n5,4\n5,5\n5,b\n6,b\n7,b\n8,b\n9,b\n";
    assert_eq!(text, format!("k,v\n{nulls}{middle}"));
}

#[tokio::test]
async fn without_a_durable_run_a_stage_says_that_it_needs_one() {
    let hand = Hand::new();
    let stage = hand.build("ingest", &json!({"files": ["a.csv"]})).unwrap();
    let Outcome::Failed(error) = stage.run(&context(&hand.bench), contract::Inputs::new()).await else {
        panic!()
    };
    assert!(error.code == Code::InvalidRequest && error.message.contains("durable run"), "{error}");
    let error = hand
        .fail(("commit", json!({"dataset": "x"})), ("c", "e"), &[("table", &Value::Table("x@1".into()))])
        .await;
    assert!(error.message.contains("names no table"), "{error}");
}

#[tokio::test]
async fn rows_are_joined_and_merged_by_instants() {
    let hand = Hand::new();
    let first = table(&hand, "at,v\n2026-01-01T10:00:00Z,1\n2026-01-01T11:00:00Z,2\n", "e1").await;
    let merge = json!({"dataset": "x", "how": "merge", "key": ["at"]});
    hand.run(("commit", merge.clone()), ("c", "e2"), &[("table", &first)]).await;
    let second = table(&hand, "at,v\n2026-01-01T11:00:00Z,3\n2026-01-01T12:00:00Z,4\n", "e3").await;
    let merged = hand.run(("commit", merge), ("c", "e4"), &[("table", &second)]).await;
    let values: Vec<Json> = hand
        .rows(&merged)
        .await
        .iter()
        .map(|row| serde_json::from_str::<Json>(row).unwrap()["v"].clone())
        .collect();
    assert_eq!(values, [1, 3, 4]);
    let query = json!({"query": "select a.v as a, b.v as b from a join b on a.at = b.at"});
    let joined = hand.run(("sql", query), ("q", "e5"), &[("a", &first), ("b", &second)]).await;
    assert_eq!(hand.rows(&joined).await, [r#"{"a":2,"b":3}"#]);
}
