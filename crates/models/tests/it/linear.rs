//! Linear models: the coefficients are scikit-learn's, and what ONNX Runtime answers for the file is what the model answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use models::onnx::{About, Cell, Classes, Linear, Link, Scorer, Term, murmur3, write};
use models::train::config::LinearConfig;
use models::train::{Column, Error, Frame, Roles, Table, Values, linear};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Recorded {
    columns: BTreeMap<String, Vec<Value>>,
    cases: Vec<Case>,
    by_hand: ByHand,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    l1: f64,
    l2: f64,
    target: Vec<f64>,
    classes: bool,
    coefficients: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
}

#[derive(Deserialize)]
struct ByHand {
    rows: BTreeMap<String, Vec<Value>>,
    sha256: String,
    probabilities: Vec<Vec<f64>>,
    label: Vec<String>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../oracles/linear.json")).unwrap()
}

fn numbers(all: &[Value]) -> Values {
    Values::Number(all.iter().map(|x| x.as_f64().unwrap_or(f64::NAN)).collect())
}

fn words(all: &[Value]) -> Values {
    let mut words: Vec<String> = Vec::new();
    let codes = all.iter().map(|word| {
        let word = word.as_str().unwrap();
        let at = words.iter().position(|known| known == word).unwrap_or_else(|| {
            words.push(word.to_owned());
            words.len() - 1
        });
        u32::try_from(at).unwrap()
    });
    let codes = codes.collect();
    Values::Category { codes, words }
}

fn table(columns: &BTreeMap<String, Vec<Value>>, case: &Case) -> Table {
    let column = |name: &str, values: Values| Column { name: name.to_owned(), values };
    let frame = Frame::new(vec![
        column("a", numbers(&columns["a"])),
        column("b", numbers(&columns["b"])),
        column("word", words(&columns["word"])),
        column("target", Values::Number(case.target.clone())),
    ]);
    let roles = Roles { target: "target".to_owned(), classes: Some(case.classes), ..Roles::default() };
    Table::of(&frame.unwrap(), &roles).unwrap()
}

fn config(l1: f64, l2: f64) -> LinearConfig {
    serde_json::from_value(json!({"target": "target", "l1": l1, "l2": l2, "steps": 5000})).unwrap()
}

#[test]
fn coefficients_are_those_of_scikit_learn() {
    let recorded = recorded();
    for case in &recorded.cases {
        let table = table(&recorded.columns, case);
        let fit = linear::fit(&table, &config(case.l1, case.l2), &AtomicBool::new(false)).unwrap();
        assert!(fit.converged, "{}", case.name);
        let scores = case.coefficients.len();
        let ours: Vec<Vec<f64>> = (0..scores)
            .map(|score| {
                let of = |term: &Term| -> Vec<f64> {
                    let (Term::Number { weights, .. } | Term::Words { weights, .. }) = term else { panic!() };
                    weights.iter().copied().skip(score).step_by(scores).collect()
                };
                fit.model.terms.iter().flat_map(of).collect()
            })
            .collect();
        // With softmax only differences between the classes' intercepts mean something.
        let middle = |all: &[f64]| if scores > 1 { all.iter().sum::<f64>() / scores as f64 } else { 0.0 };
        let (here, there) = (middle(&fit.model.intercepts), middle(&case.intercepts));
        for score in 0..scores {
            let (a, b) = (fit.model.intercepts[score] - here, case.intercepts[score] - there);
            assert!((a - b).abs() < 2e-5, "{} intercept: {a} and {b}", case.name);
            assert_eq!(ours[score].len(), case.coefficients[score].len());
            for (a, b) in ours[score].iter().zip(&case.coefficients[score]) {
                assert!((a - b).abs() < 2e-5, "{}: {ours:?} and {:?}", case.name, case.coefficients);
            }
        }
    }
}

#[test]
fn a_fit_that_is_cancelled_ends_at_once() {
    let recorded = recorded();
    let table = table(&recorded.columns, &recorded.cases[0]);
    let fit = linear::fit(&table, &config(0.0, 0.01), &AtomicBool::new(true));
    assert!(matches!(fit, Err(Error::Cancelled)));
}

fn by_hand() -> Linear {
    let number = |name: &str, fill: f64, weights: [f64; 3]| Term::Number {
        name: name.to_owned(),
        fill,
        center: 0.25,
        scale: 1.5,
        weights: weights.to_vec(),
    };
    let hashed: Vec<f64> = (0..3 * 64).map(|i| f64::from(i % 17) / 8.0 - 1.0).collect();
    Linear {
        intercepts: vec![0.5, -0.25, 0.0],
        terms: vec![
            number("x", 3.0, [1e-6, 2e-6, -1e-6]),
            Term::Words {
                name: "word".to_owned(),
                words: ["", "ash", "elm", "oak"].map(str::to_owned).to_vec(),
                weights: (0..12).map(|i| f64::from(i) / 10.0 - 0.5).collect(),
            },
            number("y", -1.0, [0.5, -0.5, 0.125]),
            Term::Hashed { name: "tag".to_owned(), seed: 9, weights: hashed.into() },
        ],
        link: Link::Softmax,
    }
}

#[test]
fn onnx_runtime_answers_what_a_linear_model_does() {
    let model = by_hand();
    let classes = Classes::Texts(["red", "green", "blue"].map(str::to_owned).to_vec());
    let bytes = write(Scorer::Linear(&model), Some(&classes), &About::default()).unwrap();
    if let Some(folder) = std::env::var_os("FOREBAY_WRITE_ONNX") {
        std::fs::write(PathBuf::from(folder).join("linear.onnx"), &bytes).unwrap();
        return;
    }
    let theirs = recorded().by_hand;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        sum, theirs.sha256,
        "other bytes than ONNX Runtime was asked about: run tests/oracles/make_linear.py again"
    );
    for (row, answer) in theirs.probabilities.iter().enumerate() {
        let number = |name: &str| Cell::Number(theirs.rows[name][row].as_f64().unwrap_or(f64::NAN));
        let text = |name: &str| Cell::Text(theirs.rows[name][row].as_str().unwrap());
        let ours = model.answer([number("x"), text("word"), number("y"), text("tag")]);
        assert!(
            ours.iter().zip(answer).all(|(a, b)| (a - b).abs() < 1e-12),
            "{row}: {ours:?} and {answer:?}"
        );
        let best = (0..3).max_by(|a, b| answer[*a].total_cmp(&answer[*b])).unwrap();
        assert_eq!(theirs.label[row], ["red", "green", "blue"][best]);
    }
}

#[test]
fn the_hash_is_the_one_that_onnx_runtime_computes() {
    // Recorded of `com.microsoft::MurmurHash3` with the seed 42.
    assert_eq!(
        [murmur3(b"a", 42), murmur3(b"hello", 42), murmur3(b"", 42)],
        [3_001_393_763, 3_806_057_185, 142_593_372]
    );
}
