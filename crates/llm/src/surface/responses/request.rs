//! The body of `POST /v1/responses`: a chat request, and what the answer repeats of it.

use bytes::{Bytes, BytesMut};
use contract::{Error, Message, Role};
use serde_json::{Map, Value as Json, json};

use super::super::{Body, Call, invalid, user};
use super::{input, tools};
use crate::{ChatRequest, json as write};

/// What a response repeats of its request: members of its object, in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    members: Bytes,
    background: bool,
}

impl Echo {
    /// The members, without braces.
    pub(super) fn members(&self) -> &[u8] {
        &self.members
    }

    /// Whether the response is made in the background: the caller has it later.
    pub fn is_background(&self) -> bool {
        self.background
    }
}

/// What needs something that is not here, and what to do instead.
const ABSENT: [(&str, &str); 5] = [
    ("previous_response_id", "no response is stored here: send the conversation so far as `input`"),
    ("conversation", "no conversation is stored here: send it as `input`"),
    ("prompt", "no prompt is stored here: send `instructions`, or call a pipeline by its name as `model`"),
    ("context_management", "no input is compacted here: send a shorter one"),
    ("moderation", "nothing is moderated here: leave it out"),
];

/// Words of chat completions, which an upstream would take for its own, and what they are called here.
const FOREIGN: [(&str, &str); 12] = [
    ("messages", "`input`"),
    ("max_tokens", "`max_output_tokens`"),
    ("max_completion_tokens", "`max_output_tokens`"),
    ("response_format", "`text.format`"),
    ("reasoning_effort", "`reasoning.effort`"),
    ("verbosity", "`text.verbosity`"),
    ("logprobs", "`message.output_text.logprobs` in `include`"),
    ("functions", "`tools`"),
    ("function_call", "`tool_choice`"),
    ("stop", "nothing"),
    ("seed", "nothing"),
    ("n", "nothing"),
];

/// Hints that change nothing of an answer, and go no further.
const HINTS: [&str; 5] =
    ["stream_options", "background_options", "prompt_cache_options", "image", "access_programs"];

/// What `include` says where log probabilities are wanted.
const LOGPROBS: &str = "message.output_text.logprobs";

/// Reads the body. Errors name the parameter at fault. Fields that nobody here knows go on to the provider.
pub fn parse(bytes: &[u8]) -> Result<(Call, Echo), Error> {
    let mut body = Body::parse(bytes)?;
    let model = body.model()?;
    refuse(&mut body)?;
    let background = background(&mut body)?;
    let mut echo = Map::new();
    let mut messages = Vec::new();
    let instructions = body.text("instructions")?;
    messages.extend(instructions.as_deref().map(|t| Message::text(Role::System, t)));
    echo.insert("instructions".into(), instructions.into());
    input::read(body.take("input"), &mut messages)?;
    let mut extra = Map::new();
    let tools = tools::read(&mut body, &mut extra, &mut echo)?;
    let response_format = format(&mut body, &mut extra, &mut echo)?;
    reasoning(&mut body, &mut extra, &mut echo)?;
    logprobs(&mut body, &mut extra, &mut echo)?;
    metadata(&mut body, &mut echo)?;
    let user = names(&mut body, &mut extra, &mut echo)?;
    let mut request = ChatRequest {
        messages,
        max_output_tokens: body.positive("max_output_tokens")?,
        temperature: body.number("temperature", 2.0)?,
        top_p: body.number("top_p", 1.0)?,
        tools: tools.all,
        tool_choice: tools.choice,
        response_format,
        stream: body.flag("stream")?,
        ..ChatRequest::default()
    };
    for (name, v) in [
        ("max_output_tokens", request.max_output_tokens.into()),
        ("max_tool_calls", body.positive("max_tool_calls")?.into()),
        ("temperature", request.temperature.into()),
        ("top_p", request.top_p.into()),
        ("background", background.into()),
        ("store", background.into()),
        ("truncation", "disabled".into()),
        ("previous_response_id", Json::Null),
    ] {
        echo.insert(name.into(), v);
    }
    extra.extend(body.0.rest());
    request.extra = extra;
    let call = Call { model, request, include_usage: true, user };
    Ok((call, Echo { members: members(&echo), background }))
}

fn members(echo: &Map<String, Json>) -> Bytes {
    let mut out = BytesMut::new();
    write::value(&mut out, echo);
    let object = out.freeze();
    object.slice(1.min(object.len())..object.len().saturating_sub(1))
}

/// `background`, which goes together with `store` and not with `stream`.
fn background(body: &mut Body<'_>) -> Result<bool, Error> {
    let background = body.flag("background")?;
    let stored = body
        .take("store")
        .map(|s| s.as_bool().ok_or_else(|| invalid("store", "`store` must be true or false")));
    match (background, stored.transpose()?) {
        (false, Some(true)) => {
            let m = "`store` must be false or left out: no response is stored here but those of `background`";
            Err(invalid("store", m))
        }
        (true, Some(false)) => {
            let m = "`store` must be true or left out: what is made in the background is kept until it is fetched";
            Err(invalid("store", m))
        }
        _ if background && body.0.get("stream").is_some_and(|s| s == true) => {
            let m = "`stream` must be false: what is made in the background has no stream; GET /v1/responses/{id} shows it";
            Err(invalid("stream", m))
        }
        _ => Ok(background),
    }
}

/// Says no to what cannot be done, rather than do something else.
fn refuse(body: &mut Body<'_>) -> Result<(), Error> {
    for (name, why) in ABSENT {
        if body.take(name).is_some() {
            return Err(invalid(name, format!("`{name}` is not supported: {why}")));
        }
    }
    for (name, here) in FOREIGN {
        if body.take(name).is_some() {
            let m = format!("`{name}` is no parameter of responses, which have {here} for it");
            return Err(invalid(name, m));
        }
    }
    match body.text("truncation")?.as_deref() {
        None | Some("disabled") => {}
        Some("auto") => {
            let m =
                "`truncation` must be `disabled`: no part of an input is left out here; send a shorter one";
            return Err(invalid("truncation", m));
        }
        Some(_) => return Err(invalid("truncation", "`truncation` must be `disabled`")),
    }
    for name in HINTS {
        body.take(name);
    }
    Ok(())
}

/// `text`: the form of the output, in chat's words.
fn format(
    body: &mut Body<'_>,
    extra: &mut Map<String, Json>,
    echo: &mut Map<String, Json>,
) -> Result<Option<Json>, Error> {
    let mut text = match body.take("text") {
        None => Map::new(),
        Some(Json::Object(text)) => text,
        Some(_) => return Err(invalid("text", "`text` must be an object")),
    };
    let format = text.shift_remove("format").filter(|f| !f.is_null()).unwrap_or(json!({"type": "text"}));
    let told = match format.get("type").and_then(Json::as_str) {
        Some("text") => None,
        Some("json_object") => Some(json!({"type": "json_object"})),
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                if let Some(v) = format.get(name).filter(|v| !v.is_null()) {
                    schema.insert(name.into(), v.clone());
                }
            }
            if !schema.get("name").is_some_and(Json::is_string) {
                return Err(invalid("text.format.name", "`text.format.name` must be a string"));
            }
            if !schema.get("schema").is_some_and(Json::is_object) {
                return Err(invalid("text.format.schema", "`text.format.schema` must be a JSON schema"));
            }
            Some(json!({"type": "json_schema", "json_schema": schema}))
        }
        _ => {
            let m = "`text.format` must have the type text, json_object or json_schema";
            return Err(invalid("text.format", m));
        }
    };
    let mut said = Map::from_iter([("format".to_owned(), format)]);
    match text.shift_remove("verbosity") {
        None | Some(Json::Null) => {}
        Some(v @ Json::String(_)) => {
            extra.insert("verbosity".into(), v.clone());
            said.insert("verbosity".into(), v);
        }
        Some(_) => return Err(invalid("text.verbosity", "`text.verbosity` must be a string")),
    }
    echo.insert("text".into(), said.into());
    Ok(told)
}

fn reasoning(
    body: &mut Body<'_>,
    extra: &mut Map<String, Json>,
    echo: &mut Map<String, Json>,
) -> Result<(), Error> {
    let mut reasoning = match body.take("reasoning") {
        None => Map::new(),
        Some(Json::Object(map)) => map,
        Some(_) => return Err(invalid("reasoning", "`reasoning` must be an object")),
    };
    let mut said = Map::new();
    for name in ["effort", "summary"] {
        let v = match reasoning.shift_remove(name) {
            None | Some(Json::Null) => Json::Null,
            Some(v @ Json::String(_)) => v,
            Some(_) => {
                let param = format!("reasoning.{name}");
                return Err(invalid(&param, format!("`{param}` must be a string")));
            }
        };
        if name == "effort" && !v.is_null() {
            extra.insert("reasoning_effort".into(), v.clone());
        }
        said.insert(name.into(), v);
    }
    echo.insert("reasoning".into(), said.into());
    Ok(())
}

fn logprobs(
    body: &mut Body<'_>,
    extra: &mut Map<String, Json>,
    echo: &mut Map<String, Json>,
) -> Result<(), Error> {
    let top = match body.take("top_logprobs") {
        None => 0,
        Some(n) => n
            .as_u64()
            .filter(|n| *n <= 20)
            .ok_or_else(|| invalid("top_logprobs", "`top_logprobs` must be an integer from 0 to 20"))?,
    };
    let bad = || invalid("include", "`include` must be an array of strings");
    let asked = match body.take("include") {
        None => false,
        Some(Json::Array(all)) if all.iter().all(Json::is_string) => {
            all.iter().any(|v| v.as_str() == Some(LOGPROBS))
        }
        Some(_) => return Err(bad()),
    };
    if asked || top > 0 {
        extra.insert("logprobs".into(), true.into());
    }
    if top > 0 {
        extra.insert("top_logprobs".into(), top.into());
    }
    echo.insert("top_logprobs".into(), top.into());
    Ok(())
}

/// The caller's own marks. They come back with the answer, and no provider sees them.
fn metadata(body: &mut Body<'_>, echo: &mut Map<String, Json>) -> Result<(), Error> {
    let marks = match body.take("metadata") {
        None => Map::new(),
        Some(Json::Object(map)) => map,
        Some(_) => return Err(invalid("metadata", "`metadata` must be an object")),
    };
    let short = |(k, v): (&String, &Json)| {
        k.chars().count() <= 64 && v.as_str().is_some_and(|v| v.chars().count() <= 512)
    };
    if marks.len() > 16 || !marks.iter().all(short) {
        let m = "`metadata` must hold at most 16 strings of 512 characters, by names of 64";
        return Err(invalid("metadata", m));
    }
    echo.insert("metadata".into(), marks.into());
    Ok(())
}

/// The end user: `user`, or `safety_identifier`, which took its place.
fn names(
    body: &mut Body<'_>,
    extra: &mut Map<String, Json>,
    echo: &mut Map<String, Json>,
) -> Result<Option<contract::UserId>, Error> {
    let mut found = None;
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        let said = body.text(name)?;
        if let Some(text) = &said {
            if name != "prompt_cache_key" && found.is_none() {
                found = Some(user(text)?);
            }
            extra.insert(name.into(), text.as_str().into());
        }
        echo.insert(name.into(), said.into());
    }
    Ok(found)
}
