//! MLflow's REST surface: `/api/2.0/mlflow/*`, `/api/3.0/mlflow/*`, `/api/2.0/mlflow-artifacts/*`, each under `/ajax-api` too, and
//! `/get-artifact`, `/health`, `/version`. The unmodified client of 3.17 is at home here.
//!
//! What experiments, runs and models are is `store::tracking`'s, what names and paths may be is `models`'; here are the ways in and
//! out. Whoever calls comes in by his key like everywhere (MLflow's clients send `MLFLOW_TRACKING_TOKEN` as a bearer token) and sees
//! his tenant's. Nothing is asked of a model and nothing is charged.
//!
//! Errors have MLflow's shape, [`errors`] is the table.

mod artifacts;
mod asked;
mod download;
mod errors;
mod experiments;
mod log;
mod models;
mod registry;
mod runs;
mod schema;
mod search;
mod source;
mod versions;
mod webhooks;
mod wire;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use contract::{BoxFuture, TenantId};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::Serialize;
use store::tracking::TenantTracking;

use crate::app::App;
use crate::auth::Caller;
use crate::{drain, intake};
use asked::Asked;
use errors::Failed;

/// The version of MLflow whose words these are.
const VERSION: &str = "3.17.2";

/// What a handler gives: a body.
type Answer = Result<String, Failed>;

/// A request that came in.
struct Cx {
    app: App,
    tenant: TenantId,
    asked: Asked,
    now: i64,
}

impl Cx {
    fn tracking(&self) -> TenantTracking<'_> {
        self.app.inner.reader.tracking.of(&self.tenant)
    }

    /// 128 bits that nobody else has: the time, and randomness behind it.
    fn fresh(&self) -> u128 {
        u128::from_be_bytes(*self.app.request_id().as_bytes())
    }

    /// A name for what nobody named.
    fn name(&self) -> String {
        let bits = self.fresh();
        ::models::random_name(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0))
    }
}

/// The routes. They take their bodies in themselves.
pub(crate) fn routes() -> Router<App> {
    let mut router = Router::new()
        .route("/health", get(|| async { "OK" }))
        .route("/version", get(|| async { VERSION }))
        .route("/get-artifact", get(download::of_run))
        .route("/model-versions/get-artifact", get(download::of_version));
    for root in ["/api", "/ajax-api"] {
        for version in ["2.0", "3.0"] {
            let below = |path: &str| format!("{root}/{version}/mlflow{path}");
            router = router
                .route(&below("/{*path}"), any(entry))
                .route(&below("-artifacts/artifacts"), any(artifacts::root))
                .route(&below("-artifacts/artifacts/{*path}"), any(artifacts::one))
                .route(&below("-artifacts/{*path}"), any(artifacts::other))
                .route(&below("/get-artifact"), get(download::of_run))
                .route(&below("/logged-models/{id}/artifacts/files"), get(download::of_model));
        }
    }
    router
}

/// A body of JSON.
fn json<T: Serialize>(said: &T) -> Answer {
    serde_json::to_string(said).map_err(|e| Failed::internal(&e))
}

/// The body of an answer that says nothing.
fn done() -> Answer {
    Ok("{}".to_owned())
}

/// What is asked of tracking or the registry.
async fn entry(State(app): State<App>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let answer = async {
        let (caller, asked) = take_in(&app, request).await?;
        let now = app.inner.clock.wall().0;
        let (_, rest) = path.split_once("/mlflow/").unwrap_or_default();
        // Their bodies are read straight into what they are.
        let asked = if matches!(rest, "runs/log-metric" | "runs/log-batch") { asked } else { asked.fields() };
        let cx = Cx { app: app.clone(), tenant: caller.tenant, asked, now };
        match handler(&cx, &method, rest) {
            Some(answer) => answer.await,
            None => Err(Failed::no_endpoint(&method, &path)),
        }
    };
    match answer.await {
        Ok(body) => said(body),
        Err(e) => e.into_response(),
    }
}

fn said(body: String) -> Response {
    let mut r = Response::new(Body::from(body));
    r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

/// Who asks, and what.
async fn take_in(app: &App, request: Request) -> Result<(Caller, Asked), Failed> {
    if app.is_draining() {
        return Err(drain::refusal().into());
    }
    let (parts, mut body) = request.into_parts();
    let arrived = app.inner.clock.now();
    let (caller, bytes) = intake::take(app, &parts.headers, &mut body, arrived).await?;
    Ok((caller, Asked::read(&parts, bytes)?))
}

/// A refusal of whoever may not come in, for requests whose bodies are taken in otherwise.
fn caller(app: &App, headers: &http::HeaderMap) -> Result<Caller, Failed> {
    if app.is_draining() {
        return Err(drain::refusal().into());
    }
    Ok(crate::auth::caller(app, headers)?)
}

/// Who answers that: the table of all endpoints.
fn handler<'a>(cx: &'a Cx, method: &Method, path: &'a str) -> Option<BoxFuture<'a, Answer>> {
    if let Some(of) = path.strip_prefix("logged-models/")
        && of != "search"
    {
        return models::handler(cx, method, of);
    }
    if let Some(below) = path.strip_prefix("webhooks") {
        let below = below.strip_prefix('/').filter(|b| !b.is_empty()).or(below.is_empty().then_some(""))?;
        return webhooks::handler(cx, method, below);
    }
    macro_rules! to {
        ($handler:path) => {
            Some(Box::pin($handler(cx)) as BoxFuture<'a, Answer>)
        };
    }
    match (method.as_str(), path) {
        ("POST", "runs/log-metric") => to!(log::metric),
        ("POST", "runs/log-batch") => to!(log::batch),
        ("POST", "runs/log-parameter") => to!(log::param),
        ("POST", "runs/set-tag") => to!(log::tag),
        ("POST", "runs/log-model") => to!(log::model),
        ("POST", "runs/log-inputs") => to!(log::inputs),
        ("POST", "runs/outputs") => to!(log::outputs),
        ("POST", "runs/create") => to!(runs::create),
        ("GET", "runs/get") => to!(runs::get),
        ("POST", "runs/update") => to!(runs::update),
        ("POST", "runs/delete") => to!(runs::delete),
        ("POST", "runs/restore") => to!(runs::restore),
        ("POST", "runs/delete-tag") => to!(runs::delete_tag),
        ("POST", "runs/search") => to!(search::runs),
        ("GET", "metrics/get-history") => to!(runs::history),
        ("GET", "metrics/get-history-bulk-interval") => to!(runs::histories),
        ("GET", "artifacts/list") => to!(artifacts::of_run),
        ("POST", "experiments/create") => to!(experiments::create),
        ("GET", "experiments/get") => to!(experiments::get),
        ("GET", "experiments/get-by-name") => to!(experiments::get_by_name),
        ("POST" | "GET", "experiments/search") => to!(search::experiments),
        ("POST", "experiments/delete") => to!(experiments::delete),
        ("POST", "experiments/restore") => to!(experiments::restore),
        ("POST", "experiments/update") => to!(experiments::update),
        ("POST", "experiments/set-experiment-tag") => to!(experiments::set_tag),
        ("POST", "experiments/delete-experiment-tag") => to!(experiments::delete_tag),
        ("POST", "logged-models") => to!(models::create),
        ("POST", "logged-models/search") => to!(models::search),
        ("POST", "registered-models/create") => to!(registry::create),
        ("GET", "registered-models/get") => to!(registry::get),
        ("PATCH", "registered-models/update") => to!(registry::update),
        ("POST", "registered-models/rename") => to!(registry::rename),
        ("DELETE", "registered-models/delete") => to!(registry::delete),
        ("GET", "registered-models/search") => to!(registry::search),
        ("GET" | "POST", "registered-models/get-latest-versions") => to!(registry::latest),
        ("POST", "registered-models/set-tag") => to!(registry::set_tag),
        ("DELETE", "registered-models/delete-tag") => to!(registry::delete_tag),
        ("POST", "registered-models/alias") => to!(registry::set_alias),
        ("DELETE", "registered-models/alias") => to!(registry::delete_alias),
        ("GET", "registered-models/alias") => to!(versions::by_alias),
        ("POST", "model-versions/create") => to!(versions::create),
        ("GET", "model-versions/get") => to!(versions::get),
        ("PATCH", "model-versions/update") => to!(versions::update),
        ("DELETE", "model-versions/delete") => to!(versions::delete),
        ("GET", "model-versions/search") => to!(versions::search),
        ("GET", "model-versions/get-download-uri") => to!(versions::download_uri),
        ("POST", "model-versions/transition-stage") => to!(versions::transition),
        ("POST", "model-versions/set-tag") => to!(versions::set_tag),
        ("DELETE", "model-versions/delete-tag") => to!(versions::delete_tag),
        ("GET", "server-info") => to!(server_info),
        _ => None,
    }
}

/// What this server can do.
async fn server_info(_: &Cx) -> Answer {
    json(&serde_json::json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
        "presigned_upload_run_id_supported": false,
        "presigned_upload_model_id_supported": false,
        "features_enabled": {"gateway": false},
    }))
}
