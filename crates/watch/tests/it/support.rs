//! The series of `oracles/series.py`, and the golden files beside it.

use serde_json::Value as Json;
use watch::Seeded;

/// The rows of a golden file.
pub(crate) fn golden(name: &str) -> Vec<Json> {
    let path = format!("{}/oracles/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn number(row: &Json, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

pub(crate) fn whole(row: &Json, key: &str) -> usize {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}")) as usize
}

pub(crate) fn numbers(row: &Json) -> Vec<f64> {
    row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// As `series.column`.
pub(crate) fn column(kind: &str, seed: u64, n: usize, shift: f64) -> Vec<f64> {
    let mut draw = Seeded::new(seed);
    let mut one = || match kind {
        "heavy" => {
            let u = draw.unit();
            u / (1.0 - u) + shift
        }
        _ => {
            let bell = (0..6).fold(0.0, |sum, _| sum + draw.unit()) - 3.0 + shift;
            if kind == "ties" { (bell * 2.0).floor() } else { bell }
        }
    };
    (0..n).map(|_| one()).collect()
}

/// As `series.scored`.
pub(crate) fn scored(seed: u64, n: usize, steps: u64) -> (Vec<f64>, Vec<bool>) {
    let mut draw = Seeded::new(seed);
    (0..n)
        .map(|_| {
            let score = (draw.unit() * steps as f64).floor() / steps as f64;
            (score, draw.unit() < 0.25 + score / 2.0)
        })
        .unzip()
}

/// Within `tolerance`, of the larger of one and the expected.
#[track_caller]
pub(crate) fn near(what: &str, is: f64, expected: f64, tolerance: f64) {
    let off = (is - expected).abs() / expected.abs().max(1.0);
    assert!(off <= tolerance, "{what}: {is:e} instead of {expected:e}, off by {off:e}");
}

/// Within a share of the expected itself, however small.
#[track_caller]
pub(crate) fn near_relative(what: &str, is: f64, expected: f64, tolerance: f64) {
    let off = (is - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
    assert!(off <= tolerance, "{what}: {is:e} instead of {expected:e}, off by {off:e} of it");
}

/// A golden file that is one object.
pub(crate) fn golden_one(name: &str) -> Json {
    let path = format!("{}/oracles/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
