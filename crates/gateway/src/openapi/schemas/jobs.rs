//! What is shown of jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::any;
use super::native::StageRecord;

/// A page of jobs, the newest first.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Jobs {
    /// `list`.
    object: String,
    data: Vec<JobHead>,
    has_more: bool,
    /// For `after`, to ask for the next page.
    #[schema(required)]
    last_id: Option<String>,
}

/// What lists show of a job. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct JobHead {
    /// `run_` and 32 hexadecimal digits.
    id: String,
    /// `job`.
    object: String,
    status: JobStatus,
    /// The route it is for.
    path: String,
    submitted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
}

/// How a job is doing.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum JobStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A request that is answered later. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Job {
    /// `run_` and 32 hexadecimal digits.
    id: String,
    /// `job`.
    object: String,
    status: JobStatus,
    /// The route it is for.
    path: String,
    submitted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    /// How often it was begun.
    attempts: u32,
    /// The ids of the attempts in the ledger, for `GET /v1/requests/{id}`.
    request_ids: Vec<String>,
    progress: Vec<JobProgress>,
    /// The status that the call would have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    /// The body that the call would have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    result: Option<serde_json::Value>,
    /// Why it failed, as the call would have said; of a job that goes on, what went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    error: Option<serde_json::Value>,
    /// Who is told when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
}

/// How far one stage of a job is.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct JobProgress {
    name: String,
    /// `blocked`, `queued`, `running`, `done`, `failed` or `cancelled`.
    state: String,
    /// How often it was begun.
    attempts: u32,
    /// How often it failed by a fault that may pass.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    /// When it is begun, again or for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<i64>,
    /// Units that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    /// Units there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
    /// While it runs: the stages of the pipeline that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<StageRecord>>,
}

/// A job that was removed.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct JobRemoved {
    id: String,
    /// `job`.
    object: String,
    deleted: bool,
}

/// The webhooks about a job.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Deliveries {
    /// `list`.
    object: String,
    data: Vec<Delivery>,
}

/// A webhook on its way. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Delivery {
    /// The same for every try: `webhook-id`.
    id: String,
    /// `delivery`.
    object: String,
    url: String,
    status: DeliveryStatus,
    /// How often it was tried.
    attempts: u32,
    created_at: i64,
    #[schema(required)]
    last_attempt_at: Option<i64>,
    #[schema(required)]
    next_attempt_at: Option<i64>,
    /// What the receiver answered last.
    #[schema(required)]
    response_status: Option<u16>,
    /// What went wrong last.
    #[schema(required)]
    problem: Option<String>,
}

/// How a webhook is doing: `disabled` when its receiver said that it is gone.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum DeliveryStatus {
    Waiting,
    Delivered,
    Failed,
    Disabled,
}
