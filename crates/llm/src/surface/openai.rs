//! OpenAI chat completions for callers: what the official SDKs send and parse.

use bytes::{BufMut, BytesMut};
use contract::{Content, Error, Message, Part, Role, ToolCall, Usage};
use serde_json::Value as Json;

use super::{Body, Call, invalid, listed, wrong};
use crate::{Answer, ChatRequest, Delta, FinishReason, codec, json};

/// Reads the body of `POST /v1/chat/completions`. Errors name the parameter at fault.
pub fn parse(bytes: &[u8]) -> Result<Call, Error> {
    let (mut body, messages) = Body::conversation(bytes)?;
    let model = body.model()?;
    let messages = listed(messages)?
        .into_iter()
        .enumerate()
        .map(|(i, m)| message(Body(m), i))
        .collect::<Result<_, _>>()?;
    if body.positive("n")?.unwrap_or(1) != 1 {
        return Err(invalid("n", "`n` must be 1: ask again for another answer"));
    }
    let newer = body.positive("max_completion_tokens")?;
    let older = body.positive("max_tokens")?;
    let stream = body.flag("stream")?;
    let include_usage = body.include_usage()?;
    let seed = body.seed()?;
    let tools = match body.take("tools") {
        Some(t) if !t.is_array() => return Err(invalid("tools", "`tools` must be an array")),
        other => other,
    };
    let response_format = match body.take("response_format") {
        Some(f) if f.get("type").and_then(Json::as_str).is_none() => {
            return Err(invalid("response_format", "`response_format` must be an object with a `type`"));
        }
        other => other,
    };
    let user = body.end_user()?;
    let request = ChatRequest {
        messages,
        max_output_tokens: newer.or(older),
        temperature: body.number("temperature", 2.0)?,
        top_p: body.number("top_p", 1.0)?,
        stop: body.texts("stop")?,
        seed,
        tools,
        tool_choice: body.take("tool_choice"),
        response_format,
        stream,
        continues: false,
        extra: body.0.rest(),
    };
    Ok(Call { model, request, include_usage: stream && include_usage, user })
}

fn message(mut m: Body<'_>, i: usize) -> Result<Message, Error> {
    let bad = |field: &str, what: &str| wrong(i, field, what);
    let role = match m.take("role").as_ref().and_then(Json::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => return Err(bad("role", "must be one of system, developer, user, assistant, tool")),
    };
    let content = match m.take("content") {
        Some(Json::String(t)) => Content::Text(t),
        Some(Json::Array(parts)) => Content::Parts(
            parts
                .into_iter()
                .enumerate()
                .map(|(i, p)| {
                    let malformed =
                        || bad(&format!("content[{i}]"), "must be a part with a `type`; text needs `text`");
                    match p.get("type").and_then(Json::as_str) {
                        Some("text") => super::text_part(p).ok_or_else(malformed),
                        Some(_) => Ok(Part::Other(p)),
                        None => Err(malformed()),
                    }
                })
                .collect::<Result<_, _>>()?,
        ),
        None if role == Role::Assistant => Content::Text(String::new()),
        None => return Err(bad("content", "is missing")),
        Some(_) => return Err(bad("content", "must be a string or an array of parts")),
    };
    let tool_calls = match m.take("tool_calls") {
        None => Vec::new(),
        Some(Json::Array(calls)) => calls
            .iter()
            .map(|c| {
                let text = |p: &str| c.pointer(p).and_then(Json::as_str).map(str::to_owned);
                match (text("/id"), text("/function/name"), text("/function/arguments")) {
                    (Some(id), Some(name), Some(arguments)) => Ok(ToolCall { id, name, arguments }),
                    _ => Err(bad(
                        "tool_calls",
                        "must hold calls with `id`, `function.name` and `function.arguments`",
                    )),
                }
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(bad("tool_calls", "must be an array")),
    };
    let tool_call_id = m.text("tool_call_id").map_err(|_| bad("tool_call_id", "must be a string"))?;
    if role == Role::Tool && tool_call_id.is_none() {
        return Err(bad("tool_call_id", "is missing"));
    }
    let name = m.text("name").map_err(|_| bad("name", "must be a string"))?;
    Ok(Message { role, content, name, tool_calls, tool_call_id })
}

pub(super) fn finish(f: &FinishReason) -> &str {
    match f {
        FinishReason::Stop => "stop",
        FinishReason::OpenAi(own) => own,
        // The turn goes on: whoever takes it for complete is wrong.
        FinishReason::Anthropic(own) if &**own == "pause_turn" => "length",
        FinishReason::Anthropic(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

pub(super) fn usage(out: &mut BytesMut, u: &Usage) {
    out.put_slice(br#"{"prompt_tokens":"#);
    json::int(out, u.input_tokens);
    out.put_slice(br#","completion_tokens":"#);
    json::int(out, u.output_tokens);
    out.put_slice(br#","total_tokens":"#);
    json::int(out, u.total());
    out.put_slice(br#","prompt_tokens_details":{"cached_tokens":"#);
    json::int(out, u.cached_input_tokens);
    out.put_u8(b'}');
    if u.reasoning_tokens > 0 {
        out.put_slice(br#","completion_tokens_details":{"reasoning_tokens":"#);
        json::int(out, u.reasoning_tokens);
        out.put_u8(b'}');
    }
    out.put_u8(b'}');
}

/// Ends a complete stream whose chunks begin with `head`: the usage chunk when there is to be one, and `[DONE]`.
pub(super) fn end(out: &mut BytesMut, head: &[u8], used: Option<&Usage>) {
    if let Some(used) = used {
        out.put_slice(head);
        out.put_slice(br#","choices":[],"usage":"#);
        usage(out, used);
        out.put_slice(b"}\n\n");
    }
    out.put_slice(b"data: [DONE]\n\n");
}

/// Begins the chunk that ends a stream which broke, up to its choices.
pub(super) fn broken(out: &mut BytesMut, head: &[u8], error: &Error) {
    out.put_slice(head);
    out.put_slice(br#","error":{"code":"#);
    json::string(out, error.code.as_str());
    out.put_slice(br#","message":"#);
    json::string(out, &error.told());
    out.put_slice(b"}");
}

/// Writes a stream of `chat.completion.chunk` events. Call order: `start`, `delta`…, then `end` or `error`, once.
#[derive(Debug)]
pub struct Chunks {
    /// `data: {"id":…,"object":…,"created":…,"model":…,` with everything up to the part that differs.
    head: BytesMut,
    include_usage: bool,
    usage: Usage,
    /// Of the next chunk.
    logprobs: Option<Box<Json>>,
}

impl Chunks {
    /// `created` in seconds since the epoch; `model` is what the caller asked for or the version that answers.
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        let mut head = BytesMut::with_capacity(128);
        head.put_slice(br#"data: {"id":"#);
        json::string(&mut head, id);
        head.put_slice(br#","object":"chat.completion.chunk","created":"#);
        json::int(&mut head, created);
        head.put_slice(br#","model":"#);
        json::string(&mut head, model);
        Chunks { head, include_usage, usage: Usage::default(), logprobs: None }
    }

    /// The first chunk: the role.
    pub fn start(&mut self, out: &mut BytesMut) {
        self.open(out);
        out.put_slice(br#""role":"assistant","content":"""#);
        self.close(out, None);
    }

    /// The next piece. Usage is kept for the end, and versions write nothing. An answer that begins anew is told by the field
    /// `forebay` of an empty chunk, which no client trips over.
    pub fn delta(&mut self, out: &mut BytesMut, delta: &Delta) {
        match delta {
            Delta::Version(_) | Delta::Signature(_) => return,
            Delta::Logprobs(probs) => {
                self.logprobs = Some(probs.clone());
                return;
            }
            Delta::Usage(u) => {
                self.usage = *u;
                return;
            }
            Delta::Reset => {
                self.logprobs = None;
                out.put_slice(&self.head);
                out.put_slice(br#","forebay":{"reset":true}"#);
                out.put_slice(br#","choices":[{"index":0,"delta":{"#);
            }
            Delta::Finish(f) => {
                self.open(out);
                return self.close(out, Some(finish(f)));
            }
            Delta::Text(t) => {
                self.open(out);
                out.put_slice(br#""content":"#);
                json::string(out, t);
            }
            Delta::Reasoning(t) => {
                self.open(out);
                out.put_slice(br#""reasoning_content":"#);
                json::string(out, t);
            }
            Delta::ToolCall { index, id, name, arguments } => {
                self.open(out);
                out.put_slice(br#""tool_calls":[{"index":"#);
                json::int(out, *index);
                if let Some(id) = id {
                    json::key(out, "id");
                    json::string(out, id);
                    out.put_slice(br#","type":"function""#);
                }
                out.put_slice(br#","function":{"#);
                if let Some(name) = name {
                    json::key(out, "name");
                    json::string(out, name);
                }
                json::key(out, "arguments");
                json::string(out, arguments);
                out.put_slice(b"}}]");
            }
        }
        self.close(out, None);
    }

    /// The end of a complete stream: the usage chunk when asked for, and `[DONE]`.
    pub fn end(&mut self, out: &mut BytesMut) {
        end(out, &self.head, self.include_usage.then_some(&self.usage));
    }

    /// The end of a stream that broke: no `[DONE]` follows.
    pub fn error(&mut self, out: &mut BytesMut, error: &Error) {
        broken(out, &self.head, error);
        out.put_slice(br#","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#);
        out.put_slice(b"\n\n");
    }

    fn open(&self, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(br#","choices":[{"index":0,"delta":{"#);
    }

    fn close(&mut self, out: &mut BytesMut, finish: Option<&str>) {
        out.put_slice(br#"},"logprobs":"#);
        match self.logprobs.take() {
            Some(probs) => json::value(out, &probs),
            None => out.put_slice(b"null"),
        }
        out.put_slice(br#","finish_reason":"#);
        match finish {
            Some(f) => json::string(out, f),
            None => out.put_slice(b"null"),
        }
        out.put_slice(if self.include_usage { br#"}],"usage":null}"#.as_slice() } else { b"}]}" });
        out.put_slice(b"\n\n");
    }
}

/// Writes the `chat.completion` object of an answer that is not streamed.
pub fn render(out: &mut BytesMut, id: &str, created: i64, model: &str, answer: &Answer) {
    out.put_slice(br#"{"id":"#);
    json::string(out, id);
    out.put_slice(br#","object":"chat.completion","created":"#);
    json::int(out, created);
    out.put_slice(br#","model":"#);
    json::string(out, model);
    out.put_slice(br#","choices":[{"index":0,"message":{"role":"assistant","content":"#);
    if answer.text.is_empty() && !answer.tool_calls.is_empty() {
        out.put_slice(b"null");
    } else {
        json::string(out, &answer.text);
    }
    out.put_slice(br#","refusal":null"#);
    if !answer.reasoning.is_empty() {
        json::key(out, "reasoning_content");
        json::string(out, &answer.reasoning);
    }
    if !answer.tool_calls.is_empty() {
        json::key(out, "tool_calls");
        codec::openai::tool_calls(out, &answer.tool_calls);
    }
    out.put_slice(br#"},"logprobs":"#);
    json::value(out, &answer.logprobs);
    out.put_slice(br#","finish_reason":"#);
    json::string(out, finish(answer.finish.as_ref().unwrap_or(&FinishReason::Stop)));
    out.put_slice(br#"}],"usage":"#);
    usage(out, &answer.usage.unwrap_or_default());
    out.put_u8(b'}');
}

/// Writes the body of an error. `kind` is the SDK's error type, which goes with the status; `facts` stand beside the message.
pub fn render_error(out: &mut BytesMut, kind: &str, error: &Error, facts: &[(&str, Json)]) {
    out.put_slice(br#"{"error":{"message":"#);
    json::string(out, &error.told());
    out.put_slice(br#","type":"#);
    json::string(out, kind);
    out.put_slice(br#","param":"#);
    match &error.param {
        Some(p) => json::string(out, p),
        None => out.put_slice(b"null"),
    }
    out.put_slice(br#","code":"#);
    json::string(out, error.code.as_str());
    super::limit_facts(out, error, facts);
    out.put_slice(b"}}");
}
