//! Which batches may take a step now: pure, for [`super::drive`].
//!
//! Invariants: of a batch one step is made at a time. Long steps are made a few at a time, of a tenant fewer, so that no tenant's
//! batches hold up another's. A batch whose steps fail is left alone for longer each time.

use std::collections::HashMap;
use std::time::Duration;

use contract::{RunId, TenantId, Tick};
use store::StoredBatch;

/// Long steps at once, and of one tenant.
const LONG: usize = 4;
const OF_TENANT: usize = 2;
/// The pause behind the first failure, which doubles with each, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Places {
    /// Batches with a long step under way.
    long: HashMap<RunId, TenantId>,
    /// Batches whose last step failed: how often in a row, and until when they rest.
    failed: HashMap<RunId, (u32, Tick)>,
}

impl Places {
    /// Whether a batch rests, or has a step under way.
    pub(super) fn is_held(&self, id: RunId, now: Tick) -> bool {
        self.long.contains_key(&id) || self.failed.get(&id).is_some_and(|(_, until)| now < *until)
    }

    /// Takes a place for a long step of a batch; `false` when there is none.
    pub(super) fn take(&mut self, batch: &StoredBatch) -> bool {
        let own = self.long.values().filter(|t| **t == batch.tenant).count();
        let free = self.long.len() < LONG && own < OF_TENANT;
        if free {
            self.long.insert(batch.id, batch.tenant.clone());
        }
        free
    }

    /// A step of a batch is over. How long it rests, if it failed.
    pub(super) fn ended(&mut self, id: RunId, well: bool, now: Tick) -> Option<Duration> {
        self.long.remove(&id);
        if well {
            self.failed.remove(&id);
            return None;
        }
        let (times, until) = self.failed.entry(id).or_insert((0, now));
        let pause = FIRST.saturating_mul(1 << (*times).min(6)).min(LONGEST);
        (*times, *until) = (times.saturating_add(1), now.after(pause));
        Some(pause)
    }

    /// Forgets failures of batches that are not among those that go on.
    pub(super) fn forget_all_but(&mut self, open: &[StoredBatch]) {
        if !self.failed.is_empty() {
            self.failed.retain(|id, _| open.iter().any(|b| b.id == *id));
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{RequestId, UnixMillis};

    use super::*;

    fn batch(n: u128, tenant: &str) -> StoredBatch {
        StoredBatch {
            id: RunId::of(RequestId::from_parts(UnixMillis(1), n)),
            tenant: tenant.into(),
            created_at: UnixMillis(1),
            ended_at: None,
            version: 0,
            about: String::new(),
        }
    }

    #[test]
    fn a_tenants_long_steps_leave_places_to_others() {
        let mut places = Places::default();
        let all: Vec<_> = (0..6).map(|n| batch(n, ["a", "a", "a", "b", "b", "c"][n as usize])).collect();
        let taken: Vec<bool> = all.iter().map(|b| places.take(b)).collect();
        assert_eq!(taken, [true, true, false, true, true, false]);
        assert!(places.is_held(all[0].id, Tick(0)) && !places.is_held(all[2].id, Tick(0)));
        assert_eq!(places.ended(all[0].id, true, Tick(0)), None);
        assert!(places.take(&all[5]) && !places.take(&all[2]));
    }

    #[test]
    fn a_batch_that_fails_rests_for_longer_each_time_until_it_does_not() {
        let (mut places, one) = (Places::default(), batch(1, "a"));
        let mut now = Tick(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = places.ended(one.id, false, now).unwrap();
            assert!(places.is_held(one.id, now) && !places.is_held(one.id, now.after(pause)));
            now = now.after(pause);
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(places.ended(one.id, true, now), None);
        assert_eq!(places.ended(one.id, false, now), Some(FIRST));
        places.forget_all_but(&[]);
        assert!(!places.is_held(one.id, now));
    }
}
