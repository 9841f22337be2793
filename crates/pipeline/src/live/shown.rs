//! What a stage has shown: kept beside its future, so that a deadline that drops the future does not lose the text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::{BoxFuture, Context, Error, Event, Outcome, Sink, Tail, Value};

/// The sink of one streaming stage: remembers the text and passes it on, through a tail when there is one.
pub(super) struct Shown {
    inner: Mutex<Inner>,
    out: Option<Arc<dyn Sink>>,
}

struct Inner {
    text: String,
    first_us: Option<u64>,
    tail: Option<Box<dyn Tail>>,
    cx: Context,
}

impl Shown {
    /// Passes text on to `out` when there is one.
    pub(super) fn new(out: Option<Arc<dyn Sink>>, tail: Option<Box<dyn Tail>>, cx: Context) -> Self {
        Shown { inner: Mutex::new(Inner { text: String::new(), first_us: None, tail, cx }), out }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text so far, before any tail.
    pub(super) fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// When the first piece came, in µs after the request's arrival.
    pub(super) fn first_us(&self) -> Option<u64> {
        self.lock().first_us
    }

    /// Ends the tail: shows what it held back and gives its outcome.
    pub(super) async fn finish(&self) -> Option<Outcome<Value>> {
        let tail = self.lock().tail.take()?;
        let (rest, outcome) = tail.finish();
        if let (false, Some(out)) = (rest.is_empty(), &self.out)
            && let Err(e) = out.send(Event::Delta { text: rest }).await
        {
            return Some(Outcome::Failed(e));
        }
        Some(outcome)
    }

    fn take(&self, piece: String) -> String {
        let mut inner = self.lock();
        inner.text.push_str(&piece);
        if inner.first_us.is_none() {
            inner.first_us = Some(inner.cx.elapsed_us());
        }
        match &mut inner.tail {
            Some(tail) => tail.push(&piece),
            None => piece,
        }
    }
}

impl Sink for Shown {
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>> {
        let event = match event {
            Event::Delta { text } => Event::Delta { text: self.take(text) },
            other => other,
        };
        match (&self.out, event) {
            (Some(_), Event::Delta { text }) if text.is_empty() => Box::pin(async { Ok(()) }),
            (Some(out), event) => out.send(event),
            (None, _) => Box::pin(async { Ok(()) }),
        }
    }
}
