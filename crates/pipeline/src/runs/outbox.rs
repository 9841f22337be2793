//! Tells others what became of runs: every message until its receiver has it, or has had every chance.
//!
//! A message is in the outbox by the transaction that ended its run, so none is forgotten and none is about what did not
//! happen. It is delivered at least once, always under the same id, by which a receiver knows it again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Clock, TenantId, UnixMillis};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use store::{Delivery, DeliveryState, RunStore, Tried};
use tokio::sync::Notify;

use super::retry::later;
use crate::task;

/// The pause before each try, in seconds (Standard Webhooks).
const SCHEDULE: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest `Retry-After` that is honoured.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Messages on their way at once.
const AT_ONCE: usize = 16;
const LOOK: Duration = Duration::from_secs(30);
const STORAGE: Duration = Duration::from_secs(1);

/// A message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for every try.
    pub id: String,
    /// Whom it is about.
    pub tenant: TenantId,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver answered.
    Answer {
        /// Its status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// It could not be asked; perhaps later.
    Unreachable(String),
    /// It may not be asked, now or ever.
    Forbidden(String),
}

/// Whoever brings messages.
pub trait Deliver: Send + Sync {
    /// Why nothing can be brought to that address, as far as it can be said without asking.
    ///
    /// # Errors
    /// The reason, in words for who gave the address.
    fn check(&self, url: &str) -> Result<(), String>;

    /// Brings one. Ends within a time of its own.
    fn deliver(&self, message: Message) -> BoxFuture<'_, Delivered>;
}

/// What a try means for a delivery that was tried `tries` times before. 2xx is success, 410 the end of the receiver, all else
/// a failure, redirects too; `jitter` is any number.
pub fn next_delivery(tries: u32, at: UnixMillis, came: &Delivered, jitter: u64) -> Tried {
    let tried = |state, next_at, answer, problem| Tried { at, state, next_at, answer, problem };
    let again = |answer, problem: String, retry_after: Option<Duration>| {
        let pause = usize::try_from(tries).ok().and_then(|n| SCHEDULE.get(n + 1));
        match pause {
            None => tried(DeliveryState::Failed, None, answer, Some(problem)),
            Some(seconds) => {
                // Up to a tenth more: many that failed together do not come back together.
                let pause = Duration::from_millis(seconds * (1_000 + jitter % 101));
                let pause = pause.max(retry_after.unwrap_or_default().min(LONGEST));
                tried(DeliveryState::Waiting, Some(later(at, pause)), answer, Some(problem))
            }
        }
    };
    match came {
        Delivered::Answer { status: status @ 200..=299, .. } => {
            tried(DeliveryState::Delivered, None, Some(*status), None)
        }
        Delivered::Answer { status: 410, .. } => {
            tried(DeliveryState::Disabled, None, Some(410), Some("the receiver is gone for good".into()))
        }
        Delivered::Answer { status, retry_after } => {
            again(Some(*status), format!("the receiver answered {status}"), *retry_after)
        }
        Delivered::Unreachable(why) => again(None, why.clone(), None),
        Delivered::Forbidden(why) => tried(DeliveryState::Failed, None, None, Some(why.clone())),
    }
}

/// The outbox at work.
pub struct Outbox {
    store: Arc<dyn RunStore>,
    clock: Arc<dyn Clock>,
    deliver: Arc<dyn Deliver>,
    told: Arc<Notify>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbox")
    }
}

impl Outbox {
    /// Over a store; `told` is notified when a message is put into it.
    pub fn new(
        store: Arc<dyn RunStore>,
        clock: Arc<dyn Clock>,
        deliver: Arc<dyn Deliver>,
        told: Arc<Notify>,
    ) -> Self {
        Outbox { store, clock, deliver, told }
    }

    /// Delivers for ever. Dropped in the middle, what was on its way is tried again by whoever is next.
    pub async fn work(self) {
        let mut on_their_way = FuturesUnordered::new();
        let mut ids: HashSet<String> = HashSet::new();
        loop {
            let now = self.clock.wall();
            let limit = u32::try_from(AT_ONCE + ids.len()).unwrap_or(u32::MAX);
            let mut pause = LOOK;
            match self.store.deliveries_due(now, limit).await {
                Ok(due) => {
                    for delivery in due {
                        if ids.len() < AT_ONCE && ids.insert(delivery.id.clone()) {
                            on_their_way.push(self.once(delivery));
                        }
                    }
                }
                Err(e) => {
                    tracing::error!(error = %e, "failed to read the outbox");
                    pause = STORAGE;
                }
            }
            if ids.is_empty()
                && let Ok(Some(next)) = self.store.next_delivery().await
            {
                let ms = u64::try_from(next.0.saturating_sub(now.0)).unwrap_or(0);
                pause = pause.min(Duration::from_millis(ms));
            }
            tokio::select! {
                () = self.told.notified() => {}
                () = task::sleep(pause) => {}
                Some(id) = on_their_way.next() => { ids.remove(&id); }
            }
        }
    }

    async fn once(&self, d: Delivery) -> String {
        let message = Message { id: d.id.clone(), tenant: d.tenant, url: d.url, body: d.body };
        let came = self.deliver.deliver(message).await;
        let now = self.clock.wall();
        let hash = blake3::hash(d.id.as_bytes());
        let jitter = u64::from_le_bytes(*hash.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
        let tried = next_delivery(d.tries, now, &came, jitter.rotate_left(d.tries));
        if let Some(problem) = &tried.problem {
            tracing::warn!(webhook = %d.id, run = %d.run, state = tried.state.as_str(), "a webhook was not taken: {problem}");
        }
        while let Err(e) = self.store.tried(&d.id, d.tries, &tried).await {
            tracing::error!(error = %e, "failed to note what became of a webhook");
            task::sleep(STORAGE).await;
        }
        d.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Delivered {
        Delivered::Answer { status, retry_after: None }
    }

    #[test]
    fn only_2xx_is_success_a_redirect_fails_and_410_ends_the_receiver() {
        for (status, state) in [
            (200, DeliveryState::Delivered),
            (204, DeliveryState::Delivered),
            (301, DeliveryState::Waiting),
            (307, DeliveryState::Waiting),
            (400, DeliveryState::Waiting),
            (404, DeliveryState::Waiting),
            (410, DeliveryState::Disabled),
            (500, DeliveryState::Waiting),
        ] {
            assert_eq!(next_delivery(0, UnixMillis(0), &answer(status), 0).state, state, "{status}");
        }
    }

    #[test]
    fn the_schedule_is_that_of_the_standard_and_ends_with_the_tenth_try() {
        let mut waits = vec![0];
        for tries in 0..9 {
            let t = next_delivery(tries, UnixMillis(0), &answer(500), u64::from(tries) * 977);
            let (ms, wanted) =
                (t.next_at.unwrap().0, i64::try_from(SCHEDULE[tries as usize + 1]).unwrap() * 1_000);
            assert!((wanted..=wanted * 11 / 10).contains(&ms), "{tries}: {ms}");
            waits.push(ms);
        }
        let last = next_delivery(9, UnixMillis(0), &answer(500), 0);
        assert_eq!((last.state, last.next_at), (DeliveryState::Failed, None));
        assert_eq!(waits.len(), 10);
    }

    #[test]
    fn a_receiver_that_names_a_time_is_left_alone_until_then() {
        let busy = Delivered::Answer { status: 503, retry_after: Some(Duration::from_secs(90)) };
        assert_eq!(next_delivery(0, UnixMillis(1_000), &busy, 0).next_at, Some(UnixMillis(91_000)));
        let never = Delivered::Answer { status: 503, retry_after: Some(Duration::from_secs(1 << 40)) };
        assert_eq!(next_delivery(0, UnixMillis(0), &never, 0).next_at, Some(UnixMillis(86_400_000)));
    }

    #[test]
    fn an_address_that_may_not_be_asked_is_not_asked_again() {
        let t = next_delivery(0, UnixMillis(0), &Delivered::Forbidden("private".into()), 0);
        assert_eq!((t.state, t.next_at), (DeliveryState::Failed, None));
    }
}
