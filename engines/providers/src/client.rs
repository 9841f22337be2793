//! The HTTP side that all providers share: pooled connections over TCP and TLS, single ones over a Unix socket. The
//! plain ones are [`crate::connection`]'s, which cost less; those with TLS are hyper's.
//!
//! Dropping a response, or the future that waits for it, closes its connection (HTTP/1) or resets its stream
//! (HTTP/2): the upstream learns at once. Timeouts other than connecting belong to the caller.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::{Code, RetryHint};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use llm::codec::{Decoder, Deltas, error};
use llm::{Attempt, Delta, DeltaStream};

use crate::connection::{Connection, Pool, Reply};
use crate::{EndpointSettings, Error};

/// The body of an error is read up to here.
const ERROR_LIMIT: usize = 64 << 10;
/// An answer that is not streamed is read up to here.
const BODY_LIMIT: usize = 32 << 20;

/// Connections to providers. Cheap to clone; clones share one pool.
#[derive(Debug, Clone)]
pub struct Client {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    connect: Duration,
}

impl Client {
    /// A pool whose connections must stand within `connect`; idle ones are kept for 90 s, 64 a host.
    pub fn new(connect: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(64)
            .build(tls);
        Client { pool, connect }
    }

    async fn send(
        &self,
        target: &Target,
        trace: Option<&http::HeaderValue>,
        body: Bytes,
    ) -> Result<Response<Reply>, contract::Error> {
        let request = || {
            let mut request =
                Request::post(target.uri.clone()).body(Full::new(body.clone())).map_err(|_| {
                    contract::Error::new(Code::Internal, "the provider's address makes no request")
                })?;
            request.headers_mut().clone_from(&target.headers);
            if let Some(trace) = trace {
                request.headers_mut().insert("traceparent", trace.clone());
            }
            Ok(request)
        };
        let broke = |_: hyper::Error| unreachable("the connection broke");
        let over = |connection, home, response: Response<Incoming>| {
            response.map(|body| Reply::over(connection, home, body))
        };
        match &target.route {
            Route::Pooled => self.pool.request(request()?).await.map(|r| r.map(Reply::driven)).map_err(|e| {
                unreachable(if e.is_connect() {
                    "the provider cannot be reached"
                } else {
                    "the connection broke"
                })
            }),
            Route::Plain(pool) => {
                while let Some(mut connection) = pool.idle() {
                    match connection.send(request()?).await {
                        Ok(response) => return Ok(over(connection, Some(pool.clone()), response)),
                        // Nothing of the request was sent: the server had closed the idle connection.
                        Err(e) if e.is_canceled() => {}
                        Err(e) => return Err(broke(e)),
                    }
                }
                let connecting = tokio::time::timeout(self.connect, pool.connect());
                let Ok(Ok(mut connection)) = connecting.await else {
                    return Err(unreachable("the provider cannot be reached"));
                };
                let response = connection.send(request()?).await.map_err(broke)?;
                Ok(over(connection, Some(pool.clone()), response))
            }
            Route::Unix(path) => {
                let connecting = tokio::time::timeout(self.connect, tokio::net::UnixStream::connect(path));
                let Ok(Ok(stream)) = connecting.await else {
                    return Err(unreachable("the worker's socket cannot be reached"));
                };
                let broke = |_: hyper::Error| unreachable("the connection to the worker broke");
                let mut connection = Connection::over(stream).await.map_err(broke)?;
                let response = connection.send(request()?).await.map_err(broke)?;
                Ok(over(connection, None, response))
            }
        }
    }

    /// Sends a request and turns the answer into deltas; an error status into an error.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        attempt: &Attempt,
        body: Bytes,
        decoder: Box<dyn Decoder>,
        whole: fn(&[u8]) -> Result<Deltas, contract::Error>,
    ) -> Result<DeltaStream, contract::Error> {
        let trace = attempt.trace.and_then(|t| http::HeaderValue::try_from(t.to_string()).ok());
        let response = self.send(target, trace.as_ref(), body).await?;
        let (head, body) = response.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        if !head.status.is_success() {
            // Without a readable body the status alone decides.
            let body = Limited::new(body, ERROR_LIMIT).collect().await;
            let body = body.map(|b| b.to_bytes()).unwrap_or_default();
            let seconds =
                header("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms / 1000.0);
            let after = seconds.map(|s| s.to_string());
            let after = after.as_deref().or_else(|| header("retry-after"));
            return Err(error::from_response(head.status.as_u16(), after, &body));
        }
        if header("content-type").is_some_and(|t| t.starts_with("application/json")) {
            // Read by whoever reads the answer: from here on the provider has taken the request.
            let read = async move {
                let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| cut());
                let deltas = body.and_then(|b| whole(&b.to_bytes()));
                stream::iter(deltas.unwrap_or_else(|e| Deltas::from([Err(e)])))
            };
            return Ok(Box::pin(stream::once(read).flatten()));
        }
        Ok(Box::pin(Answer { body, decoder, out: Deltas::new(), ended: false }))
    }
}

/// Where an endpoint's requests go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    uri: Uri,
    headers: HeaderMap,
    route: Route,
}

/// How an endpoint is reached.
#[derive(Debug, Clone)]
enum Route {
    /// TLS, HTTP/1 or 2: hyper's own pool.
    Pooled,
    /// HTTP/1 over plain TCP.
    Plain(Arc<Pool>),
    /// HTTP/1 over a socket of a worker, a connection for each request.
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn new(
        settings: &EndpointSettings,
        path: &str,
        own: &[(&str, String)],
    ) -> Result<Self, Error> {
        let base = settings.base_url.trim_end_matches('/');
        let url = format!("{base}{path}");
        let uri: Uri = url.parse().map_err(|_| Error::Url(settings.base_url.clone()))?;
        let Some(host) = uri.authority().map(|a| a.as_str().to_owned()).filter(|_| uri.scheme().is_some())
        else {
            return Err(Error::Url(settings.base_url.clone()));
        };
        let mut headers = HeaderMap::new();
        let json = ("content-type".to_owned(), "application/json".to_owned());
        let own = own.iter().map(|(n, v)| ((*n).to_owned(), v.clone()));
        for (name, value) in
            own.chain(settings.headers.iter().cloned()).chain([json, ("host".to_owned(), host)])
        {
            let bad = || Error::Header(name.clone());
            let key = http::HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            let mut value = http::HeaderValue::try_from(value).map_err(|_| bad())?;
            value.set_sensitive(matches!(key.as_str(), "authorization" | "x-api-key" | "api-key"));
            headers.insert(key, value);
        }
        let route = match (&settings.unix_socket, uri.scheme_str()) {
            (Some(path), _) => Route::Unix(path.clone()),
            (None, Some("http")) => {
                let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                Route::Plain(Arc::new(Pool::new(host, uri.port_u16().unwrap_or(80))))
            }
            (None, _) => Route::Pooled,
        };
        // On a connection of ours the request line names the path alone, as HTTP/1 wants it.
        let uri = match (&route, uri.path_and_query()) {
            (Route::Plain(_) | Route::Unix(_), Some(path)) => Uri::from(path.clone()),
            _ => uri,
        };
        if matches!(route, Route::Pooled) {
            // The pool writes it itself, and HTTP/2 has none.
            headers.remove("host");
        }
        Ok(Target { uri, headers, route })
    }
}

fn unreachable(message: &str) -> contract::Error {
    contract::Error::new(Code::UpstreamUnreachable, message).retry(RetryHint::Elsewhere)
}

fn cut() -> contract::Error {
    contract::Error::new(Code::UpstreamTruncated, "the provider's connection broke in mid-answer")
        .retry(RetryHint::Elsewhere)
}

/// A streamed answer: frames of the body through the decoder.
struct Answer {
    body: Reply,
    decoder: Box<dyn Decoder>,
    out: Deltas,
    ended: bool,
}

impl futures_core::Stream for Answer {
    type Item = Result<Delta, contract::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(delta) = this.out.pop_front() {
                return Poll::Ready(Some(delta));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        this.decoder.feed(bytes, &mut this.out);
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    this.ended = true;
                    if !this.decoder.done() {
                        this.out.push_back(Err(cut()));
                    }
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    this.decoder.end(&mut this.out);
                }
                // The last event was read: a body that stays open is not waited for.
                Poll::Pending if this.decoder.done() => this.ended = true,
                Poll::Pending => return Poll::Pending,
            }
            if this.ended && this.decoder.skipped() > 0 {
                tracing::warn!(skipped = this.decoder.skipped(), "the provider sent malformed events");
            }
        }
    }
}
