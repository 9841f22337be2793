//! Anthropic messages for callers: what the official SDKs send and parse.

use bytes::{BufMut, BytesMut};
use contract::{Code, Content, Error, Message, Part, Role, ToolCall, Usage};
use serde_json::{Map, Value as Json, json};

use super::{Body, Call, invalid, listed, wrong};
use crate::{Answer, ChatRequest, Delta, FinishReason, json as write};

/// Reads the body of `POST /v1/messages`. Errors name the parameter at fault.
pub fn parse(bytes: &[u8]) -> Result<Call, Error> {
    let call = parse_count(bytes)?;
    if call.request.max_output_tokens.is_none() {
        return Err(invalid("max_tokens", "`max_tokens` is missing"));
    }
    Ok(call)
}

/// Reads the body of `POST /v1/messages/count_tokens`: the same without `max_tokens`.
pub fn parse_count(bytes: &[u8]) -> Result<Call, Error> {
    let (mut body, said) = Body::conversation(bytes)?;
    let model = body.model()?;
    let mut messages = Vec::new();
    match body.take("system") {
        None => {}
        Some(v) => match texts(v) {
            Some(content) => messages.push(Message { content, ..Message::text(Role::System, "") }),
            None => return Err(invalid("system", "`system` must be a string or an array of text blocks")),
        },
    }
    for (i, m) in listed(said)?.into_iter().enumerate() {
        message(Body(m), i, &mut messages)?;
    }
    let tools = match body.take("tools") {
        None => None,
        Some(Json::Array(all)) => Some(Json::Array(all.into_iter().map(tool).collect())),
        Some(_) => return Err(invalid("tools", "`tools` must be an array")),
    };
    let choice = body.take("tool_choice");
    let alone = choice.as_ref().and_then(|c| c.get("disable_parallel_tool_use")) == Some(&Json::Bool(true));
    let user = body.take("metadata").and_then(|m| m.get("user_id").and_then(Json::as_str).map(str::to_owned));
    let response_format = body.take("output_config").and_then(|mut c| {
        let schema = c.pointer_mut("/format/schema").map(Json::take)?;
        Some(json!({"type": "json_schema", "json_schema": {"name": "output", "schema": schema}}))
    });
    let mut request = ChatRequest {
        messages,
        max_output_tokens: body.positive("max_tokens")?,
        temperature: body.number("temperature", 1.0)?,
        top_p: body.number("top_p", 1.0)?,
        stop: body.texts("stop_sequences")?,
        seed: None,
        tools,
        tool_choice: choice.as_ref().map(tool_choice).transpose()?,
        response_format,
        stream: body.flag("stream")?,
        continues: false,
        extra: Map::new(),
    };
    request.extra = body.0.rest();
    if alone {
        request.extra.insert("parallel_tool_calls".into(), false.into());
    }
    if let Some(user) = &user {
        request.extra.insert("user".into(), user.as_str().into());
    }
    let user = user.as_deref().map(super::user).transpose()?;
    Ok(Call { model, request, include_usage: true, user })
}

/// A string or text blocks: one text, unless some carry marks of their own.
fn texts(v: Json) -> Option<Content> {
    let blocks = match v {
        Json::String(s) => return Some(Content::Text(s)),
        Json::Array(blocks) => blocks,
        _ => return None,
    };
    let parts: Vec<Part> = blocks.into_iter().map(super::text_part).collect::<Option<_>>()?;
    if parts.iter().all(|p| matches!(p, Part::Text(_))) {
        let texts: Vec<&str> = parts.iter().filter_map(Part::text).collect();
        return Some(Content::Text(texts.join("\n\n")));
    }
    Some(Content::Parts(parts))
}

/// What a tool gave back: text, or blocks of which some are none.
fn result(v: Option<&Json>) -> Content {
    let blocks = match v {
        Some(Json::Array(blocks)) => blocks,
        Some(Json::String(s)) => return Content::Text(s.clone()),
        _ => return Content::Text(String::new()),
    };
    texts(Json::Array(blocks.clone())).unwrap_or_else(|| {
        let part = |b: &Json| {
            super::text_part(b.clone()).unwrap_or_else(|| Part::Other(image(b).unwrap_or_else(|| b.clone())))
        };
        Content::Parts(blocks.iter().map(part).collect())
    })
}

/// One turn of the protocol is one message, or several: tool results stand alone.
fn message(mut m: Body<'_>, i: usize, out: &mut Vec<Message>) -> Result<(), Error> {
    let bad = |field: &str, what: &str| wrong(i, field, what);
    let role = match m.take("role").as_ref().and_then(Json::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(bad("role", "must be user or assistant")),
    };
    let blocks = match m.take("content") {
        Some(Json::String(t)) => {
            out.push(Message::text(role, t));
            return Ok(());
        }
        Some(Json::Array(blocks)) => blocks,
        _ => return Err(bad("content", "must be a string or an array of blocks")),
    };
    let mut parts = Vec::new();
    let mut tool_calls = Vec::new();
    for (i, b) in blocks.into_iter().enumerate() {
        let text = |k: &str| b.get(k).and_then(Json::as_str).map(str::to_owned);
        let missing = |what: &str| bad(&format!("content[{i}]"), &format!("needs `{what}`"));
        match text("type").as_deref() {
            Some("text") => parts.push(super::text_part(b).ok_or_else(|| missing("text"))?),
            Some("tool_use") => tool_calls.push(ToolCall {
                id: text("id").ok_or_else(|| missing("id"))?,
                name: text("name").ok_or_else(|| missing("name"))?,
                arguments: b.get("input").map_or_else(|| "{}".to_owned(), Json::to_string),
            }),
            Some("tool_result") => {
                let id = text("tool_use_id").ok_or_else(|| missing("tool_use_id"))?;
                let content = result(b.get("content"));
                out.push(Message { content, tool_call_id: Some(id), ..Message::text(Role::Tool, "") });
            }
            Some("image") => parts.push(Part::Other(image(&b).ok_or_else(|| missing("source"))?)),
            Some(_) => parts.push(Part::Other(b)),
            None => return Err(missing("type")),
        }
    }
    if !parts.is_empty() || !tool_calls.is_empty() {
        let only_text = parts.len() <= 1 && parts.iter().all(|p| matches!(p, Part::Text(_)));
        let content = match parts.pop() {
            None => Content::Text(String::new()),
            Some(Part::Text(t)) if only_text => Content::Text(t),
            Some(last) => {
                parts.push(last);
                Content::Parts(parts)
            }
        };
        out.push(Message { role, content, name: None, tool_calls, tool_call_id: None });
    }
    Ok(())
}

fn image(block: &Json) -> Option<Json> {
    let text = |p: &str| block.pointer(p).and_then(Json::as_str);
    let url = match text("/source/url") {
        Some(url) => url.to_owned(),
        None => format!("data:{};base64,{}", text("/source/media_type")?, text("/source/data")?),
    };
    Some(json!({"type": "image_url", "image_url": {"url": url}}))
}

/// A custom tool in OpenAI's form; the provider's own tools pass as they are.
fn tool(mut t: Json) -> Json {
    if t.get("input_schema").is_none() {
        return t;
    }
    let mut f = Map::new();
    for (to, from) in [("name", "name"), ("description", "description"), ("parameters", "input_schema")] {
        if let Some(v) = t.get_mut(from) {
            f.insert(to.into(), v.take());
        }
    }
    let mut tool = json!({"type": "function", "function": f});
    if let (Some(mark), Some(map)) = (t.get("cache_control"), tool.as_object_mut()) {
        map.insert("cache_control".into(), mark.clone());
    }
    tool
}

fn tool_choice(c: &Json) -> Result<Json, Error> {
    match (c.get("type").and_then(Json::as_str), c.get("name")) {
        (Some("auto"), _) => Ok("auto".into()),
        (Some("none"), _) => Ok("none".into()),
        (Some("any"), _) => Ok("required".into()),
        (Some("tool"), Some(name)) => Ok(json!({"type": "function", "function": {"name": name}})),
        _ => Err(invalid(
            "tool_choice",
            "`tool_choice` must have the type auto, any, tool (with a name) or none",
        )),
    }
}

fn finish(f: &FinishReason) -> &str {
    match f {
        FinishReason::Stop | FinishReason::OpenAi(_) => "end_turn",
        FinishReason::Anthropic(own) => own,
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}

fn usage(out: &mut BytesMut, u: &Usage) {
    out.put_slice(br#"{"input_tokens":"#);
    write::int(out, u.input_tokens.saturating_sub(u.cached_input_tokens));
    out.put_slice(br#","cache_creation_input_tokens":0,"cache_read_input_tokens":"#);
    write::int(out, u.cached_input_tokens);
    out.put_slice(br#","output_tokens":"#);
    write::int(out, u.output_tokens);
    out.put_u8(b'}');
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Tool(u32),
}

/// Writes the events of a streamed message. Call order: `start`, (`delta` | `ping`)…, then `end` or `error`, once.
#[derive(Debug)]
pub struct Events {
    id: String,
    model: String,
    open: Option<Block>,
    /// The index of the open block, or of the next one.
    index: u32,
    usage: Usage,
    finish: Option<FinishReason>,
}

impl Events {
    /// `model` is what the caller asked for or the version that answers; `input_tokens` the estimate for
    /// `message_start`, replaced by the provider's figure at the end.
    pub fn new(id: &str, model: &str, input_tokens: u64) -> Self {
        Events {
            id: id.to_owned(),
            model: model.to_owned(),
            open: None,
            index: 0,
            usage: Usage { input_tokens, ..Usage::default() },
            finish: None,
        }
    }

    /// `message_start`.
    pub fn start(&mut self, out: &mut BytesMut) {
        out.put_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        write::string(out, &self.id);
        out.put_slice(br#","type":"message","role":"assistant","model":"#);
        write::string(out, &self.model);
        out.put_slice(br#","content":[],"stop_reason":null,"stop_sequence":null,"usage":"#);
        usage(out, &self.usage);
        out.put_slice(b"}}\n\n");
    }

    /// The next piece, opening and closing content blocks as needed.
    pub fn delta(&mut self, out: &mut BytesMut, delta: &Delta) {
        match delta {
            Delta::Version(_) | Delta::Logprobs(_) => {}
            Delta::Signature(s) if self.open == Some(Block::Thinking) => {
                self.piece(out, br#"{"type":"signature_delta","signature":"#, s);
            }
            Delta::Signature(_) => {}
            Delta::Usage(u) => self.usage = *u,
            // Clients pass over events that they do not know.
            Delta::Reset => {
                self.leave(out);
                out.put_slice(b"event: forebay_reset\ndata: {\"type\":\"forebay_reset\"}\n\n");
            }
            Delta::Finish(f) => self.finish = Some(f.clone()),
            Delta::Text(t) => {
                self.enter(out, Block::Text, br#"{"type":"text","text":""}"#);
                self.piece(out, br#"{"type":"text_delta","text":"#, t);
            }
            Delta::Reasoning(t) => {
                self.enter(out, Block::Thinking, br#"{"type":"thinking","thinking":"","signature":""}"#);
                self.piece(out, br#"{"type":"thinking_delta","thinking":"#, t);
            }
            Delta::ToolCall { index, id, name, arguments } => {
                let block = Block::Tool(*index);
                if self.open != Some(block) {
                    let mut head = BytesMut::new();
                    head.put_slice(br#"{"type":"tool_use","id":"#);
                    write::string(&mut head, id.as_deref().unwrap_or_default());
                    head.put_slice(br#","name":"#);
                    write::string(&mut head, name.as_deref().unwrap_or_default());
                    head.put_slice(br#","input":{}}"#);
                    self.enter(out, block, &head);
                }
                if !arguments.is_empty() {
                    self.piece(out, br#"{"type":"input_json_delta","partial_json":"#, arguments);
                }
            }
        }
    }

    /// A heartbeat.
    pub fn ping(&self, out: &mut BytesMut) {
        out.put_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    /// The end of a complete stream: `message_delta` with the usage, `message_stop`.
    pub fn end(&mut self, out: &mut BytesMut) {
        self.leave(out);
        out.put_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":");
        write::string(out, finish(self.finish.as_ref().unwrap_or(&FinishReason::Stop)));
        out.put_slice(br#","stop_sequence":null},"usage":"#);
        usage(out, &self.usage);
        out.put_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    /// The end of a stream that broke.
    pub fn error(&mut self, out: &mut BytesMut, kind: &str, error: &Error) {
        out.put_slice(b"event: error\ndata: ");
        render_error(out, kind, error, &[], Some(&self.id));
        out.put_slice(b"\n\n");
    }

    fn piece(&self, out: &mut BytesMut, head: &[u8], text: &str) {
        out.put_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        write::int(out, self.index);
        out.put_slice(br#","delta":"#);
        out.put_slice(head);
        write::string(out, text);
        out.put_slice(b"}}\n\n");
    }

    fn enter(&mut self, out: &mut BytesMut, block: Block, head: &[u8]) {
        if self.open == Some(block) {
            return;
        }
        self.leave(out);
        self.open = Some(block);
        out.put_slice(b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
        write::int(out, self.index);
        out.put_slice(br#","content_block":"#);
        out.put_slice(head);
        out.put_slice(b"}\n\n");
    }

    fn leave(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            out.put_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
            write::int(out, self.index);
            out.put_slice(b"}\n\n");
            self.index += 1;
        }
    }
}

/// Writes the message object of an answer that is not streamed.
pub fn render(out: &mut BytesMut, id: &str, model: &str, answer: &Answer) {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        content
            .push(json!({"type": "thinking", "thinking": answer.reasoning, "signature": answer.signature}));
    }
    if !answer.text.is_empty() || answer.tool_calls.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    for c in &answer.tool_calls {
        let input: Json = serde_json::from_str(&c.arguments).unwrap_or_else(|_| json!({}));
        content.push(json!({"type": "tool_use", "id": c.id, "name": c.name, "input": input}));
    }
    out.put_slice(br#"{"id":"#);
    write::string(out, id);
    out.put_slice(br#","type":"message","role":"assistant","model":"#);
    write::string(out, model);
    out.put_slice(br#","content":"#);
    write::value(out, &content);
    out.put_slice(br#","stop_reason":"#);
    write::string(out, finish(answer.finish.as_ref().unwrap_or(&FinishReason::Stop)));
    out.put_slice(br#","stop_sequence":null,"usage":"#);
    usage(out, &answer.usage.unwrap_or_default());
    out.put_u8(b'}');
}

/// Writes the body of an error: `{"type":"error","error":{"type","message",…},"request_id"}`. `kind` goes with the status;
/// `facts` stand beside the message.
pub fn render_error(
    out: &mut BytesMut,
    kind: &str,
    error: &Error,
    facts: &[(&str, Json)],
    request: Option<&str>,
) {
    out.put_slice(br#"{"type":"error","error":{"type":"#);
    write::string(out, kind);
    out.put_slice(br#","message":"#);
    write::string(out, &error.told());
    write::key(out, "code");
    write::string(out, error.code.as_str());
    super::limit_facts(out, error, facts);
    out.put_u8(b'}');
    if let Some(id) = request {
        write::key(out, "request_id");
        write::string(out, id);
    }
    out.put_u8(b'}');
}

/// The protocol's type for an error.
pub fn error_type(e: &Error) -> &'static str {
    match (e.code, e.upstream_status) {
        (Code::InvalidKey, _) => "authentication_error",
        (Code::Forbidden | Code::BudgetExhausted | Code::ContentFiltered, _) => "permission_error",
        (Code::NotApproved | Code::GateRefused, _) => "permission_error",
        (Code::NotFound, _) => "not_found_error",
        (Code::TooLarge, _) => "request_too_large",
        (Code::RateLimited, _) => "rate_limit_error",
        (Code::Overloaded | Code::Draining, _) | (Code::UpstreamError, Some(503 | 529)) => "overloaded_error",
        (Code::DeadlineExceeded | Code::UpstreamTimeout, _) => "timeout_error",
        (
            Code::InvalidRequest
            | Code::InvalidDocument
            | Code::ContextLengthExceeded
            | Code::IdempotencyKeyReused
            | Code::NotResumable
            | Code::ExpectationsFailed,
            _,
        ) => "invalid_request_error",
        _ => "api_error",
    }
}
