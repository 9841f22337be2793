//! Who may try again: a budget for each tenant, beside that of each endpoint.
//!
//! Invariant: the tenants that are remembered are bounded; one that is forgotten begins with a full floor.

use std::collections::HashMap;

use admission::{RetryBudget, RetrySettings};
use contract::{TenantId, Tick};
use parking_lot::Mutex;

/// Tenants that are remembered.
const TENANTS: usize = 10_000;

/// The retry budgets of all tenants.
#[derive(Debug, Default)]
pub struct Retries {
    settings: RetrySettings,
    tenants: Mutex<HashMap<TenantId, RetryBudget>>,
}

impl Retries {
    /// A call began.
    pub(crate) fn called(&self, now: Tick, tenant: &TenantId) {
        self.with(tenant, |b| b.request(now));
    }

    /// Takes one of a tenant's retries.
    pub(crate) fn try_retry(&self, now: Tick, tenant: &TenantId) -> bool {
        self.with(tenant, |b| b.try_retry(now))
    }

    /// Gives one back that was not made.
    pub(crate) fn give_back(&self, tenant: &TenantId) {
        self.with(tenant, RetryBudget::give_back);
    }

    fn with<T>(&self, tenant: &TenantId, f: impl FnOnce(&mut RetryBudget) -> T) -> T {
        let mut all = self.tenants.lock();
        if let Some(b) = all.get_mut(tenant) {
            return f(b);
        }
        if all.len() >= TENANTS {
            all.clear();
        }
        f(all.entry(tenant.clone()).or_insert_with(|| RetryBudget::new(self.settings)))
    }
}
