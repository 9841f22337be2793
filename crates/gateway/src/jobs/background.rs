//! Responses that are made in the background (`background: true`): jobs that OpenAI's clients know as responses.
//!
//! `resp_…` and `run_…` with the same rest are the same. A response is kept as long as its job is; what it was asked is
//! forgotten when it has ended, and so are the members that repeat it, unless the answer has them.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use contract::{Code, Error, ModelName, RunId, Surface, TenantId, UnixMillis};
use http::{HeaderMap, StatusCode};
use llm::surface::responses::{Unanswered, parse, unanswered};
use pipeline::runs::{Run, Status};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::execute::Kept;
use super::stored::About;
use super::submit::{kept, store};
use super::{Job, Jobs, STAGE, storage, written};
use crate::app::App;
use crate::auth::Caller;
use crate::errors::{self, Failure};
use crate::{auth, drain, headers, router};

/// The route of all of them.
const PATH: &str = "/v1/responses";

/// The routes of a response that is kept.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/responses/{id}", get(show).delete(remove))
        .route("/v1/responses/{id}/cancel", post(cancel))
}

/// Keeps a request whose response is to be made in the background, and answers with that as it is.
pub(crate) async fn accept(
    app: &App,
    caller: &Caller,
    headers: HeaderMap,
    body: Bytes,
    model: ModelName,
) -> Result<Response, Box<Failure>> {
    if app.is_draining() {
        return Err(drain::refusal().into());
    }
    if app.jobs().is_none() {
        let m = "`background` must be false: nothing is kept here";
        return Err(Error::new(Code::InvalidRequest, m).param("background").into());
    }
    router::target(app, &model)?;
    let asked: Json = serde_json::from_slice(&body).unwrap_or_default();
    let said = json!({
        "model": model, "background": true, "metadata": asked.get("metadata"), "input": "forgotten",
    });
    let job = Job::json(caller.tenant.clone(), caller.key.clone(), PATH, body);
    let id = store(app, &headers, Job { headers: kept(&headers), background: Some(said), ..job }).await?;
    let text = jobs(app)?.response(id, &caller.tenant).await?;
    let mut response = written(StatusCode::OK, text);
    headers::request_id(id.request(), Surface::Responses, response.headers_mut());
    Ok(response)
}

fn jobs(app: &App) -> Result<&Jobs, Error> {
    app.jobs().ok_or_else(missing)
}

fn missing() -> Error {
    Error::new(Code::NotFound, "there is no response of that id: those of `background` are kept").param("id")
}

fn named(id: &str) -> Result<RunId, Error> {
    id.strip_prefix("resp_").and_then(|serial| serial.parse().ok()).ok_or_else(missing)
}

fn answer<T: Into<Body>>(app: &App, result: Result<T, Error>) -> Response {
    match result {
        Ok(text) => {
            let mut r = written(StatusCode::OK, text);
            headers::request_id(app.request_id(), Surface::Responses, r.headers_mut());
            r
        }
        Err(e) => errors::answer(app, Surface::Responses, e),
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    stream: Option<bool>,
}

async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let found = async {
        let caller = auth::caller(&app, &headers)?;
        if !query.is_ok_and(|Query(wanted)| wanted.stream != Some(true)) {
            let m = "`stream` must be false: what is made in the background has no stream";
            return Err(Error::new(Code::InvalidRequest, m).param("stream"));
        }
        jobs(&app)?.response(named(&id)?, &caller.tenant).await
    };
    answer(&app, found.await)
}

async fn cancel(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let ended = async {
        let caller = auth::caller(&app, &headers)?;
        let (jobs, id) = (jobs(&app)?, named(&id)?);
        jobs.response(id, &caller.tenant).await?;
        jobs.stop(id).await?;
        jobs.response(id, &caller.tenant).await
    };
    answer(&app, ended.await)
}

/// Removes a response, and ends it first if it goes on.
async fn remove(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let removed = async {
        let caller = auth::caller(&app, &headers)?;
        let (jobs, run) = (jobs(&app)?, named(&id)?);
        jobs.response(run, &caller.tenant).await?;
        jobs.stop(run).await?;
        jobs.store().remove(run).await.map_err(storage)?;
        Ok(json!({"id": id, "object": "response", "deleted": true}).to_string())
    };
    answer(&app, removed.await)
}

impl Jobs {
    /// A response that is made in the background, as it is now.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub(crate) async fn response(&self, id: RunId, tenant: &TenantId) -> Result<Bytes, Error> {
        let head = self.head(id, Some(tenant)).await.map_err(|e| match e.code {
            Code::NotFound => missing(),
            _ => e,
        })?;
        let said = About::read(&head.about).background.ok_or_else(missing)?;
        let run = self.inner.scheduler.load(id).await.map_err(storage)?.ok_or_else(missing)?;
        let (serial, created) = (id.serial(), head.submitted_at.0 / 1_000);
        if run.status() == Status::Succeeded {
            let outputs = self.store().outputs(id).await.map_err(storage)?;
            let kept = outputs.iter().find(|o| o.stage == STAGE).map(|o| o.value.as_slice());
            let kept: Option<Kept<'_>> = kept.and_then(|k| serde_json::from_slice(k).ok());
            let mut whole: Json =
                kept.and_then(|k| serde_json::from_str(k.body.get()).ok()).unwrap_or_default();
            // Another attempt than the first has another id in the ledger.
            if let Some(members) = whole.as_object_mut() {
                members.insert("id".to_owned(), format!("resp_{serial}").into());
                members.insert("created_at".to_owned(), created.into());
            }
            return Ok(whole.to_string().into());
        }
        let why = match run.status() {
            Status::Queued => Unanswered::Queued,
            Status::Running => Unanswered::InProgress,
            Status::Cancelled | Status::Succeeded => Unanswered::Cancelled,
            Status::Failed => match run.error() {
                Some(e) => Unanswered::Failed(e),
                None => Unanswered::Cancelled,
            },
        };
        // What was asked is there until the end, and may have gone since the state was read.
        let asked = match run.status().is_end() {
            true => None,
            false => self.store().input(id).await.map_err(storage)?,
        };
        let asked = asked.and_then(|body| parse(&body).ok());
        let (call, echo) = match asked {
            Some(asked) => asked,
            None => parse(said.to_string().as_bytes())?,
        };
        let mut out = BytesMut::new();
        unanswered(&mut out, &serial, created, call.model.as_str(), &echo, why);
        Ok(out.freeze())
    }
}

/// What a webhook says of the end of one, as OpenAI does.
pub(super) fn event(run: &Run, at: UnixMillis, output: Option<&[u8]>) -> String {
    #[derive(Deserialize)]
    struct Ended {
        status: String,
    }
    let kept: Option<Kept<'_>> = output.and_then(|k| serde_json::from_slice(k).ok());
    let incomplete = || {
        let ended: Option<Ended> = kept.and_then(|k| serde_json::from_str(k.body.get()).ok());
        ended.is_some_and(|e| e.status == "incomplete")
    };
    let how = match run.status() {
        Status::Succeeded if incomplete() => "incomplete",
        Status::Succeeded => "completed",
        Status::Cancelled => "cancelled",
        Status::Queued | Status::Running | Status::Failed => "failed",
    };
    let serial = run.id().serial();
    json!({
        "id": format!("evt_{serial}"), "object": "event", "created_at": at.0 / 1_000,
        "type": format!("response.{how}"), "data": {"id": format!("resp_{serial}")},
    })
    .to_string()
}
