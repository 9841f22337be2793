//! OpenAI chat completions as an upstream.
//!
//! Liberal: usage in any chunk, `[DONE]` may be missing, a malformed event is skipped and counted.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use contract::{Code, Content, Error, Message, Part, RetryHint, Role, Usage};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Deltas, Events, Progress, Streamed, error, nonsense};
use crate::{ChatRequest, Delta, FinishReason, Prefill, json};

/// How an upstream departs from the common form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect {
    /// Send `max_completion_tokens` instead of `max_tokens` (OpenAI's own newer models want it).
    pub max_completion_tokens: bool,
    /// How it is told to go on behind the assistant's last message.
    pub prefill: Option<Prefill>,
}

/// The request body for `POST /v1/chat/completions`, asking for usage whenever it streams.
pub fn encode(request: &ChatRequest, model: &str, dialect: Dialect) -> BytesMut {
    let text: usize = request.messages.iter().map(|m| m.content.to_text().len() + 64).sum();
    let mut out = BytesMut::with_capacity(text + 256);
    out.put_u8(b'{');
    json::key(&mut out, "model");
    json::string(&mut out, model);
    json::key(&mut out, "messages");
    out.put_u8(b'[');
    for (i, m) in request.messages.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        let last = i + 1 == request.messages.len();
        encode_message(&mut out, m, last && request.continues && dialect.prefill == Some(Prefill::Prefix));
    }
    out.put_u8(b']');
    if request.continues && dialect.prefill == Some(Prefill::Vllm) {
        out.put_slice(br#","continue_final_message":true,"add_generation_prompt":false"#);
    }
    let field = |out: &mut BytesMut, name: &str, v: Option<Json>| {
        if let Some(v) = v {
            json::key(out, name);
            json::value(out, &v);
        }
    };
    let limit = if dialect.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    field(&mut out, limit, request.max_output_tokens.map(Json::from));
    field(&mut out, "temperature", request.temperature.map(Json::from));
    field(&mut out, "top_p", request.top_p.map(Json::from));
    field(&mut out, "seed", request.seed.map(Json::from));
    field(&mut out, "stop", (!request.stop.is_empty()).then(|| Json::from(request.stop.clone())));
    if let Some(tools) = &request.tools {
        json::key(&mut out, "tools");
        match unmarked(tools) {
            Some(plain) => json::value(&mut out, &plain),
            None => json::value(&mut out, tools),
        }
    }
    for (name, v) in [("tool_choice", &request.tool_choice), ("response_format", &request.response_format)] {
        if let Some(v) = v {
            json::key(&mut out, name);
            json::value(&mut out, v);
        }
    }
    for (name, v) in
        request.extra.iter().filter(|(n, _)| !matches!(n.as_str(), "thinking" | "stream_options"))
    {
        json::key(&mut out, name);
        json::value(&mut out, v);
    }
    if request.stream {
        out.put_slice(br#","stream":true,"stream_options":{"include_usage":true}"#);
    }
    out.put_u8(b'}');
    out
}

/// Tools without the marks of another provider's cache; `None` when there are none.
fn unmarked(tools: &Json) -> Option<Json> {
    let marked = |t: &Json| t.get("cache_control").is_some();
    if !tools.as_array()?.iter().any(marked) {
        return None;
    }
    let mut tools = tools.clone();
    for t in tools.as_array_mut()?.iter_mut().filter_map(Json::as_object_mut) {
        t.shift_remove("cache_control");
    }
    Some(tools)
}

/// A block of Anthropic's protocol that this one does not know.
fn is_thinking(p: &Part) -> bool {
    let Part::Other(v) = p else { return false };
    matches!(v.get("type").and_then(Json::as_str), Some("thinking" | "redacted_thinking"))
}

fn encode_message(out: &mut BytesMut, m: &Message, prefix: bool) {
    out.put_slice(match m.role {
        Role::System => br#"{"role":"system""#.as_slice(),
        Role::User => br#"{"role":"user""#,
        Role::Assistant => br#"{"role":"assistant""#,
        Role::Tool => br#"{"role":"tool""#,
    });
    json::key(out, "content");
    match &m.content {
        // The protocol knows only text as a tool's result.
        Content::Parts(_) if m.role == Role::Tool => json::string(out, &m.content.to_text()),
        Content::Text(t) if t.is_empty() && !m.tool_calls.is_empty() => out.put_slice(b"null"),
        Content::Text(t) => json::string(out, t),
        Content::Parts(parts) if parts.iter().all(is_thinking) => {
            out.put_slice(if m.tool_calls.is_empty() { b"\"\"".as_slice() } else { b"null" });
        }
        Content::Parts(parts) => {
            out.put_u8(b'[');
            let mut first = true;
            for p in parts {
                if is_thinking(p) {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.put_u8(b',');
                }
                match (p.text(), p) {
                    // Text alone: marks for another provider's cache are refused here.
                    (Some(t), _) => {
                        out.put_slice(br#"{"type":"text","text":"#);
                        json::string(out, t);
                        out.put_u8(b'}');
                    }
                    (None, Part::Other(v)) => json::value(out, v),
                    (None, Part::Text(_)) => {}
                }
            }
            out.put_u8(b']');
        }
    }
    for (name, v) in [("name", &m.name), ("tool_call_id", &m.tool_call_id)] {
        if let Some(v) = v {
            json::key(out, name);
            json::string(out, v);
        }
    }
    if prefix {
        out.put_slice(br#","prefix":true"#);
    }
    if !m.tool_calls.is_empty() {
        json::key(out, "tool_calls");
        tool_calls(out, &m.tool_calls);
    }
    out.put_u8(b'}');
}

/// Complete tool calls, as requests and non-streamed answers hold them.
pub(crate) fn tool_calls(out: &mut BytesMut, calls: &[contract::ToolCall]) {
    out.put_u8(b'[');
    for (i, c) in calls.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        out.put_slice(br#"{"id":"#);
        json::string(out, &c.id);
        out.put_slice(br#","type":"function","function":{"name":"#);
        json::string(out, &c.name);
        out.put_slice(br#","arguments":"#);
        json::string(out, &c.arguments);
        out.put_slice(b"}}");
    }
    out.put_u8(b']');
}

/// Borrowed where the JSON text has no escapes: an `Option<Cow<str>>` alone would always be copied.
#[derive(Deserialize)]
struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    model: Option<Str<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    /// `message` is its name in an answer that is not streamed.
    #[serde(default, alias = "message")]
    delta: Option<ChoiceDelta>,
    #[serde(default)]
    logprobs: Option<Box<Json>>,
    #[serde(borrow, default)]
    finish_reason: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct ChoiceDelta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolWire>>,
}

#[derive(Deserialize)]
struct ToolWire {
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionWire>,
}

#[derive(Deserialize)]
struct FunctionWire {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct UsageWire {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<DetailsWire>,
    #[serde(default)]
    completion_tokens_details: Option<Json>,
}

#[derive(Deserialize)]
struct DetailsWire {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<UsageWire> for Usage {
    fn from(u: UsageWire) -> Usage {
        Usage {
            input_tokens: u.prompt_tokens,
            output_tokens: u.completion_tokens,
            cached_input_tokens: u.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0),
            reasoning_tokens: u
                .completion_tokens_details
                .and_then(|d| d.get("reasoning_tokens")?.as_u64())
                .unwrap_or(0),
            estimated: false,
        }
    }
}

/// The reason, also in the words of the many servers that speak the protocol almost.
///
/// # Errors
/// Those that say that the answer broke off: it is truncated, whatever the protocol calls that.
fn finish(reason: &str) -> Result<FinishReason, Error> {
    Ok(match reason {
        "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" => FinishReason::Stop,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "error" | "abort" | "aborted" | "cancelled" | "insufficient_system_resource" => {
            let m = format!("the provider broke its answer off with the finish reason `{reason}`");
            return Err(Error::new(Code::UpstreamTruncated, m).retry(RetryHint::Elsewhere));
        }
        own => FinishReason::OpenAi(super::own_reason(own)),
    })
}

/// Decodes a streamed answer.
pub type OpenAiDecoder = Streamed<Chunks>;

/// The chunks of a streamed answer.
#[derive(Debug, Default)]
pub struct Chunks {
    named: bool,
    /// Everything before `choices` in the first chunk: who answers, and when. Nearly all servers repeat it to the byte, and
    /// it is not read again.
    head: Vec<u8>,
    /// A chunk without its head.
    rest: Vec<u8>,
}

impl Events for Chunks {
    fn event(&mut self, data: &[u8], progress: &mut Progress, out: &mut Deltas) {
        if data.trim_ascii() == b"[DONE]" {
            progress.done = true;
            return;
        }
        if self.read_behind_head(data, progress, out) {
            return;
        }
        if let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) {
            if self.head.is_empty()
                && let Some(head) = head(data)
            {
                self.head.extend_from_slice(head);
            }
            return self.chunk(chunk, progress, out);
        }
        let mended = super::without_halves(data);
        match mended.as_deref().map(serde_json::from_slice::<Chunk<'_>>) {
            Some(Ok(chunk)) => self.chunk(chunk, progress, out),
            _ => progress.skipped += 1,
        }
    }
}

/// The members of a chunk before its `choices`, if they are strings without escapes and words alone and none of them
/// changes how the chunk is read. `data` is sound JSON.
fn head(data: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 1024;
    let blank = |at: usize| at + usize::from(data.get(at) == Some(&b' '));
    // Where the string ends that begins at a place.
    let string = |at: usize| {
        let inner = data.get(at..)?.strip_prefix(b"\"")?;
        let end = memchr::memchr2(b'"', b'\\', inner)?;
        (inner.get(end) == Some(&b'"')).then_some((inner.get(..end)?, at + end + 2))
    };
    let mut at = 1;
    data.strip_prefix(b"{")?;
    while at < LONGEST {
        at = blank(at);
        let (name, end) = string(at)?;
        match name {
            b"choices" => return data.get(..at),
            b"usage" | b"error" => return None,
            _ => {}
        }
        data.get(end..)?.strip_prefix(b":")?;
        let value = blank(end + 1);
        let end = match data.get(value)? {
            b'"' => string(value)?.1,
            b'{' | b'[' => return None,
            _ => value + memchr::memchr2(b',', b'}', data.get(value..)?)?,
        };
        data.get(end..)?.strip_prefix(b",")?;
        at = end + 1;
    }
    None
}

impl Chunks {
    /// Reads a chunk that begins as the first one did; whether it was one.
    fn read_behind_head(&mut self, data: &[u8], progress: &mut Progress, out: &mut Deltas) -> bool {
        if self.head.is_empty() {
            return false;
        }
        let Some(behind) = data.strip_prefix(&*self.head) else { return false };
        let mut rest = std::mem::take(&mut self.rest);
        rest.clear();
        rest.push(b'{');
        rest.extend_from_slice(behind);
        // A name may stand in a chunk once.
        let read = match serde_json::from_slice::<Chunk<'_>>(&rest) {
            Ok(chunk) if chunk.model.is_none() => {
                self.chunk(chunk, progress, out);
                true
            }
            _ => false,
        };
        self.rest = rest;
        read
    }

    fn chunk(&mut self, chunk: Chunk<'_>, progress: &mut Progress, out: &mut Deltas) {
        if let Some(e) = chunk.error.filter(|e| !e.is_null()) {
            progress.done = true;
            out.push_back(Err(error::in_stream(&e)));
            return;
        }
        if !self.named
            && let Some(m) = chunk.model
            && !m.0.is_empty()
        {
            self.named = true;
            out.push_back(Ok(Delta::Version(m.0.into_owned())));
        }
        for choice in chunk.choices.into_iter().flatten().filter(|c| c.index == 0) {
            if let Some(probs) = choice.logprobs {
                out.push_back(Ok(Delta::Logprobs(probs)));
            }
            if let Some(d) = choice.delta {
                for t in
                    [d.reasoning_content, d.reasoning].into_iter().flatten().filter(|t| !t.is_empty()).take(1)
                {
                    out.push_back(Ok(Delta::Reasoning(t)));
                }
                for t in [d.content, d.refusal].into_iter().flatten().filter(|t| !t.is_empty()) {
                    out.push_back(Ok(Delta::Text(t)));
                }
                for (place, c) in d.tool_calls.into_iter().flatten().enumerate() {
                    let (name, arguments) = c.function.map_or((None, None), |f| (f.name, f.arguments));
                    out.push_back(Ok(Delta::ToolCall {
                        index: c.index.unwrap_or_else(|| u32::try_from(place).unwrap_or(u32::MAX)),
                        id: c.id.filter(|s| !s.is_empty()),
                        name: name.filter(|s| !s.is_empty()),
                        arguments: arguments.unwrap_or_default(),
                    }));
                }
            }
            if let Some(r) = choice.finish_reason {
                match finish(&r.0) {
                    Ok(reason) => out.push_back(Ok(Delta::Finish(reason))),
                    Err(e) => {
                        progress.done = true;
                        out.extend(chunk.usage.map(|u| Ok(Delta::Usage(u.into()))));
                        out.push_back(Err(e));
                        return;
                    }
                }
            }
        }
        if let Some(u) = chunk.usage {
            out.push_back(Ok(Delta::Usage(u.into())));
        }
    }
}

/// Decodes an answer that is not streamed.
pub fn decode_body(body: &[u8]) -> Result<Deltas, Error> {
    let chunk: Chunk<'_> = serde_json::from_slice(body)
        .map_err(|_| nonsense("the provider's answer is not a chat completion"))?;
    let mut out = Deltas::new();
    Chunks::default().chunk(chunk, &mut Progress::default(), &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_chunk_is_what_says_nothing_more_once_it_was_read() {
        let of = |chunk: &str| {
            serde_json::from_str::<Json>(chunk).unwrap();
            head(chunk.as_bytes()).map(|h| String::from_utf8(h.to_vec()).unwrap())
        };
        let openai =
            r#"{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"m","fingerprint":null,"#;
        assert_eq!(of(&format!(r#"{openai}"choices":[]}}"#)).as_deref(), Some(openai));
        let python = r#"{"id": "c-1", "model": "m", "#;
        assert_eq!(of(&format!(r#"{python}"choices": [], "usage": null}}"#)).as_deref(), Some(python));
        for other in [
            r#"{"usage":null,"choices":[]}"#,
            r#"{"error":null,"choices":[]}"#,
            r#"{"id":"a\"b","choices":[]}"#,
            r#"{"note":{"choices":[]},"x":1}"#,
            r#"{"note":["choices"]}"#,
            r#"{"id":1}"#,
            "[]",
            "7",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
