//! The section `capture`. These docs are the manual, as those of `model.rs`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Count, Time};

/// What is kept of answers: a dataset `captured_NAME`, with a row for each row that a predictive model was asked, or for each request of
/// a chat model, a choice or a pipeline.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// The share of requests that is kept, from 0 to 1. Whether one is, is decided by its id: all rows of it or none.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Columns that are not kept: inputs and outputs by their names in the model's signature, `entity`, `input`, `output`.
    pub redact: Vec<String>,
    /// Of what writes: whether what was asked and answered is kept, up to 64 kB each. Without it only what can be told of them is:
    /// lengths, language, whether it refused, tokens, cost, times.
    pub texts: bool,
    /// How often what came becomes a version of the dataset.
    pub every: Time,
    /// After how many rows it does in any case.
    pub rows: Count,
    /// How long rows are kept, such as `90d`: what is older leaves the dataset and the disk, at the latest a tenth of that time later, or a
    /// day. Unless given: for ever.
    pub keep: Option<Time>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            sample: 1.0,
            redact: Vec::new(),
            texts: false,
            every: Time(Duration::from_secs(60)),
            rows: Count(50_000),
            keep: None,
        }
    }
}
