//! A call from within the process: the same routes without a socket. `forebay run` asks a project this way that no
//! server serves, so that both give the same answer; a job asks this way what its caller asked when it was submitted.
//! Dropping the response, or the future, is a caller that leaves.

use std::sync::{Arc, OnceLock};

use admission::Priority;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use contract::{KeyId, Meter, RequestId, TenantId};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;

use crate::app::App;
use crate::router::router;

/// Answers a request. It has no peer: what is only for callers on this machine is refused.
pub async fn call(app: &App, request: http::Request<Bytes>) -> Response {
    through(router(app.clone()), request).await
}

async fn through(router: Router, request: http::Request<Bytes>) -> Response {
    let service = TowerToHyperService::new(router);
    match service.call(request.map(Body::from)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// On whose behalf a call is made.
///
/// It is not part of the request, where a header could claim it: the task that makes the call has it, and whoever serves the
/// call asks for it. A live call has none.
#[derive(Debug, Clone)]
pub(crate) struct Behalf {
    tenant: TenantId,
    key: Option<KeyId>,
    priority: Priority,
    /// It was tried before.
    again: bool,
    /// The id of the first request that is admitted.
    id: Arc<Mutex<Option<RequestId>>>,
    /// What that request uses, from its admission on.
    meter: Arc<OnceLock<Arc<Meter>>>,
}

impl Behalf {
    /// Of that tenant and key, in that class of every model's queue, under that id.
    pub(crate) fn of(tenant: TenantId, key: Option<KeyId>, priority: Priority, id: RequestId) -> Self {
        let id = Arc::new(Mutex::new(Some(id)));
        Behalf { tenant, key, priority, again: false, id, meter: Arc::default() }
    }

    /// The same, tried before: its calls come out of the budget of retries.
    pub(crate) fn again(self, again: bool) -> Self {
        Behalf { again, ..self }
    }

    /// What the call uses, once it was admitted.
    pub(crate) fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.get()
    }
}

tokio::task_local! {
    static BEHALF: Behalf;
}

/// Answers a request on somebody's behalf, down to the last byte: the body that comes back waits for nothing.
pub(crate) async fn call_for(
    behalf: Behalf,
    router: Router,
    request: http::Request<Bytes>,
) -> http::Response<Bytes> {
    let whole = async {
        let (head, body) = through(router, request).await.into_parts();
        match axum::body::to_bytes(body, usize::MAX).await {
            Ok(body) => http::Response::from_parts(head, body),
            // Half an answer is none.
            Err(_) => {
                let mut broken = http::Response::new(Bytes::new());
                *broken.status_mut() = http::StatusCode::BAD_GATEWAY;
                broken
            }
        }
    };
    BEHALF.scope(behalf, whole).await
}

/// Does something on somebody's behalf.
pub(crate) async fn on_behalf<T>(behalf: Behalf, work: impl Future<Output = T>) -> T {
    BEHALF.scope(behalf, work).await
}

/// On whose behalf this task calls, if it does.
pub(crate) fn who() -> Option<(TenantId, Option<KeyId>)> {
    BEHALF.try_with(|b| (b.tenant.clone(), b.key.clone())).ok()
}

/// Whether this task calls on somebody's behalf.
pub(crate) fn is_behalf() -> bool {
    BEHALF.try_with(|_| ()).is_ok()
}

/// The class in which this task's calls wait, if it is not their tenant's.
pub(crate) fn priority() -> Option<Priority> {
    BEHALF.try_with(|b| b.priority).ok()
}

/// Whether this task does again what was tried before.
pub(crate) fn is_again() -> bool {
    BEHALF.try_with(|b| b.again).unwrap_or(false)
}

/// The id that this task's request is to have, if it is not a fresh one. It is given once.
pub(crate) fn take_id() -> Option<RequestId> {
    BEHALF.try_with(|b| b.id.lock().take()).ok().flatten()
}

/// Shows what a request of this task uses.
pub(crate) fn show(meter: &Arc<Meter>) {
    let _ = BEHALF.try_with(|b| b.meter.set(meter.clone()));
}
