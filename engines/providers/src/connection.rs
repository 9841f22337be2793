//! HTTP/1 connections without a task of their own, and the pool of those that are idle.
//!
//! hyper's connection is a future that somebody has to poll. Here that is whoever waits for the response or reads its
//! body: no wake-up between two tasks for each piece of an answer, and dropping the reader closes the connection. An
//! idle connection is polled by nobody; whether the server has closed it is looked at before it is used again.
//!
//! Invariants: a connection is in the pool only after its answer was read to the end; it never waits without a waker.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What one read takes. Events are a few hundred bytes, and every stream holds such a buffer.
const READ_BYTES: usize = 4 << 10;
/// Idle connections of one endpoint.
const MOST_IDLE: usize = 64;
/// An idle connection is not used again after this long.
const IDLE_FOR: Duration = Duration::from_secs(90);

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection that its user drives.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Driver>,
}

impl Connection {
    /// Over a transport that stands.
    pub(crate) async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        let (sender, driver) =
            http1::Builder::new().read_buf_exact_size(Some(READ_BYTES)).handshake(TokioIo::new(io)).await?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)) })
    }

    /// Moves bytes in both directions as far as the transport lets it.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // How it ended shows in the response or in the body.
        if self.driver.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
            self.driver = None;
        }
    }

    /// Whether another request can be sent.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and resolves with the head of its response.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let Connection { sender, driver } = self;
        let mut response = pin!(sender.send_request(request));
        poll_fn(|cx| {
            if driver.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
                *driver = None;
            }
            // Only the driver can complete it, so it needs no waker; without a driver it is complete.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }
}

/// The idle connections of one endpoint.
pub(crate) struct Pool {
    host: String,
    port: u16,
    idle: Mutex<VecDeque<(Connection, Instant)>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Pool {
    /// Of a host by name or address, an IPv6 address without brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Pool { host: host.to_owned(), port, idle: Mutex::default() }
    }

    /// An idle connection that still stands.
    pub(crate) fn idle(&self) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.lock().pop_back()?;
            if since.elapsed() < IDLE_FOR && connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Connection::over(stream).await.map_err(std::io::Error::other)
    }

    fn put(&self, mut connection: Connection) {
        if !connection.is_ready() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.lock();
        while idle.len() >= MOST_IDLE || idle.front().is_some_and(|(_, since)| *since + IDLE_FOR < now) {
            idle.pop_front();
        }
        idle.push_back((connection, now));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response, which drives the connection it comes over.
pub(crate) struct Reply {
    body: Incoming,
    /// `None` for a body that hyper's own pool drives, and once the body has ended.
    connection: Option<Connection>,
    /// Where the connection goes when the body was read to its end.
    home: Option<Arc<Pool>>,
}

impl Reply {
    /// A body that something else drives.
    pub(crate) fn driven(body: Incoming) -> Self {
        Reply { body, connection: None, home: None }
    }

    /// A body that comes over `connection`.
    pub(crate) fn over(connection: Connection, home: Option<Arc<Pool>>, body: Incoming) -> Self {
        Reply { body, connection: Some(connection), home }
    }

    fn ended(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.home.take()) {
            pool.put(connection);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if this.connection.is_none() {
            return Pin::new(&mut this.body).poll_frame(cx);
        }
        // What was read before comes first; then the transport is asked, with the waker of whoever reads.
        let mut quiet = Context::from_waker(Waker::noop());
        let mut polled = Pin::new(&mut this.body).poll_frame(&mut quiet);
        if polled.is_pending()
            && let Some(connection) = &mut this.connection
        {
            connection.drive(cx);
            polled = Pin::new(&mut this.body).poll_frame(&mut quiet);
        }
        match &polled {
            Poll::Ready(None) => this.ended(),
            Poll::Ready(Some(Err(_))) => this.connection = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
