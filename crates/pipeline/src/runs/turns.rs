//! Whose turn it is: which of the runs that are due get the places that are free. Pure.
//!
//! Every target has places of its own, so that work for a target that hangs holds up none for another. Within a target the
//! highest lane goes first, and in a lane the tenants take turns, by what each has under way there. A tenant that has nothing
//! under way at a target gets a place also when the others have taken all: nobody waits for another's long work. All
//! places together are bounded. Runs of [`Lane::Low`] leave the last place of a target, and of all, to others, where there is
//! more than one.

use std::cmp::Reverse;
use std::collections::HashMap;

use contract::TenantId;
use store::RunHead;

use super::entry::Lane;

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// Of each target.
    pub(super) of_target: usize,
    /// All together.
    pub(super) all: usize,
}

/// What is under way, by target and tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    by_share: HashMap<(String, TenantId), usize>,
    by_target: HashMap<String, usize>,
    all: usize,
}

impl Busy {
    /// One more.
    pub(super) fn add(&mut self, target: &str, tenant: &TenantId) {
        *self.by_share.entry((target.to_owned(), tenant.clone())).or_default() += 1;
        *self.by_target.entry(target.to_owned()).or_default() += 1;
        self.all += 1;
    }

    /// The most that a tenant has at a target.
    pub(super) fn most(&self) -> usize {
        self.by_share.values().copied().max().unwrap_or(0)
    }

    fn of(&self, run: &RunHead) -> (usize, usize) {
        let share = self.by_share.get(&(run.target.clone(), run.tenant.clone())).copied().unwrap_or(0);
        (share, self.by_target.get(&run.target).copied().unwrap_or(0))
    }
}

/// All places but the last, if there are several.
fn but_one(places: usize) -> usize {
    places.saturating_sub(1).max(1)
}

/// Those of `due` that get a place, the first first.
pub(super) fn choose(mut due: Vec<RunHead>, mut busy: Busy, places: Places) -> Vec<RunHead> {
    let mut chosen = Vec::new();
    while busy.all < places.all {
        let first = due.iter().enumerate().filter_map(|(n, run)| {
            let (share, target) = busy.of(run);
            let room = match run.lane <= Lane::Low.rank() {
                true => target < but_one(places.of_target) && busy.all < but_one(places.all),
                false => target < places.of_target || share == 0,
            };
            room.then_some(((Reverse(run.lane), share, target, run.submitted_at, run.id), n))
        });
        let Some((_, n)) = first.min() else { break };
        let run = due.swap_remove(n);
        busy.add(&run.target, &run.tenant);
        chosen.push(run);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{RequestId, RunId, UnixMillis};
    use proptest::prelude::*;

    fn head(n: i64, target: &str, tenant: &str, lane: i64) -> RunHead {
        RunHead {
            id: RunId::of(RequestId::from_parts(UnixMillis(n), 7)),
            tenant: tenant.into(),
            kind: "job".into(),
            about: String::new(),
            target: target.into(),
            lane,
            status: "queued".into(),
            submitted_at: UnixMillis(n),
            due_at: Some(UnixMillis(n)),
            ended_at: None,
            entries: 1,
        }
    }

    fn order(due: Vec<RunHead>, busy: &[(&str, &str)], places: (usize, usize)) -> Vec<i64> {
        let mut under_way = Busy::default();
        busy.iter().for_each(|(target, tenant)| under_way.add(target, &TenantId::from(*tenant)));
        let places = Places { of_target: places.0, all: places.1 };
        choose(due, under_way, places).iter().map(|h| h.submitted_at.0).collect()
    }

    #[test]
    fn the_highest_lane_goes_first_and_in_it_the_tenants_take_turns() {
        let mut due: Vec<RunHead> = (1..=4).map(|n| head(n, "m", "flood", 1)).collect();
        due.extend([head(5, "m", "other", 1), head(6, "m", "other", 1), head(7, "m", "flood", 2)]);
        assert_eq!(order(due.clone(), &[], (9, 9)), [7, 5, 1, 6, 2, 3, 4]);
        assert_eq!(order(due, &[("m", "flood"), ("m", "flood")], (6, 9)), [7, 5, 6, 1]);
    }

    #[test]
    fn a_target_that_hangs_holds_up_no_other() {
        let due = vec![head(1, "stuck", "a", 1), head(2, "free", "a", 1)];
        let busy = [("stuck", "a"), ("stuck", "a")];
        assert_eq!(order(due, &busy, (2, 32)), [2]);
    }

    #[test]
    fn what_can_wait_leaves_a_place_to_what_cannot() {
        let low = |n| head(n, "m", "a", 0);
        assert_eq!(order(vec![low(1), low(2), low(3)], &[], (3, 32)), [1, 2]);
        assert_eq!(order(vec![low(1), head(2, "m", "a", 1)], &[("m", "a"), ("m", "a")], (3, 32)), [2]);
        assert_eq!(order(vec![low(1), low(2)], &[], (1, 32)), [1], "the only place is for all");
        assert_eq!(order(vec![low(1), head(2, "m", "b", 1)], &[("n", "a")], (2, 2)), [2]);
    }

    #[test]
    fn a_tenant_with_nothing_under_way_does_not_wait_for_anothers_long_work() {
        let due = vec![head(1, "m", "flood", 1), head(2, "m", "other", 1), head(3, "m", "other", 1)];
        let busy = [("m", "flood"), ("m", "flood")];
        assert_eq!(order(due.clone(), &busy, (2, 32)), [2]);
        assert_eq!(order(due, &busy, (2, 2)), [] as [i64; 0], "all together are bounded");
    }

    proptest! {
        #[test]
        fn places_are_bounded_and_none_is_left_empty_that_somebody_could_have(
            runs in proptest::collection::vec((0u8..3, 0u8..4, 0i64..3), 0..40),
            busy in proptest::collection::vec((0u8..3, 0u8..4), 0..12),
            of_target in 1usize..5,
            all in 1usize..20,
        ) {
            let due: Vec<RunHead> = runs
                .iter()
                .zip(1..)
                .map(|((target, tenant, lane), n)| head(n, &format!("m{target}"), &format!("t{tenant}"), *lane))
                .collect();
            let mut under_way = Busy::default();
            for (target, tenant) in &busy {
                under_way.add(&format!("m{target}"), &TenantId::from(format!("t{tenant}")));
            }
            let before = under_way.clone();
            let chosen = choose(due.clone(), under_way.clone(), Places { of_target, all });
            chosen.iter().for_each(|h| under_way.add(&h.target, &h.tenant));
            prop_assert!(under_way.all <= all.max(before.all));
            for (target, n) in &under_way.by_target {
                let had = before.by_target.get(target).copied().unwrap_or(0);
                // One more for each tenant that had nothing.
                prop_assert!(*n <= of_target.max(had) + 4, "{target}: {n}");
            }
            for left in due.iter().filter(|h| !chosen.contains(h)) {
                let (share, target) = under_way.of(left);
                let low = left.lane == 0 && (target >= but_one(of_target) || under_way.all >= but_one(all));
                prop_assert!(low || under_way.all >= all || (target >= of_target && share > 0), "{left:?} could go");
            }
        }
    }
}
