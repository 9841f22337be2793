//! What both protocols render: the facts of an answer and of a refusal, and the choice between the two renderers.

use http::StatusCode;

use crate::{anthropic, log::Protocol, openai, tokens::Answer};

/// The facts every event of an answer repeats.
#[derive(Debug)]
pub(crate) struct Head {
    /// 24 digits, unique within one fake.
    pub(crate) id: String,
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) prompt_tokens: u64,
    /// Whether OpenAI's log probabilities are given: the same for every token.
    pub(crate) logprobs: bool,
    /// The tool the answer calls, if it calls one.
    pub(crate) tool: Option<String>,
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCall,
    Filtered,
}

/// The renderer of one request.
#[derive(Debug)]
pub(crate) enum Renderer {
    OpenAi(openai::Renderer),
    Anthropic(anthropic::Renderer),
}

impl Renderer {
    pub(crate) fn start(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.start(out),
            Self::Anthropic(r) => r.start(out),
        }
    }

    pub(crate) fn delta(&self, answer: &Answer, i: usize, usage_so_far: bool, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.delta(answer, i, usage_so_far, out),
            Self::Anthropic(r) => r.delta(answer, i, out),
        }
    }

    pub(crate) fn finish(&self, sent: usize, finish: Finish, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.finish(sent, finish, out),
            Self::Anthropic(r) => r.finish(sent, finish, out),
        }
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.done(out),
            Self::Anthropic(r) => r.done(out),
        }
    }

    pub(crate) fn malformed(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.malformed(out),
            Self::Anthropic(r) => r.malformed(out),
        }
    }

    pub(crate) fn keep_alive(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.keep_alive(out),
            Self::Anthropic(r) => r.keep_alive(out),
        }
    }

    pub(crate) fn error_event(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.error_event(out),
            Self::Anthropic(r) => r.error_event(out),
        }
    }

    pub(crate) fn whole(&self, answer: &Answer, n: usize, finish: Finish, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi(r) => r.whole(answer, n, finish, out),
            Self::Anthropic(r) => r.whole(answer, n, finish, out),
        }
    }
}

/// A refusal in the provider's name.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: ErrorKind,
}

#[derive(Debug)]
pub(crate) enum ErrorKind {
    Invalid { message: String, param: Option<String>, code: Option<String> },
    NotJson(String),
    MissingKey,
    WrongKey,
    UnknownModel(String),
    UnknownUrl { method: String, path: String },
    WrongMethod { method: String, path: String },
    ContextLength { window: u64, prompt: u64 },
    ContentFilter,
    RefusePrefill,
    Status(StatusCode),
}

impl From<ErrorKind> for ApiError {
    fn from(kind: ErrorKind) -> Self {
        let status = match &kind {
            ErrorKind::MissingKey | ErrorKind::WrongKey => StatusCode::UNAUTHORIZED,
            ErrorKind::UnknownModel(_) | ErrorKind::UnknownUrl { .. } => StatusCode::NOT_FOUND,
            ErrorKind::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::Status(status) => *status,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, kind }
    }
}

impl ApiError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        ErrorKind::Invalid { message: message.into(), param: None, code: None }.into()
    }

    pub(crate) fn param(mut self, name: &str) -> Self {
        if let ErrorKind::Invalid { param, .. } = &mut self.kind {
            *param = Some(name.to_owned());
        }
        self
    }

    pub(crate) fn code(mut self, name: &str) -> Self {
        if let ErrorKind::Invalid { code, .. } = &mut self.kind {
            *code = Some(name.to_owned());
        }
        self
    }

    pub(crate) fn body(&self, protocol: Protocol, request: u64) -> Vec<u8> {
        match protocol {
            Protocol::OpenAi => openai::error_body(self),
            Protocol::Anthropic => anthropic::error_body(self, request),
        }
    }
}
