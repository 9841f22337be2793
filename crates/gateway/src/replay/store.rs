//! All answers that are kept: by the caller's key, and by the id of their request.
//!
//! Memory is bounded in all and for each answer, and counted exactly: an answer holds its part until the last who reads
//! it is gone. When there is none left, finished answers go: of the tenant that holds most of it, the oldest first. So a
//! tenant that fills it pushes out its own.
//!
//! Invariant: a tenant is part of every key that an answer is found by.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{Clock, Code, Error, KeyId, RequestId, RetryHint, TenantId, Tick};
use parking_lot::Mutex;
use pipeline::task;

use super::answer::{Answer, OVERHEAD, Phase, Reader};
use super::events::Behind;
use super::journal::{NoPlace, PIECE, SLACK};

/// What every answer under way holds: its overhead, and room for one piece.
const FLOOR: usize = OVERHEAD + SLACK + PIECE;
/// It grows by this much.
const STEP: usize = 32 << 10;
/// When a caller for whom there was no room should come back.
const BACK: Duration = Duration::from_secs(1);

/// How much is kept of answers, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// All answers together, in bytes.
    pub memory: usize,
    /// One answer, in bytes: of a longer one the beginning is dropped.
    pub answer: usize,
    /// For how long an answer is kept behind its end.
    pub keep: Duration,
    /// For how long an answer may go on without a reader.
    pub resume: Duration,
}

impl Default for Replay {
    /// 64 MB, 4 MB, 10 min, 5 min.
    fn default() -> Self {
        Replay {
            memory: 64_000_000,
            answer: 4_000_000,
            keep: Duration::from_secs(600),
            resume: Duration::from_secs(300),
        }
    }
}

/// What a caller says twice to mean the same request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    /// The API key it came with: two of one tenant may not be allowed the same.
    pub(crate) key: Option<KeyId>,
    /// As the caller chose it.
    pub(crate) word: Box<str>,
}

/// What a request asks of the store.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Whose memory the answer takes while it is under way.
    pub(crate) tenant: TenantId,
    pub(crate) key: Option<Key>,
    /// The hash of what is asked.
    pub(crate) asked: [u8; 32],
    /// The last event that the caller has.
    pub(crate) last: Option<u64>,
    /// How long it goes on without a reader.
    pub(crate) window: Duration,
}

/// Who makes the answer.
#[derive(Debug)]
pub(crate) enum Entered {
    /// This request: it has to drive the answer.
    Leads(Reader),
    /// Another one, under way or at its end.
    Joins(Reader),
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Replays {
    settings: Replay,
    used: Arc<AtomicUsize>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<Key, Arc<Answer>>,
    by_id: HashMap<(TenantId, RequestId), Arc<Answer>>,
    over: HashMap<TenantId, Over>,
    /// What each tenant's answers under way hold.
    under_way: HashMap<TenantId, Arc<AtomicUsize>>,
}

/// A tenant's answers that are at their end.
#[derive(Debug, Default)]
struct Over {
    /// The oldest first.
    answers: VecDeque<(Option<RequestId>, Arc<Answer>)>,
    /// What they hold.
    bytes: usize,
}

impl Replays {
    pub(crate) fn new(settings: Replay) -> Self {
        Replays { settings, used: Arc::default(), kept: Arc::default() }
    }

    pub(crate) fn settings(&self) -> &Replay {
        &self.settings
    }

    /// Bytes that answers hold.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Finds the answer of a request, or makes room for a new one.
    ///
    /// # Errors
    /// `idempotency_key_reused` when the key belongs to another request; `not_resumable` when what the caller wants to
    /// read is not kept; `overloaded` when there is no room.
    pub(crate) fn enter(&self, wish: Wish, now: Tick) -> Result<Entered, Error> {
        let mut kept = self.kept.lock();
        let found = wish.key.as_ref().and_then(|k| kept.by_key.get(k)).cloned();
        let found = found.filter(|a| self.can_be_read(a, now));
        if let Some(answer) = found {
            match (answer.replays(), wish.last) {
                (true, _) | (false, Some(_)) if answer.asked != wish.asked => return Err(reused()),
                (_, Some(last)) => {
                    // Looking for the place takes its time.
                    drop(kept);
                    return self::behind(&answer, last).map(Entered::Joins);
                }
                (true, None) => match answer.attach(0) {
                    Ok(reader) => return Ok(Entered::Joins(reader)),
                    Err(NoPlace::Crowded) => return Err(crowded()),
                    // Its beginning is gone: it is over and asked again, or it is waited for.
                    Err(_) if answer.phase() != Phase::Running => {}
                    Err(_) => return Err(headless()),
                },
                // It failed in a way that another try may mend: this is that try.
                (false, None) => {}
            }
        } else if wish.last.is_some() {
            return Err(not_resumable());
        }
        let own = Arc::clone(kept.under_way.entry(wish.tenant).or_default());
        if !self.may_hold(&own, FLOOR) {
            return Err(own_share());
        }
        if !self.take(&mut kept, FLOOR) {
            return Err(no_room());
        }
        let used = (Arc::clone(&self.used), own);
        let answer = Answer::new(wish.key, wish.asked, wish.window, FLOOR, used);
        let reader = answer.attach(0).map_err(|_| no_room())?;
        if let Some(key) = &answer.key {
            kept.by_key.insert(key.clone(), Arc::clone(&answer));
        }
        Ok(Entered::Leads(reader))
    }

    /// The answer has an id by which its tenant finds it.
    pub(crate) fn name(&self, tenant: &TenantId, id: RequestId, answer: &Arc<Answer>) {
        self.kept.lock().by_id.insert((tenant.clone(), id), Arc::clone(answer));
    }

    /// The answer of a tenant's own request.
    pub(crate) fn find(&self, tenant: &TenantId, id: RequestId, now: Tick) -> Option<Arc<Answer>> {
        let found = self.kept.lock().by_id.get(&(tenant.clone(), id)).cloned();
        found.filter(|a| self.can_be_read(a, now))
    }

    fn can_be_read(&self, answer: &Answer, now: Tick) -> bool {
        match answer.phase() {
            Phase::Running => true,
            Phase::Ended => now.since(answer.over()) < self.settings.keep,
            Phase::Left | Phase::Broken => false,
        }
    }

    /// Gives an answer more room, if there is any and it may have it.
    pub(crate) fn grow(&self, answer: &Answer) -> bool {
        let most = self.settings.answer.max(PIECE) + OVERHEAD + SLACK;
        let more = most.saturating_sub(answer.granted()).min(STEP);
        if more == 0 || !self.may_hold(answer.under_way(), more) || !self.take(&mut self.kept.lock(), more) {
            return false;
        }
        answer.grant(more);
        true
    }

    /// An answer is over. It is kept for repeats and for readers that come back, unless `forget`.
    pub(crate) fn over(&self, tenant: &TenantId, id: Option<RequestId>, answer: &Arc<Answer>, forget: bool) {
        let mut kept = self.kept.lock();
        if forget {
            kept.remove(tenant, id, answer);
        } else {
            let over = kept.over.entry(tenant.clone()).or_default();
            over.bytes += answer.granted();
            over.answers.push_back((id, Arc::clone(answer)));
        }
    }

    /// Whether a tenant whose answers under way hold `own` may hold so much more: they cannot be dropped for anybody, so that
    /// they have half of all at most.
    fn may_hold(&self, own: &AtomicUsize, bytes: usize) -> bool {
        own.load(Ordering::Acquire).saturating_add(bytes) <= self.settings.memory / 2
    }

    /// Takes bytes, at the cost of finished answers if need be.
    fn take(&self, kept: &mut Kept, bytes: usize) -> bool {
        loop {
            let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.settings.memory)
            });
            if taken.is_ok() {
                return true;
            }
            if !kept.evict_one() {
                return false;
            }
        }
    }

    /// Drops what is kept for too long.
    pub(crate) fn sweep(&self, now: Tick) {
        let mut old = Vec::new();
        let mut kept = self.kept.lock();
        for (tenant, over) in &mut kept.over {
            while over.answers.front().is_some_and(|(_, a)| now.since(a.over()) >= self.settings.keep) {
                old.extend(over.take(0).map(|(id, a)| (tenant.clone(), id, a)));
            }
        }
        kept.over.retain(|_, over| !over.answers.is_empty());
        kept.under_way.retain(|_, own| Arc::strong_count(own) > 1);
        for (tenant, id, answer) in &old {
            kept.remove(tenant, *id, answer);
        }
    }

    /// Sweeps for as long as it is polled.
    pub(crate) async fn look(self, clock: Arc<dyn Clock>) {
        let pause = (self.settings.keep / 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            task::sleep(pause).await;
            self.sweep(clock.now());
        }
    }
}

impl Over {
    fn take(&mut self, n: usize) -> Option<(Option<RequestId>, Arc<Answer>)> {
        let taken = self.answers.remove(n)?;
        self.bytes -= taken.1.granted();
        Some(taken)
    }
}

impl Kept {
    /// Drops a finished answer that nobody reads: the oldest, of the tenant whose finished answers hold most.
    fn evict_one(&mut self) -> bool {
        let mut tenants: Vec<(usize, &TenantId)> = self.over.iter().map(|(t, o)| (o.bytes, t)).collect();
        tenants.sort_unstable();
        let unread = |o: &Over| o.answers.iter().position(|(_, a)| a.readers() == 0);
        let found = tenants.iter().rev().find_map(|(_, t)| Some(((*t).clone(), unread(self.over.get(*t)?)?)));
        let Some((tenant, n)) = found else { return false };
        let Some(over) = self.over.get_mut(&tenant) else { return false };
        let taken = over.take(n);
        if over.answers.is_empty() {
            self.over.remove(&tenant);
        }
        let Some((id, answer)) = taken else { return false };
        self.remove(&tenant, id, &answer);
        true
    }

    /// Nobody finds it any more.
    fn remove(&mut self, tenant: &TenantId, id: Option<RequestId>, answer: &Arc<Answer>) {
        let own = |found: Option<&Arc<Answer>>| found.is_some_and(|a| Arc::ptr_eq(a, answer));
        if let Some(key) = &answer.key
            && own(self.by_key.get(key))
        {
            self.by_key.remove(key);
        }
        if let Some(id) = id {
            let id = (tenant.clone(), id);
            if own(self.by_id.get(&id)) {
                self.by_id.remove(&id);
            }
        }
    }
}

/// A reader of what comes behind an event. An answer that is no stream has no events, and is read from its beginning.
pub(crate) fn behind(answer: &Arc<Answer>, last: u64) -> Result<Reader, Error> {
    let place = match answer.head() {
        Some(head) if head.events => match answer.behind(last) {
            Behind::At(at) => at,
            Behind::Dropped => return Err(not_resumable()),
            // An event that it does not have is of an answer before it.
            Behind::Ahead => return Err(not_its_own()),
            Behind::Unnumbered => {
                let m = "the events of this answer have no numbers: ask with `forebay-resume` to get them";
                return Err(Error::new(Code::NotResumable, m));
            }
        },
        Some(_) => 0,
        None => return Err(not_resumable()),
    };
    answer.attach(place).map_err(|e| if e == NoPlace::Crowded { crowded() } else { not_resumable() })
}

/// A key belongs to another request.
pub(crate) fn reused() -> Error {
    let m = "the idempotency key was used for another request: take a new key for a new request";
    Error::new(Code::IdempotencyKeyReused, m).param("idempotency-key")
}

pub(crate) fn not_resumable() -> Error {
    let m = "what comes behind that event is not kept (any more): ask again under a new key, without Last-Event-ID";
    Error::new(Code::NotResumable, m).param("last-event-id")
}

/// Of a request by its id.
pub(crate) fn unknown() -> Error {
    let m = "no answer of that id is kept (any more): kept are streams asked for with Idempotency-Key or forebay-resume, and of pipelines with `resume`";
    Error::new(Code::NotResumable, m).param("id")
}

fn not_its_own() -> Error {
    let m = "this answer has no event of that id (yet): it is one of another answer, which was before it; ask again without Last-Event-ID";
    Error::new(Code::NotResumable, m).param("last-event-id")
}

fn headless() -> Error {
    let m = "the answer under this key goes on, and its beginning is not kept: read on with Last-Event-ID, or wait for its end";
    Error::new(Code::NotResumable, m).param("idempotency-key")
}

fn crowded() -> Error {
    let m = "the answer has as many readers as it may have: ask again in a moment";
    Error::new(Code::Overloaded, m).retry(RetryHint::After(BACK))
}

fn own_share() -> Error {
    let m = "the tenant's answers under way hold as much memory as one tenant's may: ask again in a moment, or without Idempotency-Key";
    Error::new(Code::Overloaded, m).retry(RetryHint::After(BACK)).limit_source("server.replay.memory")
}

fn no_room() -> Error {
    let m = "the server keeps as many answers as it can: ask again in a moment, or without Idempotency-Key";
    Error::new(Code::Overloaded, m).retry(RetryHint::After(BACK))
}
