//! Which times of a schedule are due, and that none is due twice.
//!
//! What was started is remembered as ranges of slots: from one slot to another, with none between that was not. A wall clock that
//! goes back makes slots come up again that were started, and they are in the ranges; one that jumped forward and is set right
//! leaves the slots in between out of them, and they come up when it is their time.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::plan::Missed;
use super::schedule::Schedule;

/// A slot that is seen later than this after its time passed unseen.
const LATE: i64 = 60_000;
/// Of slots that passed unseen, those that get a run each at most: the newest.
pub const MOST_MISSED: usize = 100;
/// How far slots that passed unseen are counted.
const COUNTED: u64 = 1_000;
/// Ranges at most: with more jumps of the clock than this, the oldest two count as one, and what lies between them as started.
const RANGES: usize = 16;

/// What is remembered of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    /// No slot up to this one is due.
    seen: UnixMillis,
    /// What was started, in order.
    ranges: Vec<(UnixMillis, UnixMillis)>,
}

/// Slots that are due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Those that get a run.
    pub(super) slots: Vec<UnixMillis>,
    /// How many others passed unseen.
    pub(super) missed: u64,
}

impl Times {
    /// Of a schedule that is seen for the first time: what was before is no concern.
    pub(super) fn starting(now: UnixMillis) -> Times {
        Times { seen: now, ranges: Vec::new() }
    }

    /// When it is to be looked at next.
    pub(super) fn next(&self, schedule: &Schedule) -> Option<UnixMillis> {
        schedule.next(self.seen)
    }

    /// What is due; whether anything is to be remembered.
    pub(super) fn due(
        &mut self,
        schedule: &Schedule,
        missed: Missed,
        now: UnixMillis,
    ) -> (Option<Due>, bool) {
        if now < self.seen {
            self.seen = now;
            return (None, true);
        }
        if self.next(schedule).is_none_or(|next| next > now) {
            return (None, false);
        }
        let Some(newest) = schedule.last(self.seen, now) else { return (None, false) };
        let (mut slots, passed) = match missed {
            Missed::All => {
                let all = self.newest(schedule, newest);
                (all, 0)
            }
            Missed::Once => (vec![newest], self.count(schedule, newest)),
            Missed::Skip if now.0.saturating_sub(newest.0) > LATE => (Vec::new(), 0),
            Missed::Skip => (vec![newest], self.count(schedule, newest)),
        };
        slots.retain(|slot| !self.started(*slot));
        for slot in &slots {
            self.start(schedule, *slot);
        }
        self.seen = newest;
        let due = (!slots.is_empty()).then_some(Due { slots, missed: passed });
        (due, true)
    }

    fn started(&self, slot: UnixMillis) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    }

    fn start(&mut self, schedule: &Schedule, slot: UnixMillis) {
        let follows = |range: &&mut (UnixMillis, UnixMillis)| schedule.next(range.1) == Some(slot);
        match self.ranges.iter_mut().find(follows) {
            Some(range) => range.1 = slot,
            None => {
                let at = self.ranges.partition_point(|(from, _)| *from < slot);
                self.ranges.insert(at, (slot, slot));
            }
        }
        // Where the slot closed the gap between two, they are one.
        let mut joined: Vec<(UnixMillis, UnixMillis)> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if schedule.next(last.1) == Some(range.0) => last.1 = range.1,
                _ => joined.push(range),
            }
        }
        while joined.len() > RANGES {
            let (from, _) = joined.remove(0);
            if let Some(second) = joined.first_mut() {
                second.0 = from;
            }
        }
        self.ranges = joined;
    }

    /// How many slots before `newest` have no run and get none.
    fn count(&self, schedule: &Schedule, newest: UnixMillis) -> u64 {
        let (mut at, mut counted) = (self.seen, 0);
        while let Some(next) = schedule.next(at).filter(|next| *next < newest) {
            counted += u64::from(!self.started(next));
            if counted == COUNTED {
                break;
            }
            at = next;
        }
        counted
    }

    /// The newest slots, in order, looked for in ever longer stretches before the last.
    fn newest(&self, schedule: &Schedule, last: UnixMillis) -> Vec<UnixMillis> {
        let mut width: i64 = 60_000;
        loop {
            let from = UnixMillis(last.0.saturating_sub(width)).max(self.seen);
            let next = |at: &UnixMillis| schedule.next(*at).filter(|next| *next <= last);
            let mut found: Vec<UnixMillis> = std::iter::successors(next(&from), next).collect();
            if from <= self.seen || found.len() >= MOST_MISSED {
                found.drain(..found.len().saturating_sub(MOST_MISSED));
                return found;
            }
            width = width.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(text: &str) -> Schedule {
        Schedule::parse(text, "Europe/Berlin").unwrap()
    }

    const MINUTE: i64 = 60_000;

    #[test]
    fn slots_that_passed_unseen_are_started_as_the_policy_says() {
        let every = schedule("*/10 * * * *");
        let at = |minutes: i64| UnixMillis(1_800_000_000_000 + minutes * MINUTE);
        for (missed, started, passed) in [
            (Missed::Once, vec![at(60)], Some(5)),
            (Missed::Skip, vec![], None),
            (Missed::All, (1..=6).map(|n| at(n * 10)).collect(), Some(0)),
        ] {
            let mut times = Times::starting(at(0));
            let (due, changed) = times.due(&every, missed, at(65));
            assert!(changed);
            assert_eq!(due.as_ref().map(|d| d.missed), passed, "{missed:?}");
            assert_eq!(due.map(|d| d.slots).unwrap_or_default(), started, "{missed:?}");
            assert_eq!(times.due(&every, missed, at(69)), (None, false));
            let on_time = times.due(&every, missed, at(70)).0.unwrap();
            assert_eq!(on_time, Due { slots: vec![at(70)], missed: 0 });
        }
        let (due, _) = Times::starting(UnixMillis(0)).due(&every, Missed::All, at(0));
        assert_eq!(due.unwrap().slots.len(), MOST_MISSED, "half a century of them");
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_costs_no_slot_of_the_right_time() {
        let every = schedule("* * * * *");
        let at = |minutes: i64| UnixMillis(1_800_000_000_000 + minutes * MINUTE);
        let mut times = Times::starting(at(0));
        let mut started = Vec::new();
        // Seventy years ahead for an hour, then right again.
        let far = 70 * 366 * 24 * 60;
        for now in (1..10).chain((0..60).map(|n| far + n)).chain(5..20) {
            started.extend(times.due(&every, Missed::Once, at(now)).0.into_iter().flat_map(|d| d.slots));
        }
        let right: Vec<UnixMillis> = (1..20).map(at).collect();
        started.retain(|s| *s < at(far));
        assert_eq!(started, right);
    }

    proptest! {
        #[test]
        fn no_slot_is_started_twice_whatever_the_clock_does(
            moves in prop::collection::vec((-3 * 3_600_000_i64..3 * 3_600_000, any::<bool>()), 1..80),
            expression in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */2 * * *"]),
            missed in prop::sample::select(vec![Missed::Once, Missed::Skip, Missed::All]),
        ) {
            let schedule = schedule(expression);
            // The day on which clocks are moved back.
            let mut now = UnixMillis(1_792_886_400_000);
            let mut times = Times::starting(now);
            let mut started = std::collections::HashSet::new();
            for (by, restart) in moves {
                now = UnixMillis(now.0 + by);
                let (due, changed) = times.due(&schedule, missed, now);
                for slot in due.into_iter().flat_map(|d| d.slots) {
                    prop_assert!(slot <= now);
                    prop_assert!(started.insert(slot), "{slot:?} twice");
                }
                if restart && changed {
                    times = serde_json::from_str(&serde_json::to_string(&times).unwrap()).unwrap();
                }
                prop_assert!(times.ranges.len() <= RANGES);
            }
        }
    }
}
