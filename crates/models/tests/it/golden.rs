//! Values that other packages computed: `tests/oracles/release/make.py` makes them again.

use serde_json::Value;

/// A recorded file.
pub(crate) fn read(name: &str) -> Value {
    let path = format!("{}/tests/oracles/release/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

pub(crate) fn bools(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() == 1).collect()
}

pub(crate) fn pairs(value: &Value) -> Vec<(f64, f64)> {
    value.as_array().unwrap().iter().map(|p| (p[0].as_f64().unwrap(), p[1].as_f64().unwrap())).collect()
}

/// Equal to 1e-9, relative for what is large.
#[track_caller]
pub(crate) fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {found}, not {expected}");
}
