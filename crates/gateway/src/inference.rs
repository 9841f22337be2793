//! Predictive models: the Open Inference Protocol v2 over HTTP and gRPC (on the same port), Triton's extensions that its clients
//! use (binary tensors, repository, statistics), and MLflow's `/invocations`.
//!
//! What a body is, `predict` says; nothing here knows how a model is run. A call counts against its caller's requests a minute;
//! nothing is charged, and there is no record of it in the ledger. Loading and unloading is the operator's.

mod grpc;
mod lookup;
mod run;
mod scoring;
mod seen;
mod views;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use contract::{BoxFuture, Code, Error, RequestId, Surface};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use predict::Models;
use predict::protocol::v2;

use crate::app::App;
use crate::came::{Came, Taken};
use crate::errors::Failure;
use crate::intake::Behind;
use crate::openai::json_response;
use crate::{admin, errors, headers};

pub(crate) use grpc::{call as grpc_call, is_grpc};
pub use lookup::{Lookup, LookupUse};

/// How long the JSON of a body is that binary elements follow.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Whom a prediction is about.
const ENTITY: HeaderName = HeaderName::from_static("forebay-entity");
const VERSION: HeaderName = HeaderName::from_static("forebay-model-version");

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(all_stats))
        .route("/v2/models/{name}", get(model))
        .route("/v2/models/{name}/ready", get(model_ready))
        .route("/v2/models/{name}/config", get(config))
        .route("/v2/models/{name}/stats", get(stats))
        .route("/v2/models/{name}/infer", post(infer))
        .route("/v2/models/{name}/versions/{version}", get(model))
        .route("/v2/models/{name}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{name}/versions/{version}/config", get(config))
        .route("/v2/models/{name}/versions/{version}/stats", get(stats))
        .route("/v2/models/{name}/versions/{version}/infer", post(infer))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{name}/load", post(load))
        .route("/v2/repository/models/{name}/unload", post(unload))
        .route("/invocations", post(scoring::invocations))
}

fn models(app: &App) -> Result<&Models, Error> {
    app.predictions().ok_or_else(|| {
        Error::new(
            Code::NotFound,
            "this server has no predictive models: `models: {NAME: {onnx: FILE}}` in forebay.yaml names them",
        )
    })
}

fn refused(app: &App, e: impl Into<Error>) -> Response {
    errors::answer(app, Surface::Inference, e.into())
}

fn shown(app: &App, found: Result<serde_json::Value, Error>) -> Response {
    match found {
        Ok(shown) => json_response(StatusCode::OK, &shown),
        Err(e) => refused(app, e),
    }
}

/// What a path names: a model, and a version or none.
#[derive(serde::Deserialize)]
struct Named {
    name: String,
    version: Option<String>,
}

/// `GET /v2`.
async fn server() -> Response {
    json_response(StatusCode::OK, &views::server())
}

/// `GET /v2/health/live`.
async fn live() -> Response {
    json_response(StatusCode::OK, &serde_json::json!({"live": true}))
}

/// What [`server`] says, for the test of its description.
#[cfg(test)]
pub(crate) fn described() -> serde_json::Value {
    views::server()
}

fn is_ready(app: &App) -> bool {
    !app.is_draining() && app.predictions().is_none_or(views::all_ready)
}

/// `GET /v2/health/ready`: every model that is served can answer.
async fn ready(State(app): State<App>) -> Response {
    match is_ready(&app) {
        true => json_response(StatusCode::OK, &serde_json::json!({"ready": true})),
        false => {
            let e = Error::new(
                Code::UpstreamUnreachable,
                "not all models are loaded: POST /v2/repository/index says which",
            );
            refused(&app, e)
        }
    }
}

/// `GET /v2/models/{name}`, of a version or of the one that is served.
async fn model(State(app): State<App>, Path(named): Path<Named>) -> Response {
    let found = async {
        let models = models(&app)?;
        let version = models.find(&named.name, named.version.as_deref()).await?;
        Ok(views::model(models, &version))
    };
    let found = found.await;
    shown(&app, found)
}

/// `GET /v2/models/{name}/ready`.
async fn model_ready(State(app): State<App>, Path(named): Path<Named>) -> Response {
    let found = models(&app).and_then(|models| {
        let found = models.try_find(&named.name, named.version.as_deref())?;
        let m = || predict::Error::NotReady(format!("the model `{}` is not loaded", named.name));
        Ok(found.ok_or_else(m)?)
    });
    shown(&app, found.map(|v| serde_json::json!({"name": &*v.model, "ready": true})))
}

/// `GET /v2/models/{name}/config`, in Triton's words.
async fn config(State(app): State<App>, Path(named): Path<Named>) -> Response {
    let found = async {
        let models = models(&app)?;
        let version = models.find(&named.name, named.version.as_deref()).await?;
        Ok(views::config(models, &version))
    };
    let found = found.await;
    shown(&app, found)
}

/// `GET /v2/models/{name}/stats`.
async fn stats(State(app): State<App>, Path(named): Path<Named>) -> Response {
    let found = models(&app).and_then(|m| views::stats(m, Some(&named.name), named.version.as_deref()));
    shown(&app, found)
}

/// `GET /v2/models/stats`.
async fn all_stats(State(app): State<App>) -> Response {
    let found = models(&app).and_then(|m| views::stats(m, None, None));
    shown(&app, found)
}

/// `POST /v2/models/{name}/infer`.
async fn infer(State(app): State<App>, Path(named): Path<Named>, came: Came) -> Response {
    answered(&app, &named.name, named.version.as_deref(), came).await
}

async fn answered(app: &App, model: &str, version: Option<&str>, came: Came) -> Response {
    let id = app.request_id();
    match answer(app, id, (model, version), came).await {
        Ok(response) => response,
        Err(e) => failed(app, id, e),
    }
}

/// What is answered to a request that has an id already.
fn failed(app: &App, id: RequestId, e: Error) -> Response {
    let mut failure: Box<Failure> = e.into();
    failure.request = Some(id);
    errors::answer(app, Surface::Inference, failure)
}

/// Whom the headers of a request say that it is about.
fn entity(headers: &HeaderMap) -> Option<&str> {
    headers.get(ENTITY).and_then(|v| v.to_str().ok()).filter(|e| !e.is_empty())
}

async fn answer(
    app: &App,
    id: RequestId,
    (model, version): (&str, Option<&str>),
    mut came: Came,
) -> Result<Response, Error> {
    let caller = came.caller(app)?;
    let length = came.headers.get(HEADER_LENGTH).map(|v| v.to_str().ok().and_then(|v| v.parse().ok()));
    let length = match length {
        Some(None) => {
            let m = "`Inference-Header-Content-Length` is the length of the JSON in bytes";
            return Err(Error::new(Code::InvalidRequest, m));
        }
        known => known.flatten(),
    };
    let request = v2::request(&came.body, length)?;
    let asked = run::Asked {
        id,
        entity: request.entity.as_deref().or_else(|| entity(&came.headers)),
        model,
        version,
        tenant: &caller,
        arrived: came.arrived,
        timeout: request.timeout,
        wanted: &request.outputs,
    };
    let predicted = run::infer(app, asked, run::Given::Tensors(request.inputs)).await?;
    let encoded = v2::answer(&predicted.answer(request.id.as_deref(), &request.outputs, request.binary))?;
    let mut response = Response::new(Body::from(encoded.body));
    let own = response.headers_mut();
    own.reserve(headers::MANY);
    let kind = if encoded.header.is_some() { "application/octet-stream" } else { "application/json" };
    own.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = encoded.header {
        own.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    stamp(id, &predicted, &mut response);
    Ok(response)
}

/// What every answer of a model says in its headers.
fn stamp(id: RequestId, predicted: &run::Predicted, response: &mut Response) {
    let own = response.headers_mut();
    if let Ok(version) = HeaderValue::from_str(&predicted.version.version) {
        own.insert(VERSION, version);
    }
    if let Some(rates) = &predicted.rates {
        rates.put(Surface::Inference, own);
    }
    headers::request_id(id, Surface::Inference, own);
}

/// `POST /v2/repository/index`.
async fn index(State(app): State<App>, came: Came) -> Response {
    #[derive(Default, serde::Deserialize)]
    struct Only {
        #[serde(default)]
        ready: bool,
    }
    let only: Only = serde_json::from_slice(&came.body).unwrap_or_default();
    let all = app.predictions().map(|m| views::index(m, only.ready)).unwrap_or_default();
    json_response(StatusCode::OK, &all.into())
}

/// `POST /v2/repository/models/{name}/load`: loads what the configuration names and is not in memory.
async fn load(State(app): State<App>, Path(named): Path<Named>, parts: Parts) -> Response {
    let done = async {
        let by = admin::operator(&app, &parts)?;
        models(&app)?.reload(&named.name, None).await?;
        tracing::info!(model = %named.name, %by, "a model was loaded");
        Ok(serde_json::json!({}))
    };
    let done = done.await;
    shown(&app, done)
}

/// `POST /v2/repository/models/{name}/unload`.
async fn unload(State(app): State<App>, Path(named): Path<Named>, parts: Parts) -> Response {
    let done = (|| {
        let by = admin::operator(&app, &parts)?;
        models(&app)?.unload(&named.name, None)?;
        tracing::info!(model = %named.name, %by, "a model was unloaded");
        Ok(serde_json::json!({}))
    })();
    shown(&app, done)
}

/// A call of a model without the router: see [`crate::front`].
pub(crate) struct Straight {
    app: App,
    model: String,
    version: Option<String>,
}

impl Straight {
    /// Of a path that names a model in letters that need no decoding.
    pub(crate) fn of(app: &App, path: &str) -> Option<Straight> {
        let named = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
        let (model, version) = match named.split_once("/versions/") {
            Some((model, version)) => (model, Some(version)),
            None => (named, None),
        };
        let plain = |part: &str| !part.is_empty() && !part.contains(['/', '%']);
        let own = plain(model) && version.is_none_or(plain);
        own.then(|| Straight {
            app: app.clone(),
            model: model.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

impl Behind for Straight {
    fn run(self, mut request: axum::extract::Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let Straight { app, model, version } = self;
            let Some(taken) = request.extensions_mut().remove::<Taken>() else {
                return refused(
                    &app,
                    Error::new(Code::Internal, "the body was not taken in; this is a defect"),
                );
            };
            let came = Came::of(taken, std::mem::take(request.headers_mut()));
            answered(&app, &model, version.as_deref(), came).await
        })
    }
}

/// An answer in JSON.
fn json_bytes(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
