//! OpenAI's batches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file of requests that are to be answered.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct BatchRequest {
    /// A file with the purpose `batch`: a line of JSON for each request, with `custom_id`, `method`, `url` and `body`.
    input_file_id: String,
    endpoint: BatchEndpoint,
    /// `24h`: a number and `s`, `m`, `h` or `d`, a week at most.
    #[schema(pattern = "^[0-9]+[smhd]$")]
    completion_window: String,
    #[schema(required = false)]
    metadata: Option<BTreeMap<String, String>>,
    #[schema(required = false)]
    output_expires_after: Option<BatchFilesStay>,
}

/// How long the files of a batch stay.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct BatchFilesStay {
    /// `created_at`
    anchor: String,
    #[schema(minimum = 3600, maximum = 2_592_000)]
    seconds: u64,
}

/// What a batch can ask.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) enum BatchEndpoint {
    #[serde(rename = "/v1/chat/completions")]
    ChatCompletions,
    #[serde(rename = "/v1/completions")]
    Completions,
    #[serde(rename = "/v1/responses")]
    Responses,
}

/// A batch. Times are in seconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Batch {
    /// `batch_` and 32 hexadecimal digits.
    id: String,
    /// `batch`
    #[schema(pattern = "^batch$")]
    object: String,
    endpoint: BatchEndpoint,
    /// What is wrong with the lines of its file.
    #[schema(required)]
    errors: Option<BatchErrors>,
    input_file_id: String,
    completion_window: String,
    status: BatchStatus,
    /// The answers, a line of JSON for each.
    #[schema(required)]
    output_file_id: Option<String>,
    /// The lines that failed.
    #[schema(required)]
    error_file_id: Option<String>,
    created_at: i64,
    #[schema(required)]
    in_progress_at: Option<i64>,
    expires_at: i64,
    #[schema(required)]
    finalizing_at: Option<i64>,
    #[schema(required)]
    completed_at: Option<i64>,
    #[schema(required)]
    failed_at: Option<i64>,
    #[schema(required)]
    expired_at: Option<i64>,
    #[schema(required)]
    cancelling_at: Option<i64>,
    #[schema(required)]
    cancelled_at: Option<i64>,
    request_counts: BatchCounts,
    #[schema(required)]
    metadata: Option<BTreeMap<String, String>>,
}

/// How a batch is doing.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum BatchStatus {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct BatchCounts {
    total: u64,
    completed: u64,
    failed: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct BatchErrors {
    /// `list`
    object: String,
    data: Vec<BatchError>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct BatchError {
    code: String,
    message: String,
    #[schema(required)]
    param: Option<String>,
    /// From 1.
    #[schema(required)]
    line: Option<u64>,
}

/// A page of batches, the newest first.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Batches {
    /// `list`
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<Batch>,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
    /// Whether there are more behind the last.
    has_more: bool,
}
