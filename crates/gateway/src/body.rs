//! The body of a streamed answer. It is polled by the connection, and that drives the answer itself: when the caller
//! does not read, nothing is polled and nothing is read from upstream; when the caller leaves, hyper drops the body and
//! with it every model call.

use std::pin::Pin;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::{Deadline, Error};
use futures_core::Stream;
use http_body::Frame;

use crate::request::Request;

/// How much is put together before a frame is handed to the connection.
const FRAME_BYTES: usize = 16 << 10;

/// Writes items in a surface's form.
pub(crate) trait Encode<T>: Send {
    /// Before anything else.
    fn open(&mut self, out: &mut BytesMut);
    /// The next item. Says whether it is useful output.
    fn item(&mut self, out: &mut BytesMut, item: T) -> bool;
    /// Something that keeps the connection alive.
    fn ping(&mut self, out: &mut BytesMut);
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
    ping: Pin<Box<tokio::time::Sleep>>,
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
        StreamBody {
            items: Some(items),
            encode,
            request: Some(request),
            buffer,
            useful: false,
            ping,
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
        let mut waits = false;
        while this.buffer.len() < FRAME_BYTES
            && let Some(items) = &mut this.items
        {
            // A caller that reads one event a minute does not outlive its deadline for it.
            let late = this.request.as_ref().is_some_and(|r| passed(r.cx.deadline, r));
            match Pin::new(items).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) if late => {
                    let e = Error::new(
                        contract::Code::DeadlineExceeded,
                        "the answer took longer than its budget",
                    );
                    this.break_off(&e);
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
                    break;
                }
            }
        }
        if waits && this.buffer.is_empty() {
            if this.ping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.encode.ping(&mut this.buffer);
        }
        if this.buffer.is_empty() {
            return Poll::Ready(None);
        }
        if waits {
            this.rearm(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(this.buffer.split().freeze()))))
    }
}

impl<S, E> StreamBody<S, E> {
    /// Puts the ping off once most of its time is over: not a timer operation for each frame.
    fn rearm(&mut self, _cx: &mut Poller<'_>) {
        let at = tokio::time::Instant::now() + self.every;
        if self.ping.deadline() + self.every / 8 < at {
            self.ping.as_mut().reset(at);
        }
    }
}

fn passed(deadline: Deadline, r: &Request) -> bool {
    deadline.passed(r.cx.clock.now())
}
