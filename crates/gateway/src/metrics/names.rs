//! The names that labels may have: those of every configuration that was in force since the start, so that a request
//! that ends under a later one is still counted under its own. A model's goes with the last that is under way there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use contract::{ModelName, TenantId};

use super::Label;
use crate::app::{Settings, Upstream};

#[derive(Debug, Clone, Default)]
struct Known {
    tenants: BTreeSet<TenantId>,
    upstreams: BTreeMap<ModelName, Upstream>,
}

/// Asked once for each request that ends.
#[derive(Debug, Default)]
pub(super) struct Names(ArcSwap<Known>);

impl Names {
    pub(super) fn new(settings: &Settings) -> Self {
        let names = Names::default();
        names.add(settings);
        names
    }

    /// Adds those of another configuration. Where both name an upstream, the later one holds.
    pub(super) fn add(&self, settings: &Settings) {
        let mut known = Known::clone(&self.0.load());
        known.tenants.extend(settings.tenants.iter().cloned());
        known.upstreams.extend(settings.upstreams.clone());
        self.0.store(Arc::new(known));
    }

    /// Forgets the upstreams of models that are not there.
    pub(super) fn keep(&self, is_there: impl Fn(&ModelName) -> bool) {
        let mut known = Known::clone(&self.0.load());
        known.upstreams.retain(|model, _| is_there(model));
        self.0.store(Arc::new(known));
    }

    /// The tenant, or `other`.
    pub(super) fn tenant(&self, tenant: &TenantId) -> Label<TenantId> {
        Label(if self.0.load().tenants.contains(tenant) { tenant.clone() } else { "other".into() })
    }

    /// Provider and model behind a name.
    pub(super) fn upstream(&self, model: &ModelName) -> Upstream {
        let found = self.0.load().upstreams.get(model).cloned();
        found.unwrap_or_else(|| Upstream { provider: "forebay".into(), model: model.as_str().into() })
    }
}
