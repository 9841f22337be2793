//! Rollouts of models: who is being rolled out, how far, and what each side answered here. Labels are names of models and versions,
//! which the configuration and the registry have.

use predict::observe::{Arm, Observers};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::rollouts::RolloutState;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVersion {
    model: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByArm {
    model: String,
    version: String,
    arm: &'static str,
    result: &'static str,
}

/// The figures of rollouts.
#[derive(Default)]
pub(super) struct Rollouts {
    share: Family<ByVersion, Gauge<f64, std::sync::atomic::AtomicU64>>,
    held: Family<ByVersion, Gauge>,
    unheard: Family<ByVersion, Gauge>,
    answers: Family<ByArm, Counter>,
    copies: Family<ByVersion, Counter>,
    unseen: Counter,
}

impl Rollouts {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("rollout_share", "The share of users that a version answers", self.share.clone());
        r.register("rollout_held", "Whether it goes no further by itself: 0 or 1", self.held.clone());
        r.register("rollout_shadow", "Whether it answers unheard: 0 or 1", self.unheard.clone());
        let answers = "Answers while a version is being rolled out, by side";
        r.register("rollout_answers", answers, self.answers.clone());
        let copies = "Copies of requests for versions that are not heard, which found no room";
        r.register("rollout_shadow_dropped", copies, self.copies.clone());
        let unseen = "Answers that no observer saw, because too many waited";
        r.register("observers_dropped", unseen, self.unseen.clone());
    }
}

impl Metrics {
    /// A side of a rollout answered.
    pub(crate) fn rolled(&self, (model, version): (&str, &str), arm: Arm, well: bool) {
        let label = ByArm {
            model: model.to_owned(),
            version: version.to_owned(),
            arm: arm.as_str(),
            result: if well { "answered" } else { "failed" },
        };
        self.rollouts.answers.get_or_create(&label).inc();
    }

    /// How rollouts are doing. What is over is forgotten, but for what was counted.
    pub(crate) fn rollouts_are(&self, states: &[RolloutState], observers: &Observers) {
        let of = &self.rollouts;
        of.share.clear();
        of.held.clear();
        of.unheard.clear();
        of.copies.clear();
        for state in states {
            let label = ByVersion { model: state.model.clone(), version: state.version.clone() };
            of.share.get_or_create(&label).set(state.share);
            of.held.get_or_create(&label).set(state.held.into());
            of.unheard.get_or_create(&label).set(state.shadow.into());
            of.copies.get_or_create(&label).inc_by(state.dropped);
        }
        // The sum is the observers': never lower than what was shown before.
        of.unseen.inner().fetch_max(observers.dropped(), std::sync::atomic::Ordering::Relaxed);
    }
}
