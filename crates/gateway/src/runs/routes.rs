//! `/v1/runs`.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use contract::{Code, Error, RunId};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Runs;
use crate::app::App;
use crate::auth::Caller;
use crate::came::Came;
use crate::jobs::answer;
use crate::{auth, drain, replay};

/// Runs of a page, unless asked for otherwise, and at most.
const PAGE: u32 = 20;
const MOST: u32 = 100;

/// The routes of a caller.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/runs", get(list).post(ask))
        .route("/v1/runs/{id}", get(show))
        .route("/v1/runs/{id}/cancel", post(cancel))
        .route("/v1/runs/{id}/retry", post(again))
        .route("/v1/runs/{id}/approve", post(approve))
        .route("/v1/runs/{id}/logs", get(log))
        .route("/v1/runs/{id}/output", get(output))
}

/// What will be done is told with 202.
fn accepted(app: &App, result: Result<String, Error>) -> Response {
    let mut answer = answer(app, result);
    if answer.status() == StatusCode::OK {
        *answer.status_mut() = StatusCode::ACCEPTED;
    }
    answer
}

fn runs(app: &App) -> Result<Runs, Error> {
    app.runs().ok_or_else(|| Error::new(Code::NotFound, "no runs are kept here"))
}

fn run(id: &str) -> Result<RunId, Error> {
    id.parse().map_err(|e: String| Error::new(Code::InvalidRequest, e).param("id"))
}

/// Who asks, for the record.
fn by(caller: &Caller) -> serde_json::Value {
    json!({"by": caller.key.as_ref().map_or_else(|| caller.tenant.to_string(), ToString::to_string)})
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<u32>,
    pipeline: Option<String>,
}

async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Page>, QueryRejection>,
) -> Response {
    let found = async {
        let caller = auth::caller(&app, &headers)?;
        let Query(page) = query.map_err(|_| {
            let m = format!("give `after=` the id of a run, `pipeline=` a name, and `limit=` 1 to {MOST}");
            Error::new(Code::InvalidRequest, m).param("limit")
        })?;
        let after = page.after.as_deref().map(run).transpose()?;
        let limit = page.limit.unwrap_or(PAGE).clamp(1, MOST);
        runs(&app)?.list(Some(&caller.tenant), page.pipeline.as_deref(), after, limit).await
    };
    answer(&app, found.await)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    llm::surface::bounded(body)?;
    serde_json::from_slice(body)
        .map_err(|e| Error::new(Code::InvalidRequest, format!("the body is not what this route takes: {e}")))
}

async fn ask(State(app): State<App>, mut came: Came) -> Response {
    let asked = async {
        let caller = came.caller(&app)?;
        if app.is_draining() {
            return Err(drain::refusal());
        }
        let key = replay::key(&came.headers)?;
        let runs = runs(&app)?;
        let id = runs.ask(app.request_id(), &caller.tenant, read(&came.body)?, by(&caller), key).await?;
        runs.show(id, Some(&caller.tenant)).await
    };
    accepted(&app, asked.await)
}

async fn show(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let found = async {
        let caller = auth::caller(&app, &headers)?;
        runs(&app)?.show(run(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, found.await)
}

async fn cancel(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let ended = async {
        let caller = auth::caller(&app, &headers)?;
        runs(&app)?.cancel(run(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, ended.await)
}

async fn again(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let asked = async {
        let caller = auth::caller(&app, &headers)?;
        let runs = runs(&app)?;
        let id = runs.again(app.request_id(), run(&id)?, Some(&caller.tenant), by(&caller)).await?;
        runs.show(id, Some(&caller.tenant)).await
    };
    accepted(&app, asked.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    stage: String,
    #[serde(default = "yes")]
    approved: bool,
    #[serde(default)]
    reason: Option<String>,
}

fn yes() -> bool {
    true
}

async fn approve(State(app): State<App>, Path(id): Path<String>, mut came: Came) -> Response {
    let decided = async {
        let caller = came.caller(&app)?;
        let Decision { stage, approved, reason } = read(&came.body)?;
        let who = caller.key.as_ref().map_or_else(|| caller.tenant.to_string(), ToString::to_string);
        runs(&app)?.decide(run(&id)?, Some(&caller.tenant), &stage, who, (approved, reason)).await
    };
    answer(&app, decided.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    stage: String,
    #[serde(default)]
    from: u64,
}

async fn log(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Part>, QueryRejection>,
) -> Response {
    let read = async {
        let caller = auth::caller(&app, &headers)?;
        let Query(part) = query.map_err(|_| {
            let m = "give `stage=` the name of a stage, and `from=` the byte to read on from";
            Error::new(Code::InvalidRequest, m).param("stage")
        })?;
        runs(&app)?.log(run(&id)?, Some(&caller.tenant), &part.stage, part.from).await
    };
    answer(&app, read.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    stage: Option<String>,
}

async fn output(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Of>, QueryRejection>,
) -> Response {
    let made = async {
        let caller = auth::caller(&app, &headers)?;
        let Query(of) = query.map_err(|_| {
            Error::new(Code::InvalidRequest, "give `stage=` the name of a stage, or nothing").param("stage")
        })?;
        runs(&app)?.output(run(&id)?, Some(&caller.tenant), of.stage.as_deref()).await
    };
    answer(&app, made.await)
}
