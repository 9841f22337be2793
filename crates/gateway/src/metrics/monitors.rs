//! How monitors stand. Labels are the names of monitors, which the configuration has, and the states that there are.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::monitors::MonitorState;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByMonitor {
    monitor: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    monitor: String,
    state: &'static str,
}

type Float = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The figures of monitors.
#[derive(Default)]
pub(super) struct Monitors {
    alerts: Family<ByState, Gauge>,
    drift: Family<ByMonitor, Float>,
    age: Family<ByMonitor, Gauge>,
    problem: Family<ByMonitor, Gauge>,
    lost: Family<ByMonitor, Gauge>,
    dropped: Counter,
}

impl Monitors {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("alerts", "Series of monitors by state", self.alerts.clone());
        r.register("monitor_drift", "The largest drift of a column in the last window", self.drift.clone());
        let help = "Since the newest row of what is watched";
        r.register_with_unit("monitor_newest_row_age", help, Unit::Seconds, self.age.clone());
        r.register("monitor_problem", "Whether a monitor cannot look: 0 or 1", self.problem.clone());
        r.register("monitor_lost_messages", "Messages that nobody could be told", self.lost.clone());
        r.register("capture_dropped", "Answers that were to be kept and are not", self.dropped.clone());
    }

    pub(super) fn are(&self, states: &[MonitorState], dropped: u64, now: contract::UnixMillis) {
        // What the configuration does not have any more is not told any more.
        self.alerts.clear();
        self.drift.clear();
        self.age.clear();
        self.problem.clear();
        self.lost.clear();
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for state in states {
            let label = ByMonitor { monitor: state.monitor.clone() };
            let counts = [("firing", state.firing), ("pending", state.pending), ("inactive", state.inactive)];
            for (word, count) in counts {
                let label = ByState { monitor: state.monitor.clone(), state: word };
                self.alerts.get_or_create(&label).set(whole(count));
            }
            if let Some(drift) = state.drift {
                self.drift.get_or_create(&label).set(drift);
            }
            if let Some(newest) = state.newest {
                self.age.get_or_create(&label).set(now.0.saturating_sub(newest.0).max(0) / 1_000);
            }
            self.problem.get_or_create(&label).set(i64::from(state.problem));
            self.lost.get_or_create(&label).set(whole(state.lost));
        }
        self.dropped.inc_by(dropped.saturating_sub(self.dropped.get()));
    }
}

impl super::Metrics {
    /// How monitors stand, and how many answers that were to be kept are not.
    pub(crate) fn monitors_are(&self, states: &[MonitorState], dropped: u64, now: contract::UnixMillis) {
        self.monitors.are(states, dropped, now);
    }
}
