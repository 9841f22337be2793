//! What operators ask: is it alive, is it ready, what is it doing, what happened to a request.

use axum::extract::{Path, State};
use axum::response::Response;
use contract::{Code, Error, RequestId, Surface};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::metrics::Format;
use crate::openai::json_response;
use crate::{auth, errors};

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: new requests are taken; with the reason when not.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let health = app.inner.ledger.health();
    let problem = if app.is_draining() { Some("shutting down".to_owned()) } else { health.problem };
    let status = if problem.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let config = app.configuration().map(|c| {
        let state = c.state();
        json!({"version": state.version, "loaded_at": state.loaded_at, "refused_at": state.refused.map(|r| r.at)})
    });
    let mut body =
        json!({"ready": problem.is_none(), "problem": problem, "ledger_lag_bytes": health.lag_bytes});
    if let (Some(body), Some(config)) = (body.as_object_mut(), config) {
        body.insert("config".to_owned(), config);
    }
    json_response(status, &body)
}

/// `GET /metrics` in Prometheus' text format, or OpenMetrics for a scraper that accepts it.
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let dropped = app.generation.settings.tracing.as_ref().map(|t| t.sink.dropped()).unwrap_or_default();
    app.inner.ended.count(&app.inner.metrics);
    app.inner.metrics.replays_hold(app.inner.replays.used());
    if let Some(jobs) = app.jobs() {
        app.inner.metrics.jobs_are(&jobs.counts(), app.inner.clock.wall());
    }
    if let Some(features) = app.features() {
        app.inner.metrics.features_are(&features.states(), app.inner.clock.wall());
    }
    if let Some(monitors) = app.inner.monitors.get() {
        let dropped = monitors.dropped().saturating_add(app.observers().dropped());
        app.inner.metrics.monitors_are(&monitors.states(), dropped, app.inner.clock.wall());
    }
    if let Some(models) = app.predictions() {
        app.inner.metrics.predictions_are(models);
    }
    if let Some(rollouts) = app.rollouts() {
        app.inner.metrics.rollouts_are(&rollouts.states(), app.observers());
    }
    let (gate, ledger) = (app.present(), app.inner.ledger.health());
    let endpoints = app.generation.models.endpoints(app.inner.clock.now());
    let text = app.inner.metrics.render(&gate, &ledger, &endpoints, &dropped, format);
    let mut r = Response::new(axum::body::Body::from(text));
    r.headers_mut().insert(CONTENT_TYPE, format.content_type());
    r
}

/// `GET /v1/requests/{id}`: the ledger's record of the caller's own request.
pub(crate) async fn request(Path(id): Path<String>, State(app): State<App>, headers: HeaderMap) -> Response {
    match find(&app, &id, &headers).await {
        Ok(r) => r,
        Err(e) => errors::answer(&app, Surface::Native, &e),
    }
}

async fn find(app: &App, id: &str, headers: &HeaderMap) -> Result<Response, Error> {
    let caller = auth::caller(app, headers)?;
    let id: RequestId = id.parse().map_err(|e: String| Error::new(Code::InvalidRequest, e).param("id"))?;
    let storage = |e: store::Error| {
        tracing::error!(error = %e, "failed to read the ledger");
        Error::new(Code::StorageUnavailable, "the ledger cannot be read now")
    };
    let record = app.inner.reader.get(id).await.map_err(storage)?;
    // A tenant sees its own requests alone, and cannot tell whether others exist.
    let own = record.filter(|r| r.tenant == caller.tenant);
    let missing = || Error::new(Code::NotFound, "there is no request of that id");
    let record = own.ok_or_else(missing)?;
    Ok(json_response(StatusCode::OK, &serde_json::to_value(&record).unwrap_or_default()))
}
