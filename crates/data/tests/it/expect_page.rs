//! Reports as people and programs read them: a page that shows everything and loads nothing, and JSON that stays as it is.

use data::At;
use data::expect::{Report, Suite};
use serde_json::json;

use crate::support::{Bench, overwrite};

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

async fn report(bench: &Bench) -> Report {
    let x = bench.dataset("x");
    let table = |shift: i64, text: &str| {
        let row = |n: i64| {
            json!({"id": n % 97, HOSTILE: if n % 3 == 0 { text } else { "fine" }, "delay": (n * 7919 % 300 + shift) as f64 / 2.0,
                "t": format!("2025-12-{:02}T00:00:00Z", 1 + n % 28), "gap": if n % 5 == 0 { None } else { Some(n) }})
            .to_string()
        };
        (0..400).map(row).collect::<Vec<_>>().join("\n")
    };
    for (at, (shift, text)) in [(0, "fine"), (0, "fine"), (80, HOSTILE)].into_iter().enumerate() {
        overwrite(&x, &bench.source(&format!("{at}.jsonl"), table(shift + at as i64, text))).await.unwrap();
    }
    let expectations = json!([
        {"name": HOSTILE, "set": {"column": HOSTILE, "values": ["fine"]}},
        {"name": "late trains are few", "severity": "warn", "range": {"column": "delay", "min": 0, "max": 150}},
        {"unique": {"columns": ["id"]}},
        {"distribution": {"column": "delay", "against": "@0"}},
        {"distribution": {"column": HOSTILE, "against": "@0"}},
        {"not_null": {"column": "gap", "max_share": 0.1}},
        {"pattern": {"column": "delay", "regex": "x"}},
        {"freshness": {"column": "t", "max_age": "2d"}},
        {"volume": {"history": {"versions": 2, "within": 0.5}}},
        {"schema": {"columns": {"id": "int", "gone": "any"}}},
        {"sql": {"condition": "delay > 0 or id >= 0"}},
    ]);
    let suite = Suite::new(&serde_json::from_value(json!({"expectations": expectations})).unwrap()).unwrap();
    x.validate(&At::Newest, &suite).await.unwrap()
}

#[tokio::test]
async fn a_page_escapes_all_names_and_values_and_loads_nothing() {
    let bench = Bench::new();
    let report = report(&bench).await;
    let page = report.html();
    if let Some(path) = std::env::var_os("REPORT_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
    assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>\""), "{page}");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    for loaded in ["<script", "src=\"", "href=", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(loaded), "{loaded}");
    }
    for shown in ["Not as expected", "late trains are few", "PSI ", "version 2", "400", "gap"] {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
}

#[tokio::test]
async fn a_redacted_column_shows_no_value_anywhere() {
    let bench = Bench::new();
    let mut report = report(&bench).await;
    let values: Vec<String> = report.outcomes[2].examples.iter().map(|e| e["id"].to_string()).collect();
    assert!(!values.is_empty());
    report.redact(&["id".to_owned(), "delay".to_owned(), HOSTILE.to_owned()]);
    for outcome in &report.outcomes {
        for example in &outcome.examples {
            for name in ["id", "delay", HOSTILE] {
                assert!(example.get(name).is_none_or(|v| v == "•••"), "{example:?}");
            }
        }
    }
    assert!(
        report
            .columns
            .iter()
            .all(|c| !["id", "delay", HOSTILE].contains(&c.name.as_str()) || c.values.is_none())
    );
    assert_eq!(report.outcomes[3].observed["bins"][0]["bin"], "bin 1");
    assert_eq!(report.outcomes[2].rows_failed, Some(400), "counts stay");
}

#[tokio::test]
async fn the_json_form_of_a_report_is_stable() {
    let bench = Bench::new();
    let report = report(&bench).await;
    let json = serde_json::to_value(&report).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["schema", "dataset", "version", "at", "rows", "passed", "outcomes", "columns", "history"]
    );
    assert_eq!(json["schema"], "forebay.expectations/1");
    let outcome = json["outcomes"][1].as_object().unwrap();
    let keys: Vec<&str> = outcome.keys().map(String::as_str).collect();
    let expected = [
        "name",
        "check",
        "severity",
        "passed",
        "expected",
        "observed",
        "columns",
        "rows_failed",
        "share",
        "examples",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&outcome["columns"], &outcome["severity"]), (&json!(["delay"]), &json!("warn")));
    assert_eq!(
        json["history"],
        json!([{"version": 0, "rows": 400}, {"version": 1, "rows": 400}, {"version": 2, "rows": 400}])
    );
    let gap = report.columns.iter().find(|c| c.name == "gap").unwrap();
    assert_eq!((gap.nulls, gap.ty.as_str()), (80, "int"));
}
