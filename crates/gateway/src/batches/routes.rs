//! `/v1/batches`: to make batches, look at them and cancel them.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use contract::{Code, Error, Surface, TenantId};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Batches, create, named};
use crate::app::App;
use crate::came::Came;
use crate::jobs::Jobs;
use crate::{admin, auth, drain, errors, headers, jobs};

/// Batches of a page, unless asked for otherwise, and at most.
const PAGE: u32 = 20;
const MOST: u32 = 100;

/// The routes of a caller.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/batches", post(make).get(list))
        .route("/v1/batches/{id}", get(show))
        .route("/v1/batches/{id}/cancel", post(cancel))
        .route("/v1/batches/{id}/deliveries", get(deliveries))
        .route("/v1/batches/{id}/redeliver", post(redeliver))
}

/// The routes of an operator.
pub(crate) fn admin_routes() -> Router<App> {
    Router::new()
        .route("/v1/admin/batches", get(list_any))
        .route("/v1/admin/batches/{id}", get(show_any))
        .route("/v1/admin/batches/{id}/cancel", post(cancel_any))
}

#[derive(Debug, Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

fn answer(app: &App, result: Result<String, Error>) -> Response {
    match result {
        Ok(text) => {
            let mut r = jobs::written(StatusCode::OK, text);
            headers::request_id(app.request_id(), Surface::Openai, r.headers_mut());
            r
        }
        Err(e) => errors::answer(app, Surface::Openai, e),
    }
}

fn kept(app: &App) -> Result<&Jobs, Error> {
    app.jobs().ok_or_else(|| Error::new(Code::NotFound, "no batches are kept here"))
}

fn batches(app: &App) -> Result<&Batches, Error> {
    kept(app)?.batches().ok_or_else(|| Error::new(Code::NotFound, "no batches are kept here"))
}

async fn page(
    app: &App,
    tenant: Option<&TenantId>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<String, Error> {
    let bad = || {
        let m = format!("give `after=` the id of a batch, and `limit=` 1 to {MOST}");
        Error::new(Code::InvalidRequest, m).param("limit")
    };
    let Query(page) = query.map_err(|_| bad())?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&limit) {
        return Err(bad());
    }
    let after = page.after.as_deref().map(named).transpose()?;
    batches(app)?.list(tenant, after, limit).await
}

async fn make(State(app): State<App>, mut came: Came) -> Response {
    let made = async {
        let caller = came.caller(&app)?;
        if app.is_draining() {
            return Err(drain::refusal());
        }
        let batches = batches(&app)?;
        let id = create::create(&app, batches, &caller, &came.headers, &came.body).await?;
        batches.show(id, Some(&caller.tenant)).await
    };
    answer(&app, made.await)
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
        batches(&app)?.show(named(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, found.await)
}

async fn cancel(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let ended = async {
        let caller = auth::caller(&app, &headers)?;
        batches(&app)?.cancel(named(&id)?, Some(&caller.tenant)).await
    };
    answer(&app, ended.await)
}

async fn deliveries(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let listed = async {
        let caller = auth::caller(&app, &headers)?;
        let (kept, id) = (kept(&app)?, named(&id)?);
        batches(&app)?.get(id, Some(&caller.tenant)).await?;
        kept.deliveries(id).await
    };
    answer(&app, listed.await)
}

/// Sends what is to be told about a batch once more, under the same id.
async fn redeliver(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let sent = async {
        let caller = auth::caller(&app, &headers)?;
        let (kept, id) = (kept(&app)?, named(&id)?);
        batches(&app)?.get(id, Some(&caller.tenant)).await?;
        kept.redeliver(id).await
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
        batches(&app)?.show(named(&id)?, None).await
    };
    answer(&app, found.await)
}

async fn cancel_any(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let ended = async {
        let by = admin::operator(&app, &parts)?;
        let ended = batches(&app)?.cancel(named(&id)?, None).await?;
        tracing::info!(batch = %id, %by, "a batch was cancelled by an operator");
        Ok(ended)
    };
    answer(&app, ended.await)
}
