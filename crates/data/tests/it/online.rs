//! Online features as their users know them: what was materialised and pushed, asked for at any time and after any restart.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use contract::{Clock as _, UnixMillis};
use data::features::online::{Ask, Columns, Given, Mode, Online, Status, To, Value};
use data::features::{Entities, FeatureView, FeatureViewConfig, NaiveTimes};
use data::{ColumnType, Error, Source};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::support::{Bench, START, append, overwrite};

/// A row of the dataset; times in seconds from the start.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: i64,
    event: i64,
    ingest: i64,
    x: Option<i64>,
}

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<Row>),
    Overwrite(Vec<Row>),
    Push(Vec<Row>),
    Materialize,
    Restart,
    Advance(u64),
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    has_ingest: bool,
    ttl: Option<u64>,
}

fn config(asked: Asked) -> FeatureViewConfig {
    FeatureViewConfig {
        dataset: "events".into(),
        sql: None,
        keys: vec!["k".into()],
        event_time: "event".into(),
        ingest_time: asked.has_ingest.then(|| "ingest".into()),
        ttl_seconds: asked.ttl,
        features: vec!["x".into(), "name".into()],
        naive_times: NaiveTimes::Refuse,
    }
}

fn view(asked: Asked) -> FeatureView {
    FeatureView::new("latest", config(asked)).unwrap()
}

fn moment(second: i64) -> String {
    let at = START / 1000 + second;
    chrono_text(at)
}

/// 2026-01-01 and the days around it.
fn chrono_text(seconds: i64) -> String {
    let day = (seconds - START / 1000).div_euclid(86_400);
    let rest = (seconds - START / 1000).rem_euclid(86_400);
    let date = if day < 0 { "2025-12-31".to_owned() } else { format!("2026-01-{:02}", day + 1) };
    format!("{date}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn name(x: Option<i64>) -> String {
    format!("n{}", x.unwrap_or(9))
}

fn source(bench: &Bench, rows: &[Row]) -> Source {
    let mut text = "k,event,ingest,x,name\n".to_owned();
    for row in rows {
        let x = row.x.map(|x| x.to_string()).unwrap_or_default();
        text += &format!("{},{},{},{x},{}\n", row.key, moment(row.event), moment(row.ingest), name(row.x));
    }
    let mut source = bench.source("rows.csv", text);
    let types = [("k", ColumnType::Int), ("event", ColumnType::Timestamp), ("ingest", ColumnType::Timestamp)];
    source.types = types.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
    source.types.insert("x".into(), ColumnType::Int);
    source.types.insert("name".into(), ColumnType::Text);
    source
}

fn columns(rows: &[Row]) -> Columns {
    let column = |name: &str, of: &dyn Fn(&Row) -> Json| (name.to_owned(), rows.iter().map(of).collect());
    vec![
        column("k", &|r| json!(r.key)),
        column("event", &|r| json!(moment(r.event))),
        column("ingest", &|r| json!(moment(r.ingest))),
        column("x", &|r| json!(r.x)),
        column("name", &|r| json!(name(r.x))),
    ]
}

const KEYS: [i64; 3] = [0, 1, 2];

fn answer(online: &Online) -> Vec<(Status, Value, Option<i64>)> {
    let features = [("latest".to_owned(), "x".to_owned()), ("latest".to_owned(), "name".to_owned())];
    let entities: Columns = vec![("k".into(), KEYS.iter().map(|k| json!(k)).collect())];
    let columns = online.get(&Ask { features: &features, entities: &entities }).unwrap();
    let [x, name] = columns.as_slice() else { panic!("two features were asked for") };
    for (x, name) in x.values.iter().zip(&name.values) {
        if let (Value::Int(x), Value::Text(name)) = (x, name) {
            assert_eq!(&**name, format!("n{x}"), "both features are of one row");
        }
    }
    let rows = x.statuses.iter().zip(&x.values).zip(x.events.iter());
    rows.map(|((status, value), event)| (*status, value.clone(), *event)).collect()
}

/// The definition, word for word.
fn naive(rows: &[Row], now: i64, asked: Asked) -> Vec<(Status, Value, Option<i64>)> {
    let of_key = |key: &i64| {
        let mut known: Vec<&Row> = rows
            .iter()
            .filter(|row| row.key == *key && row.event <= now && (!asked.has_ingest || row.ingest <= now))
            .collect();
        known.sort_by_key(|row| (row.event, if asked.has_ingest { row.ingest } else { 0 }, row.x));
        let Some(row) = known.last() else { return (Status::NotFound, Value::Null, None) };
        let event = Some(START * 1000 + row.event * 1_000_000);
        match row.x {
            _ if asked.ttl.is_some_and(|ttl| now - row.event > ttl.cast_signed()) => {
                (Status::OutsideMaxAge, Value::Null, event)
            }
            None => (Status::Null, Value::Null, event),
            Some(x) => (Status::Present, Value::Int(x), event),
        }
    };
    KEYS.iter().map(of_key).collect()
}

fn known(rows: &[Row], now: i64, asked: Asked) -> Vec<Row> {
    rows.iter().filter(|r| r.event <= now && (!asked.has_ingest || r.ingest <= now)).cloned().collect()
}

/// Plays the operations; where pushes go `to` both, the datasets know everything in the end.
async fn play(ops: &[Op], asked: Asked, to: To) -> Result<(), TestCaseError> {
    let bench = Bench::new();
    let dataset = bench.dataset("events");
    let first = [Row { key: 0, event: -5, ingest: -5, x: Some(1) }];
    append(&dataset, &source(&bench, &first)).await.unwrap();
    let folder = bench.folder.path().join("features");
    let open = || Online::open(&bench.warehouse, &folder, vec![view(asked)], Mode::Write);
    let mut online = open().await.unwrap();
    let (mut held, mut taken, mut pushed) = (first.to_vec(), Vec::new(), Vec::new());
    let now = || (bench.clock.wall().0 - START) / 1000;
    for op in ops {
        match op {
            Op::Append(rows) => {
                append(&dataset, &source(&bench, rows)).await.unwrap();
                held.extend(rows.iter().cloned());
            }
            Op::Overwrite(rows) => {
                overwrite(&dataset, &source(&bench, rows)).await.unwrap();
                held.clone_from(rows);
            }
            Op::Push(rows) => {
                online.push("latest", columns(rows), to).await.unwrap();
                pushed.extend(rows.iter().cloned());
                if to == To::Both {
                    held.extend(rows.iter().cloned());
                }
            }
            Op::Materialize => {
                online.materialize(&[], None).await.unwrap();
                taken = known(&held, now(), asked);
            }
            Op::Restart => {
                drop(online);
                online = open().await.unwrap();
            }
            Op::Advance(seconds) => bench.clock.advance(std::time::Duration::from_secs(*seconds)),
        }
        let all: Vec<Row> = taken.iter().chain(&pushed).cloned().collect();
        prop_assert_eq!(answer(&online), naive(&all, now(), asked), "after {:?}", op);
        let there = answer(&online).iter().filter(|(status, ..)| *status != Status::NotFound).count();
        prop_assert_eq!(online.states()[0].entities, there as u64, "after {:?}", op);
    }
    if to == To::Both && !ops.iter().any(|op| matches!(op, Op::Overwrite(_))) {
        online.materialize(&[], None).await.unwrap();
        let keys = bench.source("keys.csv", "k\n0\n1\n2\n7\n");
        for given in [Given::Rows(Entities::Source(keys)), Given::Online(10)] {
            let parity = online.parity("latest", &given, 10).await.unwrap();
            prop_assert_eq!(parity.differing, 0, "{:?}", parity);
            prop_assert!(parity.entities >= 1 && parity.values == 2 * parity.entities);
        }
    }
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0i64..3, -6i64..8, -6i64..8, proptest::option::of(0i64..3))
        .prop_map(|(key, event, ingest, x)| Row { key, event, ingest, x });
    proptest::collection::vec(row, 1..5)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => rows().prop_map(Op::Append),
        1 => rows().prop_map(Op::Overwrite),
        3 => rows().prop_map(Op::Push),
        4 => Just(Op::Materialize),
        2 => Just(Op::Restart),
        2 => (1u64..4).prop_map(Op::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn after_any_pushes_materialisations_and_restarts_each_entity_has_its_newest_known_row(
        ops in proptest::collection::vec(op(), 1..12),
        has_ingest in any::<bool>(),
        ttl in proptest::option::of(0u64..8),
        both in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let to = if both { To::Both } else { To::Online };
        runtime.block_on(Box::pin(play(&ops, Asked { has_ingest, ttl }, to)))?;
    }
}

const PLAIN: Asked = Asked { has_ingest: false, ttl: None };

fn row(key: i64, event: i64, x: i64) -> Row {
    Row { key, event, ingest: event, x: Some(x) }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_added_is_read_again() {
    let bench = Bench::new();
    let dataset = bench.dataset("events");
    append(&dataset, &source(&bench, &[row(0, -5, 1), row(1, -5, 1)])).await.unwrap();
    let folder = bench.folder.path().join("features");
    let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
    let first = online.materialize(&[], None).await.unwrap().remove(0);
    assert_eq!((first.read, first.entities, first.whole), (2, 2, true));
    append(&dataset, &source(&bench, &[row(1, -4, 2), row(0, 3, 7)])).await.unwrap();
    let second = online.materialize(&[], None).await.unwrap().remove(0);
    assert_eq!((second.read, second.entities, second.whole), (2, 1, false));
    let none = online.materialize(&[], None).await.unwrap().remove(0);
    assert_eq!((none.read, none.whole), (0, false));
    // The row of a time that had not come is found when it has.
    bench.clock.advance(std::time::Duration::from_secs(3));
    assert_eq!(online.materialize(&[], None).await.unwrap().remove(0).read, 4);
    assert_eq!(answer(&online)[0].1, Value::Int(7));
    let state = online.states().remove(0);
    assert_eq!((state.entities, state.newest_event), (2, Some(UnixMillis(START + 3000))));
    assert_eq!(state.materialized, Some(UnixMillis(START + 3000)));
    // Many small additions are put together, and survive.
    for i in 0..12 {
        append(&dataset, &source(&bench, &[row(2, -4, i)])).await.unwrap();
        online.materialize(&[], None).await.unwrap();
    }
    let before = answer(&online);
    drop(online);
    let files = std::fs::read_dir(folder.join("latest")).unwrap().count();
    assert!(files < 12, "{files} files");
    let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
    assert_eq!(answer(&online), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_columns_change_keeps_what_was_pushed() {
    let bench = Bench::new();
    let dataset = bench.dataset("events");
    append(&dataset, &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    let folder = bench.folder.path().join("features");
    let fewer = FeatureViewConfig { features: vec!["x".into()], ..config(PLAIN) };
    let fewer = FeatureView::new("latest", fewer).unwrap();
    let online = Online::open(&bench.warehouse, &folder, vec![fewer], Mode::Write).await.unwrap();
    online.push("latest", columns(&[row(1, -2, 5)]), To::Online).await.unwrap();
    drop(online);
    for _ in 0..2 {
        let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
        assert_eq!(answer(&online)[1].1, Value::Int(5));
        assert_eq!(online.states()[0].materialized, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_writes_and_others_read_beside_it() {
    let bench = Bench::new();
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    let folder = bench.folder.path().join("features");
    let open = |mode| Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], mode);
    let online = open(Mode::Write).await.unwrap();
    online.push("latest", columns(&[row(1, -2, 5)]), To::Online).await.unwrap();
    assert!(matches!(open(Mode::Write).await, Err(Error::Locked { .. })));
    let reader = open(Mode::Read).await.unwrap();
    assert_eq!(answer(&reader), answer(&online));
    assert!(reader.push("latest", columns(&[row(1, -1, 6)]), To::Online).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_the_views_are_refused_whole() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("features");
    let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
    // Nobody knows its columns yet.
    assert!(matches!(
        online.push("latest", columns(&[row(1, -2, 5)]), To::Online).await,
        Err(Error::NoDataset { .. })
    ));
    assert_eq!(answer(&online)[0].0, Status::NotFound);
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    online.push("latest", columns(&[row(1, -2, 5)]), To::Online).await.unwrap();
    let without =
        |name: &str| columns(&[row(1, -1, 6)]).into_iter().filter(|(n, _)| n != name).collect::<Columns>();
    let with = |name: &str, value: Json| {
        let mut all = columns(&[row(1, -1, 6), row(2, -1, 6)]);
        all.iter_mut().find(|(n, _)| n == name).unwrap().1[1] = value;
        all
    };
    let mut ragged = columns(&[row(1, -1, 6), row(2, -1, 6)]);
    ragged[0].1.pop();
    let bad = [
        without("k"),
        without("event"),
        without("x"),
        with("x", json!("six")),
        with("event", Json::Null),
        with("event", json!("yesterday")),
        with("k", Json::Null),
        with("x", json!(1.5)),
        ragged,
    ];
    for rows in bad {
        let said = format!("{rows:?}");
        let refused = online.push("latest", rows, To::Both).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{said}: {refused:?}");
    }
    assert!(matches!(online.push("other", without("k"), To::Online).await, Err(Error::NoView { .. })));
    assert_eq!(answer(&online)[1].1, Value::Int(5));
    assert_eq!(answer(&online)[2].0, Status::NotFound);
    assert_eq!(bench.dataset("events").log(None).await.unwrap().len(), 1);
    // As data frames send them: whole numbers as floats, times without a zone, Feast's own names.
    let frame: Columns = vec![
        ("k".into(), vec![json!(2)]),
        ("event_timestamp".into(), vec![json!("2025-12-31T23:59:59.5")]),
        ("created".into(), vec![Json::Null]),
        ("x".into(), vec![json!(8.0)]),
        ("name".into(), vec![Json::Null]),
    ];
    online.push("latest", frame, To::Online).await.unwrap();
    assert_eq!(answer(&online)[2], (Status::Present, Value::Int(8), Some(START * 1000 - 500_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_may_be_a_query_over_datasets() {
    let bench = Bench::new();
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1), row(0, -5, 4), row(1, -4, 2)]))
        .await
        .unwrap();
    append(&bench.dataset("weights"), &bench.source("w.csv", "k,w\n0,10\n1,100\n")).await.unwrap();
    let sql = "SELECT e.k, e.event, sum(e.x * w.w) AS x, max(e.name) AS name FROM events e JOIN weights w ON e.k = w.k \
               GROUP BY e.k, e.event";
    let config = FeatureViewConfig { dataset: String::new(), sql: Some(sql.into()), ..config(PLAIN) };
    let view = FeatureView::new("sums", config).unwrap();
    let folder = bench.folder.path().join("features");
    let online = Online::open(&bench.warehouse, &folder, vec![view], Mode::Write).await.unwrap();
    let done = online.materialize(&[], None).await.unwrap().remove(0);
    assert_eq!(done.versions, [("events".to_owned(), 0), ("weights".to_owned(), 0)]);
    let features = [("sums".to_owned(), "x".to_owned())];
    let entities: Columns = vec![("k".into(), vec![json!(0), json!(1), json!(2)])];
    let get = || online.get(&Ask { features: &features, entities: &entities }).unwrap().remove(0).values;
    assert_eq!(get(), [Value::Int(50), Value::Int(200), Value::Null]);
    append(&bench.dataset("weights"), &bench.source("w.csv", "k,w\n2,7\n")).await.unwrap();
    append(&bench.dataset("events"), &source(&bench, &[row(2, -3, 3)])).await.unwrap();
    online.materialize(&["sums".into()], None).await.unwrap();
    assert_eq!(get(), [Value::Int(50), Value::Int(200), Value::Int(21)]);
    assert_eq!(online.parity("sums", &Given::Online(10), 5).await.unwrap().differing, 0);
    assert!(online.push("sums", columns(&[row(1, -1, 6)]), To::Both).await.is_err());
    for sql in ["DROP TABLE events", "SELECT 1", "SELECT * FROM nothing.events", "SELEC"] {
        let config =
            FeatureViewConfig { sql: Some(sql.into()), dataset: String::new(), ..self::config(PLAIN) };
        let view = FeatureView::new("bad", config).unwrap();
        let folder = bench.folder.path().join("other");
        let online = Online::open(&bench.warehouse, &folder, vec![view], Mode::Read).await.unwrap();
        assert!(online.materialize(&[], None).await.is_err(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_told_with_both_values() {
    let bench = Bench::new();
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    let folder = bench.folder.path().join("features");
    let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
    online.materialize(&[], None).await.unwrap();
    online.push("latest", columns(&[row(0, -1, 2)]), To::Online).await.unwrap();
    let parity = online.parity("latest", &Given::Online(10), 1).await.unwrap();
    assert_eq!((parity.differing, parity.differences.len()), (4, 1));
    let one = &parity.differences[0];
    assert_eq!((&one.online, &one.offline), (&Value::Int(2), &Value::Int(1)));
    assert_eq!(json!(one.keys), json!({"k": 0}));
}

/// Pushes one row after the other and says which were acknowledged. Only as a child.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of `what_was_pushed_survives_kill_9`"]
async fn child_that_pushes() {
    let Some(folder) = std::env::var_os("FOREBAY_TEST_FOLDER").map(PathBuf::from) else { return };
    let clock = std::sync::Arc::new(contract::SystemClock::default());
    let root = folder.join("warehouse");
    let warehouse = data::Warehouse::open(root.to_str().unwrap(), clock, data::Settings::default()).unwrap();
    let online =
        Online::open(&warehouse, &folder.join("features"), vec![view(PLAIN)], Mode::Write).await.unwrap();
    for i in 0.. {
        let row = Row { key: i % 3, event: i / 3, ingest: 0, x: Some(i) };
        online.push("latest", columns(&[row]), To::Online).await.unwrap();
        println!("pushed {i}");
        if i % 40 == 39 {
            online.materialize(&[], None).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_survives_kill_9() {
    let bench = Bench::new();
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    // The child's clock is the machine's: all rows lie behind it.
    let folder = bench.folder.path().join("features");
    let mut acknowledged = -1;
    let mut held: BTreeMap<i64, i64> = BTreeMap::new();
    for kill_after in [30, 75, 50] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "online::child_that_pushes", "--nocapture"])
            .env("FOREBAY_TEST_FOLDER", bench.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let Some((_, number)) = line.split_once("pushed ") else { continue };
            acknowledged = number.trim().parse::<i64>().unwrap();
            held.insert(acknowledged % 3, acknowledged);
            seen += 1;
            if seen == kill_after {
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        bench.clock.advance(std::time::Duration::from_secs(3600));
        let online = Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write).await.unwrap();
        for (key, (status, value, _)) in answer(&online).into_iter().enumerate() {
            let at_least = held[&i64::try_from(key).unwrap()];
            // A push under way when it was killed may be there too.
            let Value::Int(found) = value else { panic!("{status:?}") };
            assert!(
                found == at_least || found > acknowledged,
                "{key}: {found}, and {at_least} was acknowledged"
            );
        }
        drop(online);
        held.clear();
        // The next child begins anew, above these times.
        std::fs::remove_dir_all(&folder).unwrap();
    }
    assert!(acknowledged >= 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_costs_the_push_that_was_under_way() {
    let bench = Bench::new();
    append(&bench.dataset("events"), &source(&bench, &[row(0, -5, 1)])).await.unwrap();
    let folder = bench.folder.path().join("features");
    let open = || Online::open(&bench.warehouse, &folder, vec![view(PLAIN)], Mode::Write);
    let online = open().await.unwrap();
    online.push("latest", columns(&[row(0, -3, 3)]), To::Online).await.unwrap();
    online.push("latest", columns(&[row(1, -2, 5)]), To::Online).await.unwrap();
    drop(online);
    let journal = folder.join("latest/journal");
    let last = std::fs::read_dir(&journal).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    for cut in [1, 20, 60] {
        std::fs::write(&last, &bytes[..bytes.len() - cut]).unwrap();
        let online = open().await.unwrap();
        assert_eq!(answer(&online)[0].1, Value::Int(3));
        assert_eq!(answer(&online)[1].0, Status::NotFound);
    }
}
