//! The pipelines' own surface, the ledger's record, readiness.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

/// A pipeline's input.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct PipelineInput {
    /// Text, messages or JSON, as the pipeline takes it.
    #[schema(required)]
    input: Json,
    /// Answer by events.
    #[serde(default)]
    stream: bool,
    /// The end user, for limits and the ledger: at most 512 bytes.
    user: Option<String>,
    /// What a text is: `text/plain`, `text/markdown` or `text/html`.
    media_type: Option<String>,
    /// `input`, over a WebSocket; it decides nothing.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A document as a form.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct PipelineForm {
    /// The document. Its type is that of its part, or as its name ends.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Answer by events: `true`.
    #[serde(default)]
    stream: bool,
    /// The end user, for limits and the ledger: at most 512 bytes.
    #[schema(nullable = false)]
    user: Option<String>,
}

/// A pipeline's output and what it took. The findings of its stages (`coverage`, `citations`, `grounding`, …) stand beside.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct PipelineOutput {
    /// The request's id: `req_…`.
    id: String,
    /// Text, or JSON as the pipeline's output says.
    #[schema(required)]
    output: Json,
    /// Whether it is all of it. If not, `error` says why.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RunEvent>,
    usage: Usage,
    /// In 10⁻⁹ dollars.
    cost_nanousd: i64,
    stages: Vec<StageRecord>,
    /// The version of the model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
}

/// What was used.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    /// The part of the input that the provider had in its cache.
    cached_input_tokens: u64,
    /// The part of the output that was reasoning, where the provider says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    /// Some of it was counted here, because the provider did not say.
    estimated: bool,
}

/// The data of one event of a run; the event has the name of its `type`, and increasing ids. Over a WebSocket it is a
/// message, with `event_id` for the id. The last is `done`; a stream without it was cut.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::openapi) enum RunEvent {
    /// The request was taken.
    Accepted { id: String, queue_position: u64, expected_wait_ms: u64 },
    /// A stage changed its state.
    Stage {
        name: String,
        state: StageState,
        elapsed_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        budget_ms: Option<u64>,
    },
    /// Something useful before the answer, which replaces it.
    Draft { text: String },
    /// The next piece of the answer.
    Delta { text: String },
    /// The answer broke off and begins anew: forget all deltas so far.
    Reset {},
    /// One of many ended: with `text` or with `error`.
    Part {
        stage: String,
        index: u64,
        of: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// What has been used so far.
    Usage { usage: Usage, cost_nanousd: i64 },
    /// Why the answer is not, or not all, there.
    Error {
        #[schema(schema_with = super::errors::codes)]
        code: String,
        class: Class,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// Whether what came before can be used.
        partial: bool,
    },
    /// The end. The findings of stages stand beside these fields.
    Done {
        done: bool,
        usage: Usage,
        cost_nanousd: i64,
        stages: Vec<StageRecord>,
        /// The answer, when no `delta` showed a piece of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        #[serde(skip_serializing_if = "Option::is_none")]
        model_version: Option<String>,
    },
}

/// Who can do something about an error.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Class {
    Invalid,
    Denied,
    Overloaded,
    Deadline,
    Upstream,
    Internal,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum StageState {
    Started,
    Done,
    Partial,
    Failed,
    Skipped,
}

/// A stage of a run. Times are in µs after the request's arrival.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct StageRecord {
    name: String,
    started_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_output_us: Option<u64>,
    ended_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_ms: Option<u64>,
    state: StageState,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cause>,
    /// Of many: how many there were, failed, and came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 3, max_items = 3)]
    parts: Option<Vec<u64>>,
}

/// Why something failed, as the ledger keeps it.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Cause {
    #[schema(schema_with = super::errors::codes)]
    code: String,
    message: String,
    /// Whether another try makes sense: `no`, `elsewhere`, or an object with how long `after`.
    #[schema(required)]
    retry: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
    /// What the provider answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u16>,
}

/// A call to a model. Times are in µs after the request's arrival.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct AttemptRecord {
    /// The stage that made it; none in a plain model call.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    /// Which attempt of the request, from 1; 0 in old records.
    ordinal: u32,
    /// Which try for the same answer, from 1.
    number: u32,
    /// Why it was made, unless it is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_version: Option<String>,
    started_us: u64,
    queued_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_us: Option<u64>,
    ended_us: u64,
    usage: Usage,
    /// In 10⁻⁹ dollars.
    cost: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<String>,
    ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cause>,
}

/// Why a call was made that is not the first for its answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Reason {
    Retry,
    Elsewhere,
    Fallback,
    Hedge,
    Restart,
    Continue,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Ending {
    Complete,
    Partial,
    Failed,
    Cancelled,
    Lost,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Surface {
    Openai,
    Completions,
    Responses,
    Anthropic,
    Inference,
    Native,
    Cli,
}

/// The ledger's record of a request that ended.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct RequestRecord {
    /// `req_…`
    id: String,
    /// When it arrived, in milliseconds since the epoch.
    at: i64,
    surface: Surface,
    tenant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    stream: bool,
    queued_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_output_us: Option<u64>,
    total_us: u64,
    usage: Usage,
    /// In 10⁻⁹ dollars.
    cost: i64,
    attempts: Vec<AttemptRecord>,
    stages: Vec<StageRecord>,
    /// Findings of stages.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Json>,
    ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cause>,
}

/// Whether new requests are taken.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Readiness {
    ready: bool,
    /// Why not.
    #[schema(required)]
    problem: Option<String>,
    /// Records that are in the journal and not yet in the database, in bytes.
    ledger_lag_bytes: u64,
    /// The configuration in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    config: Option<ReadyConfig>,
}

/// Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ReadyConfig {
    version: String,
    loaded_at: i64,
    /// When the last attempt to load another was refused, if it was.
    #[schema(required)]
    refused_at: Option<i64>,
}
