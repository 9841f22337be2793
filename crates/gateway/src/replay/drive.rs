//! Drives an answer that is kept: makes the call, writes its head and its body into the journal, and ends it when nobody
//! reads any more. It is a task of its own, since it may outlive every connection; it ends with the call, with its readers,
//! or with what a reader says.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::BytesMut;
use contract::{Error, Event, TenantId};
use http::header::CONTENT_TYPE;
use http_body::Body as _;

use super::answer::{Answer, Gone, Head, Phase};
use super::events::{self, Numbers};
use super::journal::PIECE;
use super::told::{self, Told};
use crate::app::App;
use crate::native;

/// An answer that is to be made.
pub(crate) struct Driven {
    pub(crate) app: App,
    pub(crate) tenant: TenantId,
    pub(crate) answer: Arc<Answer>,
    /// How long the caller wants it to go on without a reader, if he said so.
    pub(crate) window: Option<Duration>,
    pub(crate) told: Arc<Told>,
}

/// What an answer turned out to be.
struct Written {
    phase: Phase,
    /// Whether it has the status of a success.
    success: bool,
    events: bool,
}

impl Driven {
    /// Makes the call and keeps its answer.
    pub(crate) async fn drive(self, call: impl Future<Output = Response> + Send) {
        // The end of a server waits for what it has to settle.
        let _going_on = self.app.inner.drain.conversation();
        let ended = tokio::select! {
            biased;
            stopped = self.gone() => Err(stopped),
            written = self.write(call) => Ok(written),
        };
        // By now the call is gone, and has settled.
        match ended {
            Ok(w) => {
                // What was never admitted, and so cost nothing, is kept when it went well.
                let replays = w.phase == Phase::Ended && self.told.is_settled().unwrap_or(w.success);
                // Streams can be read on in by their id; the rest is found by its key alone.
                let found = w.events || replays && self.answer.key.is_some();
                self.over(w.phase, replays, w.phase != Phase::Ended || !found);
            }
            Err(Some(e)) => {
                self.say(&e);
                self.over(Phase::Ended, false, false);
            }
            Err(None) => self.over(Phase::Left, false, true),
        }
    }

    fn over(&self, phase: Phase, replays: bool, forget: bool) {
        let inner = &self.app.inner;
        self.answer.end(phase, inner.clock.now(), replays);
        inner.replays.over(&self.tenant, self.told.id(), &self.answer, forget);
    }

    /// Resolves when it is to end before its end: with why, when somebody said so.
    async fn gone(&self) -> Option<Error> {
        let inner = &self.app.inner;
        loop {
            match self.answer.gone(&inner.drain).await {
                Gone::Stopped(e) => {
                    self.told.stops();
                    return Some(e);
                }
                Gone::Left if self.answer.leave(inner.clock.now()) => return None,
                Gone::Left => {}
            }
        }
    }

    async fn write(&self, call: impl Future<Output = Response>) -> Written {
        let replays = &self.app.inner.replays;
        let (head, mut body) = Arc::clone(&self.told).hear(call).await.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let events = kind.starts_with("text/event-stream");
        let success = head.status.is_success();
        if let Some(id) = self.told.id().filter(|_| events) {
            replays.name(&self.tenant, id, &self.answer);
        }
        let length = body.size_hint().exact();
        let longest = replays.settings().resume;
        let asked = self.window.or(self.told.window()).map(|w| w.min(longest));
        let (status, headers) = (head.status, head.headers);
        // What is no stream is all there by now, and paid for: it is kept, whoever has left.
        let window = if events { asked.unwrap_or_default() } else { longest };
        self.answer.begin(Head { status, headers, length, events }, window);
        let mut written = Written { phase: Phase::Ended, success, events };
        let (mut first, mut numbers) = (true, None);
        loop {
            self.answer.wanted().await;
            let frame = match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    written.phase = Phase::Broken;
                    return written;
                }
                None => return written,
            };
            let Ok(data) = frame.into_data() else { continue };
            if events && events::is_ping(&data) {
                self.answer.ping(data);
                continue;
            }
            // Numbers cost something, and are given to those who mean to come back.
            if std::mem::take(&mut first) && events && asked.is_some() && !events::is_numbered(&data) {
                numbers = Some(Numbers::from(self.told.id().map_or(0, told::first_event)));
            }
            for piece in events::kept(&mut numbers, &data).chunks(PIECE) {
                self.piece(piece).await;
            }
        }
    }

    async fn piece(&self, piece: &[u8]) {
        loop {
            while !self.answer.fits(piece.len()) && self.app.inner.replays.grow(&self.answer) {}
            if self.answer.append(piece) {
                return;
            }
            self.answer.moved().await;
        }
    }

    /// The last events of a native stream that was stopped: why, and what it used.
    fn say(&self, e: &Error) {
        let (start, pieces) = self.answer.so_far();
        let so_far = events::told(start, &pieces);
        let (Some(last), Some(done)) = (so_far.last, self.told.done()) else { return };
        let mut out = BytesMut::new();
        native::write(&mut out, last + 1, &Event::error(e, so_far.useful));
        native::write(&mut out, last + 2, done);
        for piece in out.chunks(PIECE) {
            while !self.answer.fits(piece.len()) && self.app.inner.replays.grow(&self.answer) {}
            // Where there is no room for the last words the stream ends without them, as one that was cut.
            if !self.answer.append(piece) {
                return;
            }
        }
    }
}

impl Drop for Driven {
    /// A call that panicked, or a server that ended: nobody waits for it in vain.
    fn drop(&mut self) {
        if self.answer.phase() == Phase::Running {
            self.over(Phase::Broken, false, true);
        }
    }
}
