//! Learning row by row: what is predicted on the way is river's, and the paper's.

use models::onnx::{About, Cell};
use models::train::online::{Kind, Online, OnlineConfig, problems};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Recorded {
    rows: Vec<(Option<f64>, f64, String, f64, f64)>,
    sgd_logistic: Vec<f64>,
    sgd_linear: Vec<f64>,
    ftrl: Vec<f64>,
    river_ftrl_auc: f64,
}

const COLUMNS: [(&str, Kind); 3] = [("a", Kind::Number), ("b", Kind::Number), ("word", Kind::Words)];

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../oracles/online.json")).unwrap()
}

fn config(task: &str, more: Value) -> OnlineConfig {
    let mut all = json!({"target": "y", "task": task});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    let config = serde_json::from_value(all).unwrap();
    assert_eq!(problems(&config), Vec::new());
    config
}

fn cells(row: &(Option<f64>, f64, String, f64, f64)) -> [Cell<'_>; 3] {
    [Cell::Number(row.0.unwrap_or(f64::NAN)), Cell::Number(row.1), Cell::Text(&row.2)]
}

/// What is predicted before each row is learnt from, and the learner at the end.
fn walk(config: OnlineConfig, rows: &Recorded, regression: bool) -> (Vec<f64>, Online) {
    let mut online = Online::new(config, &COLUMNS).unwrap();
    let answers = rows
        .rows
        .iter()
        .map(|row| online.learn(&cells(row), if regression { row.4 } else { row.3 }, 1.0))
        .collect();
    (answers, online)
}

fn same(ours: &[f64], theirs: &[f64]) {
    for (row, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() < 1e-9, "row {row}: {a} and {b}");
    }
}

#[test]
fn gradient_descent_predicts_row_by_row_what_river_does() {
    let rows = recorded();
    let logistic = config("classification", json!({"learner": {"sgd": {"rate": 0.05}}}));
    same(&walk(logistic, &rows, false).0, &rows.sgd_logistic);
    let linear = config("regression", json!({"learner": {"sgd": {"rate": 0.02}}}));
    same(&walk(linear, &rows, true).0, &rows.sgd_linear);
}

#[test]
fn ftrl_is_the_papers_and_as_good_as_rivers() {
    let rows = recorded();
    let ftrl = json!({"learner": {"ftrl": {"alpha": 0.3, "beta": 1.0, "l1": 0.5, "l2": 0.1}}, "window": 400});
    let (answers, online) = walk(config("classification", ftrl), &rows, false);
    same(&answers, &rows.ftrl);
    let auc = online.recent_figures()["auc"];
    assert!(auc > rows.river_ftrl_auc - 0.01, "{auc} and {}", rows.river_ftrl_auc);
}

#[test]
fn figures_are_of_rows_that_were_not_seen() {
    let rows = recorded();
    let (answers, online) = walk(config("classification", json!({"window": 100})), &rows, false);
    let hits = answers.iter().zip(&rows.rows).filter(|(p, row)| (**p > 0.5) == (row.3 > 0.5));
    assert!((online.figures()["accuracy"] - hits.count() as f64 / 400.0).abs() < 1e-12);
    let recent = answers
        .iter()
        .zip(&rows.rows)
        .skip(300)
        .map(|(p, row)| -(if row.3 > 0.5 { *p } else { 1.0 - p }).ln());
    assert!((online.recent_figures()["log_loss"] - recent.sum::<f64>() / 100.0).abs() < 1e-12);
    assert_eq!(online.rows(), 400);
}

#[test]
fn the_file_answers_what_the_learner_does() {
    let rows = recorded();
    for words in [json!({"dictionary": {"most": 3}}), json!({"hashed": {"bits": 4}})] {
        let (_, online) = walk(config("classification", json!({"words": words})), &rows, false);
        let model = online.model();
        for row in &rows.rows {
            let answer = model.answer(cells(row));
            assert!((answer[1] - online.predict(cells(row))).abs() < 1e-12);
        }
        assert!(online.onnx(&About::default()).is_ok());
    }
}

#[test]
fn a_damaged_checkpoint_and_one_of_another_configuration_are_refused() {
    let config = config("classification", json!({}));
    let online = Online::new(config.clone(), &COLUMNS).unwrap();
    let bytes = online.checkpoint();
    assert!(Online::resume(&bytes, &config, &COLUMNS).is_ok());
    assert!(
        Online::resume(&bytes, &config, &COLUMNS[..2]).unwrap_err().to_string().contains("other columns")
    );
    let other = OnlineConfig { standardise: false, ..config.clone() };
    assert!(
        Online::resume(&bytes, &other, &COLUMNS).unwrap_err().to_string().contains("another configuration")
    );
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Online::resume(&damaged, &config, &COLUMNS).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_learner_goes_on_from_a_checkpoint_as_if_nothing_had_been(at in 0..400_usize, hashed: bool, sgd: bool) {
        let rows = recorded();
        let words = if hashed { json!({"hashed": {"bits": 6}}) } else { json!({"dictionary": {"most": 3}}) };
        let learner = if sgd { json!({"sgd": {"rate": 0.03, "l2": 0.01}}) } else { json!({"ftrl": {"alpha": 0.1, "beta": 1.0, "l1": 0.1, "l2": 1.0}}) };
        let config = config("classification", json!({"words": words, "learner": learner, "window": 50}));
        let whole = walk(config.clone(), &rows, false).1;
        let mut online = Online::new(config.clone(), &COLUMNS).unwrap();
        for (i, row) in rows.rows.iter().enumerate() {
            if i == at {
                online = Online::resume(&online.checkpoint(), &config, &COLUMNS).unwrap();
            }
            online.learn(&cells(row), row.3, 1.0);
        }
        prop_assert_eq!(&online, &whole);
        prop_assert_eq!(online.onnx(&About::default()).unwrap(), whole.onnx(&About::default()).unwrap());
    }
}
