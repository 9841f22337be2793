//! MLflow's surface for commands of stages: at a port of this machine alone, for who presents the pass of an attempt under way.
//!
//! A command is not given a key of its tenant's: with a pass it reaches tracking, the registry and artifacts, nothing else, and
//! no longer than the attempt lasts. The server's own listener may be closed to it, or not be there: `forebay run` has none.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use admission::Priority;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use contract::{Code, Error, Surface, TenantId};
use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use pipeline::task;

use crate::current::Latest;
use crate::inside::{self, Behalf};
use crate::serve::Listening;
use crate::{errors, mlflow, models};

/// Who may come in.
#[derive(Clone, Default)]
pub struct Passes(Arc<Mutex<HashMap<String, Known>>>);

struct Known {
    tenant: TenantId,
    used: Arc<AtomicBool>,
}

/// A pass: who drops it takes it back.
pub struct Pass {
    token: String,
    used: Arc<AtomicBool>,
    of: Passes,
}

impl Passes {
    /// A pass for a tenant. `token` is random, and nobody else's.
    pub fn give(&self, tenant: TenantId, token: String) -> Pass {
        let used = Arc::new(AtomicBool::new(false));
        self.0.lock().insert(token.clone(), Known { tenant, used: used.clone() });
        Pass { token, used, of: self.clone() }
    }

    fn tenant(&self, presented: &str) -> Option<TenantId> {
        // Looked up by hash: how long it takes says nothing of a token that is not given.
        let known = self.0.lock();
        let known = known.get(presented)?;
        known.used.store(true, Ordering::Relaxed);
        Some(known.tenant.clone())
    }
}

impl Pass {
    /// What is presented, as a bearer's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether anybody came in with it.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.of.0.lock().remove(&self.token);
    }
}

/// Serves until it is dropped.
pub async fn serve_commands(served: Latest, listening: Listening, passes: Passes) {
    loop {
        let Some((stream, _)) = listening.accept().await else { continue };
        let (served, passes) = (served.clone(), passes.clone());
        let service = service_fn(move |request| answer(served.clone(), passes.clone(), request));
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).keep_alive(true);
        let connection = async move {
            if let Err(e) = http1.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(error = %e, "the connection of a command broke");
            }
        };
        task::spawn("connection of a command", connection).detach();
    }
}

async fn answer(served: Latest, passes: Passes, request: Request<Incoming>) -> Result<Response, Infallible> {
    let Some(app) = served.app() else {
        let mut gone = Response::new(Body::empty());
        *gone.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        return Ok(gone);
    };
    let presented = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let tenant = presented.and_then(|v| v.strip_prefix("Bearer ")).and_then(|token| passes.tenant(token));
    let Some(tenant) = tenant else {
        let m = "only commands of stages come in here, with the token that they are given and as long as they run";
        return Ok(errors::answer(&app, Surface::Native, Error::new(Code::InvalidKey, m)));
    };
    let behalf = Behalf::of(tenant, None, Priority::Normal, app.request_id());
    let router: Router = mlflow::routes().fallback(models::unknown).with_state(app);
    inside::on_behalf(behalf, TowerToHyperService::new(router).call(request.map(Body::new))).await
}
