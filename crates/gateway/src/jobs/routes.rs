//! `/v1/jobs`: to look at jobs, cancel them, and see who was told about them.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use contract::{Code, Error, RunId, Surface, TenantId};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::{Jobs, storage};
use crate::app::App;
use crate::{admin, auth, errors};

/// Jobs of a page, unless asked for otherwise, and at most.
const PAGE: u32 = 20;
const MOST: u32 = 100;

/// The routes of a caller.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/jobs", get(list))
        .route("/v1/jobs/{id}", get(show).delete(remove))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/deliveries", get(deliveries))
        .route("/v1/jobs/{id}/redeliver", post(redeliver))
}

/// The routes of an operator.
pub(crate) fn admin_routes() -> Router<App> {
    Router::new()
        .route("/v1/admin/jobs", get(list_any))
        .route("/v1/admin/jobs/{id}", get(show_any))
        .route("/v1/admin/jobs/{id}/cancel", post(cancel_any))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

/// An answer of JSON that is written already.
pub(crate) fn written(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut r = Response::new(text.into());
    *r.status_mut() = status;
    r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    r
}

/// What was asked for, or why not, as the native surface tells it.
pub(crate) fn answer(app: &App, result: Result<String, Error>) -> Response {
    match result {
        Ok(text) => written(StatusCode::OK, text),
        Err(e) => errors::answer(app, Surface::Native, e),
    }
}

fn jobs(app: &App) -> Result<&Jobs, Error> {
    app.jobs().ok_or_else(|| Error::new(Code::NotFound, "no jobs are kept here"))
}

fn run(id: &str) -> Result<RunId, Error> {
    id.parse().map_err(|e: String| Error::new(Code::InvalidRequest, e).param("id"))
}

async fn page(
    app: &App,
    tenant: Option<&TenantId>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<String, Error> {
    let Query(page) = query.map_err(|_| {
        let m = format!("give `after=` the id of a job, and `limit=` 1 to {MOST}");
        Error::new(Code::InvalidRequest, m).param("limit")
    })?;
    let after = page.after.as_deref().map(run).transpose()?;
    jobs(app)?.list(tenant, after, page.limit.unwrap_or(PAGE).clamp(1, MOST)).await
}

async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Page>, QueryRejection>,
) -> Response {
    let found = async {
        let caller = auth::caller(&app, &headers)?;
        page(&app, Some(&caller.tenant), query).await
    };
    answer(&app, found.await)
}

async fn show(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let found = async {
        let caller = auth::caller(&app, &headers)?;
        jobs(&app)?.show(run(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, found.await)
}

async fn cancel(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let ended = async {
        let caller = auth::caller(&app, &headers)?;
        jobs(&app)?.cancel(run(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, ended.await)
}

/// Ends a job that goes on; removes one that has ended.
async fn remove(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let removed = async {
        let caller = auth::caller(&app, &headers)?;
        let (jobs, id) = (jobs(&app)?, run(&id)?);
        let head = jobs.head(id, Some(&caller.tenant)).await?;
        if head.ended_at.is_none() {
            return jobs.cancel(id, Some(&caller.tenant)).await;
        }
        let removed = jobs.store().remove(id).await.map_err(storage)?;
        Ok(serde_json::json!({"id": id, "object": "job", "deleted": removed}).to_string())
    };
    answer(&app, removed.await)
}

async fn deliveries(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let listed = async {
        let caller = auth::caller(&app, &headers)?;
        let (jobs, id) = (jobs(&app)?, run(&id)?);
        jobs.head(id, Some(&caller.tenant)).await?;
        jobs.deliveries(id).await
    };
    answer(&app, listed.await)
}

/// Sends what is to be told about a job once more, under the same id.
async fn redeliver(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let sent = async {
        let caller = auth::caller(&app, &headers)?;
        let (jobs, id) = (jobs(&app)?, run(&id)?);
        jobs.head(id, Some(&caller.tenant)).await?;
        jobs.redeliver(id).await
    };
    answer(&app, sent.await)
}

async fn list_any(
    State(app): State<App>,
    parts: Parts,
    query: Result<Query<Page>, QueryRejection>,
) -> Response {
    let found = async {
        admin::operator(&app, &parts)?;
        page(&app, None, query).await
    };
    answer(&app, found.await)
}

async fn show_any(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let found = async {
        admin::operator(&app, &parts)?;
        jobs(&app)?.show(run(&id)?, None).await
    };
    answer(&app, found.await)
}

async fn cancel_any(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let ended = async {
        let by = admin::operator(&app, &parts)?;
        let ended = jobs(&app)?.cancel(run(&id)?, None).await?;
        tracing::info!(job = %id, %by, "a job was cancelled by an operator");
        Ok(ended)
    };
    answer(&app, ended.await)
}
