//! Tells others what became of runs, and what happened in the registry: every message until its receiver has it, or has had every
//! chance.
//!
//! A message is in the outbox by the transaction that ended its run or changed the registry, so none is forgotten and none is
//! about what did not happen. It is delivered at least once, always under the same id, by which a receiver knows it again.
//!
//! The tenants take turns, and each tenant's receivers: a receiver that swallows everything holds up no message but its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Clock, Secret, TenantId, UnixMillis};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use store::{DeliveryState, DueDelivery, RunStore, SecretNumber, Tried};
use tokio::sync::Notify;

use super::counts::Counts;
use super::retry::later;
use crate::task;

/// The pause before each try, in seconds (Standard Webhooks).
const SCHEDULE: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest `Retry-After` that is honoured.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Messages on their way at once: all, of a tenant, and of a tenant to one receiver. A tenant with none on its way sends one
/// also when others have taken all, up to the last bound.
const AT_ONCE: usize = 128;
const OF_TENANT: usize = 16;
const TO_RECEIVER: usize = 8;
const AT_MOST: usize = 1_024;
/// How long messages are signed with the secret before the current one too.
const OVERLAP: Duration = Duration::from_secs(86_400);
/// How long a message is its taker's: longer than any try.
const LEASE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(30);
const STORAGE: Duration = Duration::from_secs(1);

/// A message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for every try.
    pub id: String,
    /// Whom it is about.
    pub tenant: TenantId,
    /// What it is signed with.
    pub signed: Signed,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
}

/// What a message is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// The tenant's secrets of these numbers, the current one first: Standard Webhooks.
    Tenant(Vec<u32>),
    /// The own secret of a webhook of the registry, as [`Deliver::seal`] gave it, in MLflow's headers; nothing when it has none.
    Registry {
        /// The webhook's id.
        webhook: String,
        /// Sealed.
        secret: Option<String>,
    },
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

    /// The same of what the registry tells, which no secret of the configuration signs.
    ///
    /// # Errors
    /// The reason, in words for who gave the address.
    fn check_address(&self, url: &str) -> Result<(), String> {
        self.check(url)
    }

    /// Brings one. Ends within a time of its own.
    fn deliver(&self, message: Message) -> BoxFuture<'_, Delivered>;

    /// The same, with the beginning of what the receiver said, for somebody who tries it out.
    fn try_out(&self, message: Message) -> BoxFuture<'_, (Delivered, String)> {
        Box::pin(async { (self.deliver(message).await, String::new()) })
    }

    /// Seals the secret of a webhook of the registry, so that a database may keep it; nobody else opens it, and for no other webhook.
    ///
    /// # Errors
    /// It cannot, in words.
    fn seal(&self, secret: &Secret, webhook: &str) -> Result<String, String> {
        let _ = (secret, webhook);
        Err("nothing is here to seal secrets with".to_owned())
    }
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

/// Which secrets a message is signed with: the current one, and the one before it for a while.
pub fn signed_with(secret: SecretNumber, now: UnixMillis) -> Vec<u32> {
    let before = secret.since.filter(|t| now < later(*t, OVERLAP)).and_then(|_| secret.number.checked_sub(1));
    std::iter::once(secret.number).chain(before).collect()
}

/// Whom messages go to that are on their way, by their ids.
type OnTheirWay = HashMap<String, (TenantId, String)>;

/// Those that go next: the tenant with the fewest on their way first, of its receivers the one with the fewest.
fn choose(mut due: Vec<DueDelivery>, on_their_way: &OnTheirWay) -> Vec<DueDelivery> {
    let mut tenants: HashMap<TenantId, usize> = HashMap::new();
    let mut receivers: HashMap<(TenantId, String), usize> = HashMap::new();
    let mut all = on_their_way.len();
    for whom in on_their_way.values() {
        *tenants.entry(whom.0.clone()).or_default() += 1;
        *receivers.entry(whom.clone()).or_default() += 1;
    }
    due.retain(|d| !on_their_way.contains_key(&d.id));
    let mut chosen = Vec::new();
    loop {
        let first = due.iter().enumerate().filter_map(|(n, d)| {
            let tenant = tenants.get(&d.tenant).copied().unwrap_or(0);
            let whom = (d.tenant.clone(), d.receiver.clone());
            let receiver = receivers.get(&whom).copied().unwrap_or(0);
            let room = (all < AT_ONCE && tenant < OF_TENANT && receiver < TO_RECEIVER)
                || (all < AT_MOST && tenant == 0);
            room.then_some(((tenant, receiver, d.next_at, &d.id), n))
        });
        let Some((_, n)) = first.min() else { return chosen };
        let next = due.swap_remove(n);
        all += 1;
        *tenants.entry(next.tenant.clone()).or_default() += 1;
        *receivers.entry((next.tenant.clone(), next.receiver.clone())).or_default() += 1;
        chosen.push(next);
    }
}

/// The outbox at work. Clones are the same one.
#[derive(Clone)]
pub struct Outbox {
    store: Arc<dyn RunStore>,
    clock: Arc<dyn Clock>,
    deliver: Arc<dyn Deliver>,
    told: Arc<Notify>,
    counts: Arc<Counts>,
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
        counts: Arc<Counts>,
    ) -> Self {
        Outbox { store, clock, deliver, told, counts }
    }

    /// Delivers for ever. Dropped in the middle, what was on its way is tried again by whoever is next.
    pub async fn work(self) {
        let mut sending = FuturesUnordered::new();
        let mut on_their_way = OnTheirWay::new();
        loop {
            let now = self.clock.wall();
            // Behind those that are on their way, and are due until they are noted.
            let each = u32::try_from(2 * TO_RECEIVER).unwrap_or(u32::MAX);
            let looked = async {
                let due = self.store.deliveries_due(now, each).await?;
                Ok::<_, store::Error>((due, self.store.next_delivery(now).await?))
            };
            let pause = match looked.await {
                Ok((due, next)) => {
                    for next in choose(due, &on_their_way) {
                        on_their_way.insert(next.id.clone(), (next.tenant, next.receiver));
                        sending.push(self.once(next.id));
                    }
                    let ms = next.map(|t| u64::try_from(t.0.saturating_sub(now.0)).unwrap_or(0));
                    ms.map_or(LOOK, Duration::from_millis).min(LOOK)
                }
                Err(e) => {
                    tracing::error!(error = %e, "failed to read the outbox");
                    STORAGE
                }
            };
            tokio::select! {
                () = self.told.notified() => {}
                () = task::sleep(pause) => {}
                Some(id) = sending.next() => { on_their_way.remove(&id); }
            }
        }
    }

    /// One try, noted. Its id.
    async fn once(&self, id: String) -> String {
        loop {
            match self.send(&id).await {
                Ok(()) => return id,
                Err(e) => tracing::error!(error = %e, "failed to read a webhook"),
            }
            task::sleep(STORAGE).await;
        }
    }

    async fn send(&self, id: &str) -> Result<(), store::Error> {
        // It may have been removed with its run, or another process has it.
        let taken = self.store.take_delivery(id, self.clock.wall(), LEASE).await?;
        let Some(d) = taken else { return Ok(()) };
        let about = d.webhook.as_ref().map_or_else(|| d.run.to_string(), |w| format!("webhook {}", w.id));
        let signed = match d.webhook {
            Some(w) => Signed::Registry { webhook: w.id, secret: w.secret },
            None => Signed::Tenant(signed_with(self.store.secret(&d.tenant).await?, self.clock.wall())),
        };
        let message = Message { id: d.id.clone(), tenant: d.tenant, signed, url: d.url, body: d.body };
        let came = self.deliver.deliver(message).await;
        let now = self.clock.wall();
        let hash = blake3::hash(d.id.as_bytes());
        let jitter = u64::from_le_bytes(*hash.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
        let tried = next_delivery(d.tries, now, &came, jitter.rotate_left(d.tries));
        if let Some(problem) = &tried.problem {
            tracing::warn!(webhook = %d.id, %about, state = tried.state.as_str(), "a webhook was not taken: {problem}");
        }
        self.counts.tried(tried.state);
        // It was sent: noting that is tried until it is noted, and it is not sent again for that.
        while let Err(e) = self.store.tried(&d.id, d.tries, &tried).await {
            tracing::error!(error = %e, "failed to note what became of a webhook");
            task::sleep(STORAGE).await;
        }
        Ok(())
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

    fn due(tenant: &str, receiver: &str, n: i64) -> DueDelivery {
        let id = format!("{tenant}-{receiver}-{n}");
        DueDelivery { id, tenant: tenant.into(), receiver: receiver.into(), next_at: UnixMillis(n) }
    }

    #[test]
    fn a_receiver_that_swallows_everything_holds_up_no_message_but_its_own() {
        let mut on_their_way = OnTheirWay::new();
        let send = |due: Vec<DueDelivery>, way: &mut OnTheirWay| {
            let chosen = choose(due, way);
            chosen.iter().for_each(|d| _ = way.insert(d.id.clone(), (d.tenant.clone(), d.receiver.clone())));
            chosen.iter().map(|d| d.id.clone()).collect::<Vec<_>>()
        };
        let flood = |tenant: &str| (0..99).map(|n| due(tenant, "hole", n)).collect::<Vec<_>>();
        assert_eq!(send(flood("a"), &mut on_their_way).len(), TO_RECEIVER);
        assert_eq!(send(flood("a"), &mut on_their_way), [""; 0], "its own wait");
        // Its tenant's other receivers, up to what a tenant may have.
        let more = [due("a", "good", 500), due("a", "good", 501)];
        assert_eq!(send([flood("a"), more.to_vec()].concat(), &mut on_their_way).len(), 2);
        let many = (0..99).map(|n| due("a", &format!("hole {n}"), n)).collect();
        assert_eq!(send(many, &mut on_their_way).len(), OF_TENANT - TO_RECEIVER - 2);
        // Many tenants with holes take all there is, and one more still sends.
        for n in 0..40 {
            let tenant = format!("t{n}");
            send([flood(&tenant), vec![due(&tenant, "other hole", 1)]].concat(), &mut on_their_way);
        }
        assert!(on_their_way.len() >= AT_ONCE);
        assert_eq!(send(vec![due("late", "good", 1)], &mut on_their_way), ["late-good-1"]);
    }

    #[test]
    fn a_tenant_sends_to_its_receivers_by_turns_and_the_longest_due_first() {
        let mixed = vec![due("a", "x", 1), due("a", "x", 2), due("a", "y", 3), due("b", "x", 9)];
        let order: Vec<String> = choose(mixed, &OnTheirWay::new()).into_iter().map(|d| d.id).collect();
        assert_eq!(order, ["a-x-1", "b-x-9", "a-y-3", "a-x-2"]);
    }

    #[test]
    fn a_day_long_messages_are_signed_with_the_secret_before_too() {
        let of = |number, since: Option<i64>| SecretNumber { number, since: since.map(UnixMillis) };
        let day = 86_400_000;
        assert_eq!(signed_with(of(0, None), UnixMillis(5)), [0]);
        assert_eq!(signed_with(of(3, Some(1_000)), UnixMillis(1_000 + day - 1)), [3, 2]);
        assert_eq!(signed_with(of(3, Some(1_000)), UnixMillis(1_000 + day)), [3]);
    }
}
