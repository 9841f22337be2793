//! OpenAI's responses.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

/// A request. No conversation is stored: the whole of it is in `input`. Fields that are not named here are passed on to the
/// provider.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseRequest {
    /// A model or a pipeline, as `GET /v1/models` lists them.
    #[schema(min_length = 1)]
    model: String,
    input: ResponseInput,
    /// Instructions, before the input.
    instructions: Option<String>,
    /// Answer by events.
    stream: Option<bool>,
    /// The most output, in tokens.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_output_tokens: Option<u64>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Functions that the model may call. Tools that OpenAI runs itself are refused.
    tools: Option<Vec<FunctionTool>>,
    /// `auto`, `none`, `required`, a function, or `allowed_tools`.
    #[schema(schema_with = crate::openapi::schemas::any)]
    tool_choice: Option<Json>,
    parallel_tool_calls: Option<bool>,
    text: Option<ResponseText>,
    reasoning: Option<ResponseReasoning>,
    /// `message.output_text.logprobs` brings log probabilities.
    include: Option<Vec<String>>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u64>,
    /// At most 16 strings, which come back with the answer.
    metadata: Option<Map<String, Json>>,
    /// The end user, for limits and the ledger: at most 512 bytes.
    user: Option<String>,
    /// The same under its newer name.
    safety_identifier: Option<String>,
    /// The same as `background` where it is there.
    store: Option<bool>,
    /// Answer at once, with a response that is queued: `GET /v1/responses/{id}` shows what becomes of it. Not with `stream`.
    background: Option<bool>,
    /// Must be `disabled` where it is there.
    truncation: Option<String>,
}

/// A text of the user's, or items.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum ResponseInput {
    Text(String),
    Items(Vec<InputItem>),
}

/// An item by its type: a `message` (or no type) needs `role` and `content`; a `function_call` `call_id`, `name` and
/// `arguments`; a `function_call_output` `call_id` and `output`; a `reasoning` `summary`.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InputItem {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    /// Text, or parts: `input_text`, `output_text`, `input_image`, `input_file`, `input_audio`.
    #[schema(schema_with = crate::openapi::schemas::any)]
    content: Option<Json>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    /// Text, or parts.
    #[schema(schema_with = crate::openapi::schemas::any)]
    output: Option<Json>,
    summary: Option<Vec<Json>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FunctionTool {
    /// `function`
    #[serde(rename = "type")]
    #[schema(pattern = "^function$")]
    kind: String,
    #[schema(min_length = 1)]
    name: String,
    description: Option<String>,
    /// A JSON schema.
    #[schema(schema_with = crate::openapi::schemas::any)]
    parameters: Option<Json>,
    strict: Option<bool>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseText {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<TextFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<String>,
}

/// The form of the text: `text`, `json_object`, or `json_schema` with `name` and `schema`.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Map<String, Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseReasoning {
    effort: Option<String>,
    summary: Option<String>,
}

/// A response, whole or as far as it came.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Response)]
pub(in crate::openapi) struct ResponseObject {
    /// `resp_` and what the request's id has behind its `req_`.
    id: String,
    /// `response`
    #[schema(pattern = "^response$")]
    object: String,
    /// Seconds since the epoch.
    created_at: i64,
    /// As the caller named it.
    model: String,
    status: ResponseStatus,
    #[schema(required)]
    error: Option<ResponseError>,
    #[schema(required)]
    incomplete_details: Option<IncompleteDetails>,
    #[schema(required)]
    instructions: Option<String>,
    #[schema(required)]
    max_output_tokens: Option<u64>,
    #[schema(required)]
    max_tool_calls: Option<u64>,
    #[schema(required)]
    temperature: Option<f64>,
    #[schema(required)]
    top_p: Option<f64>,
    top_logprobs: u64,
    metadata: Map<String, Json>,
    parallel_tool_calls: bool,
    tools: Vec<Json>,
    #[schema(schema_with = crate::openapi::schemas::any)]
    tool_choice: Json,
    text: ResponseText,
    reasoning: ResponseReasoning,
    #[schema(required)]
    user: Option<String>,
    #[schema(required)]
    safety_identifier: Option<String>,
    #[schema(required)]
    prompt_cache_key: Option<String>,
    /// Whether it is kept: the same as `background`.
    store: bool,
    background: bool,
    /// `disabled`
    truncation: String,
    /// Null.
    #[schema(required)]
    previous_response_id: Option<String>,
    output: Vec<OutputItem>,
    /// Null unless it was answered.
    #[schema(required)]
    usage: Option<ResponseUsage>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum ResponseStatus {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseError {
    #[schema(schema_with = super::errors::codes)]
    code: String,
    message: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct IncompleteDetails {
    /// `max_output_tokens` or `content_filter`.
    reason: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::openapi) enum OutputItem {
    Message {
        id: String,
        status: ResponseStatus,
        /// `assistant`
        role: String,
        content: Vec<OutputText>,
    },
    Reasoning {
        id: String,
        status: ResponseStatus,
        summary: Vec<SummaryText>,
        /// The provider's seal, which it wants back with the next turn.
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: String,
        status: ResponseStatus,
        call_id: String,
        name: String,
        /// JSON, as text.
        arguments: String,
    },
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct OutputText {
    /// `output_text`
    #[serde(rename = "type")]
    #[schema(pattern = "^output_text$")]
    kind: String,
    text: String,
    annotations: Vec<Json>,
    /// As the provider gave them.
    logprobs: Vec<Json>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct SummaryText {
    /// `summary_text`
    #[serde(rename = "type")]
    #[schema(pattern = "^summary_text$")]
    kind: String,
    text: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: ResponseInputDetails,
    output_tokens: u64,
    output_tokens_details: ResponseOutputDetails,
    total_tokens: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseInputDetails {
    cached_tokens: u64,
    /// 0: no provider of ours says it.
    cache_write_tokens: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseOutputDetails {
    /// As the provider says, and 0 where it does not.
    reasoning_tokens: u64,
}

/// The data of one event of a stream; the event has the name of its `type`, and `sequence_number` counts from 0. The last is
/// `response.completed`, `response.incomplete` or, behind an `error`, `response.failed`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub(in crate::openapi) enum ResponseEvent {
    #[serde(rename = "response.created")]
    Created { sequence_number: u64, response: ResponseObject },
    #[serde(rename = "response.in_progress")]
    InProgress { sequence_number: u64, response: ResponseObject },
    #[serde(rename = "response.completed")]
    Completed { sequence_number: u64, response: ResponseObject },
    #[serde(rename = "response.incomplete")]
    Incomplete { sequence_number: u64, response: ResponseObject },
    #[serde(rename = "response.failed")]
    Failed { sequence_number: u64, response: ResponseObject },
    #[serde(rename = "response.output_item.added")]
    ItemAdded { sequence_number: u64, output_index: u64, item: OutputItem },
    #[serde(rename = "response.output_item.done")]
    ItemDone { sequence_number: u64, output_index: u64, item: OutputItem },
    #[serde(rename = "response.content_part.added")]
    PartAdded {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        content_index: u64,
        part: OutputText,
    },
    #[serde(rename = "response.content_part.done")]
    PartDone {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        content_index: u64,
        part: OutputText,
    },
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        content_index: u64,
        delta: String,
        logprobs: Vec<Json>,
    },
    #[serde(rename = "response.output_text.done")]
    TextDone {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        content_index: u64,
        text: String,
        logprobs: Vec<Json>,
    },
    #[serde(rename = "response.reasoning_summary_part.added")]
    SummaryAdded {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        summary_index: u64,
        part: SummaryText,
    },
    #[serde(rename = "response.reasoning_summary_part.done")]
    SummaryDone {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        summary_index: u64,
        part: SummaryText,
    },
    #[serde(rename = "response.reasoning_summary_text.delta")]
    SummaryTextDelta {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        summary_index: u64,
        delta: String,
    },
    #[serde(rename = "response.reasoning_summary_text.done")]
    SummaryTextDone {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        summary_index: u64,
        text: String,
    },
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta { sequence_number: u64, output_index: u64, item_id: String, delta: String },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        sequence_number: u64,
        output_index: u64,
        item_id: String,
        name: String,
        arguments: String,
    },
    /// The answer broke off and begins anew, for who asked for that: forget the items before the one at `output_index`.
    #[serde(rename = "response.forebay_reset")]
    Reset { sequence_number: u64, output_index: u64 },
    #[serde(rename = "error")]
    Error {
        sequence_number: u64,
        #[schema(schema_with = super::errors::codes)]
        code: String,
        message: String,
        #[schema(required)]
        param: Option<String>,
    },
}

/// A response that was removed.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseDeleted {
    id: String,
    /// `response`
    #[schema(pattern = "^response$")]
    object: String,
    deleted: bool,
}
