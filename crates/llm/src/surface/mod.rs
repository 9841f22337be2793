//! Protocols of callers: bodies to requests, deltas to events. No I/O; status codes are the gateway's.

pub mod anthropic;
pub mod completions;
mod fields;
pub mod openai;
pub mod responses;

use bytes::BytesMut;
use contract::{Code, Error, ModelName, Part, UserId};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use fields::{Conversation, Fields, Item, Messages};

use crate::{ChatRequest, json};

/// A caller's request to a model or pipeline by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Whom the caller wants to answer.
    pub model: ModelName,
    /// What is asked.
    pub request: ChatRequest,
    /// Whether a stream should end with its usage (OpenAI's `stream_options.include_usage`).
    pub include_usage: bool,
    /// The end user the caller named.
    pub user: Option<UserId>,
}

/// A text block: plain, or as it is when it carries more than its text. `None` when it is no text.
fn text_part(block: Json) -> Option<Part> {
    let map = block.as_object()?;
    let text = map.get("text").and_then(Json::as_str)?;
    if map.get("type").and_then(Json::as_str) != Some("text") {
        return None;
    }
    Some(if map.len() > 2 { Part::Other(block) } else { Part::Text(text.to_owned()) })
}

/// Whose limit it was, and what is known of it, inside the object of an error.
fn limit_facts(out: &mut BytesMut, error: &Error, facts: &[(&str, Json)]) {
    if let Some(source) = &error.limit_source {
        json::key(out, "limit_source");
        json::string(out, source);
    }
    for (name, value) in facts {
        json::key(out, name);
        json::value(out, value);
    }
}

fn invalid(param: &str, message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message).param(param)
}

/// What is wrong with a field of a message.
fn wrong(message: usize, field: &str, what: &str) -> Error {
    let at = format!("messages[{message}].{field}");
    invalid(&at, format!("`{at}` {what}"))
}

/// How many values a body may hold.
const MAX_VALUES: usize = 500_000;
/// Bodies up to this many bytes cannot hold enough values to matter.
const UNCOUNTED: usize = 512 << 10;
/// The largest number of tokens that can be asked for: no model gives more, and every provider can read it.
const MAX_COUNT: u64 = 1_000_000_000;
/// The longest name of an end user, in bytes.
const MAX_USER: usize = 512;

/// Refuses JSON that is small on the wire and large in memory: a value takes about a hundred bytes there, and `[],` takes
/// three here. Linear, without memory of its own; what is not JSON passes.
pub fn bounded(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= UNCOUNTED {
        return Ok(());
    }
    let (mut values, mut text, mut escaped) = (0_usize, false, false);
    for b in bytes {
        match b {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b',' | b':' | b'[' | b'{' if !text => values += 1,
            _ => {}
        }
    }
    if values > MAX_VALUES {
        let m = format!("the body holds more than {MAX_VALUES} values: send long text as one string");
        return Err(Error::new(Code::TooLarge, m));
    }
    Ok(())
}

/// An end user's name: it is kept with every record of theirs, so it is short.
pub fn user(name: &str) -> Result<UserId, Error> {
    if name.len() > MAX_USER {
        return Err(invalid("user", format!("the end user's name must be at most {MAX_USER} bytes long")));
    }
    Ok(UserId::new(name))
}

/// A JSON object whose fields are taken out one by one; `null` is absent. What is left is unknown.
struct Body<'a>(Fields<'a>);

impl<'a> Body<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        match Self::read::<Item<'a>>(bytes)? {
            Item::Object(fields) => Ok(Body(fields)),
            Item::Other => Err(Self::no_object()),
        }
    }

    /// The same of a body that is a conversation: its messages stand beside the rest.
    fn conversation(bytes: &'a [u8]) -> Result<(Self, Messages<'a>), Error> {
        match Self::read::<Conversation<'a>>(bytes)? {
            Conversation::Object(fields, messages) => Ok((Body(fields), messages)),
            Conversation::Other => Err(Self::no_object()),
        }
    }

    fn read<T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
        bounded(bytes)?;
        serde_json::from_slice(bytes).map_err(|e| {
            let m = format!("the body is not valid JSON (line {}, column {})", e.line(), e.column());
            Error::new(Code::InvalidRequest, m)
        })
    }

    fn no_object() -> Error {
        Error::new(Code::InvalidRequest, "the body must be a JSON object")
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name).filter(|v| !v.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(s)) => Ok(Some(s)),
            Some(_) => Err(invalid(name, format!("`{name}` must be a string"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Error> {
        match self.take(name) {
            None => Ok(false),
            Some(Json::Bool(b)) => Ok(b),
            Some(_) => Err(invalid(name, format!("`{name}` must be true or false"))),
        }
    }

    fn positive(&mut self, name: &str) -> Result<Option<u64>, Error> {
        self.take(name)
            .map(|v| {
                v.as_u64().filter(|n| (1..=MAX_COUNT).contains(n)).ok_or_else(|| {
                    invalid(name, format!("`{name}` must be an integer from 1 to {MAX_COUNT}"))
                })
            })
            .transpose()
    }

    fn number(&mut self, name: &str, max: f64) -> Result<Option<f64>, Error> {
        self.take(name)
            .map(|v| {
                v.as_f64()
                    .filter(|n| (0.0..=max).contains(n))
                    .ok_or_else(|| invalid(name, format!("`{name}` must be a number from 0 to {max}")))
            })
            .transpose()
    }

    fn texts(&mut self, name: &str) -> Result<Vec<String>, Error> {
        let bad = || invalid(name, format!("`{name}` must be a string or an array of strings"));
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Json::String(s)) => Ok(vec![s]),
            Some(Json::Array(all)) => all
                .into_iter()
                .map(|v| match v {
                    Json::String(s) => Ok(s),
                    _ => Err(bad()),
                })
                .collect(),
            Some(_) => Err(bad()),
        }
    }

    fn model(&mut self) -> Result<ModelName, Error> {
        match self.text("model")? {
            Some(m) if !m.is_empty() => Ok(ModelName::from(m)),
            _ => Err(invalid("model", "`model` is missing: name a model or a pipeline")),
        }
    }

    /// `stream_options.include_usage`.
    fn include_usage(&mut self) -> Result<bool, Error> {
        match self.take("stream_options") {
            None => Ok(false),
            Some(Json::Object(o)) => match o.get("include_usage") {
                None | Some(Json::Null) => Ok(false),
                Some(Json::Bool(b)) => Ok(*b),
                Some(_) => {
                    Err(invalid("stream_options.include_usage", "`include_usage` must be true or false"))
                }
            },
            Some(_) => Err(invalid("stream_options", "`stream_options` must be an object")),
        }
    }

    fn seed(&mut self) -> Result<Option<i64>, Error> {
        let seed = |v: Json| v.as_i64().ok_or_else(|| invalid("seed", "`seed` must be an integer"));
        self.take("seed").map(seed).transpose()
    }

    /// The end user, whom a provider is told of too: it stays in the body.
    fn end_user(&self) -> Result<Option<UserId>, Error> {
        // The second took the first one's place.
        let said = |name| self.0.get(name).filter(|said| !said.is_null()).map(|said| (name, said));
        match said("user").or_else(|| said("safety_identifier")) {
            None => Ok(None),
            Some((_, Json::String(u))) => user(u).map(Some),
            Some((name, _)) => Err(invalid(name, format!("`{name}` must be a string"))),
        }
    }
}

/// The messages of a conversation, of which there must be one.
fn listed(messages: Messages<'_>) -> Result<Vec<Fields<'_>>, Error> {
    let Messages::Array(all) = messages else {
        return Err(invalid("messages", "`messages` must be an array"));
    };
    if all.is_empty() {
        return Err(invalid("messages", "`messages` must hold at least one message"));
    }
    let each = all.into_iter().enumerate().map(|(i, m)| match m {
        Item::Object(m) => Ok(m),
        Item::Other => Err(invalid(&format!("messages[{i}]"), "a message must be an object")),
    });
    each.collect()
}

impl From<Map<String, Json>> for Body<'_> {
    fn from(map: Map<String, Json>) -> Self {
        Body(map.into())
    }
}
