//! Until when a wait may last. Every wait in the system has one.

use std::time::Duration;

use crate::Tick;

/// A point in time after which an answer has no value, or "never".
///
/// Deadlines only shrink on their way down: a stage gets the earlier of its own and its pipeline's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Tick>);

impl Deadline {
    /// No limit: for operator commands, never for a request.
    pub const NEVER: Deadline = Deadline(None);

    /// `after` from `now`.
    pub fn from_now(now: Tick, after: Duration) -> Self {
        Deadline(Some(now.after(after)))
    }

    /// At the given point.
    pub fn at(tick: Tick) -> Self {
        Deadline(Some(tick))
    }

    /// The point itself, when there is one.
    pub fn tick(self) -> Option<Tick> {
        self.0
    }

    /// What is left at `now`: `None` means no limit, zero means it has passed.
    pub fn remaining(self, now: Tick) -> Option<Duration> {
        self.0.map(|t| t.since(now))
    }

    /// Whether it has passed at `now`.
    pub fn passed(self, now: Tick) -> bool {
        self.0.is_some_and(|t| now >= t)
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }

    /// The earlier of this and `budget` from `now`.
    #[must_use]
    pub fn within(self, now: Tick, budget: Option<Duration>) -> Deadline {
        match budget {
            Some(d) => self.min(Deadline::from_now(now, d)),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_deadline_never_grows_on_its_way_down(a in any::<Option<u64>>(), b in any::<Option<u64>>(), now in any::<u64>()) {
            let (a, b, now) = (Deadline(a.map(Tick)), Deadline(b.map(Tick)), Tick(now));
            let m = a.min(b);
            for parent in [a, b] {
                if let Some(p) = parent.remaining(now) {
                    prop_assert!(m.remaining(now).is_some_and(|r| r <= p));
                }
            }
            prop_assert_eq!(m, b.min(a));
        }
    }
}
