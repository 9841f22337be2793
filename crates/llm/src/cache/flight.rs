//! A call under way that several requests read: one asks the upstream, all are given every delta.
//!
//! ```text
//! calling ── first output ──▶ streaming ── finish ──▶ complete
//!    │ error                     │ error                        the readers read what was said to its end
//!    └──────────▶ failed ◀───────┘
//! calling, streaming ── the last reader left ──▶ abandoned: the upstream is cancelled at once
//! ```
//!
//! Nobody owns it and nothing is spawned: whoever is polled and has read everything polls the upstream, with a waker that
//! wakes all. So the fastest reader sets the pace, a slower one reads behind it, and one that leaves holds up nobody.
//!
//! Invariants: an attempt is recorded by exactly one request, that of the reader who pays: the first, and when that
//! leaves, one that stays. What is said is kept for readers to come as long as it is no longer than [`LONGEST`]; beyond
//! that nobody joins, and no reader is further ahead of the slowest than that. What was taken back by a reset is not told to
//! who joins behind it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, Waker};

use contract::{
    AttemptRecord, BoxFuture, Code, Context, Deadline, Error, Meter, MidStream, ModelName, Money, StageName,
    Tick, Usage,
};
use futures_core::Stream;
use parking_lot::Mutex;

use super::kept::{self, Kept};
use super::wakers::Wakers;
use crate::{Completion, Delta, FinishReason};

/// An answer of more bytes than this is neither kept nor joined.
pub(super) const LONGEST: usize = 4 << 20;

/// The reader who made the call.
pub(super) const FIRST: u64 = 0;

/// The call to the upstream, owning all it needs.
pub(super) type Call = BoxFuture<'static, Result<Completion, Error>>;

pub(super) struct Flight {
    state: Mutex<State>,
    wakers: Arc<Wakers>,
    /// What the call records, until a reader is charged with it.
    meter: Arc<Meter>,
    /// The arrival that the call's records count from.
    arrived: Tick,
    /// Until when the call may take: the first reader's.
    deadline: Deadline,
    /// What is done when it breaks off: what the first reader wants.
    mid_stream: MidStream,
    /// It waits behind what others ask for, until it has begun to answer.
    gives_way: bool,
}

struct State {
    phase: Phase,
    /// What was said, from `base` on.
    log: VecDeque<Delta>,
    base: usize,
    bytes: usize,
    too_long: bool,
    readers: Vec<Reader>,
    next: u64,
    /// Who pays.
    payer: u64,
    told: Option<Told>,
    /// The attempts that its first output took.
    committed: Option<u32>,
}

enum Phase {
    Calling(Call),
    Streaming(Box<Completion>),
    Complete,
    Failed(Error),
    Abandoned,
}

/// One that reads, and whom a record of its request names.
struct Reader {
    id: u64,
    /// Deltas it has read.
    at: usize,
    meter: Arc<Meter>,
    arrived: Tick,
    stage: Option<StageName>,
}

/// What is known of an answer since its first output.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) model: ModelName,
    pub(super) version: Option<String>,
    pub(super) attempts: u32,
    /// When the attempt that answers began, for the reader who asked for it.
    pub(super) started_us: u64,
    pub(super) usage: Usage,
    pub(super) cost: Money,
}

/// What a poll did to the flight besides giving something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It goes on, or had ended before.
    No,
    /// It has just ended, or nobody can join it any more.
    Yes,
}

type Polled = (Poll<Option<Result<Delta, Error>>>, Landed);

impl Flight {
    /// A flight for a call that nothing has been done for, and [`FIRST`], who reads it and pays. The call is made of the
    /// context it must record in.
    pub(super) fn new(
        cx: &Context,
        (mid_stream, gives_way): (MidStream, bool),
        call: impl FnOnce(Context) -> Call,
    ) -> Flight {
        let meter = Arc::new(Meter::apart(cx.meter.clone()));
        let own = Context { meter: meter.clone(), sink: None, ..cx.clone() };
        let state = State {
            phase: Phase::Calling(call(own)),
            log: VecDeque::new(),
            base: 0,
            bytes: 0,
            too_long: false,
            readers: vec![Reader::new(FIRST, cx)],
            next: FIRST + 1,
            payer: FIRST,
            told: None,
            committed: None,
        };
        let wakers = Arc::new(Wakers::default());
        let (arrived, deadline) = (cx.arrived, cx.deadline);
        Flight { state: Mutex::new(state), wakers, meter, arrived, deadline, mid_stream, gives_way }
    }

    /// A place to read from the beginning; `None` when that cannot be had any more, or would end long before the reader's
    /// own time is over, or breaks off where the reader wants to be gone on with, or waits behind everybody where the reader
    /// does not.
    pub(super) fn join(&self, cx: &Context, (mid_stream, gives_way): (MidStream, bool)) -> Option<u64> {
        let now = cx.clock.now();
        let left = |d: Deadline| d.remaining(now);
        let long_enough = match (left(self.deadline), left(cx.deadline)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(its), Some(own)) => its >= own / 2,
        };
        let mut s = self.state.lock();
        let open = match &s.phase {
            Phase::Calling(_) | Phase::Streaming(_) | Phase::Complete => !s.too_long,
            Phase::Failed(_) | Phase::Abandoned => false,
        };
        let alike = mid_stream != MidStream::Continue || self.mid_stream == mid_stream;
        let behind = self.gives_way && !gives_way && matches!(s.phase, Phase::Calling(_));
        if !open || !long_enough || !alike || behind {
            return None;
        }
        let id = s.next;
        s.next += 1;
        // What was taken back is not told to who has not heard it.
        let reset = s.log.iter().rposition(|d| matches!(d, Delta::Reset));
        let at = s.base + reset.map_or(0, |n| n + 1);
        s.readers.push(Reader { at, ..Reader::new(id, cx) });
        Some(id)
    }

    /// What is done when it breaks off.
    pub(super) fn mid_stream(&self) -> MidStream {
        self.mid_stream
    }

    /// Whether this reader is charged with the call.
    pub(super) fn pays(&self, reader: u64) -> bool {
        self.state.lock().payer == reader
    }

    /// What is known of the answer.
    pub(super) fn told(&self) -> Option<Told> {
        self.state.lock().told.clone()
    }

    /// Resolves at the commit point: with the first output, or with the error that is the whole answer.
    pub(super) fn poll_commit(&self, reader: u64, cx: &mut Poller<'_>) -> (Poll<Result<(), Error>>, Landed) {
        loop {
            let mut s = self.state.lock();
            match &s.phase {
                Phase::Calling(_) => {}
                Phase::Failed(e) if s.told.is_none() => return (Poll::Ready(Err(e.clone())), Landed::No),
                _ => return (Poll::Ready(Ok(())), Landed::No),
            }
            match self.drive(&mut s, reader, cx) {
                Poll::Pending => return (Poll::Pending, Landed::No),
                Poll::Ready(Landed::No) => {}
                Poll::Ready(Landed::Yes) => {
                    let result = match &s.phase {
                        Phase::Failed(e) => Err(e.clone()),
                        _ => Ok(()),
                    };
                    return (Poll::Ready(result), Landed::Yes);
                }
            }
        }
    }

    /// The next delta for a reader. `None` is the end of a complete answer.
    pub(super) fn poll_next(&self, reader: u64, cx: &mut Poller<'_>) -> Polled {
        let mut landed = Landed::No;
        loop {
            let mut s = self.state.lock();
            if let Some(delta) = s.read(reader) {
                if s.trim() {
                    drop(s);
                    self.wakers.wake_all();
                }
                return (Poll::Ready(Some(Ok(delta))), landed);
            }
            match &s.phase {
                Phase::Calling(_) | Phase::Streaming(_) => {}
                Phase::Complete => return (Poll::Ready(None), landed),
                Phase::Failed(e) => return (Poll::Ready(Some(Err(e.clone()))), landed),
                Phase::Abandoned => {
                    let e =
                        Error::new(Code::Internal, "a call was given up under its reader; this is a defect");
                    return (Poll::Ready(Some(Err(e))), landed);
                }
            }
            if s.too_long && s.bytes > LONGEST {
                // Somebody has not yet read so much of it that he has to be waited for.
                self.wakers.register(reader, cx.waker());
                return (Poll::Pending, landed);
            }
            match self.drive(&mut s, reader, cx) {
                Poll::Pending => return (Poll::Pending, landed),
                Poll::Ready(l) if landed == Landed::No => landed = l,
                Poll::Ready(_) => {}
            }
        }
    }

    /// Polls the upstream once. Ready when something has changed.
    fn drive(&self, s: &mut State, reader: u64, cx: &mut Poller<'_>) -> Poll<Landed> {
        // First, so that what happens during the poll wakes this reader too.
        self.wakers.register(reader, cx.waker());
        let waker = Waker::from(self.wakers.clone());
        let mut all = Poller::from_waker(&waker);
        let (phase, landed) = match &mut s.phase {
            Phase::Calling(call) => match call.as_mut().poll(&mut all) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(c)) => {
                    s.committed = Some(c.attempts());
                    s.told = Some(told(&c));
                    (Some(Phase::Streaming(Box::new(c))), Landed::No)
                }
                Poll::Ready(Err(e)) => (Some(Phase::Failed(e)), Landed::Yes),
            },
            Phase::Streaming(c) => match Pin::new(&mut **c).poll_next(&mut all) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(delta))) => {
                    s.bytes += kept::size(&delta);
                    s.log.push_back(delta);
                    let over = s.bytes > LONGEST && !s.too_long;
                    s.too_long |= over;
                    (None, if over { Landed::Yes } else { Landed::No })
                }
                Poll::Ready(Some(Err(e))) => (Some(Phase::Failed(e)), Landed::Yes),
                Poll::Ready(None) => {
                    s.told = Some(told(c));
                    (Some(Phase::Complete), Landed::Yes)
                }
            },
            Phase::Complete | Phase::Failed(_) | Phase::Abandoned => return Poll::Ready(Landed::No),
        };
        if let Some(phase) = phase {
            // The call goes before its records are taken: it may make one as it goes.
            s.phase = phase;
            if let Some(payer) = s.readers.iter().find(|r| r.id == s.payer) {
                self.charge(payer);
            }
        }
        self.wakers.wake_others(reader);
        Poll::Ready(landed)
    }

    /// A reader has read all it wants, or left. True when it was the last.
    pub(super) fn leave(&self, reader: u64) -> bool {
        let mut s = self.state.lock();
        let Some(place) = s.readers.iter().position(|r| r.id == reader) else { return false };
        let left = s.readers.remove(place);
        let last = s.readers.is_empty();
        let under_way = matches!(s.phase, Phase::Calling(_) | Phase::Streaming(_));
        let given_up = (last && under_way).then(|| std::mem::replace(&mut s.phase, Phase::Abandoned));
        if s.payer == reader
            && under_way
            && let Some(next) = s.readers.first()
        {
            s.payer = next.id;
        }
        s.trim();
        drop(s);
        if given_up.is_some() {
            // Cancels the upstream; what that used is for whoever was the last to want it.
            drop(given_up);
            self.charge(&left);
        }
        self.wakers.remove(reader);
        self.wakers.wake_all();
        last
    }

    /// Puts what the call has recorded so far to the account of a reader.
    fn charge(&self, payer: &Reader) {
        let (_, attempts, _, facts) = self.meter.take();
        for a in attempts {
            payer.meter.attempt(payer.own(a, self.arrived));
        }
        for (name, value) in facts {
            payer.meter.fact(&name, value);
        }
    }

    /// The whole answer, when it is one to be kept: complete, by the model that was asked, and ended by itself or its limit.
    pub(super) fn kept(&self, asked: &ModelName, now: Tick) -> Option<Kept> {
        let s = self.state.lock();
        let told = s.told.as_ref().filter(|t| t.model == *asked)?;
        let finish = s.log.iter().rev().find_map(|d| match d {
            Delta::Finish(f) => Some(f),
            _ => None,
        });
        let whole =
            matches!(finish, Some(FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Length));
        // One that was gone on with behind a break is two attempts' words.
        let joined = s.committed != Some(told.attempts) && !s.log.iter().any(|d| matches!(d, Delta::Reset));
        if !matches!(s.phase, Phase::Complete) || s.too_long || !whole || joined {
            return None;
        }
        let (log, version) = (s.log.iter().cloned(), told.version.clone());
        Some(Kept::new(log, version, (told.usage, told.cost), now))
    }
}

fn told(c: &Completion) -> Told {
    Told {
        model: c.model().clone(),
        version: c.model_version().map(str::to_owned),
        attempts: c.attempts(),
        started_us: c.record().started_us,
        usage: c.usage(),
        cost: c.cost(),
    }
}

impl State {
    fn read(&mut self, reader: u64) -> Option<Delta> {
        let r = self.readers.iter_mut().find(|r| r.id == reader)?;
        let delta = self.log.get(r.at.checked_sub(self.base)?)?.clone();
        r.at += 1;
        Some(delta)
    }

    /// Drops what everybody has read, once nobody can join. True when that makes room for those who wait.
    fn trim(&mut self) -> bool {
        if !self.too_long {
            return false;
        }
        let before = self.bytes;
        let read = self.readers.iter().map(|r| r.at).min().unwrap_or(usize::MAX);
        while self.base < read
            && let Some(delta) = self.log.pop_front()
        {
            self.base += 1;
            self.bytes -= kept::size(&delta);
        }
        before > LONGEST && self.bytes <= LONGEST
    }
}

impl Reader {
    fn new(id: u64, cx: &Context) -> Reader {
        Reader { id, at: 0, meter: cx.meter.clone(), arrived: cx.arrived, stage: cx.stage.clone() }
    }

    /// A record of the call as one of this reader's request: times from its own arrival on, under its own stage. The
    /// request that made the call keeps the ordinal it was given.
    fn own(&self, mut a: AttemptRecord, arrived: Tick) -> AttemptRecord {
        if self.id == FIRST {
            return a;
        }
        let us = |t: Tick, from: Tick| u64::try_from(t.since(from).as_micros()).unwrap_or(u64::MAX);
        let (earlier, later) = (us(arrived, self.arrived), us(self.arrived, arrived));
        let moved = |t: u64| t.saturating_add(earlier).saturating_sub(later);
        a.ordinal = self.meter.begin_attempt();
        a.stage.clone_from(&self.stage);
        a.started_us = moved(a.started_us);
        a.first_token_us = a.first_token_us.map(moved);
        a.ended_us = moved(a.ended_us);
        a.queued_us = a.queued_us.min(a.ended_us.saturating_sub(a.started_us));
        a
    }
}
