//! Which stages of a run may start and which are under way, kept in the order in which they are asked for: what a run of
//! many stages does next does not cost a look at each of them. Pure; made of the phases alone.

use std::collections::BTreeSet;

use contract::UnixMillis;

/// What stands where, by the stages' places in the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Ready stages of each group, by when they may start.
    ready: Vec<BTreeSet<(UnixMillis, usize)>>,
    /// Ready stages whose pause was decided at a time, by that time.
    paused: BTreeSet<(UnixMillis, usize)>,
    /// Stages with a lease, by its end.
    leased: BTreeSet<(UnixMillis, usize)>,
}

impl Line {
    /// Of a plan with that many groups; those without a group are one.
    pub(super) fn new(groups: usize) -> Line {
        Line { ready: vec![BTreeSet::new(); groups], ..Line::default() }
    }

    pub(super) fn ready(&mut self, at: usize, group: usize, from: UnixMillis, as_of: Option<UnixMillis>) {
        if let Some(set) = self.ready.get_mut(group) {
            set.insert((from, at));
        }
        if let Some(t) = as_of {
            self.paused.insert((t, at));
        }
    }

    pub(super) fn not_ready(&mut self, at: usize, group: usize, from: UnixMillis, as_of: Option<UnixMillis>) {
        if let Some(set) = self.ready.get_mut(group) {
            set.remove(&(from, at));
        }
        if let Some(t) = as_of {
            self.paused.remove(&(t, at));
        }
    }

    pub(super) fn leased(&mut self, at: usize, until: UnixMillis) {
        self.leased.insert((until, at));
    }

    pub(super) fn not_leased(&mut self, at: usize, until: UnixMillis) {
        self.leased.remove(&(until, at));
    }

    /// A stage that may start, of a group that is not among the full ones. A pause that was decided later than `now` is over:
    /// the wall clock went back.
    pub(super) fn first(
        &self,
        now: UnixMillis,
        full: &[usize],
        group_of: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        let open = self.ready.iter().enumerate().filter(|(group, _)| !full.contains(group));
        let first = open.filter_map(|(_, set)| set.first()).min().filter(|(from, _)| *from <= now);
        let back = || {
            let late = self.paused.iter().rev().take_while(|(t, _)| *t > now);
            late.map(|(_, at)| *at).find(|at| !full.contains(&group_of(*at)))
        };
        first.map(|(_, at)| *at).or_else(back)
    }

    /// When the first may start.
    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.ready.iter().filter_map(|set| set.first()).map(|(from, _)| *from).min()
    }

    /// When the last of their pauses was decided.
    pub(super) fn as_of(&self) -> Option<UnixMillis> {
        self.paused.last().map(|(t, _)| *t)
    }

    /// When the first lease ends.
    pub(super) fn lease(&self) -> Option<UnixMillis> {
        self.leased.first().map(|(until, _)| *until)
    }

    /// The stages with a lease, in the order of the plan.
    pub(super) fn under_way(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.leased.iter().map(|(_, at)| *at).collect();
        all.sort_unstable();
        all
    }

    /// How many that are.
    pub(super) fn running(&self) -> usize {
        self.leased.len()
    }
}
