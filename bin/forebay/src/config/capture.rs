//! The section `capture`. These docs are the manual, as those of `model.rs`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Count, Time};

/// What is kept of a predictive model's answers: a dataset `captured_MODEL` with a row for each row that was asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// The share of requests that is kept, from 0 to 1. Whether one is, is decided by its id: all rows of it or none.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Inputs and outputs that are not kept, by their names in the model's signature.
    pub redact: Vec<String>,
    /// How often what came becomes a version of the dataset.
    pub every: Time,
    /// After how many rows it does in any case.
    pub rows: Count,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            sample: 1.0,
            redact: Vec::new(),
            every: Time(Duration::from_secs(60)),
            rows: Count(50_000),
        }
    }
}
