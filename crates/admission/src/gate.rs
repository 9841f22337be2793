//! The thread-safe handle around the pure parts: one lock for rates and budgets, one for each model.
//!
//! Every step holds one lock for a few map look-ups, wakes nobody under it and never waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ahash::AHashMap;
use contract::{Clock, ModelName, Money, TenantId, Tick, Usage};

use crate::budget::Period;
use crate::desk::{Desk, LeaseId};
use crate::fair_queue::LaneSnapshot;
use crate::model::{Ask, Asked, Model, Outlook};
use crate::rates::RateHeaders;
use crate::refusal::Refusal;
use crate::reservation::{Amount, Demand};
use crate::room::Room;
use crate::scope::{Caller, Scope};
use crate::settings::Settings;
use crate::slot::{Shared, Slot, SlotRequest, wake};

/// Admission for one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    desk: Mutex<Desk>,
    lines: RwLock<Lines>,
}

#[derive(Debug)]
struct Lines {
    settings: Arc<Settings>,
    models: AHashMap<ModelName, Arc<Shared>>,
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSnapshot {
    /// Which.
    pub model: ModelName,
    /// Slots taken, granted ones not yet seen included.
    pub in_flight: u32,
    /// Slots there are.
    pub limit: u32,
    /// Requests that wait.
    pub queued_entries: usize,
    /// Their tokens.
    pub queued_tokens: u64,
    /// By tenant and class.
    pub lanes: Vec<LaneSnapshot>,
    /// The wait behind all that waits; zero when a slot is free, `None` before anything was measured.
    pub expected_wait: Option<Duration>,
}

/// What is held at one moment: for metrics, and to prove that nothing was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every model that was asked for, by name.
    pub models: Vec<ModelSnapshot>,
    /// Requests that entered and did not settle.
    pub leases: usize,
    /// What they hold together.
    pub reserved: Amount,
    /// The same as each scope counts it, where there is anything.
    pub held_by_scope: Vec<(Scope, Amount)>,
    /// Those of them that stream.
    pub streams: usize,
    /// Streams as each scope counts them, where there are any.
    pub streams_by_scope: Vec<(Scope, u32)>,
    /// Leases taken back for silence whose entry still exists.
    pub expired: usize,
}

impl Snapshot {
    /// Whether no permit, lease, reservation or ticket is left.
    pub fn is_empty(&self) -> bool {
        self.leases == 0
            && self.reserved == Amount::ZERO
            && self.held_by_scope.is_empty()
            && self.streams == 0
            && self.streams_by_scope.is_empty()
            && self.expired == 0
            && self.models.iter().all(|m| m.in_flight == 0 && m.queued_entries == 0 && m.lanes.is_empty())
    }
}

impl Gate {
    /// A gate with these settings and full allowances.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let settings = Arc::new(settings);
        let desk = Mutex::new(Desk::new(settings.clone()));
        let lines = RwLock::new(Lines { settings, models: AHashMap::new() });
        Gate { inner: Arc::new(Inner { clock, desk, lines }) }
    }

    /// Takes over other settings. Counters, queues and what runs stay; a model that they no longer list is forgotten as
    /// [`Gate::forget_unlisted`] says.
    pub fn reconfigure(&self, settings: Settings) {
        let (settings, now) = (Arc::new(settings), self.inner.clock.now());
        let mut wakers = Vec::new();
        {
            let mut lines = self.inner.lines.write().unwrap_or_else(PoisonError::into_inner);
            self.inner.desk().reconfigure(now, settings.clone());
            for (name, shared) in &lines.models {
                wakers.extend(shared.lock().reconfigure(now, settings.model(name)));
            }
            lines.settings = settings;
        }
        wake(wakers);
        self.forget_unlisted();
    }

    /// Forgets the models that the settings do not list and at which nothing runs or waits: to be asked again from time to
    /// time, as what runs at such a model ends. Settings that list no model at all say nothing of any.
    pub fn forget_unlisted(&self) {
        let mut lines = self.inner.lines.write().unwrap_or_else(PoisonError::into_inner);
        let Lines { settings, models } = &mut *lines;
        if !settings.models.is_empty() {
            // Whoever has or wants a slot holds the model's state, and gets at it under the lock that is held here.
            models.retain(|name, shared| settings.models.contains_key(name) || Arc::strong_count(shared) > 1);
        }
    }

    /// Lets a request in, or says which limit stops it. All or nothing over every scope; never waits.
    ///
    /// # Errors
    /// The first limit that is short, in the order key, user, tenant, pipeline, model.
    pub fn enter(&self, caller: &Caller, demand: &Demand) -> Result<Entry, Box<Refusal>> {
        let (now, wall) = (self.inner.clock.now(), self.inner.clock.wall());
        let (lease, headers, reserved) = self.inner.desk().enter(now, wall, caller, demand)?;
        Ok(Entry { inner: self.inner.clone(), lease, headers, reserved, settled: None })
    }

    /// Asks for a slot of `model`. The request is in the queue when this returns; see [`SlotRequest`].
    ///
    /// `model` is a name of the configuration (or of one of its endpoints), never a caller's text: its state is kept.
    pub fn slot(&self, model: &ModelName, tenant: &TenantId, ask: Ask) -> SlotRequest {
        self.asked(model, tenant, ask, None)
    }

    /// The same for a request that nobody has begun to work for: it is refused at once when too many would be served before
    /// it. A refusal names the time at which it has a turn, if it is sent again under its `mark`: any number that is the same
    /// both times, and best another's for another request. A mark that many share costs them order, and nothing else.
    pub fn slot_or_turn(&self, model: &ModelName, tenant: &TenantId, ask: Ask, mark: u64) -> SlotRequest {
        self.asked(model, tenant, ask, Some(mark))
    }

    fn asked(&self, model: &ModelName, tenant: &TenantId, ask: Ask, mark: Option<u64>) -> SlotRequest {
        let (shared, weight, priority) = self.line(model, tenant);
        let now = self.inner.clock.now();
        let (asked, wakers) = shared.lock().ask(now, &ask.of(tenant, weight, priority), mark);
        wake(wakers);
        match asked {
            Asked::Granted(grant) => SlotRequest::granted(Slot::new(shared, grant)),
            Asked::Queued(ticket, waiter) => SlotRequest::queued(shared, ticket, waiter),
            Asked::Refused(refusal) => SlotRequest::refused(refusal),
        }
    }

    /// Refuses a request that [`Gate::slot_or_turn`] would refuse now, or does nothing: for who wants to know before it begins
    /// anything. `mark` is asked for only when there is no room; without one it is not refused here.
    pub fn refuse(
        &self,
        model: &ModelName,
        tenant: &TenantId,
        ask: Ask,
        mark: impl FnOnce(Tick) -> Option<u64>,
    ) -> Option<Box<Refusal>> {
        let (shared, weight, priority) = self.line(model, tenant);
        let (now, work) = (self.inner.clock.now(), ask.of(tenant, weight, priority));
        if shared.lock().has_room_for(now, &work) {
            return None;
        }
        // Made out of the request's text: not under the lock.
        let mark = mark(now)?;
        shared.lock().refuse(now, &work, mark).map(Box::new)
    }

    /// What a request of this tenant would meet at `model` now. Takes the model's lock once; takes no place.
    pub fn outlook(&self, model: &ModelName, tenant: &TenantId, ask: Ask) -> Outlook {
        let (shared, weight, priority) = self.line(model, tenant);
        let now = self.inner.clock.now();
        shared.lock().outlook(now, &ask.of(tenant, weight, priority))
    }

    /// Has the endpoints of `model` say what they bear together, or (`None`) the model find that for itself.
    pub fn pool(&self, model: &ModelName, room: Option<Room>) {
        let (shared, ..) = self.line(model, &TenantId::from(""));
        let wakers = {
            let mut m = shared.lock();
            m.room = room;
            m.pump(self.inner.clock.now())
        };
        wake(wakers);
    }

    fn line(&self, model: &ModelName, tenant: &TenantId) -> (Arc<Shared>, u32, crate::Priority) {
        {
            let lines = self.inner.lines.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(shared) = lines.models.get(model) {
                let t = lines.settings.tenant(tenant);
                return (shared.clone(), t.weight, t.priority);
            }
        }
        let mut lines = self.inner.lines.write().unwrap_or_else(PoisonError::into_inner);
        let settings = lines.settings.clone();
        let shared = lines.models.entry(model.clone()).or_insert_with(|| {
            let state = Mutex::new(Model::new(model.clone(), settings.model(model)));
            Arc::new(Shared { model: state, clock: self.inner.clock.clone() })
        });
        let t = settings.tenant(tenant);
        (shared.clone(), t.weight, t.priority)
    }

    /// Sets what `scope` has spent in the running period, from the ledger's sums: at start, before anybody enters.
    pub fn restore(&self, scope: Scope, period: Period, spent: Amount) {
        let (now, wall) = (self.inner.clock.now(), self.inner.clock.wall());
        self.inner.desk().restore(now, wall, scope, period, spent);
    }

    /// What `scope` has settled and what its living requests hold in the running period.
    pub fn spent(&self, scope: &Scope, period: Period) -> (Amount, Amount) {
        let wall = self.inner.clock.wall();
        self.inner.desk().counters(wall, scope, period)
    }

    /// Takes back the leases of holders that fell silent; also done by every `enter`. Returns how many.
    pub fn expire(&self) -> usize {
        let now = self.inner.clock.now();
        self.inner.desk().expire(now)
    }

    /// What is held now. Takes every lock in turn: for metrics and tests, not for each request.
    pub fn snapshot(&self) -> Snapshot {
        let shared: Vec<(ModelName, Arc<Shared>)> = {
            let lines = self.inner.lines.read().unwrap_or_else(PoisonError::into_inner);
            lines.models.iter().map(|(n, s)| (n.clone(), s.clone())).collect()
        };
        let mut models: Vec<ModelSnapshot> =
            shared.into_iter().map(|(n, s)| of_model(n, &s.lock())).collect();
        models.sort_by(|a, b| a.model.cmp(&b.model));
        let desk = self.inner.desk();
        let (leases, reserved, streams, expired) = desk.living();
        let (held_by_scope, streams_by_scope) = (desk.held_by_scope(), desk.streams_by_scope());
        Snapshot { models, leases, reserved, held_by_scope, streams, streams_by_scope, expired }
    }
}

fn of_model(model: ModelName, m: &Model) -> ModelSnapshot {
    let free = m.has_room();
    ModelSnapshot {
        model,
        in_flight: m.in_flight,
        limit: m.limit(),
        queued_entries: m.queue.len(),
        queued_tokens: m.queue.tokens(),
        lanes: m.queue.lanes(),
        expected_wait: if free { Some(Duration::ZERO) } else { m.expected_wait(m.queue.tokens()) },
    }
}

/// A request that is in. Dropped without [`Entry::settle`] it settles at what [`Entry::used`] last said.
#[derive(Debug)]
#[must_use = "dropping an entry ends the request"]
pub struct Entry {
    inner: Arc<Inner>,
    lease: LeaseId,
    headers: RateHeaders,
    reserved: Amount,
    settled: Option<Amount>,
}

impl Entry {
    /// Says what the request has used so far (a total, not a difference) and renews its lease.
    pub fn used(&self, usage: &Usage, cost: Money) {
        let now = self.inner.clock.now();
        self.inner.desk().used(now, self.lease, Amount::of(usage, cost));
    }

    /// Ends the request at what it really used. Counts in the periods in which it entered.
    pub fn settle(mut self, usage: &Usage, cost: Money) {
        self.settled = Some(Amount::of(usage, cost));
    }

    /// Grows what it holds while its answer comes; outlives it without harm.
    pub fn growing(&self) -> Growing {
        Growing { inner: self.inner.clone(), lease: self.lease }
    }

    /// What it holds of every budget until it settles: what a crash must book for it.
    pub fn reserved(&self) -> Amount {
        self.reserved
    }

    /// The caller's rates when it entered, this request taken into account.
    pub fn rate_headers(&self) -> RateHeaders {
        self.headers
    }
}

/// Grows the hold of an entry: a reservation is capped, so an answer that passes it asks for more before it goes on.
#[derive(Debug, Clone)]
pub struct Growing {
    inner: Arc<Inner>,
    lease: LeaseId,
}

impl Growing {
    /// Holds this much in all from now on, in every budget or in none.
    ///
    /// # Errors
    /// The budget that has no room for it.
    pub fn to(&self, amount: Amount) -> Result<(), Box<Refusal>> {
        let (now, wall) = (self.inner.clock.now(), self.inner.clock.wall());
        self.inner.desk().grow(now, wall, self.lease, amount)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = self.inner.clock.now();
        self.inner.desk().settle(now, self.lease, self.settled);
    }
}
