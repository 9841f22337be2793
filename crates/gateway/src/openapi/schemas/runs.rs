//! What is shown of durable runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::any;

/// A durable run of a pipeline, as it is asked for.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunWanted {
    pipeline: String,
    /// What it is given; what is not named is as the pipeline says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    params: Option<serde_json::Value>,
    /// The pipeline's input, where a stage takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    input: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<RunPartition>,
    /// `low`, `normal` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<String>,
    /// The backfill that it is part of: its runs wait for each other and for nobody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<String>,
    /// How many stages of that backfill may be under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<u32>,
}

/// The part of the data that a run is about.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunPartition {
    key: String,
    start: String,
    end: String,
}

/// A page of runs, the newest first.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Runs {
    /// `list`.
    object: String,
    data: Vec<Run>,
    has_more: bool,
    /// For `after`, to ask for the next page.
    #[schema(required)]
    last_id: Option<String>,
}

/// A durable run of a pipeline. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Run {
    /// `run_` and 32 hexadecimal digits.
    id: String,
    /// `run`.
    object: String,
    pipeline: String,
    /// The hash of the pipeline as it was, in short.
    version: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    params: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<RunPartition>,
    /// What started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    cause: Option<serde_json::Value>,
    /// The run whose finished stages were not done again.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumes: Option<String>,
    submitted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RunError>,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<RunStage>>,
}

/// What went wrong.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunError {
    code: String,
    class: String,
    message: String,
}

/// A stage of a run.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunStage {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// `blocked`, `waiting` (for approval), `ready`, `running`, `done`, `failed`, `skipped` or `cancelled`.
    state: String,
    /// The stages that it waits for.
    after: Vec<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    /// Attempts that were lost with their worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    losses: Option<u32>,
    /// Times there was no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    postponed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    /// When it is begun, again or for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<i64>,
    /// Who is at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// What somebody is asked before it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<RunProgress>,
    /// The run that had made its output of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<String>,
    /// Why its output was made, or was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Who said that it may start, or may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RunError>,
}

/// How far a stage is.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunProgress {
    done: u64,
    #[schema(required)]
    of: Option<u64>,
}

/// Whether a stage may start.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunDecision {
    stage: String,
    /// Yes, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    approved: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What a stage said.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunLog {
    /// `log`.
    object: String,
    stage: String,
    text: String,
    /// For `from`, to read on.
    next: u64,
    /// Whether nothing more comes.
    ended: bool,
}

/// What a stage made.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RunOutput {
    /// `output`.
    object: String,
    run: String,
    stage: String,
    /// `text`, `json`, `table`, `list of text`, …
    kind: String,
    /// JSON as it is, lists as arrays, a table by the name of its version, the rest as text.
    value: serde_json::Value,
}
