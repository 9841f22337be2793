//! Files of expectations: what is wrong in them is told all at once, by line and column, with a remedy.

use data::expect::{Written, json_schema};
use data::{Column, Schema};
use proptest::prelude::*;

fn said(problems: &[yaml::Problem]) -> Vec<String> {
    problems.iter().map(|p| format!("{}:{} {} ({})", p.line, p.column, p.message, p.remedy)).collect()
}

fn columns() -> Schema {
    let each =
        [("carrier", "text"), ("dep_delay", "float"), ("flight", "int"), ("day", "date"), ("ok", "bool")];
    let column = |(name, ty): (&str, &str)| Column { name: name.to_owned(), ty: ty.parse().unwrap() };
    Schema { columns: each.into_iter().map(column).collect() }
}

const GOOD: &str = r#"# What flights are like.
expectations:
  - schema: {columns: {carrier: text, dep_delay: float}, extra: forbid}
  - not_null: {column: carrier}
  - name: delays are plausible
    severity: warn
    range: {column: dep_delay, min: -120, max: 2000}
  - range: {column: day, min: "2013-01-01"}
  - pattern: {column: carrier, regex: '^[A-Z0-9]{2}$'}
  - volume: {history: {versions: 7, within: 0.5}}
  - sql: {condition: "dep_delay > 0 or ok"}
"#;

#[test]
fn a_file_without_mistakes_is_read_and_fits() {
    let written = Written::parse(GOOD).unwrap();
    assert_eq!((written.suite.len(), written.config.expectations.len()), (7, 7));
    assert_eq!(said(&written.fit(&columns())), [""; 0]);
    // What is written by machine is read again.
    let json = serde_json::to_string(&written.config).unwrap();
    assert_eq!(Written::parse(&json).unwrap().config, written.config);
}

#[test]
fn every_mistake_of_form_is_told_at_its_place() {
    let text = "expectations:\n  - not_nul: {column: a}\n  - range: {column: 7, mni: 1}\n    severity: wran\n  - set: {column: a}\n";
    let problems = Written::parse(text).unwrap_err();
    let said = said(&problems);
    assert_eq!(said.len(), 5, "{said:#?}");
    assert!(
        said[0].starts_with("2:5 unknown field `not_nul` in `expectations` (did you mean `not_null`?"),
        "{said:#?}"
    );
    assert_eq!(said[1], "3:21 expected text, found `7` (put it in quotes: \"7\")");
    assert!(
        said[2].starts_with("3:24 unknown field `mni`") && said[2].contains("did you mean `min`?"),
        "{said:#?}"
    );
    assert_eq!(
        said[3],
        "4:15 `wran` is not a value of this field (did you mean `warn`? it is one of: `error`, `warn`)"
    );
    assert_eq!(said[4], "5:5 the field `values` is missing in `expectations.set` (add `values: …`)");
}

#[test]
fn every_mistake_of_sense_is_told_at_its_place() {
    let text = "expectations:
  - range: {column: a, min: 3, max: 2}
  - pattern: {column: a, regex: '('}
  - sql: {condition: 'a >'}
  - freshness: {column: t, max_age: soon}
  - not_null: {column: a}
    unique: {columns: [a]}
  - schema: {columns: {a: txt}}
  - name: x
    not_null: {column: a}
  - name: x
    not_null: {column: b}
";
    let problems = Written::parse(text).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(
        places,
        [(2, 29), (3, 33), (4, 22), (5, 37), (6, 5), (8, 27), (11, 11)],
        "{:#?}",
        said(&problems)
    );
    assert!(said(&problems)[5].contains("did you mean `text`?"), "{:#?}", said(&problems));
    assert!(said(&problems)[1].contains("unclosed group"), "{:#?}", said(&problems));
}

#[test]
fn every_mistake_against_the_columns_is_told_at_its_place() {
    let text = "expectations:
  - not_null: {column: carier}
  - range: {column: ok, min: 1}
  - range: {column: day, min: yesterday}
  - range: {column: carrier, min: b, max: a}
  - length: {column: flight, max: 4}
  - set: {column: flight, values: [1, two]}
  - freshness: {column: flight, max_age: 1d}
  - unique: {columns: [flight, dya]}
  - sql: {condition: 'delay > 3'}
  - sql: {condition: 'flight + 1'}
  - sql: {condition: 'random() > 0.5'}
";
    let problems = Written::parse(text).unwrap().fit(&columns());
    let told = said(&problems);
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
    let expected = [
        (2, 24),
        (3, 21),
        (4, 31),
        (5, 35),
        (6, 22),
        (7, 39),
        (8, 25),
        (9, 32),
        (10, 22),
        (11, 22),
        (12, 22),
    ];
    assert_eq!(places, expected, "{told:#?}");
    assert!(
        told[0].contains("no column `carier`") && told[0].contains("did you mean `carrier`?"),
        "{told:#?}"
    );
    assert!(told[8].contains("delay"), "{told:#?}");
    assert!(told[9].contains("Int64") && told[10].contains("by chance"), "{told:#?}");
}

#[test]
fn what_is_no_yaml_and_what_is_empty_are_told() {
    assert_eq!(Written::parse("").unwrap_err()[0].message, "the file is empty");
    assert!(Written::parse("expectations: [").unwrap_err()[0].message.starts_with("this is not valid YAML"));
    assert!(Written::parse("expectations:\n").unwrap_err()[0].message.contains("found nothing"));
    let twice = Written::parse("expectations: []\nexpectations: []\n").unwrap_err();
    assert_eq!((twice[0].line, twice[0].message.contains("given twice")), (2, true));
}

#[test]
fn the_documented_schema_is_the_one_in_use() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/expectations.schema.json");
    let now = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == now,
        "run this test with UPDATE_SCHEMA=1 and commit docs/reference/expectations.schema.json"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_text_breaks_the_reader_of_expectations(text in "\\PC{0,120}", at in 0..GOOD.len(), cut in 0..40usize) {
        let _ = Written::parse(&text);
        let mut broken = GOOD.to_owned();
        let end = (at + cut).min(broken.len());
        if broken.is_char_boundary(at) && broken.is_char_boundary(end) {
            broken.replace_range(at..end, &text);
        }
        if let Ok(written) = Written::parse(&broken) {
            let _ = written.fit(&columns());
        }
    }
}
