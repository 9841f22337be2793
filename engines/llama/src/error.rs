//! What can go wrong, and the shape in which a client hears of it: `{"error": {message, type, param, code}}`.
//!
//! Messages never contain text of a prompt.

use http::StatusCode;
use serde_json::{Value, json};

/// An error of the worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The body is not what the protocol asks for.
    #[error("{message}")]
    Invalid {
        /// The field at fault, where it is known.
        param: Option<&'static str>,
        /// What is wrong with it.
        message: String,
    },
    /// The prompt leaves no room for a single token of output.
    #[error(
        "the prompt has {tokens} tokens, but a sequence of this model holds {limit}, of which one must be left for the answer"
    )]
    ContextLength {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that a sequence holds.
        limit: usize,
    },
    /// Another model is served here.
    #[error("the model does not exist: this worker serves '{served}'")]
    UnknownModel {
        /// The name it goes by.
        served: String,
    },
    /// The body is larger than the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// No such route.
    #[error("no such route")]
    NotFound,
    /// All sequences are taken and the queue is full.
    #[error("all sequences are taken and the queue is full, try again later")]
    QueueFull,
    /// llama.cpp failed, or the engine has ended.
    #[error("{0}")]
    Engine(String),
}

impl Error {
    /// An invalid field.
    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { param: Some(param), message: message.into() }
    }

    /// The status of an answer that has not begun.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::ContextLength { .. } => StatusCode::BAD_REQUEST,
            Self::UnknownModel { .. } | Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QueueFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable code that a program reads.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_request",
            Self::ContextLength { .. } => "context_length_exceeded",
            Self::UnknownModel { .. } => "model_not_found",
            Self::TooLarge { .. } => "request_too_large",
            Self::NotFound => "not_found",
            Self::QueueFull => "queue_full",
            Self::Engine(_) => "engine_failed",
        }
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        let kind = match self {
            Self::QueueFull => "overloaded_error",
            Self::Engine(_) => "server_error",
            _ => "invalid_request_error",
        };
        let param = match self {
            Self::Invalid { param, .. } => *param,
            Self::ContextLength { .. } => Some("messages"),
            Self::UnknownModel { .. } => Some("model"),
            _ => None,
        };
        json!({ "error": { "message": self.to_string(), "type": kind, "param": param, "code": self.code() } })
    }
}
