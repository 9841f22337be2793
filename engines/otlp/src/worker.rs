//! The one task behind the exporter: it empties the queue, whatever the collector does, and sends.
//!
//! At most one export of each signal is under way. While one is, spans wait, up to a bound; beyond it they are dropped
//! and counted. Metrics are observed at once and lose nothing: they are cumulative.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::BoxFuture;
use opentelemetry::Key;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior};

use crate::client::Collector;
use crate::exporter::{Drops, Ended, Upstreams};
use crate::metrics::Metrics;
use crate::{Error, Settings, spans};

/// This many batches may wait for a slow collector.
const BACKLOG_BATCHES: usize = 4;

/// What the handle and the worker share.
pub(crate) struct Parts {
    pub(crate) ended: mpsc::Receiver<Ended>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) drops: Arc<Drops>,
    pub(crate) upstreams: Upstreams,
}

/// An export under way: how many requests it is about, and its result.
type Sending = BoxFuture<'static, (u64, OTelSdkResult)>;

struct Traces {
    exporter: Arc<SpanExporter>,
    /// Spans that wait, and of how many requests.
    waiting: Vec<SpanData>,
    requests: u64,
    sending: Option<Sending>,
}

struct Measures {
    exporter: Arc<MetricExporter>,
    metrics: Metrics,
    sending: Option<Sending>,
}

/// The work behind an [`crate::Exporter`].
pub struct Worker {
    parts: Parts,
    traces: Option<Traces>,
    measures: Option<Measures>,
    batch: usize,
    span_interval: Duration,
    metric_interval: Duration,
    timeout: Duration,
    /// The last export failed: said once, not every time.
    failing: bool,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(settings: Settings, parts: Parts) -> Result<Self, Error> {
        let client = Collector::new(settings.timeout);
        let resource = resource();
        let at = |path: &str| settings.endpoint.as_ref().map(|e| format!("{e}{path}"));
        let traces = if settings.traces {
            let mut builder = SpanExporter::builder()
                .with_http()
                .with_http_client(client.clone())
                .with_timeout(settings.timeout);
            if let Some(url) = at("/v1/traces") {
                builder = builder.with_endpoint(url);
            }
            let mut exporter = builder.build()?;
            exporter.set_resource(&resource);
            Some(Traces { exporter: Arc::new(exporter), waiting: Vec::new(), requests: 0, sending: None })
        } else {
            None
        };
        let measures = if settings.metrics {
            let mut builder =
                MetricExporter::builder().with_http().with_http_client(client).with_timeout(settings.timeout);
            if let Some(url) = at("/v1/metrics") {
                builder = builder.with_endpoint(url);
            }
            let metrics = Metrics::new(resource, settings.usage_counters);
            Some(Measures { exporter: Arc::new(builder.build()?), metrics, sending: None })
        } else {
            None
        };
        Ok(Worker {
            parts,
            traces,
            measures,
            batch: settings.batch,
            span_interval: settings.span_interval,
            metric_interval: settings.metric_interval,
            timeout: settings.timeout,
            failing: false,
        })
    }

    /// Works until [`crate::Exporter::close`], then sends what is left. It ends by itself when the collector answers
    /// or does not within the timeout of two exports; whoever waits should have a limit of its own all the same.
    pub async fn run(mut self) {
        let mut spans_due = every(self.span_interval);
        let mut metrics_due = every(self.metric_interval);
        loop {
            tokio::select! {
                // Emptying the queue goes first: it is what requests would notice.
                biased;
                ended = self.parts.ended.recv() => match ended {
                    Some(ended) => self.take(ended),
                    None => break,
                },
                () = self.parts.stop.notified() => break,
                (requests, result) = sent(self.traces.as_mut().map(|t| &mut t.sending)) => {
                    self.spans_sent(requests, &result);
                }
                (_, result) = sent(self.measures.as_mut().map(|m| &mut m.sending)) => self.told(&result),
                _ = spans_due.tick() => self.send_spans(),
                _ = metrics_due.tick() => self.send_metrics(),
            }
        }
        self.finish().await;
    }

    fn take(&mut self, (record, trace): Ended) {
        let upstreams = self.parts.upstreams.get();
        if let Some(m) = &self.measures {
            m.metrics.record(&record, &upstreams);
        }
        let Some(t) = self.traces.as_mut().filter(|_| trace.root.sampled) else { return };
        if t.waiting.len() >= self.batch * BACKLOG_BATCHES {
            self.parts.drops.backlog.fetch_add(1, Ordering::Relaxed);
            return;
        }
        t.waiting.extend(spans::spans(&record, &trace, &upstreams));
        t.requests += 1;
        if t.waiting.len() >= self.batch {
            self.send_spans();
        }
    }

    /// Sends all spans that wait, unless an export is under way.
    fn send_spans(&mut self) {
        let Some(t) = self.traces.as_mut().filter(|t| t.sending.is_none() && !t.waiting.is_empty()) else {
            return;
        };
        let (spans, requests) = (std::mem::take(&mut t.waiting), std::mem::take(&mut t.requests));
        let exporter = t.exporter.clone();
        t.sending = Some(Box::pin(async move { (requests, exporter.export(spans).await) }));
    }

    fn send_metrics(&mut self) {
        let Some(m) = self.measures.as_mut().filter(|m| m.sending.is_none()) else { return };
        let Some(collected) = m.metrics.collect() else { return };
        let exporter = m.exporter.clone();
        m.sending = Some(Box::pin(async move { (0, exporter.export(&collected).await) }));
    }

    fn spans_sent(&mut self, requests: u64, result: &OTelSdkResult) {
        if result.is_err() {
            self.parts.drops.export_failed.fetch_add(requests, Ordering::Relaxed);
        }
        self.told(result);
        if self.traces.as_ref().is_some_and(|t| t.waiting.len() >= self.batch) {
            self.send_spans();
        }
    }

    fn told(&mut self, result: &OTelSdkResult) {
        match result {
            Err(e) if !self.failing => {
                tracing::warn!(error = %e, "failed to export to the collector; said again when it changes");
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!("the collector takes exports again");
                self.failing = false;
            }
            _ => {}
        }
    }

    /// Takes what is left in the queue and sends everything, each signal within the timeout.
    async fn finish(&mut self) {
        self.parts.ended.close();
        while let Some(ended) = self.parts.ended.recv().await {
            self.take(ended);
        }
        // The export under way, then what waits behind it.
        for _ in 0..2 {
            self.send_spans();
            self.send_metrics();
            let traces = last(self.traces.as_mut().map(|t| &mut t.sending), self.timeout);
            let metrics = last(self.measures.as_mut().map(|m| &mut m.sending), self.timeout);
            let (traces, metrics) = futures_util::future::join(traces, metrics).await;
            if let Some((requests, result)) = traces {
                self.spans_sent(requests, &result);
            }
            if let Some((_, result)) = metrics {
                self.told(&result);
            }
        }
    }
}

/// The result of the export under way; pending for ever while there is none. Dropping the future leaves it under way.
async fn sent(sending: Option<&mut Option<Sending>>) -> (u64, OTelSdkResult) {
    let Some(slot) = sending else { return std::future::pending().await };
    let Some(export) = slot.as_mut() else { return std::future::pending().await };
    let result = export.await;
    *slot = None;
    result
}

async fn last(sending: Option<&mut Option<Sending>>, limit: Duration) -> Option<(u64, OTelSdkResult)> {
    let slot = sending.filter(|s| s.is_some())?;
    tokio::time::timeout(limit, sent(Some(slot))).await.ok()
}

/// Ticks after each interval, for the first time after one.
fn every(interval: Duration) -> Interval {
    let mut i = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    i.set_missed_tick_behavior(MissedTickBehavior::Delay);
    i
}

/// Who we are: as the environment says, else `forebay`.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&Key::from_static_str("service.name")).map(|v| v.to_string());
    let builder = Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match name {
        Some(name) if !name.starts_with("unknown_service") => builder.build(),
        _ => builder.with_service_name("forebay").build(),
    }
}
