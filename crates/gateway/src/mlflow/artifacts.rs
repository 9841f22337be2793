//! Artifacts by their paths: put, read, listed and removed. They go through piece by piece, as long as they are; whoever stands still
//! is let go.

use std::future::poll_fn;
use std::pin::Pin;

use ::models::artifacts::{ArtifactPath, Artifacts};
use ::models::uri;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use contract::{Code, Error};
use http::Method;
use http::request::Parts;
use http_body::Body as _;
use pipeline::task;
use serde::Serialize;
use store::tracking::Refused;

use super::asked::plain;
use super::download;
use super::errors::Failed;
use super::schema::{Sort, check, may};
use super::{Answer, Cx, caller, json, said};
use crate::app::App;
use crate::room::Pace;

/// Where artifacts are kept.
pub(super) fn kept(app: &App) -> Result<&dyn Artifacts, Failed> {
    app.artifacts().ok_or_else(|| Failed::unsupported("This server keeps no artifacts."))
}

/// The path of an artifact that is named by an address and a path below it.
pub(super) fn below(location: &str, path: &str) -> Result<ArtifactPath, Failed> {
    let root = uri::artifact(location).ok_or_else(|| {
        Failed::invalid(format!(
            "The artifacts at '{location}' are not kept by this server: read them there."
        ))
    })?;
    Ok(ArtifactPath::new(root)?.join(path)?)
}

#[derive(Serialize)]
struct FileWire {
    path: String,
    is_dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
}

#[derive(Serialize)]
struct Files<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    root_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileWire>,
}

/// What is in a folder, each under `prefix`.
async fn list(
    cx: (&App, &contract::TenantId),
    at: &ArtifactPath,
    prefix: &str,
) -> Result<Vec<FileWire>, Failed> {
    let found = kept(cx.0)?.list(cx.1, at).await?;
    let prefix = prefix.trim_end_matches('/');
    let name = |n: &str| if prefix.is_empty() { n.to_owned() } else { format!("{prefix}/{n}") };
    let each = found.into_iter().map(|a| FileWire {
        path: name(&a.name),
        is_dir: a.bytes.is_none(),
        file_size: a.bytes,
    });
    Ok(each.collect())
}

/// `GET artifacts/list`: of a run.
pub(super) async fn of_run(cx: &Cx) -> Answer {
    check(&cx.asked, &[super::runs::ID, may("path", Sort::Text), may("page_token", Sort::Text)])?;
    let path = cx.asked.str("path");
    ArtifactPath::new(path)?;
    let run = cx.tracking().run(cx.asked.str("run_id")).await?;
    of(cx, &run.info.location, path).await
}

/// What is at an address, and below it at a path.
pub(super) async fn of(cx: &Cx, location: &str, path: &str) -> Answer {
    let files = list((&cx.app, &cx.tenant), &below(location, path)?, path).await?;
    json(&Files { root_uri: Some(location), files })
}

/// `GET …/artifacts?path=`: a folder by its path.
pub(super) async fn root(State(app): State<App>, parts: Parts) -> Response {
    let listed = async {
        let caller = caller(&app, &parts.headers)?;
        if parts.method != Method::GET {
            return Err(Failed::no_endpoint(&parts.method, parts.uri.path()));
        }
        let query = parts.uri.query().unwrap_or_default();
        let path = query.split('&').find_map(|p| p.strip_prefix("path=")).map(plain).unwrap_or_default();
        let files = list((&app, &caller.tenant), &ArtifactPath::new(&path)?, "").await?;
        json(&Files { root_uri: None, files })
    };
    match listed.await {
        Ok(body) => said(body),
        Err(e) => e.into_response(),
    }
}

/// `GET`, `PUT` and `DELETE` of an artifact.
pub(super) async fn one(State(app): State<App>, Path(path): Path<String>, request: Request) -> Response {
    let done = async {
        let caller = caller(&app, request.headers())?;
        let at = ArtifactPath::new(&path)?;
        let artifacts = kept(&app)?;
        match request.method().as_str() {
            "GET" => download::send(&app, &caller.tenant, &at, &path).await,
            "PUT" => {
                put(&app, artifacts, &caller.tenant, &at, request.into_body()).await?;
                Ok(said("{}".to_owned()))
            }
            "DELETE" => {
                artifacts.remove(&caller.tenant, &at).await?;
                Ok(said("{}".to_owned()))
            }
            _ => Err(Failed::no_endpoint(request.method(), request.uri().path())),
        }
    };
    match done.await {
        Ok(response) => response,
        Err(e) => e.into_response(),
    }
}

/// Takes an artifact in, as fast as it comes and the disk takes it.
async fn put(
    app: &App,
    artifacts: &dyn Artifacts,
    tenant: &contract::TenantId,
    at: &ArtifactPath,
    mut body: Body,
) -> Result<(), Failed> {
    let clock = &*app.inner.clock;
    let mut pace = Pace::new(clock.now(), app.generation.settings.limits.read);
    let mut writer = artifacts.create(tenant, at).await?;
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match task::within(clock, pace.deadline(), next).await {
            Err(task::Elapsed) => {
                return Err(Error::new(
                    Code::DeadlineExceeded,
                    "the artifact came too slowly and was given up",
                )
                .into());
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Error::new(Code::InvalidRequest, "the artifact cannot be read to its end").into());
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let came = clock.now();
        let Ok(piece) = frame.into_data() else { continue };
        let bytes = piece.len();
        writer.write(piece).await?;
        let now = clock.now();
        pace.piece(now, bytes, now.since(came));
    }
    Ok(writer.finish().await?)
}

/// Parts of an artifact and its presigned addresses: of stores that give any, which a folder does not.
pub(super) async fn other(State(app): State<App>, Path(path): Path<String>, parts: Parts) -> Response {
    if let Err(e) = caller(&app, &parts.headers) {
        return e.into_response();
    }
    let failed = match path.split('/').next() {
        Some("mpu") => match ArtifactPath::new(path.get(4..).unwrap_or_default()) {
            Ok(_) => {
                Failed::unsupported("Multipart upload is not supported for the current artifact repository")
            }
            Err(e) => Refused::into(e),
        },
        _ => Failed::no_endpoint(&parts.method, parts.uri.path()),
    };
    failed.into_response()
}
