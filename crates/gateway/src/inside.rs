//! A call from within the process: the same routes without a socket. `forebay run` asks a project this way that no
//! server serves, so that both give the same answer. Dropping the response, or the future, is a caller that leaves.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use crate::app::App;
use crate::router::router;

/// Answers a request. It has no peer: what is only for callers on this machine is refused.
pub async fn call(app: &App, request: http::Request<Bytes>) -> Response {
    let service = TowerToHyperService::new(router(app.clone()));
    match service.call(request.map(Body::from)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
