//! What a caller of a pipeline gives: a document in any form, or JSON.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use bytes::Bytes;
use contract::{Code, Error, Kind, Media, Message, UserId, Value};
use http::header::CONTENT_TYPE;
use llm::{TokenCounter, surface};
use pipeline::task;
use serde::Deserialize;
use serde_json::Value as Json;
use text::extract;

use crate::app::App;
use crate::native::text_input;

/// What was given.
pub(crate) struct Given {
    pub(crate) input: Value,
    pub(crate) stream: bool,
    pub(crate) user: Option<UserId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `input`")]
struct Body {
    input: Json,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    user: Option<String>,
    /// The media type of a document given as a string.
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, rename = "type")]
    _type: Option<String>,
}

/// Reads a body as the pipeline's input. Documents are taken apart on the blocking pool.
pub(crate) async fn read(app: &App, kind: &Kind, content_type: &str, body: Bytes) -> Result<Given, Error> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => {
            surface::bounded(&body)?;
            let b: Body = serde_json::from_slice(&body).map_err(|e| not_json("a JSON object", &e))?;
            let user = b.user.as_deref().map(surface::user).transpose()?;
            let input = match b.input {
                Json::String(text) => {
                    let media = b.media_type.as_deref().map_or(Ok(Media::Plain), media_type)?;
                    string(app, kind, text, media).await?
                }
                other => json(kind, other)?,
            };
            Ok(Given { input, stream: b.stream, user })
        }
        "multipart/form-data" => {
            let Form { file, media, stream, user } = form(content_type, body).await?;
            Ok(Given { input: document(app, kind, file, media).await?, stream, user })
        }
        // curl's default for `-d` and `--data-binary`, and nothing at all: the bytes tell.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            Ok(Given { input: document(app, kind, body, None).await?, stream: false, user: None })
        }
        other => {
            let media = media_type(other)?;
            Ok(Given { input: document(app, kind, body, Some(media)).await?, stream: false, user: None })
        }
    }
}

/// What is wrong with a body, without what it says.
fn not_json(what: &str, e: &serde_json::Error) -> Error {
    if e.is_data() {
        let m = "the body must be an object with `input`, and may have `stream`, `user` and `media_type`";
        return invalid(format!("{m} (line {}, column {})", e.line(), e.column()));
    }
    invalid(format!("the body is not {what} (line {}, column {})", e.line(), e.column()))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message).param("input")
}

fn media_type(name: &str) -> Result<Media, Error> {
    extract::media_of(name).ok_or_else(|| {
        invalid("the document must be text/plain, text/markdown, text/html or application/pdf")
    })
}

async fn string(app: &App, kind: &Kind, text: String, media: Media) -> Result<Value, Error> {
    if text.trim().is_empty() {
        return Err(invalid("the input is empty"));
    }
    match (kind, media) {
        (Kind::Document, m) if m != Media::Plain => document(app, kind, Bytes::from(text), Some(m)).await,
        _ => text_input(kind, text),
    }
}

fn json(kind: &Kind, value: Json) -> Result<Value, Error> {
    match kind {
        Kind::Json(_) | Kind::Any => Ok(Value::Json(Arc::new(value))),
        Kind::Messages => {
            let messages: Vec<Message> = serde_json::from_value(value).map_err(|_| {
                invalid("the input must be a list of messages, each with `role` and `content`")
            })?;
            Ok(Value::Messages(messages.into()))
        }
        other => Err(invalid(format!("this pipeline takes {other}: give a string"))),
    }
}

async fn document(app: &App, kind: &Kind, bytes: Bytes, media: Option<Media>) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Err(invalid("the document is empty"));
    }
    if matches!(kind, Kind::Json(_) | Kind::Messages) {
        surface::bounded(&bytes)?;
        let value = serde_json::from_slice(&bytes).map_err(|e| not_json("JSON", &e))?;
        return json(kind, value);
    }
    let limits = app.generation.settings.documents.clone();
    let taken = task::blocking("extract", move || extract::extract(&bytes, media, &limits)).await;
    let document = taken.map_err(|_| Error::new(Code::InvalidDocument, "the document cannot be read"))??;
    Ok(match kind {
        Kind::Text => Value::Text(document.text.clone()),
        _ => Value::Document(Arc::new(document)),
    })
}

/// What a form held.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The part `file`.
    pub file: Bytes,
    /// Its type: as its part declares it, else by its name.
    pub media: Option<Media>,
    /// The part `stream` says `true`.
    pub stream: bool,
    /// The part `user`.
    pub user: Option<UserId>,
}

/// Reads a `multipart/form-data` body with the parts `file`, `stream` and `user`. Pure: it waits for nothing.
///
/// # Errors
/// `invalid_request` when the form cannot be read, has another part, or no `file`.
pub async fn form(content_type: &str, body: Bytes) -> Result<Form, Error> {
    let broken = |_| invalid("the form cannot be read: send it as multipart/form-data with a part `file`");
    let request = form_request(content_type, body)
        .map_err(|_| invalid("the content type of the form cannot be read"))?;
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| broken(()))?;
    let (mut file, mut stream, mut user) = (None, false, None);
    while let Some(part) = parts.next_field().await.map_err(|_| broken(()))? {
        match part.name() {
            Some("file") => {
                let named = part.file_name().and_then(extract::media_of_name);
                let media = part.content_type().and_then(extract::media_of).or(named);
                file = Some((part.bytes().await.map_err(|_| broken(()))?, media));
            }
            Some("stream") => stream = part.text().await.map_err(|_| broken(()))? == "true",
            Some("user") => user = Some(surface::user(&part.text().await.map_err(|_| broken(()))?)?),
            _ => return Err(invalid("the form has a part that is none of `file`, `stream` and `user`")),
        }
    }
    let (file, media) = file.ok_or_else(|| invalid("the form has no part `file`"))?;
    Ok(Form { file, media, stream, user })
}

/// A form whose bytes are all there, for [`Multipart`]. How large it may be was checked on its way in.
pub(crate) fn form_request(content_type: &str, body: Bytes) -> Result<Request, http::Error> {
    let request = http::Request::builder().header(CONTENT_TYPE, content_type);
    let mut request = request.body(axum::body::Body::from(body))?;
    DefaultBodyLimit::disable().apply(&mut request);
    Ok(request)
}

/// The estimated tokens of an input.
pub(crate) fn tokens(input: &Value) -> u64 {
    let counter = llm::tokens::Estimate;
    match input {
        Value::Text(t) => counter.count(t),
        Value::Document(d) => counter.count(&d.text),
        Value::Messages(m) => m.iter().map(|m| counter.count(&m.content.to_text())).sum(),
        Value::Json(j) => counter.count(&j.to_string()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_may_be_as_large_as_any_body() {
        let file = "x".repeat(3 << 20);
        let text = format!(
            "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n{file}\r\n--b--\r\n"
        );
        let read = form("multipart/form-data; boundary=b", text.into()).await.unwrap();
        assert_eq!(read.file.len(), file.len());
    }
}
