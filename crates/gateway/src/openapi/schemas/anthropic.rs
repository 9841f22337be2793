//! Anthropic's messages.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::errors::ErrorDetail;

/// A request. Fields that are not named here are passed on to the provider.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct MessagesRequest {
    /// A model or a pipeline, as `GET /v1/models` lists them.
    #[schema(min_length = 1)]
    model: String,
    /// The most output, in tokens.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_tokens: u64,
    /// The conversation. A pipeline that takes text or a document takes the last user message.
    #[schema(min_items = 1)]
    messages: Vec<Turn>,
    /// Instructions.
    system: Option<System>,
    /// Answer by events.
    stream: Option<bool>,
    #[schema(minimum = 0, maximum = 1)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    stop_sequences: Option<Vec<String>>,
    /// Tools that the model may call, as the provider takes them.
    tools: Option<Vec<Json>>,
    tool_choice: Option<ToolChoice>,
    metadata: Option<Metadata>,
}

/// A request whose input is counted.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CountTokensRequest {
    /// A model or a pipeline.
    #[schema(min_length = 1)]
    model: String,
    /// The conversation.
    #[schema(min_items = 1)]
    messages: Vec<Turn>,
    system: Option<System>,
    tools: Option<Vec<Json>>,
    tool_choice: Option<ToolChoice>,
}

/// How many tokens the input has, as the local tokenizer counts.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct InputTokens {
    input_tokens: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Speaker {
    User,
    Assistant,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Turn {
    role: Speaker,
    content: TurnContent,
}

/// Text, or blocks: text, tool calls and results, images; others are passed on.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum TurnContent {
    Text(String),
    Blocks(Vec<TurnBlock>),
}

/// A block by its type: `text` needs `text`; `tool_use` needs `id` and `name`; `tool_result` needs `tool_use_id`; `image`
/// needs `source`.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TurnBlock {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[schema(schema_with = crate::openapi::schemas::any)]
    input: Option<Json>,
    tool_use_id: Option<String>,
    #[schema(schema_with = crate::openapi::schemas::any)]
    content: Option<Json>,
    #[schema(schema_with = crate::openapi::schemas::any)]
    source: Option<Json>,
}

/// Text, or blocks of text.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum System {
    Text(String),
    Blocks(Vec<TextBlock>),
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TextBlock {
    /// `text`
    #[serde(rename = "type")]
    #[schema(pattern = "^text$")]
    kind: String,
    text: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct ToolChoice {
    #[serde(rename = "type")]
    kind: ToolChoiceType,
    /// Required of the type `tool`.
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum ToolChoiceType {
    Auto,
    Any,
    Tool,
    None,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Metadata {
    /// The end user, for limits and the ledger: at most 512 bytes.
    user_id: Option<String>,
}

/// A whole answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Message)]
pub(in crate::openapi) struct MessageObject {
    /// The request's id: `req_…`.
    id: String,
    /// `message`
    #[serde(rename = "type")]
    #[schema(pattern = "^message$")]
    kind: String,
    /// `assistant`
    role: Speaker,
    /// As the caller named it.
    model: String,
    content: Vec<Block>,
    /// Null in `message_start`.
    #[schema(required)]
    stop_reason: Option<StopReason>,
    #[schema(required)]
    stop_sequence: Option<String>,
    usage: MessageUsage,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::openapi) enum Block {
    Text { text: String },
    Thinking { thinking: String, signature: String },
    ToolUse { id: String, name: String, input: Map<String, Json> },
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum StopReason {
    EndTurn,
    MaxTokens,
    ToolUse,
    Refusal,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct MessageUsage {
    /// Those that came from the provider's cache not included.
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

/// The data of one event of a stream; the event has the name of its `type`. The last is `message_stop`, or `error` when the
/// stream broke.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::openapi) enum MessageEvent {
    MessageStart {
        message: MessageObject,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    ContentBlockStop {
        index: u64,
    },
    MessageDelta {
        delta: MessageStop,
        usage: MessageUsage,
    },
    MessageStop {},
    Ping {},
    /// The answer broke off and begins anew, for who asked for that: forget all content so far.
    ForebayReset {},
    Error {
        error: ErrorDetail,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub(in crate::openapi) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct MessageStop {
    stop_reason: StopReason,
    #[schema(required)]
    stop_sequence: Option<String>,
}
