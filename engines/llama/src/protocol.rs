//! The OpenAI chat protocol as types: what a request may hold, and the bodies and chunks of an answer.
//!
//! It never touches the model or the socket. Unknown fields are ignored, as OpenAI's own clients expect; fields that would
//! change the answer and are not supported are refused rather than ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;

/// Most stop sequences of a request.
const STOPS: usize = 16;

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    /// Not OpenAI's, but llama.cpp's and vLLM's: 0 is no limit.
    pub(crate) top_k: Option<u32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) seed: Option<i64>,
    stop: Option<Stop>,
    response_format: Option<ResponseFormat>,
    n: Option<u32>,
    logprobs: Option<bool>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
}

/// One message.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: Role,
    content: Option<Content>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "content must be a string or a list of text parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "stop must be a string or a list of strings")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

/// `POST /tokenize`.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizeRequest {
    pub(crate) text: String,
}

impl Role {
    /// The name that chat templates know.
    pub(crate) fn template_name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Message {
    /// The text of all parts.
    pub(crate) fn text(&self) -> Result<String, Error> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => parts
                .iter()
                .map(|part| match (part.kind.as_str(), &part.text) {
                    ("text", Some(text)) => Ok(text.as_str()),
                    _ => Err(Error::invalid("messages", "only text parts are supported by this model")),
                })
                .collect(),
        }
    }
}

impl ChatRequest {
    /// Refuses what is out of range or not supported.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.messages.is_empty() {
            return Err(Error::invalid("messages", "at least one message is needed"));
        }
        if self.max_tokens == Some(0) || self.max_completion_tokens == Some(0) {
            return Err(Error::invalid("max_tokens", "must be at least 1"));
        }
        in_range("temperature", self.temperature, 0.0, 2.0)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(Error::invalid("n", "only one choice is supported"));
        }
        if self.logprobs == Some(true) {
            return Err(Error::invalid("logprobs", "not supported by this model"));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(Error::invalid("tools", "not supported by this model"));
        }
        let stops = self.stops();
        if stops.len() > STOPS || stops.iter().any(String::is_empty) {
            return Err(Error::invalid("stop", format!("at most {STOPS} sequences, none of them empty")));
        }
        Ok(())
    }

    /// Tokens asked for at most.
    pub(crate) fn max_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Stop sequences.
    pub(crate) fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }

    /// The JSON Schema that the answer must satisfy.
    pub(crate) fn schema(&self) -> Result<Option<Value>, Error> {
        match &self.response_format {
            None | Some(ResponseFormat::Text) => Ok(None),
            Some(ResponseFormat::JsonObject) => Ok(Some(json!({ "type": "object" }))),
            Some(ResponseFormat::JsonSchema { json_schema: NamedSchema { schema: Some(schema) } }) => {
                Ok(Some(schema.clone()))
            }
            Some(ResponseFormat::JsonSchema { .. }) => {
                Err(Error::invalid("response_format", "json_schema.schema is missing"))
            }
        }
    }
}

fn in_range(param: &'static str, value: Option<f32>, low: f32, high: f32) -> Result<(), Error> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(Error::invalid(param, format!("must be between {low} and {high}")))
        }
        _ => Ok(()),
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop sequence did.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the prompt, with those that were cached.
    pub(crate) prompt: usize,
    /// Tokens of the prompt that were in the cache already.
    pub(crate) cached: usize,
    /// Tokens generated, with the one that ended the answer.
    pub(crate) completion: usize,
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

/// What the body and all chunks of an answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `chatcmpl-…`
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// Every chunk has a `usage` field, and an extra one carries it.
    pub(crate) include_usage: bool,
}

impl Head {
    /// The body of an answer that is not streamed.
    pub(crate) fn completion(&self, text: &str, reason: FinishReason, usage: Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "logprobs": null, "finish_reason": reason }],
            "usage": usage.json(),
        })
    }

    /// The first chunk: who speaks.
    pub(crate) fn opening(&self) -> String {
        self.chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }]), Value::Null)
    }

    /// A piece of text.
    pub(crate) fn delta(&self, text: &str) -> String {
        self.chunk(
            json!([{ "index": 0, "delta": { "content": text }, "logprobs": null, "finish_reason": null }]),
            Value::Null,
        )
    }

    /// The end: the reason, the usage if it was asked for, `[DONE]`.
    pub(crate) fn closing(&self, reason: FinishReason, usage: Usage) -> String {
        let mut events = self.chunk(
            json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason }]),
            Value::Null,
        );
        if self.include_usage {
            events.push_str(&self.chunk(json!([]), usage.json()));
        }
        events.push_str("data: [DONE]\n\n");
        events
    }

    /// An error after the first byte: it ends the stream instead of `[DONE]`.
    pub(crate) fn failure(&self, error: &Error) -> String {
        event(&json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "error": { "code": error.code(), "message": error.to_string() },
            "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }],
        }))
    }

    fn chunk(&self, choices: Value, usage: Value) -> String {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices,
        });
        if let (true, Some(fields)) = (self.include_usage, chunk.as_object_mut()) {
            fields.insert("usage".to_owned(), usage);
        }
        event(&chunk)
    }
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<ChatRequest, Error> {
        let request: ChatRequest = serde_json::from_value(body)
            .map_err(|error| Error::Invalid { param: None, message: error.to_string() })?;
        request.check()?;
        Ok(request)
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        body[field] = value;
        body
    }

    #[test]
    fn content_is_a_string_or_text_parts() {
        let body = json!({ "messages": [
            { "role": "developer", "content": "a" },
            { "role": "user", "content": [{ "type": "text", "text": "b" }, { "type": "text", "text": "c" }] },
            { "role": "assistant", "content": null },
        ] });
        let texts: Vec<String> =
            parse(body).unwrap().messages.iter().map(|message| message.text().unwrap()).collect();
        assert_eq!(texts, ["a", "bc", ""]);
    }

    #[test]
    fn an_image_part_is_refused() {
        let body = json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] });
        assert_eq!(parse(body).unwrap().messages[0].text().unwrap_err().status(), 400);
    }

    #[test]
    fn values_out_of_range_and_unsupported_fields_are_refused() {
        for (field, value) in [
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-1)),
            ("max_completion_tokens", json!(0)),
            ("temperature", json!(2.1)),
            ("top_p", json!(-0.1)),
            ("stop", json!("")),
            ("stop", json!(vec!["x"; 17])),
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("tools", json!([{ "type": "function" }])),
        ] {
            assert!(parse(with(field, value.clone())).is_err(), "{field}: {value}");
        }
    }

    #[test]
    fn the_newer_name_of_the_token_limit_wins() {
        let mut body = with("max_tokens", json!(5));
        body["max_completion_tokens"] = json!(1_000_000_000);
        assert_eq!(parse(body).unwrap().max_tokens(), Some(1_000_000_000));
    }

    #[test]
    fn a_json_schema_format_without_a_schema_is_refused() {
        let body = with("response_format", json!({ "type": "json_schema", "json_schema": { "name": "x" } }));
        assert!(parse(body).unwrap().schema().is_err());
        let body = with("response_format", json!({ "type": "json_object" }));
        assert_eq!(parse(body).unwrap().schema().unwrap(), Some(json!({ "type": "object" })));
    }

    #[test]
    fn usage_comes_in_an_extra_chunk_without_choices_and_is_null_before() {
        let head = Head { id: "x".into(), created: 1, model: "m".into(), include_usage: true };
        let usage = Usage { prompt: 3, cached: 2, completion: 4 };
        assert!(head.delta("a").contains("\"usage\":null"));
        let closing = head.closing(FinishReason::Stop, usage);
        let events: Vec<&str> = closing.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 3);
        assert!(events[1].contains("\"choices\":[]") && events[1].contains("\"total_tokens\":7"));
        assert_eq!(events[2], "data: [DONE]");
        let silent = Head { include_usage: false, ..head };
        assert!(!silent.closing(FinishReason::Length, usage).contains("usage"));
    }
}
