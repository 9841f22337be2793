//! One answer that is kept: its head, its journal, who reads it and who waits for it.
//!
//! running → over, by its driver: *ended* (the whole answer was written), *left* (its readers were gone for too long), or
//! *broken* (its driver is gone). Readers are told all three; only what ended can be joined from then on.
//!
//! Invariants: no lock is held while anybody is woken; a reader that was let in is never given up for want of readers.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use contract::{Error, Tick};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use pipeline::task;
use tokio::sync::Notify;

use super::events::{self, Behind};
use super::journal::{Journal, NoPlace, Number, SLACK};
use super::store::Key;
use crate::drain::Drain;

/// What an answer costs besides its bytes: headers, keys, its place in maps.
pub(crate) const OVERHEAD: usize = 4 << 10;

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// How long the body is, when that is known from the beginning.
    pub(crate) length: Option<u64>,
    /// Whether it is a stream of events.
    pub(crate) events: bool,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Ended,
    Left,
    Broken,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    head: Option<Arc<Head>>,
    phase: Phase,
    /// Why it is to stop, once somebody said so.
    stop: Option<Error>,
    /// How long it goes on without a reader.
    window: Duration,
    /// Keep-alives so far, and what one looks like.
    pings: u64,
    ping: Bytes,
    wakers: HashMap<Number, Waker>,
    /// When it was over.
    over: Tick,
    /// Whether a repeat of its request is answered by it.
    replays: bool,
}

/// An answer that is kept. Shared by its driver, its readers and the store.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What a repeat of its request says.
    pub(crate) key: Option<Key>,
    /// The hash of what was asked.
    pub(crate) asked: [u8; 32],
    state: Mutex<State>,
    /// Bytes of the store that it holds.
    granted: AtomicUsize,
    /// The memory of the store, of which it gives back its part.
    used: Arc<AtomicUsize>,
    /// What its tenant's answers under way hold, of which this is one until it is over.
    under_way: Arc<AtomicUsize>,
    /// Its part of that.
    charged: AtomicUsize,
    /// Readers came or went, or it is to stop.
    attendance: Notify,
    /// A reader moved on.
    progress: Notify,
}

/// Why the driver is to end.
#[derive(Debug)]
pub(crate) enum Gone {
    /// Nobody reads.
    Left,
    /// Somebody said stop.
    Stopped(Error),
}

impl Answer {
    /// A new one, which holds `granted` bytes of the store.
    pub(crate) fn new(
        key: Option<Key>,
        asked: [u8; 32],
        window: Duration,
        granted: usize,
        (used, under_way): (Arc<AtomicUsize>, Arc<AtomicUsize>),
    ) -> Arc<Answer> {
        under_way.fetch_add(granted, Ordering::AcqRel);
        Arc::new(Answer {
            key,
            asked,
            state: Mutex::new(State {
                journal: Journal::default(),
                head: None,
                phase: Phase::Running,
                stop: None,
                window,
                pings: 0,
                ping: Bytes::new(),
                wakers: HashMap::new(),
                over: Tick(0),
                replays: true,
            }),
            granted: AtomicUsize::new(granted),
            used,
            under_way,
            charged: AtomicUsize::new(granted),
            attendance: Notify::new(),
            progress: Notify::new(),
        })
    }

    // For readers.

    /// Starts to read at an offset. An answer that was left takes no more readers.
    pub(crate) fn attach(self: &Arc<Self>, at: u64) -> Result<Reader, NoPlace> {
        let mut s = self.state.lock();
        if matches!(s.phase, Phase::Left | Phase::Broken) {
            return Err(NoPlace::Dropped);
        }
        let number = s.journal.attach(at)?;
        let pings = s.pings;
        drop(s);
        self.attendance.notify_one();
        Ok(Reader { answer: Arc::clone(self), number, at, pings })
    }

    /// Where the events behind a number begin.
    pub(crate) fn behind(&self, last: u64) -> Behind {
        let (start, pieces) = self.state.lock().journal.window();
        events::behind(start, &pieces, last)
    }

    /// Says that it is to stop.
    pub(crate) fn stop(&self, e: Error) {
        self.state.lock().stop.get_or_insert(e);
        self.attendance.notify_one();
    }

    pub(crate) fn head(&self) -> Option<Arc<Head>> {
        self.state.lock().head.clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Whether a repeat is answered by it: not when it ended in a way that another try may mend.
    pub(crate) fn replays(&self) -> bool {
        self.state.lock().replays
    }

    pub(crate) fn readers(&self) -> usize {
        self.state.lock().journal.readers()
    }

    pub(crate) fn window(&self) -> Duration {
        self.state.lock().window
    }

    /// When it was over.
    pub(crate) fn over(&self) -> Tick {
        self.state.lock().over
    }

    /// Bytes of the store that it holds.
    pub(crate) fn granted(&self) -> usize {
        self.granted.load(Ordering::Acquire)
    }

    // For the driver.

    /// The head is there. From now on it goes on for so long without a reader.
    pub(crate) fn begin(&self, head: Head, window: Duration) {
        let mut s = self.state.lock();
        (s.head, s.window) = (Some(Arc::new(head)), window);
        self.wake_all(s);
    }

    /// Writes a piece, if there is room.
    pub(crate) fn append(&self, piece: &[u8]) -> bool {
        let room = self.granted().saturating_sub(OVERHEAD + SLACK);
        let mut s = self.state.lock();
        let fits = s.journal.append(piece, room);
        if fits {
            self.wake_all(s);
        }
        fits
    }

    /// Whether a piece fits without anything being dropped for it.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.state.lock().journal.kept() + bytes + OVERHEAD + SLACK <= self.granted()
    }

    /// More bytes of the store are its own.
    pub(crate) fn grant(&self, bytes: usize) {
        self.granted.fetch_add(bytes, Ordering::AcqRel);
        self.charged.fetch_add(bytes, Ordering::AcqRel);
        self.under_way.fetch_add(bytes, Ordering::AcqRel);
    }

    /// What its tenant's answers under way hold together.
    pub(crate) fn under_way(&self) -> &AtomicUsize {
        &self.under_way
    }

    /// It is over: from here on it goes when somebody needs its room.
    fn discharge(&self) {
        self.under_way.fetch_sub(self.charged.swap(0, Ordering::AcqRel), Ordering::AcqRel);
    }

    /// A keep-alive for those who have had everything.
    pub(crate) fn ping(&self, frame: Bytes) {
        let mut s = self.state.lock();
        (s.pings, s.ping) = (s.pings + 1, frame);
        self.wake_all(s);
    }

    /// What is kept of a stream so far.
    pub(crate) fn so_far(&self) -> (u64, Vec<Bytes>) {
        self.state.lock().journal.window()
    }

    /// Nothing more will be written. What it holds beyond what it keeps is given back.
    pub(crate) fn end(&self, phase: Phase, now: Tick, replays: bool) {
        let mut s = self.state.lock();
        if s.phase != Phase::Running {
            return;
        }
        (s.phase, s.over, s.replays) = (phase, now, replays);
        self.discharge();
        s.journal.finish();
        let slack = if s.journal.is_whole() { 0 } else { SLACK };
        let needed = OVERHEAD + slack + s.journal.kept();
        let held = self.granted();
        if let Some(rest) = held.checked_sub(needed) {
            self.granted.store(needed, Ordering::Release);
            self.used.fetch_sub(rest, Ordering::AcqRel);
        }
        self.wake_all(s);
    }

    /// Ends it unless somebody has come in the meantime.
    pub(crate) fn leave(&self, now: Tick) -> bool {
        {
            let mut s = self.state.lock();
            if s.journal.readers() > 0 {
                return false;
            }
            if s.phase == Phase::Running {
                (s.phase, s.over, s.replays) = (Phase::Left, now, false);
                self.discharge();
            }
        }
        true
    }

    /// Resolves when a reader wants more.
    pub(crate) async fn wanted(&self) {
        while !self.state.lock().journal.wants_more() {
            self.progress.notified().await;
        }
    }

    /// Resolves when a reader has moved on or left: there may be room.
    pub(crate) async fn moved(&self) {
        self.progress.notified().await;
    }

    /// Resolves when it is to end before its end. A server that shuts down waits for no reader to come back: none can.
    pub(crate) async fn gone(&self, drain: &Drain) -> Gone {
        loop {
            let (stop, alone, window) = {
                let s = self.state.lock();
                (s.stop.clone(), s.journal.readers() == 0, s.window)
            };
            match stop {
                Some(e) => return Gone::Stopped(e),
                None if !alone => self.attendance.notified().await,
                None if window.is_zero() || drain.has_started() => return Gone::Left,
                None => tokio::select! {
                    () = self.attendance.notified() => {}
                    () = task::sleep(window) => return Gone::Left,
                    () = drain.started() => {}
                },
            }
        }
    }

    fn wake_all(&self, mut s: parking_lot::MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut s.wakers);
        drop(s);
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.discharge();
        self.used.fetch_sub(self.granted(), Ordering::AcqRel);
    }
}

/// What a reader is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Bytes),
    /// There is nothing new: a keep-alive in the form of its surface.
    Ping(Bytes),
}

/// The answer will never be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was given up before its end")]
pub(crate) struct Broken;

/// Somebody who reads an answer. Its drop is leaving.
#[derive(Debug)]
pub(crate) struct Reader {
    answer: Arc<Answer>,
    number: Number,
    /// Where it began to read.
    at: u64,
    /// Keep-alives it has seen.
    pings: u64,
}

impl Reader {
    /// What it reads.
    pub(crate) fn answer(&self) -> &Arc<Answer> {
        &self.answer
    }

    /// The head, as soon as it is there.
    pub(crate) async fn head(&self) -> Result<Arc<Head>, Broken> {
        poll_fn(|cx| {
            let mut s = self.answer.state.lock();
            match (&s.head, s.phase) {
                (Some(head), _) => return Poll::Ready(Ok(Arc::clone(head))),
                (None, Phase::Running) => {}
                (None, _) => return Poll::Ready(Err(Broken)),
            }
            s.wakers.insert(self.number, cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// How much there is to read in all, when that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.answer.state.lock().head.as_ref()?.length?.checked_sub(self.at)
    }

    /// Whether nothing will come any more.
    pub(crate) fn has_had_all(&self) -> bool {
        let s = self.answer.state.lock();
        s.phase == Phase::Ended && s.journal.has_had_all(self.number)
    }

    /// What comes next; `None` behind the end.
    pub(crate) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Read, Broken>>> {
        let mut s = self.answer.state.lock();
        if let Some(bytes) = s.journal.read(self.number) {
            // The keep-alives before it are of no use any more.
            self.pings = s.pings;
            drop(s);
            self.answer.progress.notify_one();
            return Poll::Ready(Some(Ok(Read::Bytes(bytes))));
        }
        match s.phase {
            Phase::Ended => return Poll::Ready(None),
            Phase::Left | Phase::Broken => return Poll::Ready(Some(Err(Broken))),
            Phase::Running => {}
        }
        if self.pings < s.pings {
            self.pings = s.pings;
            return Poll::Ready(Some(Ok(Read::Ping(s.ping.clone()))));
        }
        s.wakers.insert(self.number, cx.waker().clone());
        Poll::Pending
    }

    /// The same to wait for.
    pub(crate) async fn next(&mut self) -> Option<Result<Read, Broken>> {
        poll_fn(|cx| self.poll(cx)).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        {
            let mut s = self.answer.state.lock();
            s.journal.leave(self.number);
            s.wakers.remove(&self.number);
        }
        self.answer.attendance.notify_one();
        self.answer.progress.notify_one();
    }
}
