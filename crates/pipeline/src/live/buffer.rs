//! The bounded way from the stages to the surface: events wait here until the caller has read, counted in tokens.
//!
//! One reader, many writers, one task: no lock is ever held across a wait. A writer that finds the buffer full waits,
//! and with it the model whose stream it reads: this is how a slow reader slows its own upstream and nobody else's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::{BoxFuture, Code, Error, Event, Sink};

/// How many tokens may wait for the reader before writers do.
pub(super) const CAPACITY_TOKENS: usize = 512;

/// Events on their way to the caller.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    tokens: usize,
    /// A piece of the answer was shown.
    streamed: bool,
    closed: bool,
    reader: Option<Waker>,
    writers: Vec<Waker>,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event in whatever waits already: for the few events that end things.
    pub(super) fn force(&self, event: Event) {
        let mut inner = self.lock();
        inner.streamed |= matches!(event, Event::Delta { .. });
        inner.tokens += weight(&event);
        inner.events.push_back(event);
        if let Some(w) = inner.reader.take() {
            w.wake();
        }
    }

    /// The next event, if one waits. Wakes the writers once there is room.
    pub(super) fn pop(&self) -> Option<Event> {
        let mut inner = self.lock();
        let event = inner.events.pop_front()?;
        inner.tokens = inner.tokens.saturating_sub(weight(&event));
        if inner.tokens < CAPACITY_TOKENS {
            inner.writers.drain(..).for_each(Waker::wake);
        }
        Some(event)
    }

    /// Whether a piece of the answer was shown.
    pub(super) fn streamed(&self) -> bool {
        self.lock().streamed
    }

    /// Remembers whom to wake when an event comes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.lock().reader = Some(cx.waker().clone());
    }

    /// The reader is gone: writers get an error.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.writers.drain(..).for_each(Waker::wake);
    }

    fn poll_send(&self, event: &mut Option<Event>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut inner = self.lock();
        if inner.closed {
            return Poll::Ready(Err(Error::new(Code::Cancelled, "the caller left")));
        }
        if inner.tokens >= CAPACITY_TOKENS {
            inner.writers.push(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(event) = event.take() {
            inner.streamed |= matches!(event, Event::Delta { .. });
            inner.tokens += weight(&event);
            inner.events.push_back(event);
            if let Some(w) = inner.reader.take() {
                w.wake();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink for Buffer {
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>> {
        let mut event = Some(event);
        Box::pin(poll_fn(move |cx| self.poll_send(&mut event, cx)))
    }
}

/// Roughly its tokens: four bytes of text each, and one for being there.
fn weight(event: &Event) -> usize {
    let text = match event {
        Event::Draft { text } | Event::Delta { text } => text.len(),
        Event::Part { text, error, .. } => text.as_ref().or(error.as_ref()).map_or(0, String::len),
        _ => 0,
    };
    1 + text / 4
}
