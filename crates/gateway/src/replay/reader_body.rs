//! The body of a response whose answer is kept: what one reader has of it, polled by its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use contract::{Clock, Code, Error, Tick};
use http_body::Frame;

use super::answer::{Read, Reader};
use super::journal::PIECE;
use crate::app::App;
use crate::readers::Held;

/// The body of a response that a reader has.
pub(super) struct ReaderBody {
    /// Gone once it was given up.
    reader: Option<Reader>,
    clock: Arc<dyn Clock>,
    /// When the connection asked last, and whether there was nothing for it then.
    polled: Tick,
    waits: bool,
    every: Duration,
    /// What is still to come, when that is known.
    left: Option<u64>,
}

impl ReaderBody {
    pub(super) fn new(app: &App, reader: Reader) -> ReaderBody {
        let clock = app.inner.clock.clone();
        let (polled, left, every) = (clock.now(), reader.length(), app.generation.settings.ping);
        ReaderBody { reader: Some(reader), clock, polled, waits: false, every, left }
    }
}

impl http_body::Body for ReaderBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        this.polled = this.clock.now();
        let Some(reader) = &mut this.reader else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        this.waits = true;
        let read = ready!(reader.poll(cx));
        this.waits = false;
        Poll::Ready(match read {
            Some(Ok(Read::Bytes(bytes))) => {
                debug_assert!(bytes.len() <= PIECE, "a connection keeps as much room as it is handed");
                this.left = this.left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Ok(Read::Ping(bytes))) => Some(Ok(Frame::data(bytes))),
            Some(Err(e)) => Some(Err(io::Error::other(e))),
            None => None,
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}

impl Held for ReaderBody {
    fn overdue(&self, now: Tick, silence: Duration) -> Option<Error> {
        self.reader.as_ref()?;
        // One that waits is asked again for each ping.
        let own = if self.waits { self.every.saturating_mul(2) } else { Duration::ZERO };
        let stands = now.since(self.polled) > own.saturating_add(silence);
        stands.then(|| Error::new(Code::Cancelled, "the reader took nothing for too long"))
    }

    fn give_up(&mut self, _: &Error) {
        self.reader = None;
    }
}
