//! The OpenAI side: chat completions, their chunks, models and errors, in the shapes the official SDKs read.
//!
//! Renders bytes and decides nothing. One choice per answer: `n` is ignored.

use std::io::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    render::{ApiError, ErrorKind, Finish, Head},
    request::ChatBody,
    script::UsagePlace,
    tokens::{Answer, write_json_str},
};

/// Characters of one piece of a tool call's arguments.
pub(crate) const ARGUMENT_PIECE: usize = 6;

/// Renders the answers to one request.
#[derive(Debug)]
pub(crate) struct Renderer {
    head: Head,
    usage: UsagePlace,
    include_usage: bool,
    /// Everything of a chunk before its delta.
    prefix: Vec<u8>,
    /// `,"usage":null` where the request asked for usage.
    null_usage: &'static str,
}

impl Renderer {
    pub(crate) fn new(head: Head, usage: UsagePlace, include_usage: bool) -> Self {
        let mut prefix = Vec::with_capacity(192);
        prefix.extend_from_slice(b"data: ");
        head_json(&head, "chat.completion.chunk", &mut prefix);
        let null_usage =
            if include_usage && usage == UsagePlace::FinalChunk { ",\"usage\":null" } else { "" };
        Self { head, usage, include_usage, prefix, null_usage }
    }

    pub(crate) fn start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":");
        match &self.head.tool {
            None => out.extend_from_slice(b"\"\",\"refusal\":null}"),
            Some(name) => {
                let _ = write!(
                    out,
                    "null,\"tool_calls\":[{{\"index\":0,\"id\":\"call_{}\",\"type\":\"function\",\"function\":{{\"name\":",
                    self.head.id
                );
                write_json_str(name, out);
                out.extend_from_slice(b",\"arguments\":\"\"}}],\"refusal\":null}");
            }
        }
        self.close_choice("null", "", None, out);
    }

    pub(crate) fn delta(&self, answer: &Answer, i: usize, usage_so_far: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        if self.head.tool.is_some() {
            out.extend_from_slice(
                b",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":",
            );
            answer.write_json(i, i + 1, out);
            out.extend_from_slice(b"}}]}");
        } else {
            out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{\"content\":");
            answer.write_json(i, i + 1, out);
            out.push(b'}');
        }
        let probs = (self.head.logprobs && self.head.tool.is_none()).then_some((answer, i, i + 1));
        if usage_so_far {
            self.close_choice("null", &self.usage_json(i + 1), probs, out);
        } else {
            self.close_choice("null", "", probs, out);
        }
    }

    /// The chunk with the finish reason and, where the script puts it, the usage.
    pub(crate) fn finish(&self, sent: usize, finish: Finish, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{}");
        let reason = format!("\"{}\"", finish_reason(finish));
        match self.usage {
            UsagePlace::InLastChoice => self.close_choice(&reason, &self.usage_json(sent), None, out),
            UsagePlace::FinalChunk | UsagePlace::Absent => self.close_choice(&reason, "", None, out),
        }
        if self.include_usage && self.usage == UsagePlace::FinalChunk {
            out.extend_from_slice(&self.prefix);
            out.extend_from_slice(b",\"choices\":[]");
            out.extend_from_slice(self.usage_json(sent).as_bytes());
            out.extend_from_slice(b"}\n\n");
        }
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    pub(crate) fn malformed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n");
    }

    pub(crate) fn keep_alive(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }

    pub(crate) fn error_event(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&error_body(&ErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE).into()));
        out.extend_from_slice(b"\n\n");
    }

    /// The answer in one body.
    pub(crate) fn whole(&self, answer: &Answer, n: usize, finish: Finish, out: &mut Vec<u8>) {
        head_json(&self.head, "chat.completion", out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        match &self.head.tool {
            None => answer.write_json(0, n, out),
            Some(name) => {
                let _ = write!(
                    out,
                    "null,\"tool_calls\":[{{\"id\":\"call_{}\",\"type\":\"function\",\"function\":{{\"name\":",
                    self.head.id
                );
                write_json_str(name, out);
                out.extend_from_slice(b",\"arguments\":");
                answer.write_json(0, n, out);
                out.extend_from_slice(b"}}]");
            }
        }
        out.extend_from_slice(b",\"refusal\":null,\"annotations\":[]},\"logprobs\":");
        logprobs(self.head.logprobs.then_some((answer, 0, n)), out);
        let _ = write!(out, ",\"finish_reason\":\"{}\"}}]", finish_reason(finish));
        if self.usage != UsagePlace::Absent {
            out.extend_from_slice(self.usage_json(n).as_bytes());
        }
        out.extend_from_slice(b",\"service_tier\":\"default\"}");
    }

    fn close_choice(&self, finish: &str, usage: &str, probs: Option<Tokens<'_>>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":");
        logprobs(probs, out);
        out.extend_from_slice(b",\"finish_reason\":");
        out.extend_from_slice(finish.as_bytes());
        out.extend_from_slice(b"}]");
        out.extend_from_slice(if usage.is_empty() { self.null_usage } else { usage }.as_bytes());
        out.extend_from_slice(b"}\n\n");
    }

    fn usage_json(&self, sent: usize) -> String {
        let prompt = self.head.prompt_tokens;
        format!(
            ",\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{sent},\"total_tokens\":{},\
             \"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
             \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0,\
             \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
            prompt + sent as u64
        )
    }
}

/// Some tokens of an answer: from the first index to before the second.
type Tokens<'a> = (&'a Answer, usize, usize);

/// Log probabilities of tokens, all alike, or `null`.
fn logprobs(tokens: Option<Tokens<'_>>, out: &mut Vec<u8>) {
    let Some((answer, from, to)) = tokens else { return out.extend_from_slice(b"null") };
    out.extend_from_slice(b"{\"content\":[");
    for i in from..to {
        out.extend_from_slice(if i > from { b",{\"token\":".as_slice() } else { b"{\"token\":" });
        answer.write_json(i, i + 1, out);
        out.extend_from_slice(b",\"logprob\":-0.5,\"bytes\":null,\"top_logprobs\":[]}");
    }
    out.extend_from_slice(b"],\"refusal\":null}");
}

fn head_json(head: &Head, object: &str, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "{{\"id\":\"chatcmpl-{}\",\"object\":\"{object}\",\"created\":{},\"model\":",
        head.id, head.created
    );
    write_json_str(&head.model, out);
    out.extend_from_slice(b",\"system_fingerprint\":\"fp_fake\"");
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCall => "tool_calls",
        Finish::Filtered => "content_filter",
    }
}

/// The refusal OpenAI answers to a bad body, if it is one.
pub(crate) fn validate(body: &ChatBody<'_>) -> Result<(), ApiError> {
    let missing = |param: &str| {
        let message = format!("Missing required parameter: '{param}'.");
        ApiError::invalid(message).param(param).code("missing_required_parameter")
    };
    if body.model.as_deref().unwrap_or_default().is_empty() {
        return Err(ApiError::invalid("you must provide a model parameter"));
    }
    let messages = body.messages.as_deref().ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, \
                       but got an empty array instead.";
        return Err(ApiError::invalid(message).param("messages").code("empty_array"));
    }
    if let Some(at) = messages.iter().position(|message| message.role.is_none()) {
        return Err(missing(&format!("messages[{at}].role")));
    }
    if let Some(max) = body.max_tokens().filter(|max| *max < 1) {
        let message = format!(
            "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got {max} instead."
        );
        return Err(ApiError::invalid(message).param("max_tokens").code("integer_below_min_value"));
    }
    Ok(())
}

/// The body of an error answer.
pub(crate) fn error_body(error: &ApiError) -> Vec<u8> {
    let (kind, code, param, message) = match &error.kind {
        ErrorKind::Invalid { message, param, code } => {
            ("invalid_request_error", code.as_deref(), param.as_deref(), message.clone())
        }
        ErrorKind::NotJson(_) => (
            "invalid_request_error",
            None,
            None,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your \
             HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
                .to_owned(),
        ),
        ErrorKind::MissingKey => (
            "invalid_request_error",
            None,
            None,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using \
             Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                .to_owned(),
        ),
        ErrorKind::WrongKey => {
            ("invalid_request_error", Some("invalid_api_key"), None, "Incorrect API key provided.".to_owned())
        }
        ErrorKind::UnknownModel(model) => (
            "invalid_request_error",
            Some("model_not_found"),
            None,
            format!("The model `{model}` does not exist or you do not have access to it."),
        ),
        ErrorKind::UnknownUrl { method, path } => {
            ("invalid_request_error", None, None, format!("Invalid URL ({method} {path})"))
        }
        ErrorKind::WrongMethod { method, path } => (
            "invalid_request_error",
            Some("method_not_supported"),
            None,
            format!(
                "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
            ),
        ),
        ErrorKind::ContextLength { window, prompt } => (
            "invalid_request_error",
            Some("context_length_exceeded"),
            Some("messages"),
            format!(
                "This model's maximum context length is {window} tokens. However, your messages resulted in \
                 {prompt} tokens. Please reduce the length of the messages."
            ),
        ),
        ErrorKind::ContentFilter => (
            "invalid_request_error",
            Some("invalid_prompt"),
            None,
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again \
             with a different prompt."
                .to_owned(),
        ),
        ErrorKind::RefusePrefill => (
            "invalid_request_error",
            None,
            Some("messages"),
            "This model does not support assistant message prefill. The conversation must end with a user \
             message."
                .to_owned(),
        ),
        ErrorKind::Status(status) => {
            let (kind, code, message) = scripted(*status);
            (kind, code, None, message.to_owned())
        }
    };
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    body.to_string().into_bytes()
}

fn scripted(status: StatusCode) -> (&'static str, Option<&'static str>, &'static str) {
    match status.as_u16() {
        401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
        402 => ("insufficient_quota", Some("insufficient_quota"), "You exceeded your current quota."),
        403 => ("invalid_request_error", Some("permission_denied"), "You have no access to this resource."),
        404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
        429 => (
            "requests",
            Some("rate_limit_exceeded"),
            "Rate limit reached for requests per min (RPM). Please try again later.",
        ),
        500 => {
            ("server_error", None, "The server had an error while processing your request. Sorry about that!")
        }
        503 => ("server_error", None, "The engine is currently overloaded, please try again later."),
        400..500 => ("invalid_request_error", None, "The request was refused by the script."),
        _ => ("server_error", None, "The server failed by the script."),
    }
}

/// One model as `GET /v1/models` lists it.
pub(crate) fn model(id: &str, created: u64) -> Value {
    json!({"id": id, "object": "model", "created": created, "owned_by": "forebay"})
}

/// The list of models.
pub(crate) fn models(ids: &[String], created: u64) -> Value {
    json!({"object": "list", "data": ids.iter().map(|id| model(id, created)).collect::<Vec<_>>()})
}
