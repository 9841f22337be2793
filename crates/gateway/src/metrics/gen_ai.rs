//! The metrics of OpenTelemetry's conventions for generative AI, under the names Prometheus gives them.
//!
//! Providers and models are those of the configuration: what an upstream calls itself is no label here.

use std::sync::Arc;

use contract::{AttemptRecord, ModelName};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::families::Noted;
use super::{Histograms, Label, NotedHistograms};
use crate::app::{Settings, Upstream};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    forebay_model: Label<ModelName>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    forebay_model: Label<ModelName>,
    error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    forebay_model: Label<ModelName>,
    gen_ai_token_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Modality {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    forebay_model: Label<ModelName>,
    gen_ai_token_modality: &'static str,
}

/// Token usage: the histogram, or the counters that are to replace it.
enum Usage {
    Histogram(NotedHistograms<Tokens>),
    Counters {
        input: Noted<Modality, Counter>,
        output: Noted<Modality, Counter>,
        cached: Noted<Modality, Counter>,
    },
}

pub(super) struct GenAi {
    registry: Registry,
    usage: Usage,
    duration: NotedHistograms<Ended>,
    first_token: NotedHistograms<Asked>,
    per_token: NotedHistograms<Asked>,
}

fn tokens() -> Histogram {
    Histogram::new([
        1., 4., 16., 64., 256., 1024., 4096., 16384., 65536., 262144., 1048576., 4194304., 16777216.,
        67108864.,
    ])
}

fn duration() -> Histogram {
    Histogram::new([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92])
}

fn first_token() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ])
}

fn per_token() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5])
}

fn histograms<L: Clone + std::hash::Hash + Eq>(made: fn() -> Histogram) -> NotedHistograms<L> {
    Noted::over(Family::new_with_constructor(made))
}

impl GenAi {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut r = Registry::default();
        let usage = if settings.usage_counters {
            let (input, output, cached) = <(Noted<_, _>, Noted<_, _>, Noted<_, _>)>::default();
            let name = |what: &str| format!("gen_ai_client_inference_usage_{what}_tokens");
            r.register(name("input"), "Input tokens, cached ones included", input.family());
            r.register(name("output"), "Output tokens, reasoning included", output.family());
            let help = "Input tokens that the provider read from its cache";
            r.register(name("cache_read_input"), help, cached.family());
            Usage::Counters { input, output, cached }
        } else {
            let usage = histograms(tokens);
            r.register(
                "gen_ai_client_token_usage",
                "Input and output tokens of a call to a model",
                usage.family(),
            );
            Usage::Histogram(usage)
        };
        let g = GenAi {
            registry: r,
            usage,
            duration: histograms(duration),
            first_token: histograms(first_token),
            per_token: histograms(per_token),
        };
        g.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        let mut add = |name: &str, help: &str, h: Histograms<Asked>| {
            r.register_with_unit(name, help, Unit::Seconds, h);
        };
        let first = "From asking a model to its first token";
        add("gen_ai_server_time_to_first_token", first, self.first_token.family());
        let each = "Time of each output token after the first";
        add("gen_ai_server_time_per_output_token", each, self.per_token.family());
        let help = "Duration of a call to a model";
        r.register_with_unit("gen_ai_client_operation_duration", help, Unit::Seconds, self.duration.family());
        self
    }

    /// Forgets the models that are not there; whether there were any.
    pub(super) fn keep(&self, is: impl Fn(&Label<ModelName>) -> bool) -> bool {
        let used = match &self.usage {
            Usage::Histogram(h) => h.retain(|l| is(&l.forebay_model)),
            Usage::Counters { input, output, cached } => {
                [input, output, cached].map(|c| c.retain(|l| is(&l.forebay_model))).contains(&true)
            }
        };
        let timed = [
            self.duration.retain(|l| is(&l.forebay_model)),
            self.first_token.retain(|l| is(&l.forebay_model)),
            self.per_token.retain(|l| is(&l.forebay_model)),
        ];
        used || timed.contains(&true)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of calls to this upstream that end like this one.
    pub(super) fn call(&self, a: &AttemptRecord, upstream: Upstream) -> Call {
        let asked = Asked {
            gen_ai_operation_name: "chat",
            gen_ai_provider_name: upstream.provider,
            gen_ai_request_model: upstream.model,
            forebay_model: Label(a.model.clone()),
        };
        let ended = Ended {
            gen_ai_operation_name: "chat",
            gen_ai_provider_name: asked.gen_ai_provider_name.clone(),
            gen_ai_request_model: asked.gen_ai_request_model.clone(),
            forebay_model: asked.forebay_model.clone(),
            error_type: a.error.as_ref().map_or("", |e| e.code.as_str()),
        };
        Call {
            duration: self.duration.of(&ended),
            first_token: None,
            per_token: None,
            usage: self.usage.used(&asked),
            asked,
        }
    }

    /// An attempt ended, one of those calls.
    pub(super) fn observe(&self, a: &AttemptRecord, call: &mut Call) {
        let (asked, from) = (&call.asked, a.started_us.saturating_add(a.queued_us));
        call.duration.observe(seconds(from, a.ended_us));
        if let Some(first) = a.first_token_us {
            let first_token = || self.first_token.of(asked);
            call.first_token.get_or_insert_with(first_token).observe(seconds(from, first));
            let after_first = a.usage.output_tokens.saturating_sub(1);
            if after_first > 0 {
                let each = seconds(first, a.ended_us) / after_first as f64;
                let per_token = || self.per_token.of(asked);
                call.per_token.get_or_insert_with(per_token).observe(each);
            }
        }
        call.usage.observe(a);
    }
}

/// The counters of calls that end alike. Those of tokens are there from the first token on.
pub(super) struct Call {
    asked: Asked,
    duration: Histogram,
    first_token: Option<Histogram>,
    per_token: Option<Histogram>,
    usage: Used,
}

/// [`Usage`] of such calls.
enum Used {
    Histogram { input: Histogram, output: Histogram },
    Counters { input: Counter, output: Counter, cached: Counter },
}

impl Usage {
    fn used(&self, asked: &Asked) -> Used {
        match self {
            Usage::Histogram(h) => {
                let of = |kind| {
                    h.of(&Tokens {
                        gen_ai_operation_name: asked.gen_ai_operation_name,
                        gen_ai_provider_name: asked.gen_ai_provider_name.clone(),
                        gen_ai_request_model: asked.gen_ai_request_model.clone(),
                        forebay_model: asked.forebay_model.clone(),
                        gen_ai_token_type: kind,
                    })
                };
                Used::Histogram { input: of("input"), output: of("output") }
            }
            Usage::Counters { input, output, cached } => {
                let labels = Modality {
                    gen_ai_operation_name: asked.gen_ai_operation_name,
                    gen_ai_provider_name: asked.gen_ai_provider_name.clone(),
                    gen_ai_request_model: asked.gen_ai_request_model.clone(),
                    forebay_model: asked.forebay_model.clone(),
                    // Providers do not break usage down.
                    gen_ai_token_modality: "unknown",
                };
                Used::Counters {
                    input: input.of(&labels),
                    output: output.of(&labels),
                    cached: cached.of(&labels),
                }
            }
        }
    }
}

impl Used {
    fn observe(&self, a: &AttemptRecord) {
        let u = &a.usage;
        match self {
            Used::Histogram { input, output } => {
                input.observe(u.input_tokens as f64);
                output.observe(u.output_tokens as f64);
            }
            Used::Counters { input, output, cached } => {
                input.inc_by(u.input_tokens);
                output.inc_by(u.output_tokens);
                cached.inc_by(u.cached_input_tokens);
            }
        }
    }
}

fn seconds(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}
