//! The metrics of OpenTelemetry's conventions for generative AI, observed once for each attempt.
//!
//! Collected by the worker when it wants them; no thread of the SDK's. Cumulative, so that a lost export loses nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use contract::{AttemptRecord, ModelName, RequestRecord};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};

use crate::Upstream;
use crate::spans::{gen_ai, scope};

/// The buckets of `gen_ai.client.token.usage`: powers of four.
const TOKENS: [f64; 14] =
    [1., 4., 16., 64., 256., 1024., 4096., 16384., 65536., 262144., 1048576., 4194304., 16777216., 67108864.];
/// Of `gen_ai.client.operation.duration`, in seconds.
const DURATION: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Of `gen_ai.server.time_to_first_token`, in seconds.
const FIRST_TOKEN: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Of `gen_ai.server.time_per_output_token`, in seconds.
const PER_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// A reader that the meter provider and the worker share.
#[derive(Debug, Clone)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }
    fn collect(&self, rm: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(rm)
    }
    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Token usage, in the convention's old or new form.
enum Usage {
    Histogram(Histogram<u64>),
    Counters { input: Counter<u64>, output: Counter<u64>, cached: Counter<u64> },
}

/// The instruments.
pub(crate) struct Metrics {
    reader: Shared,
    /// Keeps the instruments alive.
    _provider: SdkMeterProvider,
    usage: Usage,
    duration: Histogram<f64>,
    first_token: Histogram<f64>,
    per_token: Histogram<f64>,
    requests: Counter<u64>,
    cost: Counter<f64>,
}

impl Metrics {
    pub(crate) fn new(resource: Resource, usage_counters: bool) -> Self {
        let reader = Shared(Arc::new(ManualReader::default()));
        let provider =
            SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone()).build();
        let meter = provider.meter_with_scope(scope());
        let seconds = |name: &'static str, text: &'static str, bounds: &[f64]| {
            let h = meter.f64_histogram(name).with_unit("s").with_description(text);
            h.with_boundaries(bounds.to_vec()).build()
        };
        Metrics {
            usage: Usage::new(&meter, usage_counters),
            duration: seconds("gen_ai.client.operation.duration", "Duration of a call to a model", &DURATION),
            first_token: seconds(
                "gen_ai.server.time_to_first_token",
                "From asking a model to its first token",
                &FIRST_TOKEN,
            ),
            per_token: seconds(
                "gen_ai.server.time_per_output_token",
                "Time of each output token after the first",
                &PER_TOKEN,
            ),
            requests: meter
                .u64_counter("forebay.requests")
                .with_unit("{request}")
                .with_description("Requests that ended, by how")
                .build(),
            cost: meter.f64_counter("forebay.cost").with_unit("USD").with_description("Money spent").build(),
            reader,
            _provider: provider,
        }
    }

    /// A request ended.
    pub(crate) fn record(&self, r: &RequestRecord, upstreams: &HashMap<ModelName, Upstream>) {
        let mut ended = vec![KeyValue::new("forebay.ending", r.ending.as_str())];
        let pipeline = r.pipeline.as_ref().map(|p| p.as_str().to_owned());
        ended.extend(pipeline.map(|p| KeyValue::new("forebay.pipeline", p)));
        self.requests.add(1, &ended);
        for a in &r.attempts {
            self.attempt(a, upstreams.get(&a.model));
        }
    }

    fn attempt(&self, a: &AttemptRecord, upstream: Option<&Upstream>) {
        let mut labels = gen_ai(a, upstream);
        self.cost.add(a.cost.as_usd(), &labels);
        self.usage.record(a, &mut labels);
        let asked = a.started_us.saturating_add(a.queued_us);
        if let Some(first) = a.first_token_us {
            self.first_token.record(seconds(asked, first), &labels);
            let after_first = a.usage.output_tokens.saturating_sub(1);
            if after_first > 0 {
                self.per_token.record(seconds(first, a.ended_us) / after_first as f64, &labels);
            }
        }
        labels.extend(a.error.as_ref().map(|e| KeyValue::new("error.type", e.code.as_str())));
        self.duration.record(seconds(asked, a.ended_us), &labels);
    }

    /// All there is now.
    pub(crate) fn collect(&self) -> Option<ResourceMetrics> {
        let mut all = ResourceMetrics::default();
        self.reader.collect(&mut all).is_ok().then_some(all)
    }
}

impl Usage {
    fn new(meter: &Meter, counters: bool) -> Self {
        if counters {
            let counter = |name: &'static str, text: &'static str| {
                meter.u64_counter(name).with_unit("{token}").with_description(text).build()
            };
            return Usage::Counters {
                input: counter(
                    "gen_ai.client.inference.usage.input_tokens",
                    "Input tokens, cached ones included",
                ),
                output: counter(
                    "gen_ai.client.inference.usage.output_tokens",
                    "Output tokens, reasoning included",
                ),
                cached: counter(
                    "gen_ai.client.inference.usage.cache_read.input_tokens",
                    "Input tokens that the provider read from its cache",
                ),
            };
        }
        let usage = meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}");
        let usage = usage.with_description("Input and output tokens of a call to a model");
        Usage::Histogram(usage.with_boundaries(TOKENS.to_vec()).build())
    }

    /// `labels` come back as they were.
    fn record(&self, a: &AttemptRecord, labels: &mut Vec<KeyValue>) {
        match self {
            Usage::Histogram(h) => {
                for (kind, n) in [("input", a.usage.input_tokens), ("output", a.usage.output_tokens)] {
                    labels.push(KeyValue::new("gen_ai.token.type", kind));
                    h.record(n, labels);
                    labels.pop();
                }
            }
            Usage::Counters { input, output, cached } => {
                // Providers do not break usage down.
                labels.push(KeyValue::new("gen_ai.token.modality", "unknown"));
                input.add(a.usage.input_tokens, labels);
                output.add(a.usage.output_tokens, labels);
                cached.add(a.usage.cached_input_tokens, labels);
                labels.pop();
            }
        }
    }
}

fn seconds(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}
