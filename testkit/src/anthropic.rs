//! The Anthropic side: messages, their event stream, token counts, models and errors, in the shapes the official SDKs read.
//!
//! Renders bytes and decides nothing.

use std::io::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    render::{ApiError, ErrorKind, Finish, Head},
    request::ChatBody,
    script::UsagePlace,
    tokens::{Answer, write_json_str},
};

/// Renders the answers to one request.
#[derive(Debug)]
pub(crate) struct Renderer {
    head: Head,
    with_usage: bool,
}

impl Renderer {
    pub(crate) fn new(head: Head, usage: UsagePlace) -> Self {
        Self { head, with_usage: usage != UsagePlace::Absent }
    }

    pub(crate) fn start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        self.message_head(out);
        out.extend_from_slice(b"],\"stop_reason\":null,\"stop_sequence\":null");
        self.usage(1, out);
        out.extend_from_slice(
            b"}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":",
        );
        match &self.head.tool {
            None => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
            Some(name) => {
                let _ = write!(out, "{{\"type\":\"tool_use\",\"id\":\"toolu_{}\",\"name\":", self.head.id);
                write_json_str(name, out);
                out.extend_from_slice(b",\"input\":{}}");
            }
        }
        out.extend_from_slice(b"}\n\n");
        self.keep_alive(out);
    }

    pub(crate) fn delta(&self, answer: &Answer, i: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":",
        );
        out.extend_from_slice(match self.head.tool {
            None => b"\"text_delta\",\"text\":".as_slice(),
            Some(_) => b"\"input_json_delta\",\"partial_json\":".as_slice(),
        });
        answer.write_json(i, i + 1, out);
        out.extend_from_slice(b"}}\n\n");
    }

    /// The end of the block and the stop reason with the usage.
    pub(crate) fn finish(&self, sent: usize, finish: Finish, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n\
             event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\
             \"stop_sequence\":null}}",
            stop_reason(finish)
        );
        if self.with_usage {
            let _ = write!(out, ",\"usage\":{{\"output_tokens\":{sent}}}");
        }
        out.extend_from_slice(b"}\n\n");
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    pub(crate) fn malformed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"ind\n\n",
        );
    }

    pub(crate) fn keep_alive(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    pub(crate) fn error_event(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        );
    }

    /// The answer in one body.
    pub(crate) fn whole(&self, answer: &Answer, n: usize, finish: Finish, out: &mut Vec<u8>) {
        self.message_head(out);
        match &self.head.tool {
            None => {
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                answer.write_json(0, n, out);
            }
            Some(name) => {
                let _ = write!(out, "{{\"type\":\"tool_use\",\"id\":\"toolu_{}\",\"name\":", self.head.id);
                write_json_str(name, out);
                out.extend_from_slice(b",\"input\":");
                out.extend_from_slice(&tool_input(answer, n));
            }
        }
        let _ = write!(out, "}}],\"stop_reason\":\"{}\",\"stop_sequence\":null", stop_reason(finish));
        self.usage(n, out);
        out.push(b'}');
    }

    fn message_head(&self, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "{{\"id\":\"msg_{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
            self.head.id
        );
        write_json_str(&self.head.model, out);
        out.extend_from_slice(b",\"content\":[");
    }

    fn usage(&self, output: usize, out: &mut Vec<u8>) {
        if self.with_usage {
            let _ = write!(
                out,
                ",\"usage\":{{\"input_tokens\":{},\"cache_creation_input_tokens\":0,\
                 \"cache_read_input_tokens\":0,\"output_tokens\":{output},\"service_tier\":\"standard\"}}",
                self.head.prompt_tokens
            );
        }
    }
}

/// The input of a tool call as JSON. Arguments that are no JSON object become `{}`: the protocol cannot carry them whole.
fn tool_input(answer: &Answer, n: usize) -> Vec<u8> {
    let mut text = Vec::new();
    answer.write_json(0, n, &mut text);
    let input = serde_json::from_slice::<String>(&text).unwrap_or_default();
    match serde_json::from_str::<Value>(&input) {
        Ok(Value::Object(_)) => input.into_bytes(),
        _ => b"{}".to_vec(),
    }
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCall => "tool_use",
        Finish::Filtered => "refusal",
    }
}

/// The refusal Anthropic answers to a bad body, if it is one. Counting tokens needs no `max_tokens`.
pub(crate) fn validate(body: &ChatBody<'_>, counting: bool) -> Result<(), ApiError> {
    if body.model.is_none() {
        return Err(ApiError::invalid("model: Field required"));
    }
    let Some(messages) = body.messages.as_deref() else {
        return Err(ApiError::invalid("messages: Field required"));
    };
    if messages.is_empty() {
        return Err(ApiError::invalid("messages: at least one message is required"));
    }
    for (at, message) in messages.iter().enumerate() {
        match message.role.as_deref() {
            Some("user" | "assistant") => {}
            None => return Err(ApiError::invalid(format!("messages.{at}.role: Field required"))),
            Some(_) => {
                let text = format!("messages.{at}.role: Input should be 'user' or 'assistant'");
                return Err(ApiError::invalid(text));
            }
        }
    }
    match body.max_tokens() {
        None if !counting => Err(ApiError::invalid("max_tokens: Field required")),
        Some(max) if max < 1 => Err(ApiError::invalid("max_tokens: must be greater than or equal to 1")),
        _ => Ok(()),
    }
}

/// The body of an error answer.
pub(crate) fn error_body(error: &ApiError, request: u64) -> Vec<u8> {
    let (kind, message) = match &error.kind {
        ErrorKind::Invalid { message, .. } => ("invalid_request_error", message.clone()),
        ErrorKind::NotJson(why) => {
            ("invalid_request_error", format!("The request body is not valid JSON: {why}"))
        }
        ErrorKind::MissingKey => ("authentication_error", "x-api-key header is required".to_owned()),
        ErrorKind::WrongKey => ("authentication_error", "invalid x-api-key".to_owned()),
        ErrorKind::UnknownModel(model) => ("not_found_error", format!("model: {model}")),
        ErrorKind::UnknownUrl { .. } => ("not_found_error", "Not found".to_owned()),
        ErrorKind::WrongMethod { .. } => ("invalid_request_error", "Method Not Allowed".to_owned()),
        ErrorKind::ContextLength { window, prompt } => {
            ("invalid_request_error", format!("prompt is too long: {prompt} tokens > {window} maximum"))
        }
        ErrorKind::ContentFilter => {
            ("invalid_request_error", "Output blocked by content filtering policy".to_owned())
        }
        ErrorKind::RefusePrefill => (
            "invalid_request_error",
            "This model does not support assistant message prefill. The conversation must end with a user \
             message."
                .to_owned(),
        ),
        ErrorKind::Status(status) => {
            let (kind, message) = scripted(*status);
            (kind, message.to_owned())
        }
    };
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": format!("req_{request:024}"),
    });
    body.to_string().into_bytes()
}

fn scripted(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low"),
        403 => ("permission_error", "Your API key has no permission to use this resource"),
        404 => ("not_found_error", "Not found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "This request would exceed your organization's rate limit"),
        503 | 529 => ("overloaded_error", "Overloaded"),
        504 => ("timeout_error", "The request timed out"),
        400..500 => ("invalid_request_error", "The request was refused by the script"),
        _ => ("api_error", "Internal server error"),
    }
}

/// One model as `GET /v1/models` lists it.
pub(crate) fn model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z"})
}

/// The list of models.
pub(crate) fn models(ids: &[String]) -> Value {
    json!({
        "data": ids.iter().map(|id| model(id)).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": ids.first(),
        "last_id": ids.last(),
    })
}
