//! Expectations over versions: every check, and what one pass finds against a reading row by row.

use data::expect::{Config, Outcome, Report, Severity, Suite, Written};
use data::{At, Error};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Bench, START, append, overwrite};

pub(crate) fn suite(expectations: Value) -> Suite {
    let config: Config = serde_json::from_value(json!({"expectations": expectations})).unwrap();
    Suite::new(&config).unwrap()
}

async fn validated(bench: &Bench, text: &str, expectations: Value) -> Report {
    let x = bench.dataset("x");
    overwrite(&x, &bench.source("x.csv", text)).await.unwrap();
    x.validate(&At::Newest, &suite(expectations)).await.unwrap()
}

fn only(report: &Report) -> &Outcome {
    assert_eq!(report.outcomes.len(), 1);
    &report.outcomes[0]
}

#[test]
fn every_problem_of_a_file_is_told_with_its_place() {
    let config: Config = serde_json::from_value(json!({"expectations": [
        {"range": {"column": "a", "min": 3, "max": 2}},
        {"not_null": {"column": "a", "max_share": 1.5}},
        {},
        {"not_null": {"column": "a"}, "unique": {"columns": ["a"]}},
        {"pattern": {"column": "a", "regex": "("}},
        {"sql": {"condition": "a >"}},
        {"freshness": {"column": "t", "max_age": "soon"}},
        {"unique": {"columns": []}},
        {"set": {"column": "a", "values": []}},
        {"schema": {"columns": {"a": "number"}}},
        {"distribution": {"column": "a", "against": "@", "max_psi": -1.0}},
        {"volume": {}},
    ]}))
    .unwrap();
    let Err(Error::Expectations { problems }) = Suite::new(&config) else { panic!("it is taken") };
    let places: Vec<_> = problems.iter().map(|p| p.pointer.trim_start_matches("/expectations/")).collect();
    let expected = [
        "0/range/min",
        "1/not_null/max_share",
        "2",
        "3",
        "4/pattern/regex",
        "5/sql/condition",
        "6/freshness/max_age",
        "7/unique/columns",
        "8/set/values",
        "9/schema/columns/a",
        "10/distribution/max_psi",
        "11/volume",
    ];
    assert_eq!(places, expected, "{problems:#?}");
    let unknown = serde_json::from_value::<Config>(json!({"expectations": [{"rnage": {"column": "a"}}]}));
    assert!(unknown.unwrap_err().to_string().contains("rnage"));
}

#[tokio::test]
async fn rows_that_break_a_check_are_counted_and_shown() {
    let bench = Bench::new();
    let text = "a,f,s\n1,0.5,ab\n2,NaN,abc\n3,-0.0,\n,1.5,zz\n";
    for (check, failed) in [
        (json!({"not_null": {"column": "a"}}), 1),
        (json!({"not_null": {"column": "f"}}), 1),
        (json!({"range": {"column": "a", "min": 2}}), 1),
        (json!({"range": {"column": "a", "max": 1.5}}), 2),
        (json!({"range": {"column": "f", "min": 0}}), 1),
        (json!({"range": {"column": "f", "max": 1}}), 2),
        (json!({"set": {"column": "s", "values": ["ab", "abc"]}}), 1),
        (json!({"set": {"column": "f", "values": [0, 0.5, 1.5]}}), 1),
        (json!({"pattern": {"column": "s", "regex": "^ab?"}}), 1),
        (json!({"length": {"column": "s", "min": 3}}), 2),
        (json!({"sql": {"condition": "a < 3 or f > 1"}}), 1),
        (json!({"unique": {"columns": ["s"]}}), 0),
    ] {
        let report = validated(&bench, text, json!([check])).await;
        let outcome = only(&report);
        assert_eq!(outcome.problem, None, "{check}");
        assert_eq!((outcome.rows_failed, outcome.passed), (Some(failed), failed == 0), "{check} {outcome:?}");
        assert_eq!(outcome.examples.len(), failed as usize, "{check}");
        assert_eq!(report.rows, if outcome.check == "unique" { report.rows } else { 4 });
        assert_eq!(report.passed, outcome.passed);
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }
}

#[tokio::test]
async fn a_warning_fails_and_stops_nothing() {
    let bench = Bench::new();
    let report =
        validated(&bench, "a\n1\n", json!([{"range": {"column": "a", "min": 2}, "severity": "warn"}])).await;
    assert!(report.passed && !only(&report).passed);
    assert_eq!(report.failed(Severity::Warn).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_looked_at_has_not_passed() {
    let bench = Bench::new();
    for (check, says) in [
        (json!({"not_null": {"column": "z"}}), "there is no column `z`"),
        (json!({"range": {"column": "a", "min": "x"}}), "not a value of a column of type int"),
        (json!({"pattern": {"column": "a", "regex": "x"}}), "not text"),
        (json!({"freshness": {"column": "a", "max_age": "1h"}}), "no time"),
        (json!({"sql": {"condition": "a"}}), "true or false"),
        (json!({"sql": {"condition": "z > 1"}}), "z"),
        (json!({"sql": {"condition": "a > (select 1)"}}), ""),
        (json!({"sql": {"condition": "a in (select a from x)"}}), ""),
        (json!({"sql": {"condition": "sum(a) > 1"}}), "more than one row"),
        (json!({"sql": {"condition": "random() < 0.5"}}), "by chance"),
        (json!({"sql": {"condition": "now() > now()"}}), "clock"),
        (json!({"sql": {"condition": "1 / (a - a) > 0"}}), "ivide by zero"),
        (json!({"references": {"column": "a", "dataset": "nowhere", "key": "a"}}), "nowhere"),
        (json!({"distribution": {"column": "a", "against": "@nowhere"}}), "nowhere"),
    ] {
        let report = validated(&bench, "a,s\n1,x\n2,y\n", json!([check])).await;
        let said = only(&report).problem.clone().unwrap_or_default();
        assert!(!report.passed && !said.is_empty() && said.contains(says), "{check}: {said}");
    }
}

#[tokio::test]
async fn columns_are_compared_with_those_expected() {
    let bench = Bench::new();
    let check = json!([{"schema": {"columns": {"a": "text", "b": "any", "c": "int"}, "extra": "forbid"}}]);
    let report = validated(&bench, "a,c,d\n1,2,3\n", check).await;
    let wrong = json!({"differences": ["`a` is int and not text", "`b` is missing", "`d` is not expected"]});
    assert_eq!(only(&report).observed, wrong);
    let check = json!([{"schema": {"columns": {"c": "int"}}}]);
    assert!(validated(&bench, "a,c,d\n1,2,3\n", check).await.passed);
}

#[tokio::test]
async fn rows_that_are_the_same_are_found_by_one_or_several_columns() {
    let bench = Bench::new();
    let text = "a,b,f\n1,x,0.0\n1,y,-0.0\n1,x,1\n,x,2\n,x,3\n";
    for (columns, failed) in
        [(json!(["a"]), 3), (json!(["a", "b"]), 2), (json!(["f"]), 2), (json!(["a", "f"]), 2)]
    {
        let report = validated(&bench, text, json!([{"unique": {"columns": columns}}])).await;
        assert_eq!(only(&report).rows_failed, Some(failed), "{columns}");
        assert_eq!(only(&report).examples[0]["rows"], failed);
    }
}

#[tokio::test]
async fn a_time_in_the_future_is_not_fresh_but_for_the_skew_of_clocks() {
    let bench = Bench::new();
    for (newest, passed) in [("00:05:00", true), ("00:05:01", false), ("23:00:00", false)] {
        let text = format!("t,k\n2026-01-01T{newest}Z,1\n2025-12-31T00:00:00Z,2\n");
        let report = validated(&bench, &text, json!([{"freshness": {"column": "t", "max_age": "9d"}}])).await;
        assert_eq!((only(&report).passed, report.passed), (passed, passed), "{newest} {report:?}");
        let said = only(&report).problem.clone().unwrap_or_default();
        assert_eq!(said.contains("in the future"), !passed, "{said}");
    }
}

#[tokio::test]
async fn freshness_is_by_the_clock_of_the_warehouse() {
    let bench = Bench::new();
    assert_eq!(START % 86_400_000, 0);
    let text = "t\n2025-12-30T00:00:00Z\n2025-12-31T12:00:00Z\n\n";
    for (age, passed) in [("12h", true), ("11h", false), ("1d", true)] {
        let report = validated(&bench, text, json!([{"freshness": {"column": "t", "max_age": age}}])).await;
        assert_eq!(only(&report).passed, passed, "{age} {report:?}");
        assert_eq!(only(&report).observed["age_seconds"], 12 * 3600);
    }
}

#[tokio::test]
async fn the_number_of_rows_is_held_against_bounds_and_history() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    for rows in [10, 20, 30, 100] {
        let text: String =
            std::iter::once("a\n".to_owned()).chain((0..rows).map(|n| format!("{n}\n"))).collect();
        overwrite(&x, &bench.source("x.csv", text)).await.unwrap();
    }
    let check = suite(json!([{"volume": {"max": 100, "history": {"versions": 2, "within": 0.5}}}]));
    let report = x.validate(&At::Newest, &check).await.unwrap();
    assert_eq!(only(&report).observed, json!({"rows": 100, "mean": 25.0, "versions": 2}));
    assert!(!report.passed);
    assert!(x.validate(&At::Version(0), &check).await.unwrap().passed, "there is no history to be unlike");
    assert!(!x.validate(&At::Version(1), &suite(json!([{"volume": {"min": 21}}]))).await.unwrap().passed);
}

#[tokio::test]
async fn a_distribution_that_moved_is_told_from_one_that_did_not() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let lines = |shift: f64, carrier: &str| {
        let row = |n: i32| format!("{},{}\n", f64::from(n) + shift, if n % 2 == 0 { "AA" } else { carrier });
        std::iter::once("delay,carrier\n".to_owned()).chain((0..500).map(row)).collect::<String>()
    };
    overwrite(&x, &bench.source("x.csv", lines(0.0, "UA"))).await.unwrap();
    let check = suite(json!([
        {"distribution": {"column": "delay", "against": "@0"}},
        {"distribution": {"column": "carrier", "against": "@0"}},
    ]));
    let same = x.validate(&At::Newest, &check).await.unwrap();
    assert!(same.passed);
    assert!(same.outcomes.iter().all(|o| o.observed["psi"].as_f64().unwrap().abs() < 1e-9), "{same:?}");
    overwrite(&x, &bench.source("x.csv", lines(200.0, "ZZ"))).await.unwrap();
    let moved = x.validate(&At::Newest, &check).await.unwrap();
    assert!(
        moved.outcomes.iter().all(|o| !o.passed && o.observed["psi"].as_f64().unwrap() > 1.0),
        "{moved:?}"
    );
    let unseen = moved.outcomes[1].observed["bins"].as_array().unwrap();
    assert!(unseen.iter().any(|bin| bin["bin"] == "not in the reference" && bin["now"] == 0.5));
}

#[tokio::test]
async fn values_are_looked_up_in_another_dataset() {
    let bench = Bench::new();
    append(&bench.dataset("airlines"), &bench.source("a.csv", "code\nAA\nUA\n")).await.unwrap();
    let check = json!([{"references": {"column": "carrier", "dataset": "airlines", "key": "code"}}]);
    let report = validated(&bench, "carrier,n\nAA,1\nZZ,2\n,3\n", check).await;
    assert_eq!(only(&report).rows_failed, Some(1));
    assert_eq!(only(&report).examples[0]["carrier"], "ZZ");
}

type Row = (Option<i64>, Option<f64>, Option<String>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let float = prop_oneof![
        Just(f64::NAN),
        Just(-0.0),
        Just(0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        -3.0..3.0_f64,
    ];
    let row =
        (proptest::option::of(-4..4_i64), proptest::option::of(float), proptest::option::of("[abé]{1,3}"));
    proptest::collection::vec(row, 1..40)
}

/// What each expectation finds, a row at a time and in no clever way.
fn naive(rows: &[Row], low: i64, high: f64) -> Vec<u64> {
    let count = |breaks: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| breaks(row)).count() as u64;
    let same = |a: &Row, b: &Row| a.0.is_some() && a.2.is_some() && a.0 == b.0 && a.2 == b.2;
    vec![
        count(&|r| r.0.is_none()),
        count(&|r| r.1.is_none_or(f64::is_nan)),
        count(&|r| r.0.is_some_and(|n| n < low)),
        count(&|r| r.1.is_some_and(|x| x.is_nan() || x > high)),
        count(&|r| r.1.is_some_and(|x| x.is_nan() || x < 0.0)),
        count(&|r| r.0.is_some_and(|n| ![-1, 0, 2].contains(&n))),
        count(&|r| r.1.is_some_and(|x| x.is_nan() || (x != 0.0 && x != 1.5))),
        count(&|r| r.2.as_ref().is_some_and(|s| !s.starts_with('a'))),
        count(&|r| r.2.as_ref().is_some_and(|s| s.chars().count() > 2)),
        count(&|r| matches!((r.0, &r.2), (Some(n), Some(s)) if n <= 0 && s != "a")),
        rows.iter()
            .enumerate()
            .filter(|(i, a)| rows.iter().enumerate().any(|(j, b)| *i != j && same(a, b)))
            .count() as u64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_pass_finds_what_a_reading_row_by_row_finds(rows in rows(), low in -4..4_i64, high in -3.0..3.0_f64) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let x = bench.dataset("x");
            let cell = |value: Option<String>| value.unwrap_or_default();
            // Two files, so that the scan may have several partitions.
            for half in rows.chunks(rows.len().div_ceil(2)) {
                let mut text = String::from("n,x,s\n");
                for (n, x, s) in half {
                    text.push_str(&format!("{},{},{}\n", cell(n.map(|n| n.to_string())), cell(x.map(|x| x.to_string())), cell(s.clone())));
                }
                let mut source = bench.source("x.csv", text);
                let types = [("n", "int"), ("x", "float"), ("s", "text")];
                source.types = types.into_iter().map(|(n, t)| (n.to_owned(), t.parse().unwrap())).collect();
                append(&x, &source).await.unwrap();
            }
            let check = suite(json!([
                {"not_null": {"column": "n"}},
                {"not_null": {"column": "x"}},
                {"range": {"column": "n", "min": low}},
                {"range": {"column": "x", "max": high}, "name": "high"},
                {"range": {"column": "x", "min": 0}},
                {"set": {"column": "n", "values": [-1, 0, 2]}},
                {"set": {"column": "x", "values": [-0.0, 1.5]}},
                {"pattern": {"column": "s", "regex": "^a"}},
                {"length": {"column": "s", "max": 2}},
                {"sql": {"condition": "n > 0 or s = 'a'"}},
                {"unique": {"columns": ["n", "s"]}},
            ]));
            let report = x.validate(&At::Newest, &check).await.unwrap();
            let found: Vec<u64> = report.outcomes.iter().map(|o| o.rows_failed.unwrap_or_else(|| panic!("{o:?}"))).collect();
            assert_eq!(found, naive(&rows, low, high));
            assert_eq!(report.rows, rows.len() as u64);
        });
    }
}

#[tokio::test]
async fn a_profile_proposes_what_its_own_version_meets() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let mut text = String::from("id,kind,delay,note\n");
    for n in 0..3000 {
        let delay = if n % 100 == 0 { String::new() } else { format!("{}.5", n % 7) };
        text.push_str(&format!("{n},{},{delay},note {}\n", ["a", "b", "c"][n % 3], n % 1700));
    }
    append(&x, &bench.source("x.csv", text)).await.unwrap();
    let profile = x.profile(&At::Newest).await.unwrap();
    assert_eq!((profile.rows, profile.columns[2].nulls), (3000, 30));
    assert_eq!(profile.columns[1].values.as_deref().unwrap(), ["a", "b", "c"]);
    let proposed =
        serde_json::to_value(&profile.proposed).unwrap()["expectations"].as_array().unwrap().clone();
    for expected in [
        json!({"severity": "error", "unique": {"columns": ["id"]}}),
        json!({"severity": "warn", "set": {"column": "kind", "values": ["a", "b", "c"]}}),
        json!({"severity": "warn", "range": {"column": "delay", "min": 0.0, "max": 7.1}}),
        json!({"severity": "warn", "not_null": {"column": "delay", "max_share": 0.02}}),
        json!({"severity": "warn", "pattern": {"column": "note", "regex": "^[a-z]{4} [0-9]{1,4}$"}}),
        json!({"severity": "warn", "volume": {"min": 1500}}),
    ] {
        assert!(proposed.contains(&expected), "{expected} is not in {proposed:#?}");
    }
    assert_eq!(proposed.iter().filter(|p| p.get("unique").is_some()).count(), 1, "notes come again");
    let report = x.validate(&At::Newest, &Suite::new(&profile.proposed).unwrap()).await.unwrap();
    assert!(report.outcomes.iter().all(|o| o.passed), "{report:#?}");
}

fn any_cell() -> impl Strategy<Value = (Option<i64>, Option<f64>, Option<String>, Option<i64>)> {
    (
        proptest::option::of(prop_oneof![-5..50_i64, any::<i64>()]),
        proptest::option::of(prop_oneof![-1.0..1.0_f64, any::<f64>()]),
        proptest::option::of("[ -~é]{0,6}|[A-Z]{2}-[0-9]{3}|[ab]"),
        proptest::option::of(0..100_000_i64),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_a_profile_suggests_as_yaml_is_met_by_its_own_version(
        rows in proptest::collection::vec(any_cell(), 1..120),
        twice in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let x = bench.dataset("x");
            let mut text = String::new();
            for _ in 0..if twice { 30 } else { 1 } {
                for (n, f, s, t) in &rows {
                    let time = t.map(|t| format!("2025-12-{:02}T{:02}:00:00Z", 1 + t % 31, t % 24));
                    // Names that YAML and SQL have ideas about.
                    text.push_str(&json!({"n": n, "The \"#1: x'": f, "no": s, "t\n": time}).to_string());
                    text.push('\n');
                }
            }
            let mut source = bench.source("x.jsonl", text);
            let types = [("n", "int"), ("The \"#1: x'", "float"), ("no", "text"), ("t\n", "timestamp")];
            source.types = types.into_iter().map(|(n, t)| (n.to_owned(), t.parse().unwrap())).collect();
            append(&x, &source).await.unwrap();
            let profile = x.profile(&At::Newest).await.unwrap();
            let yaml = profile.to_yaml();
            let written = Written::parse(&yaml).unwrap_or_else(|problems| panic!("{problems:#?}\n{yaml}"));
            assert_eq!(written.config.expectations.len(), profile.proposed.expectations.len(), "{yaml}");
            let shown = x.show(&At::Newest).await.unwrap();
            assert_eq!(written.fit(&shown.schema), [], "{yaml}");
            let report = x.validate(&At::Newest, &written.suite).await.unwrap();
            assert!(report.outcomes.iter().all(|o| o.passed), "{report:#?}\n{yaml}");
        });
    }
}
