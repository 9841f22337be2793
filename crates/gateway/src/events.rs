//! `POST /v1/events`: events from outside, as CloudEvents 1.0 has them over HTTP, for the pipelines that they start.
//!
//! One event in the body (structured mode), several (batch), or one whose attributes are headers (binary). What an event starts
//! is decided and on disk when it is acknowledged. The same event, by its source and its id, is acknowledged again and starts
//! nothing more. One by which no run can ever start is refused: when its data is mended, it is sent again under the same id.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::{Code, Error, RetryHint, Surface};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use pipeline::triggers::{Came, Event, Took};
use serde_json::{Map, Value as Json, json};

use crate::app::App;
use crate::openai::json_response;
use crate::{admin, came, errors};

/// An event with all its attributes; the specification lets receivers refuse longer ones.
const LONGEST: usize = 64 << 10;
/// Events of a batch.
const MOST: usize = 1_000;
/// The type of an event that fires an alert, which its subject names.
const ALERT: &str = "forebay.alert";

/// `POST /v1/events`.
pub(crate) async fn post(State(app): State<App>, parts: Parts, mut came: came::Came) -> Response {
    let taken = async {
        let caller = came.caller(&app)?;
        let events = read(&came.headers, &came.body)?;
        if events.iter().any(|e| e.kind == ALERT) {
            admin::operator(&app, &parts)?;
        }
        let (mut all, mut refused, mut taken) = (Vec::with_capacity(events.len()), None, false);
        for event in events {
            let mut started = match app.triggers() {
                None => Vec::new(),
                Some(driver) => driver.event(&caller.tenant, event.clone()).await?,
            };
            if let (ALERT, Some(driver)) = (event.kind.as_str(), app.triggers()) {
                let alert = event.attributes.get("subject").and_then(Json::as_str).unwrap_or_default();
                started.extend(driver.alert(alert, &event.identity()).await?);
            }
            if started.iter().any(|c| c.took == Took::Full) {
                let m = "as many events wait for a pipeline as may: send it again";
                let hint = RetryHint::After(std::time::Duration::from_secs(5));
                return Err(Error::new(Code::Overloaded, m).retry(hint));
            }
            taken |= started.is_empty() || started.iter().any(|c| c.refused.is_none());
            refused = refused.or_else(|| started.iter().find_map(refusal));
            let started: Vec<Json> = started.into_iter().map(shown).collect();
            all.push(json!({"id": event.id, "source": event.source, "started": started}));
        }
        match refused {
            Some(error) if !taken => Err(error),
            _ => Ok(json!({"object": "list", "data": all})),
        }
    };
    match taken.await {
        Ok(all) => json_response(StatusCode::ACCEPTED, &all),
        Err(e) => errors::answer(&app, Surface::Native, e),
    }
}

/// Why a pipeline cannot be started by an event.
fn refusal(came: &Came) -> Option<Error> {
    came.refused
        .as_ref()
        .map(|why| wrong(format!("pipeline `{}` is not started by it: {why}", came.pipeline)))
}

fn shown(came: Came) -> Json {
    let status = match (came.took, came.run) {
        _ if came.refused.is_some() => "refused",
        (Took::Known, _) => "known",
        (_, Some(_)) => "started",
        _ => "waiting",
    };
    let mut shown = json!({"pipeline": came.pipeline, "status": status});
    if let Some(map) = shown.as_object_mut() {
        map.extend(came.run.map(|run| ("run".into(), run.to_string().into())));
        map.extend(came.refused.map(|why| ("error".into(), why.into())));
    }
    shown
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message)
}

/// The events of a request.
fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, Error> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = text(CONTENT_TYPE.as_str()).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json =
        || serde_json::from_slice::<Json>(body).map_err(|e| wrong(format!("the body is not JSON: {e}")));
    let events = match kind.as_str() {
        "application/cloudevents+json" => vec![structured(json()?)?],
        "application/cloudevents-batch+json" => match json()? {
            Json::Array(all) if all.len() > MOST => {
                return Err(Error::new(Code::TooLarge, format!("a batch has at most {MOST} events")));
            }
            Json::Array(all) => all.into_iter().map(structured).collect::<Result<_, _>>()?,
            _ => return Err(wrong("a batch of events is a JSON array")),
        },
        _ if headers.contains_key("ce-specversion") => vec![binary(headers, &kind, body)?],
        _ => {
            let m = "this is no CloudEvent: send `content-type: application/cloudevents+json`, \
                     `application/cloudevents-batch+json`, or the attributes as `ce-` headers";
            return Err(wrong(m).param("content-type"));
        }
    };
    match events.iter().find(|e| e.to_json().to_string().len() > LONGEST) {
        Some(long) => {
            let m = format!("the event `{}` is longer than {LONGEST} bytes: send where its data is", long.id);
            Err(Error::new(Code::TooLarge, m).param("data"))
        }
        None => Ok(events),
    }
}

/// An event as one JSON object.
fn structured(event: Json) -> Result<Event, Error> {
    let Json::Object(mut all) = event else { return Err(wrong("an event is a JSON object")) };
    let data = match (all.remove("data"), all.remove("data_base64")) {
        (Some(_), Some(_)) => {
            return Err(wrong("an event has `data` or `data_base64`, not both").param("data"));
        }
        (Some(data), None) => data,
        (None, Some(Json::String(bytes))) if STANDARD.decode(&bytes).is_ok() => Json::String(bytes),
        (None, Some(_)) => return Err(wrong("`data_base64` is not base64").param("data_base64")),
        (None, None) => Json::Null,
    };
    event_of(all, data)
}

/// An event whose attributes are headers.
fn binary(headers: &HeaderMap, kind: &str, body: &[u8]) -> Result<Event, Error> {
    let mut all = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().and_then(decoded);
        let text =
            text.ok_or_else(|| wrong(format!("the header `{name}` cannot be read")).param(name.as_str()))?;
        all.insert(attribute.to_owned(), text.into());
    }
    let is_json = kind.ends_with("/json") || kind.ends_with("+json");
    let data = match std::str::from_utf8(body) {
        Ok("") => Json::Null,
        Ok(text) if is_json => {
            serde_json::from_str(text).map_err(|e| wrong(format!("the body is not JSON: {e}")))?
        }
        Ok(text) => text.into(),
        Err(_) => STANDARD.encode(body).into(),
    };
    if !kind.is_empty() {
        all.insert("datacontenttype".into(), kind.into());
    }
    event_of(all, data)
}

fn event_of(mut all: Map<String, Json>, data: Json) -> Result<Event, Error> {
    let mut required = |name: &'static str| match all.remove(name) {
        Some(Json::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(wrong(format!("`{name}` of an event is text that is not empty")).param(name)),
        None => Err(wrong(format!("the event has no `{name}`")).param(name)),
    };
    let version = required("specversion")?;
    if version != "1.0" {
        return Err(
            wrong(format!("CloudEvents `{version}` are not known here: send 1.0")).param("specversion")
        );
    }
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    let mut attributes = BTreeMap::new();
    for (name, value) in all {
        let sound = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !sound {
            let m = format!("`{name}` is no attribute: names are of lower-case letters and digits");
            return Err(wrong(m).param(name));
        }
        match value {
            Json::Null => {}
            Json::Object(_) | Json::Array(_) => {
                return Err(
                    wrong(format!("the attribute `{name}` is text, a number or a truth value")).param(name)
                );
            }
            value => drop(attributes.insert(name, value)),
        }
    }
    Ok(Event { id, source, kind, attributes, data })
}

/// A header's value without its escapes (`%20`).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
