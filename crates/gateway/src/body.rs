//! The body of a streamed answer. It is polled by the connection, and that drives the answer itself: when the caller
//! does not read, nothing is polled and nothing is read from upstream; when the caller leaves, hyper drops the body and
//! with it every model call.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::{Error, Tick};
use futures_core::Stream;
use http_body::Frame;

use crate::readers::{Held, Readers, Watched};
use crate::request::Request;
use crate::turn;

/// How much is put together before a frame is handed to the connection.
const FRAME_BYTES: usize = 16 << 10;

/// The same response, a large body in frames: the connection copies what it is handed, and keeps that much room for as
/// long as it lives.
pub(crate) fn in_frames(response: Response) -> Response {
    let length = http_body::Body::size_hint(response.body()).exact();
    if length.is_none_or(|n| n <= FRAME_BYTES as u64) {
        return response;
    }
    response.map(|body| Body::new(InFrames { body, rest: Bytes::new() }))
}

struct InFrames {
    body: Body,
    rest: Bytes,
}

impl http_body::Body for InFrames {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let n = self.rest.len().min(FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(n)))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(
            self.rest.len() as u64 + http_body::Body::size_hint(&self.body).exact().unwrap_or(0),
        )
    }
}

/// How long a reader may be busy with its last frame when the deadline has passed.
const GRACE: Duration = Duration::from_secs(1);

/// Writes items in a surface's form.
pub(crate) trait Encode<T>: Send {
    /// Before anything else.
    fn open(&mut self, out: &mut BytesMut);
    /// The next item. Says whether it is useful output.
    fn item(&mut self, out: &mut BytesMut, item: T) -> bool;
    /// Something that keeps the connection alive: a comment, which no reader of an event stream is told of.
    fn ping(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b": ping\n\n");
    }
    /// The end: `Err` when it broke.
    fn close(&mut self, out: &mut BytesMut, end: Result<(), &Error>);
}

/// A stream of items and the form it takes.
pub(crate) struct StreamBody<S, E> {
    items: Option<S>,
    encode: E,
    /// Ends the request when the body ends; dropped before that, it settles as cancelled.
    request: Option<Request>,
    buffer: BytesMut,
    useful: bool,
    /// When the connection asked last, and whether there was nothing for it then.
    polled: Tick,
    waits: bool,
    /// The turn in which the items said last that they wait.
    told: Option<NonZeroU64>,
    ping: Pin<Box<tokio::time::Sleep>>,
    /// When the ping was put off last.
    put_off: Tick,
    /// The turn in which the ping was last asked for and not due.
    quiet: Option<NonZeroU64>,
    every: Duration,
    /// What ends a request whose items ended well, when the items know better than "complete".
    finish: fn(S, Request),
}

impl<S, E> StreamBody<S, E> {
    pub(crate) fn new<T>(
        items: S,
        mut encode: E,
        request: Request,
        every: Duration,
        finish: fn(S, Request),
    ) -> Self
    where
        E: Encode<T>,
    {
        let mut buffer = BytesMut::with_capacity(1024);
        encode.open(&mut buffer);
        let ping = Box::pin(tokio::time::sleep(every));
        let polled = request.cx.clock.now();
        StreamBody {
            items: Some(items),
            encode,
            request: Some(request),
            buffer,
            useful: false,
            polled,
            waits: false,
            told: None,
            ping,
            put_off: polled,
            quiet: None,
            every,
            finish,
        }
    }

    /// Ends the answer with an error, after whatever the caller has of it.
    fn break_off<T>(&mut self, e: &Error)
    where
        E: Encode<T>,
    {
        // What the last event says was used is known once the items are gone.
        self.items = None;
        self.encode.close(&mut self.buffer, Err(e));
        self.failed(e);
    }

    fn failed(&mut self, e: &Error) {
        // The call first: as it is dropped it records what it used, and the request settles that.
        self.items = None;
        if let Some(r) = self.request.take() {
            r.failed(e, self.useful);
        }
    }
}

impl<S, T, E> http_body::Body for StreamBody<S, E>
where
    S: Stream<Item = Result<T, Error>> + Unpin + Send,
    E: Encode<T> + Unpin,
{
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let turn = turn::current();
        let told = turn.is_some() && this.told == turn;
        let mut waits = told;
        // A caller that reads one event a minute does not outlive its deadline for it.
        let mut late = false;
        if let Some(r) = &this.request
            && !told
        {
            this.polled = r.cx.clock.now();
            late = r.cx.deadline.passed(this.polled);
        }
        this.waits = false;
        while !told
            && this.buffer.len() < FRAME_BYTES
            && let Some(items) = &mut this.items
        {
            match Pin::new(items).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) if late => {
                    this.break_off(&overdue());
                }
                Poll::Ready(Some(Ok(item))) => {
                    if this.encode.item(&mut this.buffer, item) && !this.useful {
                        this.useful = true;
                        if let Some(r) = &mut this.request {
                            r.first_output();
                        }
                    }
                }
                Poll::Ready(Some(Err(e))) => {
                    this.break_off(&e);
                }
                Poll::Ready(None) => {
                    // The ledger first, then the last event: who has seen the end finds it in the ledger.
                    if let (Some(items), Some(request)) = (this.items.take(), this.request.take()) {
                        (this.finish)(items, request);
                    }
                    this.encode.close(&mut this.buffer, Ok(()));
                }
                Poll::Pending => {
                    waits = true;
                    this.told = turn;
                    break;
                }
            }
        }
        if waits && this.buffer.is_empty() {
            // Asked in this turn already, it wakes this task when it is due.
            if turn.is_some() && this.quiet == turn || this.ping.as_mut().poll(cx).is_pending() {
                (this.waits, this.quiet) = (true, turn);
                return Poll::Pending;
            }
            this.encode.ping(&mut this.buffer);
            this.ping.as_mut().reset(tokio::time::Instant::now() + this.every);
        }
        if this.buffer.is_empty() {
            return Poll::Ready(None);
        }
        if waits {
            this.put_off_ping();
        }
        // The last events of some surfaces repeat the whole answer.
        let n = if this.buffer.len() < 2 * FRAME_BYTES { this.buffer.len() } else { FRAME_BYTES };
        Poll::Ready(Some(Ok(Frame::data(this.buffer.split_to(n).freeze()))))
    }
}

impl<S, E> StreamBody<S, E> {
    /// Once some of its time is over: not a timer operation for each frame.
    fn put_off_ping(&mut self) {
        if self.polled.since(self.put_off) > self.every / 8 {
            self.put_off = self.polled;
            self.ping.as_mut().reset(tokio::time::Instant::now() + self.every);
        }
    }
}

impl<S, E> StreamBody<S, E> {
    /// The same body, ended also when its reader stands still: see [`crate::readers`].
    pub(crate) fn watched<T>(self, readers: &Readers) -> Watched<ForItems<S, T, E>>
    where
        S: Stream<Item = Result<T, Error>> + Unpin + Send + 'static,
        E: Encode<T> + Unpin + 'static,
        T: 'static,
    {
        readers.watch(ForItems { body: self, items: std::marker::PhantomData })
    }
}

/// A body with the type of its items, which what ends it from outside must name.
pub(crate) struct ForItems<S, T, E> {
    body: StreamBody<S, E>,
    items: std::marker::PhantomData<fn() -> T>,
}

impl<S, T, E> http_body::Body for ForItems<S, T, E>
where
    S: Stream<Item = Result<T, Error>> + Unpin + Send,
    E: Encode<T> + Unpin,
{
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl<S, T, E> Held for ForItems<S, T, E>
where
    S: Send,
    E: Encode<T>,
{
    fn overdue(&self, now: Tick, silence: Duration) -> Option<Error> {
        let body = &self.body;
        let r = body.request.as_ref()?;
        let still = now.since(body.polled);
        // One that waits for its model is asked again for each ping.
        let own = if body.waits { body.every.saturating_mul(2) } else { Duration::ZERO };
        if still > own.saturating_add(silence) {
            let m = "the reader took nothing for too long";
            return Some(Error::new(contract::Code::Cancelled, m));
        }
        let late = r.cx.deadline.passed(now) && still > own.saturating_add(GRACE);
        late.then(overdue)
    }

    fn give_up(&mut self, e: &Error) {
        self.body.break_off::<T>(e);
    }
}

fn overdue() -> Error {
    Error::new(contract::Code::DeadlineExceeded, "the answer took longer than its budget")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_large_body_comes_in_frames_and_whole() {
        let text: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let body = in_frames(Response::new(Body::from(text.clone()))).into_body();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(100_000));
        let mut frames = Vec::new();
        let mut body = body;
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert!(frames.iter().all(|f| f.len() <= FRAME_BYTES));
        assert_eq!(frames.concat(), text);
    }
}
