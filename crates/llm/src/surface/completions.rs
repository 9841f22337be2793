//! OpenAI's older text completions for callers: one prompt in, its continuation out.
//!
//! The prompt is what the user says to a chat model: there is no other kind of model here.

use bytes::{BufMut, BytesMut};
use contract::{Error, Message, Role, Usage};
use serde_json::Value as Json;

use super::openai::{broken, end, usage};
use super::{Body, Call, invalid};
use crate::{Answer, ChatRequest, Delta, FinishReason, json};

/// Words of chat completions, which an upstream would take for its own.
const FOREIGN: [&str; 7] = [
    "messages",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
];

/// Reads the body of `POST /v1/completions`. Errors name the parameter at fault. Fields that nobody here knows go on to the
/// provider.
pub fn parse(bytes: &[u8]) -> Result<Call, Error> {
    let mut body = Body::parse(bytes)?;
    let model = body.model()?;
    let prompt = prompt(body.take("prompt"))?;
    refuse(&mut body)?;
    let stream = body.flag("stream")?;
    let include_usage = body.include_usage()?;
    let user = body.end_user()?;
    let mut request = ChatRequest {
        messages: vec![Message::text(Role::User, prompt)],
        max_output_tokens: body.positive("max_tokens")?,
        temperature: body.number("temperature", 2.0)?,
        top_p: body.number("top_p", 1.0)?,
        stop: body.texts("stop")?,
        seed: body.seed()?,
        stream,
        ..ChatRequest::default()
    };
    request.extra = body.0.rest();
    Ok(Call { model, request, include_usage: stream && include_usage, user })
}

fn prompt(said: Option<Json>) -> Result<String, Error> {
    let bad = |what: &str| invalid("prompt", format!("`prompt` {what}"));
    match said {
        Some(Json::String(text)) => Ok(text),
        Some(Json::Array(mut all)) => match (all.pop(), all.is_empty()) {
            (Some(Json::String(text)), true) => Ok(text),
            (Some(Json::String(_)), false) => Err(bad("must be one text: send a request for each")),
            (Some(Json::Number(_) | Json::Array(_)), _) => {
                Err(bad("must be text: tokens are not taken, for each model has its own"))
            }
            _ => Err(bad("must be a string, or an array of one")),
        },
        _ => Err(bad("must be a string, or an array of one")),
    }
}

/// Says no to what cannot be done, rather than do something else.
fn refuse(body: &mut Body<'_>) -> Result<(), Error> {
    for name in ["n", "best_of"] {
        if body.positive(name)?.unwrap_or(1) != 1 {
            return Err(invalid(name, format!("`{name}` must be 1: ask again for another answer")));
        }
    }
    if body.flag("echo")? {
        return Err(invalid("echo", "`echo` must be false: the prompt is not repeated"));
    }
    if body.text("suffix")?.is_some_and(|s| !s.is_empty()) {
        let m = "`suffix` is not supported: no text is put in between two others";
        return Err(invalid("suffix", m));
    }
    if body.take("logprobs").is_some() {
        let m = "`logprobs` is not supported here: ask at /v1/chat/completions or /v1/responses";
        return Err(invalid("logprobs", m));
    }
    for name in FOREIGN {
        if body.take(name).is_some() {
            let m = format!("`{name}` is no parameter of completions: ask at /v1/chat/completions");
            return Err(invalid(name, m));
        }
    }
    Ok(())
}

/// The reason as chat says it: without tools there are no calls to make.
fn finish(f: &FinishReason) -> &str {
    match f {
        FinishReason::ToolCalls => "stop",
        other => super::openai::finish(other),
    }
}

/// Writes a stream of `text_completion` events. Call order: `delta`…, then `end` or `error`, once.
#[derive(Debug)]
pub struct Chunks {
    /// `data: {"id":…,"object":…,"created":…,"model":…` with everything up to the part that differs.
    head: BytesMut,
    include_usage: bool,
    usage: Usage,
}

impl Chunks {
    /// `created` in seconds since the epoch; `model` is what the caller asked for.
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        let mut head = BytesMut::with_capacity(128);
        head.put_slice(b"data: ");
        begin(&mut head, id, created, model);
        Chunks { head, include_usage, usage: Usage::default() }
    }

    /// The next piece. Usage is kept for the end; what is no text writes nothing. An answer that begins anew is told by the
    /// field `forebay` of an empty chunk, as chat tells it.
    pub fn delta(&mut self, out: &mut BytesMut, delta: &Delta) {
        match delta {
            Delta::Usage(u) => self.usage = *u,
            Delta::Text(t) if t.is_empty() => {}
            Delta::Text(t) => self.choice(out, t, None),
            Delta::Finish(f) => self.choice(out, "", Some(finish(f))),
            Delta::Reset => {
                out.put_slice(&self.head);
                out.put_slice(br#","forebay":{"reset":true}"#);
                self.rest(out, "", None);
            }
            Delta::Version(_) | Delta::Reasoning(_) | Delta::Signature(_) => {}
            Delta::Logprobs(_) | Delta::ToolCall { .. } => {}
        }
    }

    /// The end of a complete stream: the usage chunk when asked for, and `[DONE]`.
    pub fn end(&mut self, out: &mut BytesMut) {
        end(out, &self.head, self.include_usage.then_some(&self.usage));
    }

    /// The end of a stream that broke: no `[DONE]` follows.
    pub fn error(&mut self, out: &mut BytesMut, error: &Error) {
        broken(out, &self.head, error);
        out.put_slice(br#","choices":["#);
        choice(out, "", Some("error"));
        out.put_slice(b"]}\n\n");
    }

    fn choice(&self, out: &mut BytesMut, text: &str, finish: Option<&str>) {
        out.put_slice(&self.head);
        self.rest(out, text, finish);
    }

    fn rest(&self, out: &mut BytesMut, text: &str, finish: Option<&str>) {
        out.put_slice(br#","choices":["#);
        choice(out, text, finish);
        out.put_slice(if self.include_usage { br#"],"usage":null}"#.as_slice() } else { b"]}" });
        out.put_slice(b"\n\n");
    }
}

fn begin(out: &mut BytesMut, id: &str, created: i64, model: &str) {
    out.put_slice(br#"{"id":"#);
    json::string(out, id);
    out.put_slice(br#","object":"text_completion","created":"#);
    json::int(out, created);
    out.put_slice(br#","model":"#);
    json::string(out, model);
}

fn choice(out: &mut BytesMut, text: &str, finish: Option<&str>) {
    out.put_slice(br#"{"index":0,"text":"#);
    json::string(out, text);
    out.put_slice(br#","logprobs":null,"finish_reason":"#);
    match finish {
        Some(f) => json::string(out, f),
        None => out.put_slice(b"null"),
    }
    out.put_u8(b'}');
}

/// Writes the `text_completion` object of an answer that is not streamed.
pub fn render(out: &mut BytesMut, id: &str, created: i64, model: &str, answer: &Answer) {
    begin(out, id, created, model);
    out.put_slice(br#","choices":["#);
    choice(out, &answer.text, Some(finish(answer.finish.as_ref().unwrap_or(&FinishReason::Stop))));
    out.put_slice(br#"],"usage":"#);
    usage(out, &answer.usage.unwrap_or_default());
    out.put_u8(b'}');
}
