//! Predictive models: the Open Inference Protocol, Triton's extensions, MLflow's scoring.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// What went wrong.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceError {
    error: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceServer {
    name: String,
    version: String,
    extensions: Vec<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceLive {
    live: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceReady {
    ready: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceModelReady {
    name: String,
    ready: bool,
}

/// A tensor that a model takes or gives; -1 where a request chooses.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceField {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceModel {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<InferenceField>,
    outputs: Vec<InferenceField>,
}

/// A model's configuration, as far as Triton's words go.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceConfig {
    name: String,
    platform: String,
    backend: String,
    max_batch_size: i64,
    #[serde(flatten)]
    rest: BTreeMap<String, Json>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceStatistics {
    model_stats: Vec<BTreeMap<String, Json>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceIndexRequest {
    /// Only versions that can be asked at once.
    #[serde(default)]
    ready: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceIndex(Vec<InferenceIndexed>);

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceIndexed {
    name: String,
    version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    state: String,
    reason: String,
}

/// Nothing.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceDone {}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceTensor {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameters: Option<BTreeMap<String, Json>>,
    /// Flat, or lists in lists as the shape says; nothing when the elements are binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    data: Option<Vec<Json>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceWanted {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameters: Option<BTreeMap<String, Json>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InferenceRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// `binary_data_output`; `timeout` in microseconds; `entity`: whom it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameters: Option<BTreeMap<String, Json>>,
    inputs: Vec<InferenceTensor>,
    /// All unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outputs: Option<Vec<InferenceWanted>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct InferenceAnswer {
    model_name: String,
    /// The version that answered.
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    outputs: Vec<InferenceTensor>,
}

/// Exactly one of the four.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ScoringRequest {
    #[schema(nullable = false)]
    dataframe_split: Option<BTreeMap<String, Json>>,
    #[schema(nullable = false)]
    dataframe_records: Option<Vec<BTreeMap<String, Json>>>,
    #[schema(nullable = false)]
    instances: Option<Vec<Json>>,
    /// A list, or lists by the name of an input.
    inputs: Option<Json>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct Predictions {
    predictions: Json,
}
