//! Predictions: how long each took to its caller, and what the models' own counters say when they are asked. Labels are names of
//! models and versions, which the configuration or the registry has.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use predict::Models;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Histograms, Metrics};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByModel {
    model: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVersion {
    model: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    model: String,
    version: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByFound {
    model: String,
    result: &'static str,
}

/// The figures of predictive models.
pub(super) struct Predictions {
    took: Histograms<ByModel>,
    requests: Family<ByOutcome, Counter>,
    rows: Family<ByVersion, Counter>,
    runs: Family<ByVersion, Counter>,
    run_time: Family<ByVersion, Counter<f64, AtomicU64>>,
    queue_time: Family<ByVersion, Counter<f64, AtomicU64>>,
    waiting: Family<ByVersion, Gauge>,
    memory: Family<ByVersion, Gauge>,
    looked_up: Family<ByFound, Counter>,
}

/// From 50 µs to about 3 s.
fn histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 2.0, 17))
}

impl Default for Predictions {
    fn default() -> Self {
        Predictions {
            took: Family::new_with_constructor(histogram),
            requests: Family::default(),
            rows: Family::default(),
            runs: Family::default(),
            run_time: Family::default(),
            queue_time: Family::default(),
            waiting: Family::default(),
            memory: Family::default(),
            looked_up: Family::default(),
        }
    }
}

impl Predictions {
    pub(super) fn register(&self, r: &mut Registry) {
        let s = Unit::Seconds;
        r.register_with_unit(
            "prediction_duration",
            "From the head of a request to its answer",
            s,
            self.took.clone(),
        );
        r.register(
            "prediction_requests",
            "Requests that models ended, by what became of them",
            self.requests.clone(),
        );
        r.register("prediction_rows", "Rows that models answered", self.rows.clone());
        r.register(
            "prediction_runs",
            "Runs of models: fewer than requests where those share",
            self.runs.clone(),
        );
        r.register_with_unit("prediction_run", "Time in runs", Unit::Seconds, self.run_time.clone());
        r.register_with_unit(
            "prediction_queue",
            "Time that requests waited for a model",
            Unit::Seconds,
            self.queue_time.clone(),
        );
        r.register("prediction_queue_requests", "Requests that wait for a model", self.waiting.clone());
        r.register_with_unit(
            "prediction_model_memory",
            "What a model in memory takes, about",
            Unit::Bytes,
            self.memory.clone(),
        );
        r.register(
            "prediction_features",
            "Values of features that requests left out, by whether they were found",
            self.looked_up.clone(),
        );
    }

    fn took(&self, model: &str, took: Duration, well: bool) {
        let label = ByModel { model: model.to_owned(), result: if well { "answered" } else { "failed" } };
        self.took.get_or_create(&label).observe(took.as_secs_f64());
    }

    /// Takes over the counters of the versions in memory; those of versions that are gone are forgotten.
    fn are(&self, models: &Models) {
        self.forget();
        for line in models.list() {
            let Ok(Some(version)) = models.peek(&line.model, &line.version) else { continue };
            let (counts, (requests, _)) = (version.batcher.counts(), version.batcher.waiting());
            let label = ByVersion { model: line.model.clone(), version: line.version.clone() };
            let set = |of: &Family<ByVersion, Counter>, n: u64| _ = of.get_or_create(&label).inc_by(n);
            let time = |of: &Family<ByVersion, Counter<f64, AtomicU64>>, d: Duration| {
                _ = of.get_or_create(&label).inc_by(d.as_secs_f64());
            };
            for (outcome, n) in [
                ("answered", counts.answered),
                ("failed", counts.failed),
                ("refused", counts.refused),
                ("expired", counts.expired),
                ("cancelled", counts.cancelled),
            ] {
                let label = ByOutcome { model: line.model.clone(), version: line.version.clone(), outcome };
                self.requests.get_or_create(&label).inc_by(n);
            }
            let runs = counts.all_runs();
            set(&self.rows, counts.rows);
            set(&self.runs, runs.runs);
            time(&self.run_time, runs.took);
            time(&self.queue_time, counts.queued);
            let gauge = |of: &Family<ByVersion, Gauge>, n: u64| {
                of.get_or_create(&label).set(i64::try_from(n).unwrap_or(i64::MAX));
            };
            gauge(&self.waiting, requests as u64);
            gauge(&self.memory, version.bytes);
        }
    }

    fn forget(&self) {
        self.requests.clear();
        for family in [&self.rows, &self.runs] {
            family.clear();
        }
        for family in [&self.run_time, &self.queue_time] {
            family.clear();
        }
        for family in [&self.waiting, &self.memory] {
            family.clear();
        }
    }
}

impl Metrics {
    /// A prediction took so long.
    pub(crate) fn predicted(&self, model: &str, took: Duration, well: bool) {
        self.predictions.took(model, took, well);
    }

    /// So many values were looked up for a model, and so many more were not known.
    pub(crate) fn looked_up(&self, model: &str, found: usize, missing: usize) {
        for (result, n) in [("found", found), ("missing", missing)] {
            if n > 0 {
                let label = ByFound { model: model.to_owned(), result };
                self.predictions.looked_up.get_or_create(&label).inc_by(n as u64);
            }
        }
    }

    /// What predictive models counted.
    pub(crate) fn predictions_are(&self, models: &Models) {
        self.predictions.are(models);
    }
}
