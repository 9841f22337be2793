//! What an operator does over HTTP, under `/v1/admin/`: keys, bills, models, every tenant's requests.
//!
//! Authority: a key of the role `admin`. A server that requires no keys also takes the operator at his own machine
//! without one, and only him: the connection must come from a loopback address, and nothing may say that it speaks for
//! somebody else: no header of a proxy (behind one everybody is local), no `Origin` (a web page in the operator's
//! browser is not the operator), no host name but this machine's (a page could have had its own name point here).
//! Secrets are in the answer that makes a key and nowhere else, and every change is logged with who made it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use contract::{BoxFuture, Code, Error, KeyId, ModelName, Price, RequestId, Surface, TenantId, UnixMillis};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{CostBy, KeyInfo, NewKey, Role};

use crate::app::App;
use crate::came::Came;
use crate::openai::json_response;
use crate::{auth, drain, errors};

/// Headers by which a proxy says for whom it speaks.
const PROXIED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// The address a connection comes from.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

/// A service whose requests know where they come from.
#[derive(Debug, Clone)]
pub(crate) struct SeenFrom<S> {
    service: S,
    peer: SocketAddr,
}

impl<S> SeenFrom<S> {
    pub(crate) fn new(service: S, peer: SocketAddr) -> Self {
        SeenFrom { service, peer }
    }
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for SeenFrom<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(Peer(self.peer));
        self.service.call(request)
    }
}

/// The routes.
pub(crate) fn routes() -> axum::Router<App> {
    axum::Router::new()
        .route("/v1/admin/keys", get(list_keys).post(create_key))
        .route("/v1/admin/keys/{id}", delete(revoke_key))
        .route("/v1/admin/costs", get(costs))
        .route("/v1/admin/models", get(models))
        .route("/v1/admin/requests/{id}", get(request))
        .route("/v1/admin/config", get(config))
        .route("/v1/admin/reload", post(reload))
}

/// What a model is and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// As the configuration names it.
    pub name: ModelName,
    /// `openai`, `anthropic` or `local`.
    pub kind: String,
    /// The model's name at its provider, or its file.
    pub model: String,
    /// Where it is asked; none for a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// The longest answer in tokens.
    pub max_output_tokens: Option<u64>,
    /// What it costs, in nanodollars per million tokens.
    pub price: Price,
    /// Where the price comes from: `config`, the table's entry, or `none` (then it counts as free).
    pub price_from: String,
    /// `ready`, `missing` (the file), or a worker's `stopped`, `starting` or `running`.
    pub state: String,
    /// A local model's file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// A running worker's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Calls under way, on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Calls that wait, on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<usize>,
}

/// Who knows the models: the wiring.
pub trait Inventory: Send + Sync {
    /// All models, by name. Does not wait for a model.
    fn models(&self) -> BoxFuture<'_, Vec<ModelInfo>>;
}

/// What a key is to be, on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyWanted {
    /// For people.
    pub name: String,
    /// Who pays for what it asks.
    pub tenant: TenantId,
    /// What it may do.
    #[serde(default)]
    pub role: Role,
    /// After how many milliseconds it is refused; never unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<i64>,
}

/// A key that was just made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyMade {
    /// What is known of it.
    pub info: KeyInfo,
    /// The key itself, this once.
    pub key: String,
}

/// Who administers: for the log.
#[derive(Debug)]
pub(crate) enum Operator {
    Key(KeyId),
    Local,
}

impl std::fmt::Display for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operator::Key(id) => write!(f, "key {id}"),
            Operator::Local => f.write_str("this machine"),
        }
    }
}

pub(crate) fn operator(app: &App, parts: &Parts) -> Result<Operator, Error> {
    let open = !app.generation.settings.auth_required;
    if let Some(presented) = auth::presented(&parts.headers) {
        match app.inner.keys.check(presented, app.inner.clock.wall()) {
            Ok(info) if info.role == Role::Admin => return Ok(Operator::Key(info.id.clone())),
            Ok(_) => return Err(forbidden("this key may not administer the server")),
            // An open server takes whatever placeholder an SDK insists on.
            Err(store::Refusal::Malformed) if open => {}
            Err(_) => return Err(Error::new(Code::InvalidKey, "the API key is not valid")),
        }
    }
    if !open {
        let m = "an administrator's key is needed: make one with `forebay key create --admin` in the project's folder";
        return Err(Error::new(Code::InvalidKey, m));
    }
    let peer = parts.extensions.get::<Peer>().map(|p| p.0.ip());
    match stranger(peer, &parts.headers) {
        None => Ok(Operator::Local),
        Some(why) => Err(forbidden(why)),
    }
}

fn forbidden(why: &str) -> Error {
    let m = format!(
        "{why}: send an administrator's key, made by `forebay key create --admin` in the project's folder"
    );
    Error::new(Code::Forbidden, m)
}

/// Why a caller without a key is not the operator at this machine; `None` when he is.
fn stranger(peer: Option<IpAddr>, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return Some("without a key the server is administered from its own machine alone");
    }
    if PROXIED.iter().any(|name| headers.contains_key(*name)) {
        return Some("without a key the server is not administered through a proxy");
    }
    if headers.contains_key(ORIGIN) {
        return Some("without a key the server is not administered by a web page");
    }
    let host =
        headers.get(HOST).and_then(|h| h.to_str().ok()).and_then(|h| h.parse::<http::uri::Authority>().ok());
    // HTTP/2 has its authority in the URI, and no browser speaks it in clear.
    let named = headers.contains_key(HOST);
    (named && !host.is_some_and(|h| auth::is_this_machine(h.host())))
        .then_some("without a key the server is administered under the name localhost or its address alone")
}

fn storage(e: store::Error) -> Error {
    match &e {
        store::Error::UnknownKey(_) => Error::from(e),
        _ => {
            tracing::error!(error = %e, "failed to use the storage");
            Error::new(Code::StorageUnavailable, "the storage cannot be used now: see the server's log")
        }
    }
}

fn answer(result: Result<Response, Error>) -> Response {
    let mut r = result.unwrap_or_else(|e| errors::response(Surface::Native, &e));
    r.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    r
}

fn to_json(status: StatusCode, value: &impl Serialize) -> Result<Response, Error> {
    let value = serde_json::to_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("the answer cannot be written: {e}")))?;
    Ok(json_response(status, &value))
}

/// `GET /v1/admin/keys`: every key, without its secret.
async fn list_keys(State(app): State<App>, parts: Parts) -> Response {
    let keys = async {
        operator(&app, &parts)?;
        let keys = app.inner.reader.keys.list().await.map_err(storage)?;
        to_json(StatusCode::OK, &json!({"keys": keys}))
    };
    answer(keys.await)
}

/// `POST /v1/admin/keys`: makes a key; it opens the door when the answer is there.
async fn create_key(State(app): State<App>, parts: Parts, came: Came) -> Response {
    let made = async {
        let by = operator(&app, &parts)?;
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
            return Err(Error::new(Code::InvalidRequest, "send the body as application/json"));
        }
        let wanted: KeyWanted = serde_json::from_slice(&came.body).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("the body is not what a key is to be: {e}"))
        })?;
        let invalid = |m: &str, param: &str| Err(Error::new(Code::InvalidRequest, m).param(param));
        if wanted.name.trim().is_empty() || wanted.name.len() > 200 {
            return invalid("a key needs a name of at most 200 bytes", "name");
        }
        if wanted.tenant.as_str().trim().is_empty() || wanted.tenant.as_str().len() > 200 {
            return invalid("a key needs a tenant of at most 200 bytes", "tenant");
        }
        if wanted.expires_in_ms.is_some_and(|ms| ms <= 0) {
            return invalid("a key cannot expire at once", "expires_in_ms");
        }
        let now = app.inner.clock.wall();
        let new = NewKey {
            name: wanted.name,
            tenant: wanted.tenant,
            role: wanted.role,
            expires_at: wanted.expires_in_ms.map(|ms| UnixMillis(now.0.saturating_add(ms))),
        };
        let keys = &*app.inner.reader.keys;
        let (info, secret) = store::create_key(keys, new, now, store::os_random).await.map_err(storage)?;
        app.inner.keys.refresh(keys).await.map_err(storage)?;
        tracing::info!(key = %info.id, tenant = %info.tenant, role = info.role.as_str(), %by, "a key was made");
        to_json(StatusCode::CREATED, &KeyMade { info, key: secret.expose().to_owned() })
    };
    answer(made.await)
}

/// `DELETE /v1/admin/keys/{id}`: revokes a key; it is refused when the answer is there.
async fn revoke_key(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let revoked = async {
        let by = operator(&app, &parts)?;
        let keys = &*app.inner.reader.keys;
        let info = keys.revoke(&KeyId::from(id), app.inner.clock.wall()).await.map_err(storage)?;
        app.inner.keys.refresh(keys).await.map_err(storage)?;
        tracing::info!(key = %info.id, tenant = %info.tenant, %by, "a key was revoked");
        to_json(StatusCode::OK, &info)
    };
    answer(revoked.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CostQuery {
    by: CostBy,
    /// Milliseconds since the epoch.
    since: Option<i64>,
}

/// `GET /v1/admin/costs?by=tenant&since=0`: what was spent, summed.
async fn costs(
    State(app): State<App>,
    query: Result<Query<CostQuery>, axum::extract::rejection::QueryRejection>,
    parts: Parts,
) -> Response {
    let summed = async {
        operator(&app, &parts)?;
        let Query(query) = query.map_err(|_| {
            let m = "give `by=` one of tenant, model, pipeline, key, user, day, and `since=` milliseconds since the epoch";
            Error::new(Code::InvalidRequest, m).param("by")
        })?;
        let from = UnixMillis(query.since.unwrap_or(i64::MIN));
        let rows = app.inner.reader.costs(query.by, from, UnixMillis(i64::MAX)).await.map_err(storage)?;
        to_json(StatusCode::OK, &json!({"rows": rows}))
    };
    answer(summed.await)
}

/// `GET /v1/admin/models`: the models with their price, limits and state.
async fn models(State(app): State<App>, parts: Parts) -> Response {
    let listed = async {
        operator(&app, &parts)?;
        let mut models = match &app.generation.inventory {
            Some(inventory) => inventory.models().await,
            None => Vec::new(),
        };
        let gate = app.inner.gate.snapshot();
        for m in &mut models {
            let seen = gate.models.iter().find(|g| g.model == m.name);
            m.in_flight = Some(seen.map_or(0, |g| g.in_flight));
            m.queued = Some(seen.map_or(0, |g| g.queued_entries));
        }
        to_json(StatusCode::OK, &json!({"models": models}))
    };
    answer(listed.await)
}

/// `GET /v1/admin/requests/{id}`: the ledger's record of anybody's request.
async fn request(State(app): State<App>, Path(id): Path<String>, parts: Parts) -> Response {
    let found = async {
        operator(&app, &parts)?;
        let id: RequestId =
            id.parse().map_err(|e: String| Error::new(Code::InvalidRequest, e).param("id"))?;
        let record = app.inner.reader.get(id).await.map_err(storage)?;
        let record = record.ok_or_else(|| Error::new(Code::NotFound, "there is no request of that id"))?;
        to_json(StatusCode::OK, &record)
    };
    answer(found.await)
}

fn unmanaged() -> Error {
    Error::new(Code::NotFound, "nobody reads a configuration for this server")
}

/// `GET /v1/admin/config`: what is in force, and why the file is not when it is not.
async fn config(State(app): State<App>, parts: Parts) -> Response {
    let shown = || {
        operator(&app, &parts)?;
        to_json(StatusCode::OK, &app.configuration().ok_or_else(unmanaged)?.state())
    };
    answer(shown())
}

/// `POST /v1/admin/reload`: reads the configuration again; 422 says why it is refused.
async fn reload(State(app): State<App>, parts: Parts) -> Response {
    let loaded = async {
        let by = operator(&app, &parts)?;
        if app.is_draining() {
            return Err(drain::refusal());
        }
        tracing::info!(%by, "the configuration is asked to be loaded again");
        match app.configuration().ok_or_else(unmanaged)?.reload().await {
            Ok(done) => to_json(StatusCode::OK, &done),
            Err(refused) => {
                let error = json!({"message": refused.message, "type": "invalid_request_error", "param": null,
                    "code": Code::InvalidRequest.as_str()});
                to_json(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error, "refused": refused}))
            }
        }
    };
    answer(loaded.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_the_operator_at_this_machine_needs_no_key() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let there: IpAddr = "192.0.2.7".parse().unwrap();
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST", "127.0.0.1"] {
            assert_eq!(stranger(Some(here), &headers(&[("host", host)])), None, "{host}");
        }
        assert_eq!(stranger(Some(mapped), &headers(&[("host", "localhost")])), None);
        assert!(stranger(Some(there), &headers(&[("host", "localhost")])).is_some());
        assert!(stranger(None, &headers(&[("host", "localhost")])).is_some());
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7"),
            ("via", "1.1 proxy"),
            ("x-real-ip", "192.0.2.7"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("host", "evil.example:8080"),
            ("host", "127.0.0.1.evil.example"),
            ("host", "not a host"),
        ] {
            let mut h = headers(&[("host", "localhost")]);
            h.insert(http::HeaderName::from_static(name), HeaderValue::from_static(value));
            assert!(stranger(Some(here), &h).is_some(), "{name}: {value}");
        }
    }
}
