//! OpenAI's completions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::openai::{ChatUsage, ChunkError, ChunkMark, FinishReason, StreamOptions, Texts};

/// A prompt to go on with. It is what the user says to a chat model. Fields that are not named here are passed on to the
/// provider.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CompletionRequest {
    /// A model or a pipeline, as `GET /v1/models` lists them.
    #[schema(min_length = 1)]
    model: String,
    prompt: Prompt,
    /// Answer by events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// The most output, in tokens.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_tokens: Option<u64>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// One answer only.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<u64>,
    /// One answer only.
    #[schema(minimum = 1, maximum = 1)]
    best_of: Option<u64>,
    stop: Option<Texts>,
    seed: Option<i64>,
    /// The end user, for limits and the ledger: at most 512 bytes.
    user: Option<String>,
}

/// A text, or an array of one.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum Prompt {
    Text(String),
    One(Vec<String>),
}

/// A whole answer.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TextCompletion {
    /// The request's id: `req_…`.
    id: String,
    /// `text_completion`
    #[schema(pattern = "^text_completion$")]
    object: String,
    /// Seconds since the epoch.
    created: i64,
    /// As the caller named it.
    model: String,
    #[schema(min_items = 1, max_items = 1)]
    choices: Vec<TextChoice>,
    usage: ChatUsage,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TextChoice {
    index: u64,
    text: String,
    /// Always null: chat completions and responses have them.
    #[schema(required)]
    logprobs: Option<()>,
    #[schema(required)]
    finish_reason: Option<FinishReason>,
}

/// The data of one event of a stream. The last event's data is `[DONE]`, unless the stream broke: then the last chunk has
/// `error` and the finish reason `error`, and nothing follows.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct TextChunk {
    /// The request's id: `req_…`.
    id: String,
    /// `text_completion`
    #[schema(pattern = "^text_completion$")]
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
    choices: Vec<TextChoice>,
    /// There with `stream_options.include_usage`, and null but in the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::some")]
    #[schema(value_type = Option<ChatUsage>)]
    usage: Option<Option<ChatUsage>>,
}
