//! What will be served before a ticket, or before one that came now: as the queue stands, since nobody knows who comes later.

use super::{FairQueue, Lane, LaneId, Order, TicketId, UNIT, Work, class_of};

impl<T> FairQueue<T> {
    /// Tokens and tickets that will be served before `work`, if it came now and `slots` were busy.
    pub fn ahead(&self, work: &Work<'_>, slots: u32) -> (u64, usize) {
        let class = class_of(work.priority);
        let level = self.level(class);
        let id = self.by_tenant.get(work.tenant).and_then(|l| *l.get(class)?);
        let order = (work.deadline.tick().map_or(u64::MAX, |t| t.0), u64::MAX);
        match id.and_then(|id| self.lanes.get(&id)) {
            Some(lane) => {
                let (tokens, entries) = before(lane, order, |i| self.size(i));
                let counter = if lane.queue.is_empty() { lane.counter.max(level) } else { lane.counter };
                let counter = counter + lane.charge(u128::from(tokens) * 1000);
                let fair = self.ahead_of(class, id, counter, tokens, entries);
                if slots == 0 || !self.is_highest(class) {
                    return fair;
                }
                // Within its share its turn is the next. Beyond it the others have theirs for each of its own that ends.
                let over = (entries as f64 + 1.0 - lane.below(slots, self.contending(class))).max(0.0);
                let others = over * (1.0 / lane.share(self.contending(class)) - 1.0);
                let each = self.tokens as f64 / self.entries.max(1) as f64;
                let most = (tokens + (others * each) as u64, entries + others.ceil() as usize);
                if most.1 < fair.1 { most } else { fair }
            }
            // Whoever runs nothing has less than its share.
            None if slots > 0 && self.is_highest(class) => (0, 0),
            None => self.ahead_of(class, None, level, 0, 0),
        }
    }

    /// Tokens and tickets that will be served before this ticket.
    pub fn position(&self, ticket: TicketId) -> Option<(u64, usize)> {
        let there = self.tickets.get(ticket.index as usize)?.as_ref()?;
        (there.order.1 == ticket.seq).then_some(())?;
        let lane = self.lanes.get(&there.lane)?;
        let (tokens, entries) = before(lane, there.order, |i| self.size(i));
        let counter = lane.counter + lane.charge(u128::from(tokens) * 1000);
        Some(self.ahead_of(lane.class, Some(there.lane), counter, tokens, entries))
    }

    /// Other lanes are served until their counter reaches `counter`, higher classes until they are empty.
    fn ahead_of(
        &self,
        class: usize,
        id: Option<LaneId>,
        counter: u128,
        tokens: u64,
        entries: usize,
    ) -> (u64, usize) {
        let (mut tokens, mut entries) = (tokens, entries);
        for (rank, ready) in self.ready.iter().enumerate().skip(class) {
            for (theirs, other) in ready {
                let Some(lane) = self.lanes.get(other) else { continue };
                if Some(*other) == id {
                    continue;
                }
                if rank > class {
                    tokens += lane.tokens;
                    entries += lane.queue.len();
                } else if *theirs <= counter {
                    let share = (counter - theirs) * u128::from(lane.weight) / UNIT;
                    let served = u64::try_from(share).unwrap_or(u64::MAX).min(lane.tokens);
                    tokens += served;
                    let part = u128::from(served) * lane.queue.len() as u128;
                    entries += usize::try_from(part.div_ceil(u128::from(lane.tokens.max(1)))).unwrap_or(0);
                } else {
                    break;
                }
            }
        }
        (tokens, entries)
    }
}

/// Tokens and tickets of the lane before `order`, counted from its end: most arrivals are the last.
fn before(lane: &Lane, order: Order, size: impl Fn(u32) -> u64) -> (u64, usize) {
    lane.queue
        .range(order..)
        .fold((lane.tokens, lane.queue.len()), |(tokens, n), (_, index)| (tokens - size(*index), n - 1))
}
