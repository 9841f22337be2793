//! Anthropic messages as an upstream. A stream is complete once it has said why it ended, by `stop_reason` or `message_stop`;
//! `ping` is not progress.

use bytes::BytesMut;
use contract::{Content, Error, Message, Part, Role, Usage};
use serde_json::{Map, Value as Json, json};

use super::{Deltas, Events, Progress, Streamed, error, nonsense};
use crate::{ChatRequest, Delta, FinishReason};

/// The output limit when neither the request nor the model's settings name one: the protocol requires it.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The request body for `POST /v1/messages`.
pub fn encode(request: &ChatRequest, model: &str) -> BytesMut {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("max_tokens".into(), request.max_output_tokens.unwrap_or(DEFAULT_MAX_TOKENS).into());
    let system: Vec<_> = request.messages.iter().filter(|m| m.role == Role::System).collect();
    if !system.is_empty() {
        body.insert("system".into(), instructions(&system));
    }
    body.insert("messages".into(), Json::Array(turns(&request.messages)));
    if let Some(t) = request.temperature {
        body.insert("temperature".into(), t.min(1.0).into());
    }
    if let Some(p) = request.top_p {
        body.insert("top_p".into(), p.into());
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), request.stop.clone().into());
    }
    if let Some(tools) = request.tools.as_ref().and_then(Json::as_array) {
        body.insert("tools".into(), tools.iter().map(tool).collect());
    }
    let alone = request.extra.get("parallel_tool_calls") == Some(&Json::Bool(false));
    if let Some(mut choice) = request
        .tool_choice
        .as_ref()
        .and_then(tool_choice)
        .or_else(|| (alone && request.tools.is_some()).then(|| json!({"type": "auto"})))
    {
        if let (true, Some(c)) = (alone, choice.as_object_mut()) {
            c.insert("disable_parallel_tool_use".into(), true.into());
        }
        body.insert("tool_choice".into(), choice);
    }
    if let Some(schema) = request.response_format.as_ref().and_then(|f| f.pointer("/json_schema/schema")) {
        body.insert("output_config".into(), json!({"format": {"type": "json_schema", "schema": schema}}));
    }
    if let Some(user) = request.extra.get("user") {
        body.insert("metadata".into(), json!({"user_id": user}));
    }
    for name in ["top_k", "thinking", "service_tier", "container", "context_management"] {
        if let Some(v) = request.extra.get(name) {
            body.insert(name.into(), v.clone());
        }
    }
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    let mut out = BytesMut::new();
    crate::json::value(&mut out, &Json::Object(body));
    out
}

/// The system prompt: one text, or blocks where some carry marks for the provider's cache.
fn instructions(system: &[&Message]) -> Json {
    let marked =
        |c: &Content| matches!(c, Content::Parts(p) if p.iter().any(|p| matches!(p, Part::Other(_))));
    if system.iter().any(|m| marked(&m.content)) {
        return system.iter().flat_map(|m| blocks(&m.content)).collect();
    }
    let texts: Vec<_> = system.iter().map(|m| m.content.to_text()).collect();
    texts.join("\n\n").into()
}

fn blocks(content: &Content) -> Vec<Json> {
    match content {
        Content::Text(t) if t.is_empty() => Vec::new(),
        Content::Text(t) => vec![json!({"type": "text", "text": t})],
        Content::Parts(parts) => parts.iter().map(part).collect(),
    }
}

/// Turns of user and assistant. Tool results belong to the user; neighbours of one role are joined.
fn turns(messages: &[Message]) -> Vec<Json> {
    let mut turns: Vec<(&str, Vec<Json>)> = Vec::new();
    for m in messages.iter().filter(|m| m.role != Role::System) {
        let mut blocks = Vec::new();
        if m.role == Role::Tool {
            let id = m.tool_call_id.as_deref().unwrap_or_default();
            let content = match &m.content {
                Content::Text(t) => t.as_str().into(),
                parts @ Content::Parts(_) => Json::Array(self::blocks(parts)),
            };
            blocks.push(json!({"type": "tool_result", "tool_use_id": id, "content": content}));
        } else {
            blocks = self::blocks(&m.content);
        }
        for c in &m.tool_calls {
            let input: Json = serde_json::from_str(&c.arguments).unwrap_or_else(|_| json!({}));
            blocks.push(json!({"type": "tool_use", "id": c.id, "name": c.name, "input": input}));
        }
        let role = if m.role == Role::Assistant { "assistant" } else { "user" };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn part(p: &Part) -> Json {
    match p {
        Part::Text(t) => json!({"type": "text", "text": t}),
        Part::Other(v) => {
            let Some(url) = v.pointer("/image_url/url").and_then(Json::as_str) else { return v.clone() };
            let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
            match inline {
                Some((media, data)) => {
                    json!({"type": "image", "source": {"type": "base64", "media_type": media, "data": data}})
                }
                None => json!({"type": "image", "source": {"type": "url", "url": url}}),
            }
        }
    }
}

fn tool(t: &Json) -> Json {
    let Some(f) = t.get("function") else { return t.clone() };
    let mut out = Map::new();
    for (to, from) in [("name", "name"), ("description", "description"), ("input_schema", "parameters")] {
        if let Some(v) = f.get(from) {
            out.insert(to.into(), v.clone());
        }
    }
    if let Some(mark) = t.get("cache_control") {
        out.insert("cache_control".into(), mark.clone());
    }
    out.entry("input_schema").or_insert_with(|| json!({"type": "object", "properties": {}}));
    Json::Object(out)
}

fn tool_choice(c: &Json) -> Option<Json> {
    match c.as_str() {
        Some("none") => Some(json!({"type": "none"})),
        Some("required") => Some(json!({"type": "any"})),
        Some(_) => Some(json!({"type": "auto"})),
        None => c.pointer("/function/name").map(|name| json!({"type": "tool", "name": name})),
    }
}

fn finish(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        own => FinishReason::Anthropic(super::own_reason(own)),
    }
}

/// Decodes a streamed answer.
pub type AnthropicDecoder = Streamed<Blocks>;

/// The blocks of a streamed answer.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Content-block indexes that are tool calls, in order: the place here is the call's index.
    tools: Vec<u64>,
    usage: Usage,
    /// Whether it has said why it ended.
    stopped: bool,
}

impl Events for Blocks {
    fn event(&mut self, data: &[u8], progress: &mut Progress, out: &mut Deltas) {
        let read = |data: &[u8]| serde_json::from_slice::<Json>(data).ok();
        let Some(mut event) = read(data).or_else(|| read(&super::without_halves(data)?)) else {
            progress.skipped += 1;
            return;
        };
        let kind = event.get_mut("type").map(Json::take);
        match kind.as_ref().and_then(Json::as_str) {
            Some("message_start") => {
                if let Some(Json::String(model)) = event.pointer_mut("/message/model").map(Json::take) {
                    out.push_back(Ok(Delta::Version(model)));
                }
                self.usage(event.pointer("/message/usage"), out);
            }
            Some("content_block_start") => self.block_start(&mut event, out),
            Some("content_block_delta") => self.block_delta(&mut event, progress, out),
            Some("message_delta") => {
                self.usage(event.get("usage"), out);
                if let Some(r) = event.pointer("/delta/stop_reason").and_then(Json::as_str) {
                    self.stopped = true;
                    out.push_back(Ok(Delta::Finish(finish(r))));
                }
            }
            Some("message_stop") => {
                progress.done = true;
                if !self.stopped {
                    out.push_back(Ok(Delta::Finish(FinishReason::Stop)));
                }
            }
            Some("error") => {
                progress.done = true;
                out.push_back(Err(error::in_stream(event.get("error").unwrap_or(&Json::Null))));
            }
            // Others may be added to the protocol at any time.
            Some(_) => {}
            None => progress.skipped += 1,
        }
    }
}

impl Blocks {
    fn block_start(&mut self, event: &mut Json, out: &mut Deltas) {
        let index = event.get("index").and_then(Json::as_u64).unwrap_or(0);
        let Some(block) = event.get_mut("content_block") else { return };
        let text = |block: &mut Json, k: &str| match block.get_mut(k).map(Json::take) {
            Some(Json::String(s)) => s,
            _ => String::new(),
        };
        match text(block, "type").as_str() {
            "tool_use" => {
                let place = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
                self.tools.push(index);
                out.push_back(Ok(Delta::ToolCall {
                    index: place,
                    id: Some(text(block, "id")),
                    name: Some(text(block, "name")),
                    arguments: String::new(),
                }));
            }
            "text" => {
                let t = text(block, "text");
                if !t.is_empty() {
                    out.push_back(Ok(Delta::Text(t)));
                }
            }
            _ => {}
        }
    }

    fn block_delta(&mut self, event: &mut Json, progress: &mut Progress, out: &mut Deltas) {
        let index = event.get("index").and_then(Json::as_u64).unwrap_or(0);
        let mut text = |k: &str| match event.pointer_mut(k).map(Json::take) {
            Some(Json::String(s)) => s,
            _ => String::new(),
        };
        let delta = match text("/delta/type").as_str() {
            "text_delta" => Delta::Text(text("/delta/text")),
            "thinking_delta" => Delta::Reasoning(text("/delta/thinking")),
            "signature_delta" => {
                out.push_back(Ok(Delta::Signature(text("/delta/signature"))));
                return;
            }
            "input_json_delta" => {
                let place = self.tools.iter().position(|&i| i == index).and_then(|p| u32::try_from(p).ok());
                let Some(index) = place else {
                    progress.skipped += 1;
                    return;
                };
                Delta::ToolCall { index, id: None, name: None, arguments: text("/delta/partial_json") }
            }
            _ => return,
        };
        if delta.is_output() {
            out.push_back(Ok(delta));
        }
    }

    /// Figures are cumulative; those left out keep their last value.
    fn usage(&mut self, wire: Option<&Json>, out: &mut Deltas) {
        let Some(wire) = wire else { return };
        self.usage = usage(wire, self.usage);
        out.push_back(Ok(Delta::Usage(self.usage)));
    }
}

/// Anthropic counts cached input apart; here it is part of the input.
fn usage(wire: &Json, last: Usage) -> Usage {
    let get = |k: &str| wire.get(k).and_then(Json::as_u64);
    let mut u = last;
    if let Some(input) = get("input_tokens") {
        let read = get("cache_read_input_tokens").unwrap_or(0);
        u.cached_input_tokens = read;
        u.input_tokens = input + read + get("cache_creation_input_tokens").unwrap_or(0);
    }
    u.output_tokens = get("output_tokens").unwrap_or(u.output_tokens);
    u
}

/// Decodes an answer that is not streamed.
pub fn decode_body(body: &[u8]) -> Result<Deltas, Error> {
    let message: Json =
        serde_json::from_slice(body).map_err(|_| nonsense("the provider's answer is not a message"))?;
    if message.get("type").and_then(Json::as_str) == Some("error") {
        return Err(error::in_stream(message.get("error").unwrap_or(&Json::Null)));
    }
    let Some(blocks) = message.get("content").and_then(Json::as_array) else {
        return Err(nonsense("the provider's answer is not a message"));
    };
    let text = |v: &Json, k: &str| v.get(k).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut out = Deltas::new();
    out.push_back(Ok(Delta::Version(text(&message, "model"))));
    let mut calls = 0u32;
    for b in blocks {
        match b.get("type").and_then(Json::as_str) {
            Some("text") => out.push_back(Ok(Delta::Text(text(b, "text")))),
            Some("thinking") => {
                out.push_back(Ok(Delta::Reasoning(text(b, "thinking"))));
                let seal = text(b, "signature");
                if !seal.is_empty() {
                    out.push_back(Ok(Delta::Signature(seal)));
                }
            }
            Some("tool_use") => {
                out.push_back(Ok(Delta::ToolCall {
                    index: calls,
                    id: Some(text(b, "id")),
                    name: Some(text(b, "name")),
                    arguments: b.get("input").map_or_else(|| "{}".to_owned(), Json::to_string),
                }));
                calls += 1;
            }
            _ => {}
        }
    }
    if let Some(u) = message.get("usage") {
        out.push_back(Ok(Delta::Usage(usage(u, Usage::default()))));
    }
    if let Some(r) = message.get("stop_reason").and_then(Json::as_str) {
        out.push_back(Ok(Delta::Finish(finish(r))));
    }
    Ok(out)
}
