//! OpenAI's chat completions and models; Anthropic's form of the models, which share the path.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// A chat request. Fields that are not named here are passed on to the provider.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatCompletionRequest {
    /// A model or a pipeline, as `GET /v1/models` lists them.
    #[schema(min_length = 1)]
    model: String,
    /// The conversation. A pipeline that takes text or a document takes the last user message.
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    /// Answer by events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// The most output, in tokens.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_completion_tokens: Option<u64>,
    /// The same under its older name; the newer one wins.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_tokens: Option<u64>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// One answer only.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<u64>,
    stop: Option<Texts>,
    seed: Option<i64>,
    /// Functions that the model may call, as the provider takes them.
    tools: Option<Vec<Json>>,
    #[schema(schema_with = crate::openapi::schemas::any)]
    tool_choice: Option<Json>,
    response_format: Option<ResponseFormat>,
    /// The end user, for limits and the ledger: at most 512 bytes.
    user: Option<String>,
}

/// A text or several.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum Texts {
    One(String),
    Several(Vec<String>),
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct StreamOptions {
    /// A last chunk with the usage.
    include_usage: Option<bool>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    #[schema(schema_with = crate::openapi::schemas::any)]
    json_schema: Option<Json>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum ChatRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatMessage {
    role: ChatRole,
    /// May be missing only from the assistant's messages.
    content: Option<ChatContent>,
    /// Who speaks.
    name: Option<String>,
    /// Calls that the assistant wanted made.
    tool_calls: Option<Vec<ToolCall>>,
    /// Which call a `tool` message answers: required there.
    tool_call_id: Option<String>,
}

/// Text, or parts.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum ChatContent {
    Text(String),
    Parts(Vec<ChatPart>),
}

/// A part of a message. Those that are not text are passed on.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatPart {
    #[serde(rename = "type")]
    kind: String,
    /// Required of the type `text`.
    text: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ToolCall {
    id: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    function: FunctionCall,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FunctionCall {
    name: String,
    /// JSON, as text.
    arguments: String,
}

/// A whole answer.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatCompletion {
    /// The request's id: `req_…`.
    id: String,
    /// `chat.completion`
    #[schema(pattern = "^chat\\.completion$")]
    object: String,
    /// Seconds since the epoch.
    created: i64,
    /// As the caller named it.
    model: String,
    #[schema(min_items = 1, max_items = 1)]
    choices: Vec<ChatChoice>,
    usage: ChatUsage,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatChoice {
    index: u64,
    message: ChatAnswer,
    /// As the provider gave them.
    #[schema(schema_with = crate::openapi::schemas::any, required)]
    logprobs: Option<Json>,
    finish_reason: FinishReason,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatAnswer {
    /// `assistant`
    role: ChatRole,
    /// Null when the answer is calls only.
    #[schema(required)]
    content: Option<String>,
    #[schema(required)]
    refusal: Option<String>,
    /// What a reasoning model showed of its thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCall>>,
}

/// Why the answer ended. `error` is the reason of a stream that broke, and of no whole answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Error,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
    /// There where the provider says how much of it was reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionTokensDetails>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CompletionTokensDetails {
    reasoning_tokens: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct PromptTokensDetails {
    cached_tokens: u64,
}

/// The data of one event of a stream. The last event's data is `[DONE]`, unless the stream broke: then the last chunk has
/// `error` and the finish reason `error`, and nothing follows.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChatChunk {
    /// The request's id: `req_…`.
    id: String,
    /// `chat.completion.chunk`
    #[schema(pattern = "^chat\\.completion\\.chunk$")]
    object: String,
    /// Seconds since the epoch.
    created: i64,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ChunkError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forebay: Option<ChunkMark>,
    /// One, or none in the chunk with the usage.
    #[schema(max_items = 1)]
    choices: Vec<ChunkChoice>,
    /// There with `stream_options.include_usage`, and null but in the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::some")]
    #[schema(value_type = Option<ChatUsage>)]
    usage: Option<Option<ChatUsage>>,
}

/// For who asked for it: the answer broke off and begins anew.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkMark {
    /// Forget all text so far.
    reset: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkError {
    #[schema(schema_with = super::errors::codes)]
    code: String,
    message: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkChoice {
    index: u64,
    delta: ChunkDelta,
    /// As the provider gave them. Not there in a chunk with an error.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::some")]
    #[schema(schema_with = crate::openapi::schemas::any)]
    logprobs: Option<Json>,
    #[schema(required)]
    finish_reason: Option<FinishReason>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<ChatRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ChunkToolCall>>,
}

/// A piece of a call: the first of a call has its id and name.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkToolCall {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    function: ChunkFunction,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ChunkFunction {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

/// All models and pipelines.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Models {
    /// `list`
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<Model>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Model {
    id: String,
    /// `model`
    #[schema(pattern = "^model$")]
    object: String,
    /// Since when it can be called, in seconds since the epoch.
    created: i64,
    owned_by: Owner,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Owner {
    Model,
    Pipeline,
}

/// The same for Anthropic's clients: all on one page.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct AnthropicModels {
    data: Vec<AnthropicModel>,
    has_more: bool,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct AnthropicModel {
    /// `model`
    #[serde(rename = "type")]
    #[schema(pattern = "^model$")]
    kind: String,
    id: String,
    display_name: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required)]
    max_input_tokens: Option<u64>,
    #[schema(required)]
    max_tokens: Option<u64>,
}
