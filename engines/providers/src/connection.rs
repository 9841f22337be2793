//! HTTP/1 connections without a task of their own, and the pool of those that are idle.
//!
//! A gateway holds one upstream connection for each stream it gives, so what one costs is what a stream costs. Whoever
//! waits for the answer or reads its body reads the socket: no task, no wake-up between two of them for each piece, and
//! no buffer for each connection, since what a read brings is decoded before the next. Dropping the reader closes the
//! connection. An idle connection is polled by nobody; whether the server has closed it is looked at before it is used
//! again.
//!
//! Invariants: a connection is in the pool only after its answer was read to the end and nothing stood behind it; it
//! never waits without a waker.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::http1::{self, Framing, Head, Malformed};

/// What one read takes at most.
const READ_BYTES: usize = 16 << 10;
/// Idle connections of one endpoint.
const MOST_IDLE: usize = 64;
/// An idle connection is not used again after this long.
const IDLE_FOR: Duration = Duration::from_secs(90);

/// What bytes come over.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

thread_local! {
    /// What reads fill, for all connections of a thread.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Reads once and hands over what came; nothing came at the connection's end.
fn poll_read<T>(
    io: &mut dyn Transport,
    cx: &mut Context<'_>,
    on: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; READ_BYTES].into());
    let mut buf = ReadBuf::new(&mut scratch);
    let read = Pin::new(io).poll_read(cx, &mut buf);
    let result = match read {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(on(buf.filled()))),
        Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
        Poll::Pending => Poll::Pending,
    };
    SCRATCH.set(Some(scratch));
    result
}

fn malformed(e: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

/// A request on its way: its head, and its body.
pub(crate) struct Outgoing {
    head: Bytes,
    body: Bytes,
}

impl Outgoing {
    /// A `POST` of `body`; `head` ends behind its last header.
    pub(crate) fn new(mut head: Vec<u8>, body: Bytes) -> Self {
        head.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        Outgoing { head: head.into(), body }
    }

    fn is_sent(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn advance(&mut self, n: usize) {
        let head = n.min(self.head.len());
        self.head.advance(head);
        self.body.advance(n - head);
    }
}

/// Why a request has no answer.
pub(crate) enum SendError {
    /// Nothing of the request was taken: the server had closed the connection.
    Unsent,
    /// The connection ended without a byte: the server may have closed it while the request was on its way.
    Silent,
    /// The connection broke.
    Broke,
    /// What came is no answer.
    Nonsense(Malformed),
}

/// A connection that its user drives.
pub(crate) struct Connection(Box<dyn Transport>);

impl Connection {
    /// To a host, by name or address.
    pub(crate) async fn tcp(host: &str, port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(Box::new(stream)))
    }

    /// To a worker's socket.
    pub(crate) async fn unix(path: &Path) -> io::Result<Connection> {
        Ok(Connection(Box::new(UnixStream::connect(path).await?)))
    }

    /// Whether another request can be sent: the server has neither closed it nor said anything unasked.
    fn is_ready(&mut self) -> bool {
        // Outside of the task's budget: without any left, every socket seems to have nothing to say.
        let look = poll_fn(|cx| poll_read(&mut *self.0, cx, |_| ()));
        let look = pin!(tokio::task::unconstrained(look));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Writes as much of a request as the transport takes. False when it takes no more for ever.
    fn write(&mut self, cx: &mut Context<'_>, request: &mut Outgoing) -> bool {
        while !request.is_sent() {
            let parts = [io::IoSlice::new(&request.head), io::IoSlice::new(&request.body)];
            match Pin::new(&mut *self.0).poll_write_vectored(cx, &parts) {
                Poll::Ready(Ok(n)) if n > 0 => request.advance(n),
                Poll::Ready(_) => return false,
                Poll::Pending => break,
            }
        }
        true
    }

    /// Sends a request and resolves with the head of its answer. A server may answer before it has read everything: what
    /// it has not taken by then is written while its answer is read.
    pub(crate) async fn send(mut self, mut request: Outgoing) -> Result<(Head, Reply), SendError> {
        let (length, mut takes) = (request.len(), true);
        let mut came = Vec::new();
        let (head, rest) = poll_fn(|cx| {
            takes = takes && self.write(cx, &mut request);
            if !takes && request.len() == length {
                return Poll::Ready(Err(SendError::Unsent));
            }
            loop {
                let look = |bytes: &[u8]| (!bytes.is_empty()).then(|| found(&mut came, bytes));
                match ready!(poll_read(&mut *self.0, cx, look)) {
                    Ok(Some(Ok(Some(found)))) => return Poll::Ready(Ok(found)),
                    Ok(Some(Ok(None))) => {}
                    Ok(Some(Err(e))) => return Poll::Ready(Err(SendError::Nonsense(e))),
                    Ok(None) | Err(_) if came.is_empty() => return Poll::Ready(Err(SendError::Silent)),
                    Ok(None) | Err(_) => return Poll::Ready(Err(SendError::Broke)),
                }
            }
        })
        .await?;
        let (keep_alive, framing) = (head.keep_alive && takes, head.framing);
        let unsent = Some(request).filter(|r| takes && !r.is_sent());
        Ok((head, Reply { connection: Some(self), framing, rest, unsent, keep_alive, home: None }))
    }
}

/// Looks for a head in what has just come behind what came before: it and what stands behind it.
fn found(came: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, Malformed> {
    // Nearly always all of it comes at once.
    if came.is_empty()
        && let Some((head, n)) = http1::head(bytes)?
    {
        return Ok(Some((head, bytes.get(n..).unwrap_or_default().to_vec())));
    }
    came.extend_from_slice(bytes);
    // A head ends with a line.
    if !bytes.contains(&b'\n') && came.len() <= http1::HEAD_LIMIT {
        return Ok(None);
    }
    Ok(http1::head(came)?.map(|(head, n)| (head, came.split_off(n))))
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
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        Connection::tcp(&self.host, self.port).await
    }

    fn put(&self, connection: Connection) {
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

/// The body of an answer, which reads the connection it comes over.
pub(crate) struct Reply {
    /// `None` once the body has ended.
    connection: Option<Connection>,
    framing: Framing,
    /// What came with the head.
    rest: Vec<u8>,
    /// What the server has not taken of the request.
    unsent: Option<Outgoing>,
    keep_alive: bool,
    /// Where the connection goes when the body was read to its end.
    home: Option<Arc<Pool>>,
}

impl Reply {
    /// A body that has ended.
    pub(crate) fn nothing() -> Self {
        let framing = Framing::Length(0);
        Reply { connection: None, framing, rest: Vec::new(), unsent: None, keep_alive: false, home: None }
    }

    /// The same body, whose connection is kept for others.
    pub(crate) fn kept_by(mut self, home: &Arc<Pool>) -> Self {
        self.home = Some(home.clone());
        self
    }

    /// Whether its connection would be kept at its end.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep_alive && self.home.is_some() && self.connection.is_some()
    }

    /// Hands over the next of its bytes, in one piece or in several. False at its end; after an error there is nothing
    /// more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, mut on: impl FnMut(&[u8])) -> Poll<io::Result<bool>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(false)) };
            if self.framing.is_complete() {
                self.ended();
                return Poll::Ready(Ok(false));
            }
            if let Some(request) = &mut self.unsent {
                let takes = connection.write(cx, request);
                self.keep_alive &= takes;
                self.unsent.take_if(|request| !takes || request.is_sent());
            }
            let (framing, keep_alive) = (&mut self.framing, &mut self.keep_alive);
            let mut any = false;
            let mut take = |bytes: &[u8]| {
                let taken = framing.take(bytes, |data| {
                    any = true;
                    on(data);
                });
                // What stands behind the end was not asked for: nothing on this connection can be trusted.
                *keep_alive &= taken.as_ref().is_ok_and(|n| *n == bytes.len());
                taken
            };
            let took = if self.rest.is_empty() {
                ready!(poll_read(&mut *connection.0, cx, |b| (!b.is_empty()).then(|| take(b))))
            } else {
                Ok(Some(take(&std::mem::take(&mut self.rest))))
            };
            let failed = match took {
                Ok(Some(Ok(_))) if any => return Poll::Ready(Ok(true)),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(e))) => Some(malformed(e)),
                Ok(None) if framing.may_end() => None,
                Ok(None) => Some(io::ErrorKind::UnexpectedEof.into()),
                Err(e) => Some(e),
            };
            self.connection = None;
            return Poll::Ready(failed.map_or(Ok(false), Err));
        }
    }

    fn ended(&mut self) {
        let again = self.keep_alive && self.rest.is_empty() && self.unsent.is_none();
        let connection = self.connection.take().filter(|_| again);
        if let (Some(connection), Some(pool)) = (connection, self.home.take()) {
            pool.put(connection);
        }
    }
}
