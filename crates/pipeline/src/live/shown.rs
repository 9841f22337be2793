//! What a stage has shown: kept beside its future, so that a deadline that drops the future does not lose the text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::{BoxFuture, Context, Error, Event, Inputs, Outcome, Sink, Stage, Tail, Value};

/// A stage at work on another's stream.
pub(super) struct Tailing {
    tail: Box<dyn Tail>,
    /// What it was made of: a stream that begins anew gets a new one.
    stage: Arc<dyn Stage>,
    cx: Context,
    others: Inputs,
}

impl Tailing {
    /// Starts the stage, if it works on streams.
    pub(super) fn start(stage: Arc<dyn Stage>, cx: Context, others: Inputs) -> Option<Self> {
        let tail = stage.tail(&cx, &others)?;
        Some(Tailing { tail, stage, cx, others })
    }

    fn again(&mut self) {
        if let Some(tail) = self.stage.tail(&self.cx, &self.others) {
            self.tail = tail;
        }
    }
}

/// The sink of one streaming stage: remembers the text and passes it on, through a tail when there is one.
pub(super) struct Shown {
    inner: Mutex<Inner>,
    out: Option<Arc<dyn Sink>>,
}

struct Inner {
    text: String,
    first_us: Option<u64>,
    tail: Option<Tailing>,
    cx: Context,
}

impl Shown {
    /// Passes text on to `out` when there is one.
    pub(super) fn new(out: Option<Arc<dyn Sink>>, tail: Option<Tailing>, cx: Context) -> Self {
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
        let tail = self.lock().tail.take()?.tail;
        let (rest, outcome) = tail.finish();
        if let (false, Some(out)) = (rest.is_empty(), &self.out)
            && let Err(e) = out.send(Event::Delta { text: rest }).await
        {
            return Some(Outcome::Failed(e));
        }
        Some(outcome)
    }

    /// The text begins anew.
    fn forget(&self) {
        let mut inner = self.lock();
        inner.text.clear();
        if let Some(t) = &mut inner.tail {
            t.again();
        }
    }

    fn take(&self, piece: String) -> String {
        let mut inner = self.lock();
        inner.text.push_str(&piece);
        if inner.first_us.is_none() {
            inner.first_us = Some(inner.cx.elapsed_us());
        }
        match &mut inner.tail {
            Some(t) => t.tail.push(&piece),
            None => piece,
        }
    }
}

impl Sink for Shown {
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>> {
        let event = match event {
            Event::Delta { text } => Event::Delta { text: self.take(text) },
            Event::Reset {} => {
                self.forget();
                Event::Reset {}
            }
            other => other,
        };
        match (&self.out, event) {
            (Some(_), Event::Delta { text }) if text.is_empty() => Box::pin(async { Ok(()) }),
            (Some(out), event) => out.send(event),
            (None, _) => Box::pin(async { Ok(()) }),
        }
    }
}
