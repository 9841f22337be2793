//! A slot of a model and the future that waits for it. Dropping either at any point gives back what it had.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use contract::Clock;

use crate::fair_queue::TicketId;
use crate::model::{Grant, Model, SlotOutcome, Waiter, Waiting};
use crate::refusal::Refusal;

/// Output tokens charged together: a slot takes the model's lock once for so many.
const CHARGE_BATCH: u64 = 16;

/// A model's state behind its lock, and the clock.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: Mutex<Model>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// One of a model's slots. Dropped without [`Slot::finish`] it counts as cancelled and teaches nothing.
#[derive(Debug)]
#[must_use = "dropping a slot gives it back"]
pub struct Slot {
    shared: Arc<Shared>,
    grant: Grant,
    outcome: Option<SlotOutcome>,
    uncharged: u64,
}

impl Slot {
    pub(crate) fn new(shared: Arc<Shared>, grant: Grant) -> Self {
        Slot { shared, grant, outcome: None, uncharged: 0 }
    }

    /// Charges produced output to the tenant's lane (in batches; the rest when the slot ends).
    pub fn charge_output(&mut self, tokens: u64) {
        self.uncharged = self.uncharged.saturating_add(tokens);
        if self.uncharged >= CHARGE_BATCH {
            let tokens = std::mem::take(&mut self.uncharged);
            self.shared.lock().queue.charge_output(self.grant.lane, tokens);
        }
    }

    /// Gives the slot back and says how it went, which teaches the limiter and the expected wait.
    pub fn finish(mut self, outcome: SlotOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let wakers = {
            let mut model = self.shared.lock();
            if self.uncharged > 0 {
                model.queue.charge_output(self.grant.lane, self.uncharged);
            }
            model.release(now, self.grant, self.outcome)
        };
        wake(wakers);
    }
}

#[derive(Debug)]
enum State {
    Granted(Slot),
    Refused(Box<Refusal>),
    Queued { shared: Arc<Shared>, ticket: TicketId, waiter: Arc<Waiter> },
    Done,
}

/// Waits for a [`Slot`]. Already in the queue when made; cancel-safe: dropping it leaves the queue, or gives back a slot
/// that was granted and not yet seen. It does not watch its deadline: the caller's timer drops it.
#[derive(Debug)]
#[must_use = "dropping a slot request leaves the queue"]
pub struct SlotRequest {
    state: State,
}

impl SlotRequest {
    pub(crate) fn granted(slot: Slot) -> Self {
        SlotRequest { state: State::Granted(slot) }
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        SlotRequest { state: State::Refused(Box::new(refusal)) }
    }

    pub(crate) fn queued(shared: Arc<Shared>, ticket: TicketId, waiter: Arc<Waiter>) -> Self {
        SlotRequest { state: State::Queued { shared, ticket, waiter } }
    }

    /// Requests that will be served before this one if nothing else comes; `None` when it does not wait (any more).
    pub fn position(&self) -> Option<usize> {
        match &self.state {
            State::Queued { shared, ticket, .. } => shared.lock().queue.position(*ticket).map(|(_, n)| n),
            _ => None,
        }
    }

    /// How long it will still wait; zero when it does not wait, `None` when nothing was measured yet.
    pub fn expected_wait(&self) -> Option<Duration> {
        match &self.state {
            State::Queued { shared, ticket, .. } => {
                let model = shared.lock();
                match model.queue.position(*ticket) {
                    Some((tokens, _)) => model.expected_wait(tokens),
                    None => Some(Duration::ZERO),
                }
            }
            _ => Some(Duration::ZERO),
        }
    }
}

impl Future for SlotRequest {
    type Output = Result<Slot, Box<Refusal>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Granted(slot) => Poll::Ready(Ok(slot)),
            State::Refused(refusal) => Poll::Ready(Err(refusal)),
            State::Queued { shared, ticket, waiter } => {
                let mut waiting = waiter.lock();
                match std::mem::replace(&mut *waiting, Waiting::Taken) {
                    Waiting::Granted(grant) => Poll::Ready(Ok(Slot::new(shared, grant))),
                    Waiting::Refused(refusal) => Poll::Ready(Err(refusal)),
                    Waiting::Queued(old) => {
                        let waker = old.filter(|w| w.will_wake(cx.waker()));
                        *waiting = Waiting::Queued(Some(waker.unwrap_or_else(|| cx.waker().clone())));
                        drop(waiting);
                        self.state = State::Queued { shared, ticket, waiter };
                        Poll::Pending
                    }
                    Waiting::Taken => Poll::Pending,
                }
            }
            // Polled after it was ready: the contract of futures leaves this open; waiting for ever is harmless.
            State::Done => Poll::Pending,
        }
    }
}

impl Drop for SlotRequest {
    fn drop(&mut self) {
        if let State::Queued { shared, ticket, waiter } = &self.state {
            let now = shared.clock.now();
            let wakers = shared.lock().forget(now, *ticket, waiter);
            wake(wakers);
        }
    }
}
