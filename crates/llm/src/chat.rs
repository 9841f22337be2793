//! What a chat model is asked and what it answers, in a form every provider is mapped to and from.
//!
//! Nothing here knows a protocol: [`crate::codec`] speaks to providers, [`crate::surface`] to callers. Invariants: a
//! stream of deltas is complete if and only if it held a [`Delta::Finish`]; usage may come anywhere in it.

use std::pin::Pin;

use contract::{Error, Message, Usage};
use futures_core::Stream;
use serde_json::{Map, Value as Json};

/// A request to a chat model. The model's name is not part of it: a registry routes by name, an endpoint knows its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatRequest {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// At most this many tokens of output; `None` leaves it to the model's settings.
    pub max_output_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Texts that end the output.
    pub stop: Vec<String>,
    /// Sampling seed, where the provider knows one.
    pub seed: Option<i64>,
    /// The tools, an array in OpenAI's form, passed through.
    pub tools: Option<Json>,
    /// Which tool to use, in OpenAI's form (`"auto"`, `"none"`, `"required"`, an object).
    pub tool_choice: Option<Json>,
    /// The form of the output, in OpenAI's form (`{"type":"json_schema",…}`).
    pub response_format: Option<Json>,
    /// Whether the upstream should stream. Answers come as deltas either way.
    pub stream: bool,
    /// The last message is the beginning of the answer, which goes on behind it (assistant prefill).
    pub continues: bool,
    /// Fields of the caller's body that nobody here knows, passed through to upstreams of the same protocol.
    pub extra: Map<String, Json>,
}

/// The next thing a model says.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// The version that answers, as the provider names it. Not output.
    Version(String),
    /// Text of the answer.
    Text(String),
    /// Text of the model's reasoning, where the provider shows it. Not the answer, but progress.
    Reasoning(String),
    /// Log probabilities of the next piece, in OpenAI's form, where the caller asked for them.
    Logprobs(Box<Json>),
    /// The provider's seal on the reasoning before it, which it wants back unchanged with the next turn.
    Signature(String),
    /// A piece of a tool call. The first piece of an index carries `id` and `name`; `arguments` adds up to JSON text.
    ToolCall {
        /// Which call of this answer, from 0.
        index: u32,
        /// The provider's id of the call, with the first piece.
        id: Option<String>,
        /// The function's name, with the first piece.
        name: Option<String>,
        /// The next piece of the arguments.
        arguments: String,
    },
    /// The answer broke off and begins anew: what came before is to be forgotten.
    Reset,
    /// Why the answer ended. Without it a stream was cut.
    Finish(FinishReason),
    /// Tokens used so far; a later one replaces an earlier one.
    Usage(Usage),
}

impl Delta {
    /// Whether the caller sees it as output: after one of these an answer cannot be started anew unseen.
    pub fn is_output(&self) -> bool {
        match self {
            Delta::Text(t) | Delta::Reasoning(t) => !t.is_empty(),
            Delta::ToolCall { .. } => true,
            Delta::Version(_) | Delta::Finish(_) | Delta::Usage(_) | Delta::Reset => false,
            Delta::Logprobs(_) | Delta::Signature(_) => false,
        }
    }
}

/// Why an answer ended. An answer that broke off has no reason: it ends with an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model was done, or met a stop text.
    Stop,
    /// The output limit or the window was reached.
    Length,
    /// The model wants tools called.
    ToolCalls,
    /// The provider filtered the output.
    ContentFilter,
    /// A reason that only OpenAI's protocol or a provider that speaks it knows, in its words.
    OpenAi(Box<str>),
    /// A reason that only Anthropic's protocol knows, in its words: `pause_turn`.
    Anthropic(Box<str>),
}

impl FinishReason {
    /// The name in records and traces: OpenAI's, and `other`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::OpenAi(_) | Self::Anthropic(_) => "other",
        }
    }
}

/// The answer as it comes. Dropping it cancels the upstream at once.
pub type DeltaStream = Pin<Box<dyn Stream<Item = Result<Delta, Error>> + Send>>;
