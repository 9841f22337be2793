//! Whether an answer is whole: every event is read, a finish reason and the protocol's end mark are there, nothing comes
//! behind it, and no error stands in it. Pure: bytes in, a verdict out, whatever the places where they were cut.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};
use llm::codec::sse::SseParser;
use serde::Deserialize;
use serde_json::Value;

use super::args::Speaks;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole answer.
    Complete,
    /// A part of the answer, and an error that says so.
    Partial { code: String },
    /// An error instead of an answer.
    Error { status: u16, code: String },
    /// The server refused for now: 429 or 503.
    Shed { status: u16, code: String, retry_after: bool },
    /// The client's `--timeout` passed.
    TimedOut,
    /// What came is no answer: a cut stream, an event that cannot be read, a lost connection.
    Broken(&'static str),
    /// Under way when the ramp-down ended.
    Unfinished,
    /// This machine had no file or port left for its connection: nothing was sent.
    NoSocket,
}

pub(super) const NO_CONNECTION: &str = "no connection";
pub(super) const LOST: &str = "connection lost";
const CUT: &str = "stream cut: no finish reason";
const NO_END: &str = "stream without its end mark";
const BEHIND: &str = "something behind the end mark";
const UNREADABLE: &str = "an event that cannot be read";
const NO_ANSWER: &str = "a body that is no answer";

/// What the answer says it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Took {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Whether tokens were reported at all.
    pub(super) counted: bool,
    pub(super) cost_nanousd: Option<i64>,
}

/// The longest code that is kept.
const CODE_LIMIT: usize = 64;

/// A code for a report: short, and without what could steer a terminal.
fn code(text: &str) -> String {
    super::clean(text).chars().take(CODE_LIMIT).collect()
}

/// A status that is no success.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |at: &str| json.pointer(at).and_then(Value::as_str);
    let said = text("/error/code").or_else(|| text("/error/type")).map(code).unwrap_or_default();
    let status = status.as_u16();
    if matches!(status, 429 | 503) {
        let retry_after = headers.contains_key(http::header::RETRY_AFTER);
        return Outcome::Shed { status, code: said, retry_after };
    }
    Outcome::Error { status, code: said }
}

/// What a header says of the cost.
pub(super) fn cost(headers: &HeaderMap) -> Option<i64> {
    headers.get("forebay-cost-nanousd")?.to_str().ok()?.parse().ok()
}

/// A whole body.
pub(super) fn whole(speaks: Speaks, body: &[u8], took: &mut Took) -> Outcome {
    let Ok(body) = serde_json::from_slice::<Whole<'_>>(body) else { return Outcome::Broken(NO_ANSWER) };
    took.add(body.usage.as_ref());
    took.cost_nanousd = took.cost_nanousd.or(body.cost_nanousd);
    if let Some(error) = &body.error {
        let code = error.code();
        return match speaks {
            Speaks::Native => Outcome::Partial { code },
            _ => Outcome::Error { status: 200, code },
        };
    }
    let there = match speaks {
        Speaks::Openai => body.choices.iter().any(|c| c.finish_reason.is_some()),
        Speaks::Anthropic => body.stop_reason.is_some(),
        Speaks::Native => body.complete == Some(true),
    };
    if there { Outcome::Complete } else { Outcome::Broken(NO_ANSWER) }
}

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Events {
    speaks: Speaks,
    parser: SseParser,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    /// Some output came.
    output: bool,
    /// A finish reason came.
    finished: bool,
    /// The end mark came.
    ended: bool,
    error: Option<(String, bool)>,
    broken: Option<&'static str>,
    took: Took,
}

impl Events {
    pub(super) fn new(speaks: Speaks) -> Self {
        Events { speaks, parser: SseParser::default(), seen: Seen::default() }
    }

    /// Takes the next bytes. Whether some of the answer was in them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let Events { speaks, parser, seen } = self;
        let mut output = false;
        let fed = parser.feed(bytes, |_, data| output |= seen.event(*speaks, data));
        if fed.is_err() {
            seen.broken.get_or_insert(UNREADABLE);
        }
        output
    }

    /// The stream ended; `lost`: not as HTTP wants it.
    pub(super) fn end(mut self, lost: bool) -> (Outcome, Took) {
        let Events { speaks, parser, seen } = &mut self;
        parser.end(|_, data| {
            seen.event(*speaks, data);
        });
        let took = seen.took;
        (self.seen.outcome(lost), took)
    }
}

impl Seen {
    fn outcome(self, lost: bool) -> Outcome {
        match self.error {
            Some((code, true)) => return Outcome::Partial { code },
            Some((code, false)) => return Outcome::Error { status: 200, code },
            None => {}
        }
        if let Some(why) = self.broken {
            return Outcome::Broken(why);
        }
        match (lost, self.finished, self.ended) {
            (true, ..) => Outcome::Broken(LOST),
            (false, _, false) if self.finished => Outcome::Broken(NO_END),
            (false, false, _) => Outcome::Broken(CUT),
            _ => Outcome::Complete,
        }
    }

    /// Whether there was output in it.
    fn event(&mut self, speaks: Speaks, data: &[u8]) -> bool {
        if self.ended {
            self.broken.get_or_insert(BEHIND);
            return false;
        }
        let read = match speaks {
            Speaks::Openai if data == b"[DONE]" => {
                self.ended = true;
                return false;
            }
            Speaks::Openai => serde_json::from_slice(data).map(|chunk| self.openai(&chunk)),
            Speaks::Anthropic => serde_json::from_slice(data).map(|event| self.anthropic(&event)),
            Speaks::Native => serde_json::from_slice(data).map(|event| self.native(&event)),
        };
        let Ok(output) = read else {
            self.broken.get_or_insert(UNREADABLE);
            return false;
        };
        self.output |= output;
        output
    }

    fn openai(&mut self, chunk: &Chunk<'_>) -> bool {
        self.took.add(chunk.usage.as_ref());
        if let Some(error) = &chunk.error {
            self.error = Some((error.code(), self.output));
            return false;
        }
        self.finished |= chunk.choices.iter().any(|c| c.finish_reason.is_some());
        let some =
            |d: &Delta<'_>| d.content.as_ref().is_some_and(|t| !t.is_empty()) || d.tool_calls.is_some();
        chunk.choices.iter().any(|c| c.delta.as_ref().is_some_and(some))
    }

    fn anthropic(&mut self, event: &Message<'_>) -> bool {
        self.took.add(event.message.as_ref().and_then(|m| m.usage.as_ref()));
        self.took.add(event.usage.as_ref());
        match &*event.kind {
            "error" => {
                let code = event.error.as_ref().map(Fault::code).unwrap_or_default();
                self.error = Some((code, self.output));
            }
            "message_delta" => {
                self.finished |= event.delta.as_ref().is_some_and(|d| d.stop_reason.is_some());
            }
            "message_stop" => self.ended = true,
            "content_block_delta" => return true,
            _ => {}
        }
        false
    }

    fn native(&mut self, event: &Native<'_>) -> bool {
        match &*event.kind {
            "error" => {
                let code = event.code.as_deref().map(code).unwrap_or_default();
                self.error = Some((code, event.partial.unwrap_or(false)));
            }
            "done" => {
                self.took.add(event.usage.as_ref());
                self.took.cost_nanousd = event.cost_nanousd;
                (self.finished, self.ended) = (true, true);
                // An answer that is no text comes here.
                return !self.output;
            }
            "draft" | "delta" | "part" => return event.text.as_ref().is_some_and(|t| !t.is_empty()),
            _ => {}
        }
        false
    }
}

impl Took {
    /// The largest of each figure: protocols repeat and complete their counts.
    fn add(&mut self, usage: Option<&Usage>) {
        let Some(u) = usage else { return };
        self.counted = true;
        self.input_tokens = self.input_tokens.max(u.input_tokens.or(u.prompt_tokens).unwrap_or(0));
        self.output_tokens = self.output_tokens.max(u.output_tokens.or(u.completion_tokens).unwrap_or(0));
    }
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
    output_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The `code` of an error, in words or as a status, and its `type`.
#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    code: Value,
    #[serde(default, rename = "type")]
    kind: Value,
}

impl Fault {
    fn code(&self) -> String {
        let text = |v: &Value| match v {
            Value::String(text) => Some(code(text)),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        };
        text(&self.code).or_else(|| text(&self.kind)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    tool_calls: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    finish_reason: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    usage: Option<Usage>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    message: Option<Head>,
    delta: Option<Stop>,
    usage: Option<Usage>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Head {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Stop {
    stop_reason: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Native<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
    partial: Option<bool>,
    usage: Option<Usage>,
    cost_nanousd: Option<i64>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    stop_reason: Option<serde::de::IgnoredAny>,
    complete: Option<bool>,
    usage: Option<Usage>,
    cost_nanousd: Option<i64>,
    error: Option<Fault>,
}

#[cfg(test)]
mod tests;
