//! The HTTP side that all providers share: pooled connections over TCP and TLS, single ones over a Unix socket. The
//! plain ones are [`crate::connection`]'s, which cost less; those with TLS are hyper's.
//!
//! Dropping a response, or the future that waits for it, closes its connection (HTTP/1) or resets its stream
//! (HTTP/2): the upstream learns at once. Timeouts other than connecting belong to the caller.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use contract::{Code, RetryHint};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use llm::codec::{Decoder, Deltas, error};
use llm::{Attempt, Delta, DeltaStream};
use pipeline::task;

use crate::connection::{Connection, Outgoing, Pool, Reply, SendError};
use crate::http1::Head;
use crate::{EndpointSettings, Error};

/// The body of an error is read up to here.
const ERROR_LIMIT: usize = 64 << 10;
/// An answer that is not streamed is read up to here.
const BODY_LIMIT: usize = 32 << 20;

/// How long the end of an answer may come behind its last event.
const END: Duration = Duration::from_millis(500);

/// Connections to providers. Cheap to clone; clones share one pool.
#[derive(Debug, Clone)]
pub struct Client {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    connect: Duration,
}

impl Client {
    /// A pool whose connections must stand within `connect`; idle ones are used again for 90 s, 64 a host.
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
        trace: Option<http::HeaderValue>,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Body), contract::Error> {
        let broke = || unreachable("the connection broke");
        let failed = |e| match e {
            SendError::Nonsense(e) => nonsense(&e.to_string()),
            SendError::Unsent | SendError::Silent | SendError::Broke => broke(),
        };
        let own = |(head, reply): (Head, Reply)| (head.status, head.headers, Body::Own(reply));
        match &target.route {
            Route::Pooled => {
                let mut request = Request::post(target.uri.clone()).body(Full::new(body)).map_err(|_| {
                    contract::Error::new(Code::Internal, "the provider's address makes no request")
                })?;
                request.headers_mut().clone_from(&target.headers);
                if let Some(trace) = trace {
                    request.headers_mut().insert("traceparent", trace);
                }
                let (head, body) =
                    self.pool.request(request).await.map(Response::into_parts).map_err(|e| {
                        if e.is_connect() { unreachable("the provider cannot be reached") } else { broke() }
                    })?;
                Ok((head.status, head.headers, Body::Driven(body)))
            }
            Route::Plain(pool) => {
                while let Some(connection) = pool.idle() {
                    match connection.send(target.outgoing(trace.as_ref(), body.clone())).await {
                        Ok((head, reply)) => return Ok(own((head, reply.kept_by(pool)))),
                        // The server had closed the idle connection.
                        Err(SendError::Unsent) => {}
                        // It closed it at that moment. A new one is not stale.
                        Err(SendError::Silent) => break,
                        Err(e) => return Err(failed(e)),
                    }
                }
                let connecting = tokio::time::timeout(self.connect, pool.connect());
                let Ok(Ok(connection)) = connecting.await else {
                    return Err(unreachable("the provider cannot be reached"));
                };
                let sent = connection.send(target.outgoing(trace.as_ref(), body)).await;
                let (head, reply) = sent.map_err(failed)?;
                Ok(own((head, reply.kept_by(pool))))
            }
            Route::Unix(path) => {
                let connecting = tokio::time::timeout(self.connect, Connection::unix(path));
                let Ok(Ok(connection)) = connecting.await else {
                    return Err(unreachable("the worker's socket cannot be reached"));
                };
                let sent = connection.send(target.outgoing(trace.as_ref(), body)).await;
                sent.map(own).map_err(|_| unreachable("the connection to the worker broke"))
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
        let (status, headers, body) = self.send(target, trace, body).await?;
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if !status.is_success() {
            // Without a readable body the status alone decides.
            let body = body.whole(ERROR_LIMIT).await.unwrap_or_default();
            let seconds =
                header("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms / 1000.0);
            let after = seconds.map(|s| s.to_string());
            let after = after.as_deref().or_else(|| header("retry-after"));
            return Err(error::from_response(status.as_u16(), after, &body));
        }
        if let Some(coding) = header("content-encoding").filter(|c| !c.eq_ignore_ascii_case("identity")) {
            return Err(nonsense(&format!("it is coded as `{coding:.40}`, which nobody asked for")));
        }
        if header("content-type").is_some_and(|t| t.starts_with("text/html")) {
            return Err(nonsense("it is a web page"));
        }
        if header("content-type").is_some_and(|t| t.starts_with("application/json")) {
            // Read by whoever reads the answer: from here on the provider has taken the request.
            let read = async move {
                let deltas = body.whole(BODY_LIMIT).await.map_err(|_| cut()).and_then(|b| whole(&b));
                stream::iter(deltas.unwrap_or_else(|e| Deltas::from([Err(e)])))
            };
            return Ok(Box::pin(stream::once(read).flatten()));
        }
        Ok(Box::pin(Answer { body, decoder, out: Deltas::new(), ended: false }))
    }
}

/// The body of an answer.
enum Body {
    /// Over a connection of ours.
    Own(Reply),
    /// Over one that hyper's pool drives.
    Driven(Incoming),
}

impl Body {
    /// See [`Reply::poll`].
    fn poll(&mut self, cx: &mut Context<'_>, mut on: impl FnMut(&[u8])) -> Poll<Result<bool, ()>> {
        match self {
            Body::Own(reply) => reply.poll(cx, on).map_err(|_| ()),
            Body::Driven(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(bytes) = frame.data_ref()
                {
                    on(bytes);
                }
                Poll::Ready(frame.transpose().map(|f| f.is_some()).map_err(|_| ()))
            }
        }
    }

    /// Reads to the end of a body of which nothing matters any more, so that its connection serves others: the end of the
    /// chunks often comes a moment behind the last of them.
    fn end_aside(&mut self) {
        let Body::Own(reply) = self else { return };
        if !reply.is_kept() {
            return;
        }
        let mut reply = std::mem::replace(reply, Reply::nothing());
        let end = async move { while matches!(poll_fn(|cx| reply.poll(cx, |_| ())).await, Ok(true)) {} };
        let end = async { tokio::time::timeout(END, end).await };
        task::spawn("end of an answer", end).detach();
    }

    /// All of it; an error when it is longer than `limit` bytes or breaks.
    async fn whole(mut self, limit: usize) -> Result<Vec<u8>, ()> {
        let mut all = Vec::new();
        while poll_fn(|cx| self.poll(cx, |bytes| all.extend_from_slice(bytes))).await? {
            if all.len() > limit {
                return Err(());
            }
        }
        Ok(all)
    }
}

/// Where an endpoint's requests go.
#[derive(Clone)]
pub(crate) struct Target {
    uri: Uri,
    headers: HeaderMap,
    /// The head of every request, where it is ours to write.
    head: Vec<u8>,
    route: Route,
}

impl std::fmt::Debug for Target {
    /// Without the heads, which hold the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("uri", &self.uri).field("route", &self.route).finish_non_exhaustive()
    }
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
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut head = format!("POST {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        // The pool writes it itself, and HTTP/2 has none.
        headers.remove("host");
        Ok(Target { uri, headers, head, route })
    }

    /// A request over a connection of ours.
    fn outgoing(&self, trace: Option<&http::HeaderValue>, body: Bytes) -> Outgoing {
        let mut head = Vec::with_capacity(self.head.len() + 128);
        head.extend_from_slice(&self.head);
        if let Some(trace) = trace {
            head.extend_from_slice(&[b"traceparent: ", trace.as_bytes(), b"\r\n"].concat());
        }
        Outgoing::new(head, body)
    }
}

fn unreachable(message: &str) -> contract::Error {
    contract::Error::new(Code::UpstreamUnreachable, message).retry(RetryHint::Elsewhere)
}

fn nonsense(what: &str) -> contract::Error {
    let m = format!("the provider's answer makes no sense: {what}; check its address");
    contract::Error::new(Code::UpstreamError, m).retry(RetryHint::Elsewhere)
}

fn cut() -> contract::Error {
    contract::Error::new(Code::UpstreamTruncated, "the provider's connection broke in mid-answer")
        .retry(RetryHint::Elsewhere)
}

/// A streamed answer: pieces of the body through the decoder.
struct Answer {
    body: Body,
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
            let Answer { body, decoder, out, .. } = this;
            match body.poll(cx, |bytes| decoder.feed(bytes, out)) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    this.ended = true;
                    this.decoder.end(&mut this.out);
                }
                Poll::Ready(Err(())) => {
                    this.ended = true;
                    if !this.decoder.done() {
                        this.out.push_back(Err(cut()));
                    }
                }
                // The last event was read: a body that stays open is not waited for.
                Poll::Pending if this.decoder.done() => {
                    this.ended = true;
                    this.body.end_aside();
                }
                Poll::Pending => return Poll::Pending,
            }
            if this.ended && this.decoder.skipped() > 0 {
                tracing::warn!(skipped = this.decoder.skipped(), "the provider sent malformed events");
            }
        }
    }
}
