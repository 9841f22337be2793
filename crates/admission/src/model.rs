//! One model's slots: who gets one now, who waits, and what the end of a request teaches.
//!
//! Arrows of a request: asked → granted | queued | refused; queued → granted (`pump`) | pushed out | dropped;
//! granted → released. Invariant: whenever something waits, every slot of the limit is taken (work-conserving), but for one or two
//! of eight or more that are kept for a tenant who runs less than its share and was served a moment ago: otherwise its next
//! request would wait for one of a flood to end.
//!
//! A request that nobody has begun to work for is refused at once when too many would be served before it: as many as keep the
//! slots busy may wait, and more of them would make everybody wait without one more answer. How many that are is seen
//! from the tenant's own place in the fair queue: a flood is refused, and who is served before it is not. A queue of the
//! default length is shorter than that of the same model at nine tenths of its capacity at its worst, however many slots there are:
//! the 99th percentile of what waits at an M/M/c queue is 44 at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use contract::{Deadline, ModelName, RetryHint, TenantId, Tick};

use crate::fair_queue::{Bounds, FairQueue, LaneId, TicketId, Work};
use crate::limiter::Limiter;
use crate::rates::RateHeaders;
use crate::refusal::{Cause, Refusal};
use crate::room::Room;
use crate::scope::Scope;
use crate::settings::{ModelSettings, Priority};
use crate::turns::{Refused, Turns};
use crate::wait::ServiceRate;

/// As many slots, for one that is kept free, and never more than [`MOST_KEPT`].
const KEEP_ONE_OF: u32 = 8;
/// Slots that are kept free at most: the more slots there are, the sooner one becomes free.
const MOST_KEPT: u32 = 2;
/// When a queue is full and nothing was measured yet.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);
/// Requests that may wait before another, however few run at once.
const FEW: usize = 16;
/// Who came back as told may find so many times as many before it.
const TURN: usize = 4;

/// What a slot is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The class; the tenant's own when absent.
    pub priority: Option<Priority>,
    /// Input tokens.
    pub tokens: u64,
    /// Until when the slot must be there to be of use: earliest deadline first, and refused at once when the expected
    /// wait is longer.
    pub deadline: Deadline,
}

impl Ask {
    /// The same as work of a tenant of this weight, whose class counts where the request names none.
    pub(crate) fn of<'a>(&self, tenant: &'a TenantId, weight: u32, priority: Priority) -> Work<'a> {
        let priority = self.priority.unwrap_or(priority);
        Work { tenant, weight, priority, deadline: self.deadline, tokens: self.tokens }
    }
}

/// What a request would meet at a model if it came now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Requests that would be served before it; 0 when a slot is free.
    pub ahead: usize,
    /// How long it would wait; `None` before anything was measured.
    pub wait: Option<Duration>,
}

/// How the use of a slot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotOutcome {
    /// It answered. The latency is the one the limiter watches: best the time to the first token.
    Ok {
        /// Time the upstream took.
        latency: Duration,
    },
    /// It said 429 or 503.
    Overloaded,
    /// It failed otherwise: says nothing about its capacity.
    Failed,
}

/// Where a queued request waits. Written under the model's lock, read by its future.
#[derive(Debug)]
pub(crate) struct Waiter(Mutex<Waiting>);

#[derive(Debug)]
pub(crate) enum Waiting {
    Queued(Option<Waker>),
    Granted(Grant),
    Refused(Box<Refusal>),
    Taken,
}

impl Waiter {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, with: Waiting) -> Option<Waker> {
        match std::mem::replace(&mut *self.lock(), with) {
            Waiting::Queued(waker) => waker,
            _ => None,
        }
    }
}

/// A taken slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) lane: LaneId,
    pub(crate) tokens: u64,
    pub(crate) since: Tick,
}

pub(crate) enum Asked {
    Granted(Grant),
    Queued(TicketId, Arc<Waiter>),
    Refused(Refusal),
}

#[derive(Debug)]
pub(crate) struct Model {
    name: ModelName,
    pub(crate) queue: FairQueue<(Arc<Waiter>, u64)>,
    pub(crate) limiter: Limiter,
    pub(crate) rate: ServiceRate,
    pub(crate) in_flight: u32,
    turns: Turns,
    max_wait: Option<Duration>,
    /// What its endpoints bear, where each has a limit of its own: then that is the model's, up to its cap.
    pub(crate) room: Option<Room>,
}

impl Model {
    pub(crate) fn new(name: ModelName, s: &ModelSettings) -> Self {
        let bounds = Bounds { tokens: s.queue_tokens, entries: s.queue_entries };
        Model {
            name,
            queue: FairQueue::new(bounds, s.output_weight),
            limiter: Limiter::new(s.max_concurrency, s.initial_concurrency, s.adaptive),
            rate: ServiceRate::default(),
            in_flight: 0,
            turns: Turns::default(),
            max_wait: s.max_wait_ms.map(Duration::from_millis),
            room: None,
        }
    }

    pub(crate) fn reconfigure(&mut self, now: Tick, s: &ModelSettings) -> Vec<Waker> {
        self.queue.configure(Bounds { tokens: s.queue_tokens, entries: s.queue_entries }, s.output_weight);
        self.limiter.configure(s.max_concurrency, s.adaptive);
        self.max_wait = s.max_wait_ms.map(Duration::from_millis);
        self.pump(now)
    }

    /// Requests that may run at the same time.
    pub(crate) fn limit(&self) -> u32 {
        let Some(room) = &self.room else { return self.limiter.limit() };
        let cap = self.limiter.cap();
        room.get().map_or(cap, |n| n.min(cap))
    }

    fn refusal(&self, cause: Cause, retry: RetryHint) -> Refusal {
        Refusal { cause, scope: Scope::Model(self.name.clone()), retry, headers: RateHeaders::default() }
    }

    /// The wait of `work` if it came now and queued.
    pub(crate) fn expected_wait(&self, ahead: u64) -> Option<Duration> {
        self.rate.wait(ahead, self.limit())
    }

    /// What a request would meet if it came now.
    pub(crate) fn outlook(&self, now: Tick, work: &Work<'_>) -> Outlook {
        if self.has_room_for(now, work) {
            return Outlook { ahead: 0, wait: Some(Duration::ZERO) };
        }
        let (tokens, entries) = self.queue.ahead(work, self.limit());
        Outlook { ahead: entries, wait: self.expected_wait(tokens) }
    }

    /// Whether some request that comes now is served at once.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.is_empty() && self.in_flight < self.limit()
    }

    /// Whether `work` is served at once if it comes now. Something may wait and a slot be free all the same: then it is kept, for
    /// a tenant that runs less than its share.
    pub(crate) fn has_room_for(&self, now: Tick, work: &Work<'_>) -> bool {
        let limit = self.limit();
        if self.in_flight >= limit {
            return false;
        }
        let within = || self.queue.is_within(now, work, limit);
        match self.queue.next_priority() {
            None => !self.is_kept(now, work.priority) || within(),
            Some(next) => work.priority >= next && !self.queue.is_waiting(work) && within(),
        }
    }

    /// Whether the slots that are free are kept for tenants that run less than their share.
    fn is_kept(&self, now: Tick, priority: Priority) -> bool {
        let limit = self.limit();
        let keep = (limit / KEEP_ONE_OF).min(MOST_KEPT);
        limit.saturating_sub(self.in_flight) <= keep && self.queue.expects(now, limit, priority)
    }

    fn room_in(&self, tokens: u64) -> RetryHint {
        RetryHint::After(self.expected_wait(tokens).unwrap_or(UNKNOWN_WAIT))
    }

    /// Why `work` may not wait, if it may not. Unless nobody has begun to work for it (`mark`), only its deadline counts.
    fn too_long(&self, now: Tick, work: &Work<'_>, mark: Option<u64>, turn: bool) -> Option<Cause> {
        let (tokens, entries) = self.queue.ahead(work, self.limit());
        // Nobody is refused on a guess.
        let expected = self.expected_wait(tokens)?;
        if let Some(allowed) = work.deadline.remaining(now).filter(|allowed| expected > *allowed) {
            return Some(Cause::WaitTooLong { expected, allowed });
        }
        mark?;
        let times = if turn { TURN } else { 1 };
        match self.max_wait {
            Some(most) if expected > most.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX)) => {
                Some(Cause::WaitTooLong { expected, allowed: most })
            }
            None if entries >= FEW.max(self.limit() as usize / 2) * times => Some(Cause::QueueFull),
            _ => None,
        }
    }

    /// When a request that is refused now is to come again. With a `mark` it has its turn then.
    fn come_again(
        &mut self,
        now: Tick,
        work: &Work<'_>,
        cause: &Cause,
        mark: Option<u64>,
        again: bool,
    ) -> RetryHint {
        let after = match cause {
            Cause::WaitTooLong { expected, allowed } => expected.saturating_sub(*allowed),
            _ => Duration::ZERO,
        };
        let Some(mark) = mark else {
            return match cause {
                Cause::WaitTooLong { .. } => RetryHint::After(after),
                _ => self.room_in(work.tokens),
            };
        };
        let pace = self.rate.requests_per_second(self.limit());
        let pace = pace.map(|all| all * self.queue.share(work));
        RetryHint::After(self.turns.book(now, &Refused { tenant: work.tenant, mark, pace, after, again }))
    }

    /// Refuses what [`Model::ask`] would refuse; `None`, and nothing is done, for what would be served or wait.
    pub(crate) fn refuse(&mut self, now: Tick, work: &Work<'_>, mark: u64) -> Option<Refusal> {
        if self.has_room_for(now, work) {
            return None;
        }
        let turn = self.turns.has(now, work.tenant, mark);
        let cause = self.too_long(now, work, Some(mark), turn)?;
        if turn {
            self.turns.claim(now, work.tenant, mark, false);
        }
        let retry = self.come_again(now, work, &cause, Some(mark), turn);
        Some(self.refusal(cause, retry))
    }

    /// Asks for a slot. The wakers are of those whom it pushed out of the queue. `mark`: see [`crate::Gate::slot_or_turn`].
    pub(crate) fn ask(&mut self, now: Tick, work: &Work<'_>, mark: Option<u64>) -> (Asked, Vec<Waker>) {
        let room = self.has_room_for(now, work);
        let turn = mark.is_some_and(|m| self.turns.claim(now, work.tenant, m, room));
        if room {
            let lane = self.queue.dispatch(work);
            self.in_flight += 1;
            self.queue.started(now, lane);
            self.turns.served(now, work.tenant);
            return (Asked::Granted(Grant { lane, tokens: work.tokens, since: now }), Vec::new());
        }
        if let Some(cause) = self.too_long(now, work, mark, turn) {
            let retry = self.come_again(now, work, &cause, mark, turn);
            return (Asked::Refused(self.refusal(cause, retry)), Vec::new());
        }
        let waiter = Arc::new(Waiter(Mutex::new(Waiting::Queued(None))));
        match self.queue.push(work, (waiter.clone(), work.tokens)) {
            Ok((ticket, pushed_out)) => {
                let mut wakers = Vec::new();
                for (other, tokens) in pushed_out {
                    let refusal = self.refusal(Cause::PushedOut, self.room_in(tokens));
                    wakers.extend(other.resolve(Waiting::Refused(Box::new(refusal))));
                }
                // A slot that was kept may be no more.
                wakers.extend(self.pump(now));
                (Asked::Queued(ticket, waiter), wakers)
            }
            Err(_) => {
                let retry = self.come_again(now, work, &Cause::QueueFull, mark, turn);
                (Asked::Refused(self.refusal(Cause::QueueFull, retry)), Vec::new())
            }
        }
    }

    /// Grants free slots to those who wait; returns whom to wake, after the lock is gone.
    pub(crate) fn pump(&mut self, now: Tick) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.in_flight < self.limit() {
            let limit = self.limit();
            let kept = self.queue.next_priority().is_some_and(|p| self.is_kept(now, p));
            let next = if kept { self.queue.pop_within(now, limit) } else { self.queue.pop(limit) };
            let Some((lane, (waiter, tokens))) = next else { break };
            self.in_flight += 1;
            self.queue.started(now, lane);
            if !self.turns.is_empty()
                && let Some(tenant) = self.queue.tenant(lane)
            {
                self.turns.served(now, tenant);
            }
            wakers.extend(waiter.resolve(Waiting::Granted(Grant { lane, tokens, since: now })));
        }
        wakers
    }

    /// Gives a slot back. `None`: cancelled, which teaches nothing.
    pub(crate) fn release(&mut self, now: Tick, grant: Grant, outcome: Option<SlotOutcome>) -> Vec<Waker> {
        match outcome {
            Some(SlotOutcome::Ok { latency }) => {
                if self.room.is_none() {
                    self.limiter.succeeded(latency, self.in_flight);
                }
                self.rate.served(now, grant.tokens, now.since(grant.since));
            }
            Some(SlotOutcome::Overloaded) if self.room.is_none() => {
                self.limiter.overloaded(now);
            }
            Some(SlotOutcome::Overloaded | SlotOutcome::Failed) | None => {}
        }
        self.queue.finish(grant.lane);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.pump(now)
    }

    /// The future of a queued request is gone: whatever it had goes back.
    pub(crate) fn forget(&mut self, now: Tick, ticket: TicketId, waiter: &Waiter) -> Vec<Waker> {
        if self.queue.cancel(ticket).is_some() {
            return Vec::new();
        }
        let was = std::mem::replace(&mut *waiter.lock(), Waiting::Taken);
        match was {
            Waiting::Granted(grant) => self.release(now, grant, None),
            _ => Vec::new(),
        }
    }
}
