//! How fresh the features of each view are. Labels are the names of views, which the configuration has.

use contract::UnixMillis;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::features::FeaturesState;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByView {
    view: String,
}

/// The figures of features.
#[derive(Default)]
pub(super) struct Features {
    entities: Family<ByView, Gauge>,
    newest: Family<ByView, Gauge>,
    materialized: Family<ByView, Gauge>,
}

impl Features {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("feature_view_entities", "Entities that have a row online", self.entities.clone());
        let mut age = |name, help, of: &Family<ByView, Gauge>| {
            r.register_with_unit(name, help, Unit::Seconds, of.clone());
        };
        age("feature_view_newest_event_age", "Since the event time of the newest row online", &self.newest);
        age("feature_view_materialized_age", "Since the datasets were last taken over", &self.materialized);
    }

    pub(super) fn are(&self, states: &[FeaturesState], now: UnixMillis) {
        let age = |of: &Family<ByView, Gauge>, label: &ByView, at: Option<UnixMillis>| match at {
            Some(at) => _ = of.get_or_create(label).set(now.0.saturating_sub(at.0).max(0) / 1_000),
            None => _ = of.remove(label),
        };
        for state in states {
            let label = ByView { view: state.view.clone() };
            self.entities.get_or_create(&label).set(i64::try_from(state.entities).unwrap_or(i64::MAX));
            age(&self.newest, &label, state.newest_event);
            age(&self.materialized, &label, state.materialized);
        }
    }
}

impl super::Metrics {
    /// How fresh features are.
    pub(crate) fn features_are(&self, states: &[FeaturesState], now: UnixMillis) {
        self.features.are(states, now);
    }
}
