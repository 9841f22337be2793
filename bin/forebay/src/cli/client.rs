//! The command line's HTTP client: plain or TLS, no redirect is followed here, the body is streamed.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::Error;

/// Why a body broke.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body from wherever.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Connections, TLS ones included.
#[derive(Debug, Clone)]
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client whose connections must stand within ten seconds.
    pub(super) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_all_versions();
        let tls = builder.wrap_connector(tcp);
        Client(legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(tls))
    }

    /// Sends a request whose URI is absolute, for who tells failures apart.
    pub(super) async fn request(&self, request: Request<Bytes>) -> Result<Response<Body>, legacy::Error> {
        let response = self.0.request(request.map(Full::new)).await?;
        Ok(response.map(|b| b.map_err(Into::into).boxed_unsync()))
    }

    /// Sends a request whose URI is absolute.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        // User information in an address is a secret.
        let host = host.rsplit('@').next().unwrap_or_default().to_owned();
        match self.request(request).await {
            Ok(response) => Ok(response),
            Err(e) => {
                let mut why = e.to_string();
                let mut cause = std::error::Error::source(&e);
                while let Some(next) = cause {
                    why = next.to_string();
                    cause = next.source();
                }
                let help = if e.is_connect() {
                    "check the address, and that the server runs and can be reached from here"
                } else {
                    "the connection broke: see the server's log, then try again"
                };
                Err(Error::new(format!("cannot reach {host}: {why}"), help))
            }
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Error> {
    let limited = http_body_util::Limited::new(body, limit).collect().await;
    limited.map(|b| b.to_bytes()).map_err(|e| {
        Error::new(format!("the answer cannot be read: {e}"), "see the server's log, then try again")
    })
}
