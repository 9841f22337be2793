//! Training sets as their users make them: datasets and files in, rows out.

use std::collections::BTreeMap;

use contract::UnixMillis;
use data::features::{
    AsOf, Entities, FeatureView, FeatureViewConfig, NaiveTimes, TrainingSet, TrainingSetSpec, Use,
};
use data::{At, Error, Format, Source};
use serde_json::{Value, json};

use crate::support::{Bench, append, overwrite};

fn weather() -> FeatureViewConfig {
    FeatureViewConfig {
        dataset: "weather".into(),
        sql: None,
        keys: vec!["airport".into()],
        event_time: "hour".into(),
        ingest_time: Some("received".into()),
        ttl_seconds: Some(3600),
        features: vec!["temp".into(), "wind".into()],
        naive_times: NaiveTimes::Refuse,
    }
}

fn view(name: &str, config: FeatureViewConfig) -> FeatureView {
    FeatureView::new(name, config).unwrap()
}

fn spec(entities: Source, views: Vec<Use>) -> TrainingSetSpec {
    TrainingSetSpec {
        entities: Entities::Source(entities),
        time: "at".into(),
        views,
        cut: None,
        as_of: AsOf::Cut,
    }
}

const WEATHER: &str = "airport,hour,received,temp,wind\n\
    JFK,2026-01-01T10:00:00Z,2026-01-01T10:05:00Z,10.5,3\n\
    JFK,2026-01-01T11:00:00Z,2026-01-01T13:00:00Z,11.5,4\n\
    JFK,2026-01-01T11:00:00Z,2026-01-01T11:05:00Z,11.0,5\n\
    EWR,2026-01-01T10:00:00Z,2026-01-01T10:05:00Z,9.0,\n\
    ,2026-01-01T10:00:00Z,2026-01-01T10:05:00Z,99.0,99\n";

const FLIGHTS: &str = "flight,airport,at\n\
    1,JFK,2026-01-01T11:30:00Z\n\
    2,JFK,2026-01-01T05:30:00-05:00\n\
    3,JFK,2026-01-01T12:00:00Z\n\
    4,JFK,2026-01-01T12:00:00.000001Z\n\
    5,EWR,2026-01-01T10:00:00Z\n\
    6,EWR,2026-01-01T09:59:59Z\n\
    7,LGA,2026-01-01T11:30:00Z\n\
    8,,2026-01-01T10:30:00Z\n\
    9,JFK,\n";

async fn temps(set: TrainingSet) -> Vec<Value> {
    set.rows.all().await.unwrap().into_iter().map(|mut row| row.remove("temp").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_gets_what_was_known_at_its_time() {
    let bench = Bench::new();
    append(&bench.dataset("weather"), &bench.source("weather.csv", WEATHER)).await.unwrap();
    let flights = bench.source("flights.csv", FLIGHTS);
    let mut spec = spec(flights, vec![Use::of(view("weather", weather()))]);

    let set = bench.warehouse.training_set(&spec).await.unwrap();
    assert_eq!((set.count, set.views[0].versions[0].1, set.views[0].matched), (9, 0, 4));
    let names: Vec<_> = set.rows.schema().names().map(str::to_owned).collect();
    assert_eq!(names, ["flight", "airport", "at", "temp", "wind"]);
    // The correction that came at 13:00 counts; the hour is valid until 12:00 and not a microsecond longer.
    let all = [json!(11.5), json!(10.5), json!(11.5), Value::Null, json!(9.0)];
    assert_eq!(temps(set).await[..5], all);

    // Before the correction came, nobody knew of it.
    spec.cut = Some(UnixMillis("2026-01-01T12:59:59Z".parse::<At>().map(millis).unwrap()));
    let set = bench.warehouse.training_set(&spec).await.unwrap();
    let cut = [json!(11.0), json!(10.5), json!(11.0), Value::Null, json!(9.0)];
    assert_eq!(temps(set).await[..5], cut);

    // At its own time a flight sees what had come by then: at 10:00 the row of 10:00 had not.
    (spec.cut, spec.as_of) = (None, AsOf::Event);
    let set = bench.warehouse.training_set(&spec).await.unwrap();
    let seen = [json!(11.0), json!(10.5), json!(11.0), Value::Null, Value::Null];
    let temps = temps(set).await;
    assert_eq!(temps[..5], seen);
    assert!(temps[5..].iter().all(Value::is_null), "{temps:?}");
}

fn millis(at: At) -> i64 {
    match at {
        At::Time(at) => at.0,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_can_be_used_twice_and_an_old_version_of_it() {
    let bench = Bench::new();
    append(&bench.dataset("weather"), &bench.source("weather.csv", WEATHER)).await.unwrap();
    overwrite(&bench.dataset("weather"), &bench.source("other.csv", WEATHER.replace(",9.0,", ",-1.0,")))
        .await
        .unwrap();
    let flights = "flight,from,to,at\n1,JFK,EWR,2026-01-01T10:30:00Z\n";
    let by = |alias: &str, at| Use {
        alias: Some(alias.into()),
        at,
        keys: BTreeMap::from([("airport".into(), alias.into())]),
        ..Use::of(view("weather", weather()))
    };
    let spec =
        spec(bench.source("flights.csv", flights), vec![by("from", At::Newest), by("to", At::Version(0))]);
    let set = bench.warehouse.training_set(&spec).await.unwrap();
    assert_eq!((set.views[0].versions[0].1, set.views[1].versions[0].1), (1, 0));
    let rows = set.rows.all().await.unwrap();
    let expected = json!({
        "flight": 1, "from": "JFK", "to": "EWR", "at": "2026-01-01T10:30:00Z",
        "from__temp": 10.5, "from__wind": 3, "to__temp": 9.0, "to__wind": null,
    });
    assert_eq!(rows, [expected.as_object().unwrap().clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_is_a_dataset_as_any_other_and_keeps_the_order_of_its_file() {
    let bench = Bench::new();
    append(&bench.dataset("weather"), &bench.source("weather.csv", WEATHER)).await.unwrap();
    let mut flights = String::from("flight,airport,at\n");
    for flight in 0..20_000 {
        flights.push_str(&format!(
            "{flight},JFK,2026-01-01T10:{:02}:{:02}Z\n",
            flight / 60 % 60,
            flight % 60
        ));
    }
    let spec = spec(bench.source("flights.csv", flights), vec![Use::of(view("weather", weather()))]);
    let set = bench.warehouse.training_set(&spec).await.unwrap();
    assert_eq!((set.count, set.views[0].matched), (20_000, 20_000));
    let file = bench.folder.path().join("set.parquet");
    assert_eq!(set.rows.write(&file, Format::Parquet).await.unwrap(), 20_000);
    let added = append(&bench.dataset("set"), &Source::file(&file)).await.unwrap();
    assert_eq!(added.rows, 20_000);
    // The same of a dataset of entities: it has the same name, for it has the same content.
    let mut of_dataset = spec.clone();
    let Entities::Source(source) = &spec.entities else { panic!("a source") };
    append(&bench.dataset("flights"), source).await.unwrap();
    of_dataset.entities = Entities::Dataset { name: "flights".into(), at: At::Newest };
    let other = bench.folder.path().join("other.parquet");
    bench
        .warehouse
        .training_set(&of_dataset)
        .await
        .unwrap()
        .rows
        .write(&other, Format::Parquet)
        .await
        .unwrap();
    let again = append(&bench.dataset("again"), &Source::file(&other)).await.unwrap();
    assert_eq!(again.name, added.name);
    let first: Vec<_> = bench.warehouse.training_set(&spec).await.unwrap().rows.all().await.unwrap();
    assert!(first.iter().enumerate().all(|(i, row)| row["flight"] == json!(i)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_with_a_remedy() {
    let bench = Bench::new();
    append(&bench.dataset("weather"), &bench.source("weather.csv", WEATHER)).await.unwrap();
    let flights = bench.source("flights.csv", FLIGHTS);
    let refused = async |change: &dyn Fn(&mut FeatureViewConfig),
                         spec_change: &dyn Fn(&mut TrainingSetSpec)| {
        let mut config = weather();
        change(&mut config);
        let mut spec = spec(flights.clone(), vec![Use::of(view("weather", config))]);
        spec_change(&mut spec);
        match bench.warehouse.training_set(&spec).await {
            Err(Error::Invalid { what, why }) => format!("{what}: {why}"),
            Err(other) => panic!("{other}"),
            Ok(set) => panic!("{} rows", set.count),
        }
    };
    let same = |_: &mut FeatureViewConfig| {};
    let said = refused(&|c| c.ingest_time = None, &|s| s.cut = Some(UnixMillis(0))).await;
    assert!(said.contains("`ingest_time`"), "{said}");
    let said = refused(&|c| c.features = vec!["snow".into()], &|_| {}).await;
    assert!(said.contains("`snow`") && said.contains("wind"), "{said}");
    let said = refused(&|c| (c.keys, c.features) = (vec!["temp".into()], vec!["wind".into()]), &|_| {}).await;
    assert!(said.contains("`temp`"), "{said}");
    let said = refused(&same, &|s| s.time = "flight".into()).await;
    assert!(said.contains("of type int"), "{said}");
    let twice = |s: &mut TrainingSetSpec| s.views.push(Use::of(view("weather", weather())));
    let said = refused(&same, &twice).await;
    assert!(said.contains("alias"), "{said}");
    let naive = bench.source("naive.csv", "airport,at\nJFK,2026-01-01T11:30:00\n");
    let said = refused(&same, &|s| s.entities = Entities::Source(naive.clone())).await;
    assert!(said.contains("naive_times: utc"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_without_a_zone_are_in_utc_for_who_says_so() {
    let bench = Bench::new();
    append(&bench.dataset("weather"), &bench.source("weather.csv", WEATHER)).await.unwrap();
    let config = FeatureViewConfig { naive_times: NaiveTimes::Utc, ..weather() };
    let naive = bench.source("naive.csv", "airport,at\nJFK,2026-01-01T11:30:00\n");
    let set =
        bench.warehouse.training_set(&spec(naive, vec![Use::of(view("weather", config))])).await.unwrap();
    assert_eq!(temps(set).await, [json!(11.5)]);
}

#[test]
fn a_view_is_refused_with_every_problem_it_has() {
    let mut config = weather();
    (config.keys, config.features) = (vec![], vec!["temp".into(), "hour".into()]);
    let said = FeatureView::new("my__view", config).unwrap_err().to_string();
    for problem in ["single `_`", "`keys` is empty", "`hour` is named twice"] {
        assert!(said.contains(problem), "{said}");
    }
    let unknown =
        json!({"dataset": "d", "keys": ["k"], "event_time": "t", "features": ["f"], "tll_seconds": 3});
    assert!(serde_json::from_value::<FeatureViewConfig>(unknown).is_err());
}
