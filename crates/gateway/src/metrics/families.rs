//! Families of metrics whose labels name a model: they lose those of a model that is gone.
//!
//! Invariant: every label set of the family was noted here before it was made.

use std::collections::HashSet;
use std::hash::Hash;

use parking_lot::Mutex;
use prometheus_client::metrics::family::{Family, MetricConstructor};

/// A family that knows which label sets it has.
pub(super) struct Noted<S, M, C = fn() -> M> {
    family: Family<S, M, C>,
    sets: Mutex<HashSet<S>>,
}

impl<S, M, C> Noted<S, M, C>
where
    S: Clone + Hash + Eq,
    M: Clone,
    C: MetricConstructor<M>,
{
    pub(super) fn over(family: Family<S, M, C>) -> Self {
        Noted { family, sets: Mutex::default() }
    }

    /// The family, to be registered.
    pub(super) fn family(&self) -> Family<S, M, C>
    where
        C: Clone,
    {
        self.family.clone()
    }

    /// The metric of a label set.
    pub(super) fn of(&self, set: &S) -> M {
        let mut sets = self.sets.lock();
        if !sets.contains(set) {
            sets.insert(set.clone());
        }
        self.family.get_or_create_owned(set)
    }

    /// Removes the label sets that `keep` does not want. Whether there were any.
    pub(super) fn retain(&self, keep: impl Fn(&S) -> bool) -> bool {
        let mut sets = self.sets.lock();
        let before = sets.len();
        sets.retain(|set| {
            let kept = keep(set);
            if !kept {
                self.family.remove(set);
            }
            kept
        });
        sets.len() < before
    }
}

impl<S, M> Default for Noted<S, M>
where
    S: Clone + Hash + Eq,
    M: Clone + Default,
{
    fn default() -> Self {
        Noted::over(Family::new_with_constructor(M::default as fn() -> M))
    }
}
