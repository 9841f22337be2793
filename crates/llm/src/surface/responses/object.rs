//! The response object and its items.

use bytes::{BufMut, BytesMut};
use contract::{Error, ToolCall, Usage};
use serde_json::Value as Json;

use super::Echo;
use crate::{Answer, FinishReason, json};

/// How a response or an item of it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Cancelled => "cancelled",
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
        }
    }
}

/// What a finish says: how the response ends, and why it is incomplete.
pub(super) fn ended(finish: Option<&FinishReason>) -> (Status, Option<&'static str>) {
    match finish {
        Some(FinishReason::Length) => (Status::Incomplete, Some("max_output_tokens")),
        Some(FinishReason::ContentFilter) => (Status::Incomplete, Some("content_filter")),
        // The turn goes on: whoever takes it for complete is wrong.
        Some(FinishReason::Anthropic(own)) if &**own == "pause_turn" => {
            (Status::Incomplete, Some("max_output_tokens"))
        }
        _ => (Status::Completed, None),
    }
}

/// An item of the output.
#[derive(Debug)]
pub(super) enum Item {
    Message { text: String, logprobs: Vec<Json> },
    Reasoning { text: String, signature: String },
    Call(ToolCall),
}

impl Item {
    /// Its id: `serial` is the response's own part of all ids, `index` its place in the output.
    pub(super) fn id(&self, serial: &str, index: usize) -> String {
        let sort = match self {
            Item::Message { .. } => "msg",
            Item::Reasoning { .. } => "rs",
            Item::Call(_) => "fc",
        };
        format!("{sort}_{serial}_{index}")
    }

    /// Writes it with what it holds so far.
    pub(super) fn write(&self, out: &mut BytesMut, id: &str, status: Status) {
        out.put_slice(br#"{"id":"#);
        json::string(out, id);
        json::key(out, "status");
        json::string(out, status.as_str());
        json::key(out, "type");
        match self {
            Item::Message { text, logprobs } => {
                out.put_slice(br#""message","role":"assistant","content":["#);
                // One that has only begun has no part yet.
                if status != Status::InProgress {
                    text_part(out, text, logprobs);
                }
                out.put_u8(b']');
            }
            Item::Reasoning { text, signature } => {
                out.put_slice(br#""reasoning","summary":["#);
                if !text.is_empty() {
                    summary_part(out, text);
                }
                out.put_u8(b']');
                if !signature.is_empty() {
                    json::key(out, "encrypted_content");
                    json::string(out, signature);
                }
            }
            Item::Call(call) => {
                out.put_slice(br#""function_call","call_id":"#);
                json::string(out, &call.id);
                json::key(out, "name");
                json::string(out, &call.name);
                json::key(out, "arguments");
                json::string(out, &call.arguments);
            }
        }
        out.put_u8(b'}');
    }
}

/// A part of a message.
pub(super) fn text_part(out: &mut BytesMut, text: &str, logprobs: &[Json]) {
    out.put_slice(br#"{"type":"output_text","annotations":[],"logprobs":"#);
    probabilities(out, logprobs);
    json::key(out, "text");
    json::string(out, text);
    out.put_u8(b'}');
}

/// A part of a reasoning's summary.
pub(super) fn summary_part(out: &mut BytesMut, text: &str) {
    out.put_slice(br#"{"type":"summary_text","text":"#);
    json::string(out, text);
    out.put_u8(b'}');
}

/// Log probabilities of a text.
pub(super) fn probabilities(out: &mut BytesMut, logprobs: &[Json]) {
    if logprobs.is_empty() {
        return out.put_slice(b"[]");
    }
    json::value(out, &logprobs);
}

/// What chat calls `{"content": […]}`.
pub(super) fn entries(logprobs: &Json) -> impl Iterator<Item = &Json> {
    logprobs.get("content").and_then(Json::as_array).into_iter().flatten()
}

/// The object, whatever its state.
#[derive(Debug)]
pub(super) struct Object {
    /// `{"id":…,"object":…,"created_at":…,"model":…`
    head: BytesMut,
    echo: Echo,
}

/// How the object ends.
pub(super) struct End<'a> {
    pub(super) status: Status,
    pub(super) reason: Option<&'static str>,
    pub(super) error: Option<&'a Error>,
    pub(super) usage: Option<Usage>,
}

impl Object {
    pub(super) fn new(serial: &str, created: i64, model: &str, echo: Echo) -> Self {
        let mut head = BytesMut::with_capacity(128);
        head.put_slice(br#"{"id":"#);
        json::string(&mut head, &format!("resp_{serial}"));
        head.put_slice(br#","object":"response","created_at":"#);
        json::int(&mut head, created);
        json::key(&mut head, "model");
        json::string(&mut head, model);
        Object { head, echo }
    }

    /// Writes it with its items, each by a call of `items`.
    pub(super) fn write(&self, out: &mut BytesMut, end: &End<'_>, items: impl FnOnce(&mut BytesMut)) {
        out.put_slice(&self.head);
        json::key(out, "status");
        json::string(out, end.status.as_str());
        json::key(out, "error");
        match end.error {
            None => out.put_slice(b"null"),
            Some(e) => {
                out.put_slice(br#"{"code":"#);
                json::string(out, e.code.as_str());
                json::key(out, "message");
                json::string(out, &e.told());
                out.put_u8(b'}');
            }
        }
        json::key(out, "incomplete_details");
        match end.reason {
            None => out.put_slice(b"null"),
            Some(reason) => {
                out.put_slice(br#"{"reason":"#);
                json::string(out, reason);
                out.put_u8(b'}');
            }
        }
        out.put_u8(b',');
        out.put_slice(self.echo.members());
        out.put_slice(br#","output":["#);
        items(out);
        out.put_slice(br#"],"usage":"#);
        match &end.usage {
            None => out.put_slice(b"null"),
            Some(u) => usage(out, u),
        }
        out.put_u8(b'}');
    }
}

fn usage(out: &mut BytesMut, u: &Usage) {
    out.put_slice(br#"{"input_tokens":"#);
    json::int(out, u.input_tokens);
    out.put_slice(br#","input_tokens_details":{"cached_tokens":"#);
    json::int(out, u.cached_input_tokens);
    out.put_slice(br#","cache_write_tokens":0},"output_tokens":"#);
    json::int(out, u.output_tokens);
    out.put_slice(br#","output_tokens_details":{"reasoning_tokens":"#);
    json::int(out, u.reasoning_tokens);
    out.put_slice(br#"},"total_tokens":"#);
    json::int(out, u.total());
    out.put_u8(b'}');
}

/// Writes the `response` object of an answer that is not streamed. `serial` makes its ids: `resp_SERIAL`, `msg_SERIAL_0`;
/// `created` in seconds since the epoch.
pub fn render(out: &mut BytesMut, serial: &str, created: i64, model: &str, echo: &Echo, answer: &Answer) {
    let mut all = Vec::new();
    if !answer.reasoning.is_empty() || !answer.signature.is_empty() {
        let (text, signature) = (answer.reasoning.clone(), answer.signature.clone());
        all.push(Item::Reasoning { text, signature });
    }
    if !answer.text.is_empty() {
        let logprobs = answer.logprobs.iter().flat_map(|l| entries(l)).cloned().collect();
        all.push(Item::Message { text: answer.text.clone(), logprobs });
    }
    // An index that the provider left out is no call.
    let calls = answer.tool_calls.iter().filter(|c| !c.id.is_empty() || !c.name.is_empty());
    all.extend(calls.cloned().map(Item::Call));
    let (status, reason) = ended(answer.finish.as_ref());
    let end = End { status, reason, error: None, usage: Some(answer.usage.unwrap_or_default()) };
    Object::new(serial, created, model, echo.clone()).write(out, &end, |out| {
        for (index, item) in all.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            let whole = index + 1 < all.len();
            item.write(out, &item.id(serial, index), if whole { Status::Completed } else { status });
        }
    });
}

/// Why a response that is made in the background has no output.
#[derive(Debug, Clone, Copy)]
pub enum Unanswered<'a> {
    /// It waits for its turn.
    Queued,
    /// It is made now.
    InProgress,
    /// It was told to stop.
    Cancelled,
    /// It failed, for this.
    Failed(&'a Error),
}

/// Writes the `response` object of one that has no output, yet or for ever. `serial` and `created` as of [`render`].
pub fn unanswered(
    out: &mut BytesMut,
    serial: &str,
    created: i64,
    model: &str,
    echo: &Echo,
    why: Unanswered<'_>,
) {
    let (status, error) = match why {
        Unanswered::Queued => (Status::Queued, None),
        Unanswered::InProgress => (Status::InProgress, None),
        Unanswered::Cancelled => (Status::Cancelled, None),
        Unanswered::Failed(e) => (Status::Failed, Some(e)),
    };
    let end = End { status, reason: None, error, usage: None };
    Object::new(serial, created, model, echo.clone()).write(out, &end, |_| {});
}
