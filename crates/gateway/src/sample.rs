//! Which of the requests that a full queue refuses are kept whole: a record, a trace, a line in the journal before them.
//!
//! A refusal costs nothing and is over at once, so thousands of them come in a second: a record of each would fill a disk and take
//! the time of those who are served. Of each tenant [`A_SECOND`] go all the way that a request goes; the others are told the
//! same and counted (`forebay_sheds_total`), and nothing else.
//!
//! Two tenants may share a place here: then they share its number.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{TenantId, Tick};

/// Refusals of a tenant that are kept whole, at most.
const A_SECOND: u64 = 20;
const PLACES: usize = 64;

/// Counts, by tenant and second.
#[derive(Debug)]
pub(crate) struct Sample([AtomicU64; PLACES]);

impl Default for Sample {
    fn default() -> Self {
        Sample([const { AtomicU64::new(0) }; PLACES])
    }
}

impl Sample {
    /// Whether one more of this tenant is kept whole now. It is counted.
    pub(crate) fn takes(&self, now: Tick, tenant: &TenantId) -> bool {
        let mut hash = std::hash::DefaultHasher::new();
        tenant.hash(&mut hash);
        let place = usize::try_from(hash.finish() % PLACES as u64).unwrap_or(0);
        let Some(place) = self.0.get(place) else { return true };
        // The second, and how many came in it.
        let second = now.0 / 1_000_000_000;
        let next = |was: u64| {
            let came = if was >> 16 == second & (u64::MAX >> 16) { was & 0xFFFF } else { 0 };
            (came < A_SECOND).then_some((second << 16) | (came + 1))
        };
        place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_so_many_in_each_second_and_its_flood_takes_none_of_anothers() {
        let sample = Sample::default();
        let taken = |tenant: &str, ms: u64| {
            let (tenant, now) = (tenant.into(), Tick(ms * 1_000_000));
            (0..100).filter(|_| sample.takes(now, &tenant)).count() as u64
        };
        assert_eq!((taken("a", 100), taken("a", 900), taken("a", 1_100)), (A_SECOND, 0, A_SECOND));
        assert_eq!(taken("b", 1_200), A_SECOND);
    }
}
