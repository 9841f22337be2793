//! Artifacts as attachments: a browser shows none of them as a page of ours.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::models::artifacts::{ArtifactPath, ArtifactReader};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use contract::{BoxFuture, TenantId};
use futures_core::Stream;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use store::tracking::Refused;

use super::artifacts::{below, kept};
use super::asked::Asked;
use super::caller;
use super::errors::Failed;
use crate::app::App;

type Piece = Result<Option<Bytes>, ::models::Error>;

/// The pieces of an artifact, each read when it is wanted.
struct Pieces {
    next: BoxFuture<'static, (Box<dyn ArtifactReader>, Piece)>,
    ended: bool,
}

fn read(mut reader: Box<dyn ArtifactReader>) -> BoxFuture<'static, (Box<dyn ArtifactReader>, Piece)> {
    Box::pin(async move {
        let piece = reader.next().await;
        (reader, piece)
    })
}

impl Stream for Pieces {
    type Item = Result<Bytes, ::models::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready((reader, piece)) = self.next.as_mut().poll(cx) else { return Poll::Pending };
        let item = piece.transpose();
        match &item {
            Some(Ok(_)) => self.next = read(reader),
            _ => self.ended = true,
        }
        Poll::Ready(item)
    }
}

/// Endings of names of what is text.
const TEXTS: [&str; 14] = [
    "txt",
    "log",
    "err",
    "cfg",
    "conf",
    "cnf",
    "cf",
    "ini",
    "properties",
    "prop",
    "hocon",
    "toml",
    "yaml",
    "yml",
];
const MORE_TEXTS: [&str; 8] = ["xml", "json", "js", "py", "py3", "csv", "tsv", "md"];
/// Names of what is text.
const NAMES: [&str; 2] = ["MLmodel", "MLproject"];

fn kind(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    let text = [&TEXTS[..], &MORE_TEXTS[..]].concat().contains(&ending.as_str()) || NAMES.contains(&name);
    if text { "text/plain" } else { "application/octet-stream" }
}

/// `attachment`, with the name in the form that headers can hold.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let plain = plain.replace(['"', '\\', ';'], "_");
    let mut said = format!("attachment; filename=\"{plain}\"");
    if !name.is_ascii() {
        said.push_str("; filename*=UTF-8''");
        for b in name.bytes() {
            match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => said.push(char::from(b)),
                _ => said.push_str(&format!("%{b:02X}")),
            }
        }
    }
    HeaderValue::from_str(&said).unwrap_or(HeaderValue::from_static("attachment"))
}

/// An artifact, or that there is none, by the name that the caller has for it.
pub(super) async fn send(
    app: &App,
    tenant: &TenantId,
    at: &ArtifactPath,
    called: &str,
) -> Result<Response, Failed> {
    let Some(reader) = kept(app)?.open(tenant, at).await? else {
        return Err(Refused::missing(format!("No such artifact: '{called}'")).into());
    };
    let name = at.as_str().rsplit('/').next().unwrap_or_default();
    let bytes = reader.bytes();
    let mut r = Response::new(Body::from_stream(Pieces { next: read(reader), ended: false }));
    let headers = r.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(CONTENT_DISPOSITION, attachment(name));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(r)
}

fn answer(sent: Result<Response, Failed>) -> Response {
    sent.unwrap_or_else(|e| e.into_response())
}

/// `GET /get-artifact?run_id=&path=`.
pub(super) async fn of_run(State(app): State<App>, parts: Parts) -> Response {
    let sent = async {
        let caller = caller(&app, &parts.headers)?;
        let asked = query(parts);
        let path = needed(&asked, "path")?;
        ArtifactPath::new(path)?;
        let run = app.inner.reader.tracking.of(&caller.tenant).run(asked.str("run_id")).await?;
        send(&app, &caller.tenant, &below(&run.info.location, path)?, path).await
    };
    answer(sent.await)
}

fn query(parts: Parts) -> Asked {
    Asked::read(&parts, Bytes::new()).unwrap_or_default()
}

fn needed<'a>(asked: &'a Asked, name: &str) -> Result<&'a str, Failed> {
    asked
        .maybe_str(name)
        .filter(|p| !p.is_empty())
        .ok_or_else(|| Failed::bad_request(&format!("Request must include the \"{name}\" query parameter.")))
}

/// `GET /model-versions/get-artifact?name=&version=&path=`.
pub(super) async fn of_version(State(app): State<App>, parts: Parts) -> Response {
    let sent = async {
        let caller = caller(&app, &parts.headers)?;
        let asked = query(parts);
        let path = needed(&asked, "path")?;
        ArtifactPath::new(path)?;
        let number = ::models::check::version(asked.str("version"))?;
        let version = app.inner.reader.tracking.of(&caller.tenant).version(asked.str("name"), number).await?;
        send(&app, &caller.tenant, &below(&version.location, path)?, path).await
    };
    answer(sent.await)
}

/// `GET …/logged-models/{id}/artifacts/files?artifact_file_path=`.
pub(super) async fn of_model(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let sent = async {
        let caller = caller(&app, &parts.headers)?;
        let asked = query(parts);
        let path = needed(&asked, "artifact_file_path")?;
        ArtifactPath::new(path)?;
        let model = app.inner.reader.tracking.of(&caller.tenant).logged_model(&id, false).await?;
        send(&app, &caller.tenant, &below(&model.location, path)?, path).await
    };
    answer(sent.await)
}
