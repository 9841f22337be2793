//! The HTTP side that all providers share: pooled connections over TCP and TLS, single ones over a Unix socket.
//!
//! Dropping a response, or the future that waits for it, closes its connection (HTTP/1) or resets its stream
//! (HTTP/2): the upstream learns at once. Timeouts other than connecting belong to the caller.

use std::path::PathBuf;
use std::pin::Pin;
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
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use llm::codec::{Decoder, Deltas, error};
use llm::{Attempt, Delta, DeltaStream};
use pipeline::task::{self, Task};

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
        socket: Option<&PathBuf>,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Option<Task<()>>), contract::Error> {
        let Some(path) = socket else {
            return self.pool.request(request).await.map(|r| (r, None)).map_err(|e| {
                unreachable(if e.is_connect() {
                    "the provider cannot be reached"
                } else {
                    "the connection broke"
                })
            });
        };
        let connecting = tokio::time::timeout(self.connect, tokio::net::UnixStream::connect(path));
        let Ok(Ok(stream)) = connecting.await else {
            return Err(unreachable("the worker's socket cannot be reached"));
        };
        let broke = |_: hyper::Error| unreachable("the connection to the worker broke");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let driver = task::spawn("worker connection", async move {
            // Its failure shows in the response or in the body.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(broke)?;
        Ok((response, Some(driver)))
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
        let mut request = Request::post(target.uri.clone())
            .body(Full::new(body))
            .map_err(|_| contract::Error::new(Code::Internal, "the provider's address makes no request"))?;
        request.headers_mut().clone_from(&target.headers);
        if let Some(trace) = attempt.trace
            && let Ok(value) = http::HeaderValue::try_from(trace.to_string())
        {
            request.headers_mut().insert("traceparent", value);
        }
        let (response, driver) = self.send(target.socket.as_ref(), request).await?;
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
                let _driver = driver;
                let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| cut());
                let deltas = body.and_then(|b| whole(&b.to_bytes()));
                stream::iter(deltas.unwrap_or_else(|e| Deltas::from([Err(e)])))
            };
            return Ok(Box::pin(stream::once(read).flatten()));
        }
        Ok(Box::pin(Answer { body, decoder, out: Deltas::new(), ended: false, _driver: driver }))
    }
}

/// Where an endpoint's requests go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    uri: Uri,
    headers: HeaderMap,
    socket: Option<PathBuf>,
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
        // Over a socket of our own the request line names the path alone, as HTTP/1 wants it.
        let uri = match &settings.unix_socket {
            Some(_) => uri.path().parse().map_err(|_| Error::Url(settings.base_url.clone()))?,
            None => uri,
        };
        if settings.unix_socket.is_none() {
            // The pool writes it itself, and HTTP/2 has none.
            headers.remove("host");
        }
        Ok(Target { uri, headers, socket: settings.unix_socket.clone() })
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
    body: Incoming,
    decoder: Box<dyn Decoder>,
    out: Deltas,
    ended: bool,
    /// Ends the connection with the answer, when it is not pooled.
    _driver: Option<Task<()>>,
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
