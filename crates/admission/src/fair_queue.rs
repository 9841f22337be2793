//! Who goes next: a virtual token counter per tenant (VTC: Sheng et al., "Fairness in Serving Large Language Models",
//! OSDI '24), per model.
//!
//! A lane is one tenant in one priority class. Its counter grows by (input tokens at dispatch + weighted output tokens
//! as they are produced) ÷ weight; the lane with the smallest counter of the highest class that waits is served, and
//! inside a lane the earliest deadline. A lane that comes back from idle is lifted to the current minimum of its class,
//! so that nobody saves up credit.
//!
//! Bounded in tokens and in entries. When full, an arrival pushes out the last ticket of the lane that holds most for
//! its weight (of a lower class first), if that lane holds more than the arrival's own would: a flood pushes out itself.
//!
//! Tokens are what a tenant costs, and slots are what there is too little of: a flood of requests of ten words would hold every
//! slot before its counter reached that of a tenant who sends a page. So [`FairQueue::pop`] is told how many slots there are, and
//! a lane that runs less than its share of them (by weight, among those that run or wait) goes before one that does not.
//!
//! Invariants: a ticket leaves exactly once (popped, cancelled or pushed out); `pop` gives something whenever something
//! waits; a lane of the highest class that waits and runs less than its share of the slots is served before one that runs more; two
//! lanes of one class that never run empty, and of which neither runs less than its share, differ in service ÷ weight by at most 2·U, where U is the largest
//! charge a lane can still get after its last dispatch: (input + output weight × output of what runs) ÷ weight.

mod ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ahash::AHashMap;
use contract::{Deadline, TenantId, Tick};
use rustc_hash::FxHashMap;

use crate::settings::Priority;

/// Counter units a token at weight 1: divisible by every weight worth having.
const UNIT: u128 = 1_000_000;
const CLASSES: usize = 3;
/// Lanes whose last start is remembered.
const RECENT_LANES: usize = 8;
/// Who had something started so long ago may come any moment.
const RECENT: Duration = Duration::from_secs(10);
/// Lanes kept before idle ones are looked through.
const SWEEP_AT: usize = 256;

/// The bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Tokens that may wait.
    pub tokens: u64,
    /// Tickets that may wait.
    pub entries: usize,
}

/// A place in the queue. Ids of tickets that left are never mistaken for later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketId {
    index: u32,
    seq: u64,
}

/// A lane. Stays valid while something of it runs ([`FairQueue::finish`] ends that).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(u32);

/// What waits: whose it is, how urgent and how large.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// Its tenant.
    pub tenant: &'a TenantId,
    /// The tenant's weight; at least 1.
    pub weight: u32,
    /// Its class.
    pub priority: Priority,
    /// Orders tickets inside the lane.
    pub deadline: Deadline,
    /// Input tokens: its size in the queue and the charge at dispatch.
    pub tokens: u64,
}

/// What a queue says about one of its lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSnapshot {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its class.
    pub priority: Priority,
    /// Tickets that wait.
    pub entries: usize,
    /// Tokens that wait.
    pub tokens: u64,
    /// Requests that run.
    pub running: u32,
}

type Order = (u64, u64);

#[derive(Debug)]
struct Lane {
    tenant: TenantId,
    class: usize,
    priority: Priority,
    weight: u32,
    counter: u128,
    queue: BTreeMap<Order, u32>,
    tokens: u64,
    running: u32,
    /// What it adds to the weight of all that run or wait: its own weight or 0.
    counted: u32,
}

impl Lane {
    /// Its share of what runs, when those contend that do.
    fn share(&self, contending: u64) -> f64 {
        let all = contending.saturating_sub(u64::from(self.counted)) + u64::from(self.weight);
        f64::from(self.weight) / all.max(1) as f64
    }

    /// How many more of it may run, of `slots`, before it has its share.
    fn below(&self, slots: u32, contending: u64) -> f64 {
        f64::from(slots) * self.share(contending) - f64::from(self.running)
    }

    fn charge(&self, milli_tokens: u128) -> u128 {
        milli_tokens * (UNIT / 1000) / u128::from(self.weight)
    }
}

#[derive(Debug)]
struct Ticket<T> {
    lane: LaneId,
    order: Order,
    tokens: u64,
    payload: T,
}

/// The queue of one model. `T` is what the caller wants back when the ticket's turn comes.
#[derive(Debug)]
pub struct FairQueue<T> {
    bounds: Bounds,
    output_milli: u128,
    lanes: FxHashMap<LaneId, Lane>,
    by_tenant: AHashMap<TenantId, [Option<LaneId>; CLASSES]>,
    ready: [BTreeSet<(u128, LaneId)>; CLASSES],
    floor: [u128; CLASSES],
    tickets: Vec<Option<Ticket<T>>>,
    free: Vec<u32>,
    tokens: u64,
    entries: usize,
    seq: u64,
    next_lane: u32,
    sweep_at: usize,
    /// The weight of all lanes that run or wait, by class.
    contending: [u64; CLASSES],
    /// The lanes of which something was started last, the latest first.
    recent: Vec<(LaneId, Tick)>,
}

impl<T> FairQueue<T> {
    /// An empty queue. `output_weight`: what an output token counts, in input tokens.
    pub fn new(bounds: Bounds, output_weight: f64) -> Self {
        let mut queue = FairQueue {
            bounds,
            output_milli: 0,
            lanes: FxHashMap::default(),
            by_tenant: AHashMap::new(),
            ready: [const { BTreeSet::new() }; CLASSES],
            floor: [0; CLASSES],
            tickets: Vec::new(),
            free: Vec::new(),
            tokens: 0,
            entries: 0,
            seq: 0,
            next_lane: 0,
            sweep_at: SWEEP_AT,
            contending: [0; CLASSES],
            recent: Vec::with_capacity(RECENT_LANES),
        };
        queue.configure(bounds, output_weight);
        queue
    }

    /// Other bounds. What waits keeps waiting, even when it is more than the new bounds allow.
    pub fn configure(&mut self, bounds: Bounds, output_weight: f64) {
        self.bounds = bounds;
        self.output_milli = (output_weight.clamp(0.0, 1000.0) * 1000.0).round() as u128;
    }

    /// Tickets that wait.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Tokens that wait.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Serves `work` at once, past the (empty) queue, and charges its lane.
    pub fn dispatch(&mut self, work: &Work<'_>) -> LaneId {
        let id = self.lane(work);
        self.lift(id);
        self.start(id, work.tokens);
        id
    }

    /// Lets `work` wait. Returns its ticket and whom it pushed out; `Err` gives `payload` back when there is no room.
    pub fn push(&mut self, work: &Work<'_>, payload: T) -> Result<(TicketId, Vec<T>), T> {
        let id = self.lane(work);
        let Some(victims) = self.room_for(id, work.tokens) else { return Err(payload) };
        let pushed_out = victims.into_iter().filter_map(|t| self.cancel(t)).collect();
        self.lift(id);
        self.seq += 1;
        let order = (work.deadline.tick().map_or(u64::MAX, |t| t.0), self.seq);
        let ticket = Ticket { lane: id, order, tokens: work.tokens, payload };
        let index = match self.free.pop() {
            Some(i) => i,
            None => {
                self.tickets.push(None);
                u32::try_from(self.tickets.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.tickets.get_mut(index as usize) {
            *place = Some(ticket);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.queue.insert(order, index);
            lane.tokens += work.tokens;
            if let Some(ready) = self.ready.get_mut(lane.class) {
                ready.insert((lane.counter, id));
            }
        }
        self.tokens += work.tokens;
        self.entries += 1;
        self.count(id);
        Ok((TicketId { index, seq: self.seq }, pushed_out))
    }

    /// Something of a lane was started at `now`.
    pub fn started(&mut self, now: Tick, id: LaneId) {
        if self.recent.first().is_some_and(|(first, _)| *first == id) {
            self.recent.truncate(RECENT_LANES);
            self.recent.first_mut().into_iter().for_each(|(_, at)| *at = now);
            return;
        }
        self.recent.retain(|(other, _)| *other != id);
        self.recent.truncate(RECENT_LANES - 1);
        self.recent.insert(0, (id, now));
    }

    /// Whether a tenant may come any moment that runs less than its share and waits for nothing, and is not of a lower class
    /// than `priority`.
    pub fn expects(&self, now: Tick, slots: u32, priority: Priority) -> bool {
        let light = |id: &LaneId| {
            let class = class_of(priority);
            self.lanes.get(id).is_some_and(|l| l.class >= class && l.queue.is_empty())
                && self.is_below(*id, slots)
        };
        self.recent.iter().any(|(id, at)| now.since(*at) <= RECENT && light(id))
    }

    /// The weight of lanes that neither run nor wait but may come any moment: who is to be within its share leaves them theirs.
    fn absent(&self, now: Tick, class: usize) -> u64 {
        let recent = self.recent.iter().filter(|(_, at)| now.since(*at) <= RECENT);
        let lanes = recent.filter_map(|(id, _)| self.lanes.get(id));
        lanes.filter(|l| l.counted == 0 && l.class >= class).map(|l| u64::from(l.weight)).sum()
    }

    /// Whether a lane runs less than what its share of the slots is when all have come that may come any moment.
    fn is_within_lane(&self, now: Tick, id: LaneId, slots: u32) -> bool {
        self.lanes.get(&id).is_some_and(|l| {
            let own = if l.counted == 0 { u64::from(l.weight) } else { 0 };
            let absent = self.absent(now, l.class).saturating_sub(own);
            l.below(slots, self.contending(l.class) + absent) > 0.0
        })
    }

    /// Whether `work` is of a lane that runs less than its share of the slots, when those count as well that may come any moment.
    pub fn is_within(&self, now: Tick, work: &Work<'_>, slots: u32) -> bool {
        self.lane_of(work).is_none_or(|id| self.is_within_lane(now, id, slots))
    }

    /// Whether something of the same lane waits already.
    pub fn is_waiting(&self, work: &Work<'_>) -> bool {
        self.lane_of(work).and_then(|id| self.lanes.get(&id)).is_some_and(|l| !l.queue.is_empty())
    }

    fn lane_of(&self, work: &Work<'_>) -> Option<LaneId> {
        *self.by_tenant.get(work.tenant)?.get(class_of(work.priority))?
    }

    /// The class that is served next, when something waits.
    pub fn next_priority(&self) -> Option<Priority> {
        let class = self.ready.iter().rev().find_map(|class| class.first())?;
        self.lanes.get(&class.1).map(|l| l.priority)
    }

    /// The next to be served of the lanes that are within their share ([`FairQueue::is_within`]), if any waits.
    pub fn pop_within(&mut self, now: Tick, slots: u32) -> Option<(LaneId, T)> {
        let class = self.ready.iter().rev().find(|class| !class.is_empty())?;
        let id = class.iter().find(|(_, id)| self.is_within_lane(now, *id, slots))?.1;
        self.take(id)
    }

    /// The next to be served, of as many as run on `slots`; its lane is charged for the input.
    pub fn pop(&mut self, slots: u32) -> Option<(LaneId, T)> {
        let class = self.ready.iter().rev().find(|class| !class.is_empty())?;
        let less = |id: &LaneId| self.is_below(*id, slots);
        let id = class.iter().find(|(_, id)| less(id)).or_else(|| class.first())?.1;
        self.take(id)
    }

    fn take(&mut self, id: LaneId) -> Option<(LaneId, T)> {
        let index = *self.lanes.get(&id)?.queue.first_key_value()?.1;
        let (tokens, payload) = self.remove(index)?;
        self.start(id, tokens);
        Some((id, payload))
    }

    /// Takes a ticket out of the queue, in O(log n). `None` when it is not there any more.
    pub fn cancel(&mut self, ticket: TicketId) -> Option<T> {
        let there = self.tickets.get(ticket.index as usize)?.as_ref()?;
        (there.order.1 == ticket.seq).then_some(())?;
        self.remove(ticket.index).map(|(_, payload)| payload)
    }

    /// Charges produced output to a lane of which something runs.
    pub fn charge_output(&mut self, id: LaneId, tokens: u64) {
        self.charge(id, u128::from(tokens) * self.output_milli);
    }

    /// Something of the lane ended.
    pub fn finish(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running = lane.running.saturating_sub(1);
        }
        self.count(id);
    }

    /// Whose lane it is.
    pub fn tenant(&self, id: LaneId) -> Option<&TenantId> {
        self.lanes.get(&id).map(|l| &l.tenant)
    }

    /// The share that `work` has of what is served, if all that wait go on to want more.
    pub fn share(&self, work: &Work<'_>) -> f64 {
        let class = class_of(work.priority);
        let ready = self.ready.get(class).into_iter().flatten().filter_map(|(_, id)| self.lanes.get(id));
        let others: f64 = ready.filter(|l| l.tenant != *work.tenant).map(|l| f64::from(l.weight)).sum();
        let own = f64::from(work.weight.max(1));
        own / (own + others)
    }

    /// Every lane in which something waits or runs.
    pub fn lanes(&self) -> Vec<LaneSnapshot> {
        let mut all: Vec<LaneSnapshot> = self
            .lanes
            .values()
            .filter(|l| l.running > 0 || !l.queue.is_empty())
            .map(|l| LaneSnapshot {
                tenant: l.tenant.clone(),
                priority: l.priority,
                entries: l.queue.len(),
                tokens: l.tokens,
                running: l.running,
            })
            .collect();
        all.sort_by(|a, b| (&a.tenant, a.priority).cmp(&(&b.tenant, b.priority)));
        all
    }

    /// The weight of all that contend with a lane of this class.
    fn contending(&self, class: usize) -> u64 {
        self.contending.iter().skip(class).sum()
    }

    fn is_below(&self, id: LaneId, slots: u32) -> bool {
        self.lanes.get(&id).is_some_and(|l| l.below(slots, self.contending(l.class)) > 0.0)
    }

    /// Whether nothing of a higher class waits.
    fn is_highest(&self, class: usize) -> bool {
        self.ready.iter().skip(class + 1).all(BTreeSet::is_empty)
    }

    /// Counts a lane among those that run or wait, or no more.
    fn count(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            let now = if lane.running > 0 || !lane.queue.is_empty() { lane.weight } else { 0 };
            if let Some(sum) = self.contending.get_mut(lane.class) {
                *sum = *sum + u64::from(now) - u64::from(lane.counted);
            }
            lane.counted = now;
        }
    }

    fn size(&self, index: u32) -> u64 {
        self.tickets.get(index as usize).and_then(Option::as_ref).map_or(0, |t| t.tokens)
    }

    /// The smallest counter that waits in the class, or where the last one left it. Never falls.
    fn level(&self, class: usize) -> u128 {
        let first = self.ready.get(class).and_then(|r| r.first()).map(|(c, _)| *c);
        first.or(self.floor.get(class).copied()).unwrap_or(0)
    }

    fn lane(&mut self, work: &Work<'_>) -> LaneId {
        let class = class_of(work.priority);
        let weight = work.weight.max(1);
        if let Some(id) = self.by_tenant.get(work.tenant).and_then(|l| *l.get(class)?)
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.weight = weight;
            return id;
        }
        if self.lanes.len() >= self.sweep_at {
            self.sweep();
        }
        let id = loop {
            self.next_lane = self.next_lane.wrapping_add(1);
            if !self.lanes.contains_key(&LaneId(self.next_lane)) {
                break LaneId(self.next_lane);
            }
        };
        let lane = Lane {
            tenant: work.tenant.clone(),
            class,
            priority: work.priority,
            weight,
            counter: 0,
            queue: BTreeMap::new(),
            tokens: 0,
            running: 0,
            counted: 0,
        };
        self.lanes.insert(id, lane);
        if let Some(place) = self.by_tenant.entry(work.tenant.clone()).or_default().get_mut(class) {
            *place = Some(id);
        }
        id
    }

    /// Forgets idle lanes that would be lifted when they came back: nothing is lost by it.
    fn sweep(&mut self) {
        let levels: [u128; CLASSES] = std::array::from_fn(|c| self.level(c));
        let by_tenant = &mut self.by_tenant;
        self.lanes.retain(|_, l| {
            let idle = l.running == 0 && l.queue.is_empty();
            let forget = idle && levels.get(l.class).is_some_and(|level| l.counter <= *level);
            if forget && let Some(place) = by_tenant.get_mut(&l.tenant).and_then(|p| p.get_mut(l.class)) {
                *place = None;
            }
            !forget
        });
        self.by_tenant.retain(|_, places| places.iter().any(Option::is_some));
        self.sweep_at = (self.lanes.len() * 2).max(SWEEP_AT);
    }

    fn lift(&mut self, id: LaneId) {
        if let Some(class) = self.lanes.get(&id).map(|l| l.class) {
            let level = self.level(class);
            if let Some(lane) = self.lanes.get_mut(&id)
                && lane.queue.is_empty()
            {
                lane.counter = lane.counter.max(level);
            }
        }
    }

    fn charge(&mut self, id: LaneId, milli_tokens: u128) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (before, class) = (lane.counter, lane.class);
        lane.counter += lane.charge(milli_tokens);
        if let Some(ready) = self.ready.get_mut(class)
            && ready.remove(&(before, id))
        {
            ready.insert((lane.counter, id));
        }
    }

    fn start(&mut self, id: LaneId, tokens: u64) {
        self.charge(id, u128::from(tokens) * 1000);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running += 1;
            if let (Some(ready), Some(floor)) = (self.ready.get(lane.class), self.floor.get_mut(lane.class))
                && ready.is_empty()
            {
                *floor = (*floor).max(lane.counter);
            }
        }
        self.count(id);
    }

    fn remove(&mut self, index: u32) -> Option<(u64, T)> {
        let ticket = self.tickets.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.tokens -= ticket.tokens;
        self.entries -= 1;
        let lane = self.lanes.get_mut(&ticket.lane)?;
        lane.queue.remove(&ticket.order);
        lane.tokens -= ticket.tokens;
        if lane.queue.is_empty()
            && let (Some(ready), Some(floor)) =
                (self.ready.get_mut(lane.class), self.floor.get_mut(lane.class))
        {
            ready.remove(&(lane.counter, ticket.lane));
            if ready.is_empty() {
                *floor = (*floor).max(lane.counter);
            }
        }
        self.count(ticket.lane);
        Some((ticket.tokens, ticket.payload))
    }

    fn fits(&self, tokens: u64, entries: usize) -> bool {
        // An empty queue takes one ticket of any size: otherwise nothing larger than the bound could ever be served.
        entries == 0 || (tokens <= self.bounds.tokens && entries < self.bounds.entries)
    }

    /// Whom an arrival of `tokens` in lane `id` pushes out; `None` when it has no better claim than they.
    fn room_for(&self, id: LaneId, tokens: u64) -> Option<Vec<TicketId>> {
        if self.bounds.entries == 0 {
            return None;
        }
        let (mut total, mut entries) = (self.tokens.saturating_add(tokens), self.entries);
        if self.fits(total, entries) {
            return Some(Vec::new());
        }
        let own = self.lanes.get(&id)?;
        let own_share = u128::from(own.tokens + tokens) * UNIT / u128::from(own.weight);
        // Per lane: class, share, its tickets from the last on.
        let mut lanes: Vec<_> = self
            .ready
            .iter()
            .take(own.class + 1)
            .flatten()
            .filter(|(_, other)| *other != id)
            .filter_map(|(_, other)| self.lanes.get(other))
            .map(|l| (l, l.tokens, l.queue.values().rev()))
            .collect();
        let mut victims = Vec::new();
        while !self.fits(total, entries) {
            let share = |lane: &Lane, left: u64| u128::from(left) * UNIT / u128::from(lane.weight);
            let (lane, left, tickets) = lanes
                .iter_mut()
                .filter(|(_, left, _)| *left > 0)
                .max_by_key(|(lane, left, _)| (std::cmp::Reverse(lane.class), share(lane, *left)))?;
            if lane.class == own.class && share(lane, *left) <= own_share {
                return None;
            }
            let index = *tickets.next()?;
            let ticket = self.tickets.get(index as usize)?.as_ref()?;
            victims.push(TicketId { index, seq: ticket.order.1 });
            *left -= ticket.tokens;
            total -= ticket.tokens;
            entries -= 1;
        }
        Some(victims)
    }
}

fn class_of(priority: Priority) -> usize {
    match priority {
        Priority::Batch => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}
