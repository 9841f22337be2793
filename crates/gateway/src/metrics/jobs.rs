//! What jobs and the webhooks about them are doing, from the scheduler's sums. Labels are its own words.

use std::sync::atomic::Ordering;

use contract::UnixMillis;
use pipeline::runs::{Counts, Lane};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::ByOutcome;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByLane {
    lane: &'static str,
}

/// Every lane, so that one without jobs shows 0.
const LANES: [(Lane, &str); 3] = [(Lane::Low, "low"), (Lane::Normal, "normal"), (Lane::High, "high")];

/// The figures of jobs.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: Family<ByLane, Gauge>,
    running: Family<ByLane, Gauge>,
    oldest: Gauge,
    submitted: Counter,
    started: Counter,
    attempts: Family<ByOutcome, Counter>,
    ended: Family<ByOutcome, Counter>,
    deliveries: Family<ByOutcome, Counter>,
}

impl Jobs {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("jobs_waiting", "Jobs that nobody is at", self.waiting.clone());
        r.register("jobs_running", "Jobs under way", self.running.clone());
        r.register_with_unit(
            "jobs_oldest_waiting",
            "Age of the oldest job that nobody is at",
            Unit::Seconds,
            self.oldest.clone(),
        );
        r.register("jobs_submitted", "Jobs taken in", self.submitted.clone());
        r.register("job_attempts_started", "Attempts at jobs that began", self.started.clone());
        r.register("job_attempts_ended", "Attempts at jobs, by what came of them", self.attempts.clone());
        r.register("jobs_ended", "Jobs that ended, by how", self.ended.clone());
        r.register(
            "webhook_deliveries",
            "Tries to deliver a webhook, by what came of them",
            self.deliveries.clone(),
        );
    }

    /// The sums are the scheduler's: never lower than what was shown before.
    pub(super) fn are(&self, counts: &Counts, now: UnixMillis) {
        let lanes = counts.lanes();
        for (lane, word) in LANES {
            for (running, gauge) in [(false, &self.waiting), (true, &self.running)] {
                let of = lanes.iter().filter(|l| l.lane == lane.rank() && l.running == running);
                let n: u64 = of.map(|l| l.runs).sum();
                gauge.get_or_create(&ByLane { lane: word }).set(i64::try_from(n).unwrap_or(i64::MAX));
            }
        }
        let oldest = lanes.iter().filter(|l| !l.running).map(|l| l.oldest).min();
        self.oldest.set(oldest.map_or(0, |t| now.0.saturating_sub(t.0).max(0) / 1_000));
        let up = |counter: &Counter, n| _ = counter.inner().fetch_max(n, Ordering::Relaxed);
        up(&self.submitted, counts.submitted());
        up(&self.started, counts.started());
        let by = |family: &Family<ByOutcome, Counter>, all: &[(&'static str, u64)]| {
            for (outcome, n) in all {
                up(&family.get_or_create(&ByOutcome { outcome }), *n);
            }
        };
        by(&self.attempts, &counts.attempts());
        by(&self.ended, &counts.ended());
        by(&self.deliveries, &counts.deliveries());
    }
}
