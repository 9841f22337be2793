//! Prometheus metrics of the gateway. Labels are closed sets: surfaces, endings, configured models — never user text.

use std::sync::atomic::AtomicU64;

use contract::{RequestRecord, Surface};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    surface: &'static str,
    ending: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByModel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByScope {
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    model: String,
    direction: Direction,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum Direction {
    Input,
    Output,
}

type Seconds = fn() -> Histogram;

/// The gateway's counters. Recording takes a few atomic operations.
pub(crate) struct Metrics {
    registry: Registry,
    ended: Family<Ended, Counter>,
    in_flight: Gauge,
    duration: Family<Ended, Histogram, Seconds>,
    first_output: Histogram,
    attempts: Family<ByModel, Counter>,
    tokens: Family<Tokens, Counter>,
    cost: Counter<f64, AtomicU64>,
    slots: Family<ByModel, Gauge>,
    limit: Family<ByModel, Gauge>,
    queued: Family<ByModel, Gauge>,
    queued_tokens: Family<ByModel, Gauge>,
    leases: Gauge,
    reserved_tokens: Family<ByScope, Gauge>,
    reserved_usd: Family<ByScope, Gauge<f64, AtomicU64>>,
    streams: Family<ByScope, Gauge>,
    lag: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let m = Metrics {
            registry: Registry::with_prefix("forebay"),
            ended: Family::default(),
            in_flight: Gauge::default(),
            duration: Family::new_with_constructor(seconds as Seconds),
            first_output: seconds(),
            attempts: Family::default(),
            tokens: Family::default(),
            cost: Counter::default(),
            slots: Family::default(),
            limit: Family::default(),
            queued: Family::default(),
            queued_tokens: Family::default(),
            leases: Gauge::default(),
            reserved_tokens: Family::default(),
            reserved_usd: Family::default(),
            streams: Family::default(),
            lag: Gauge::default(),
        };
        m.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("requests", "Requests that ended, by surface and how", self.ended.clone());
        r.register("requests_in_flight", "Requests admitted and not ended", self.in_flight.clone());
        let (d, f) = (self.duration.clone(), self.first_output.clone());
        r.register_with_unit("request_duration", "From arrival to end", Unit::Seconds, d);
        r.register_with_unit("first_output", "From arrival to the first useful output", Unit::Seconds, f);
        r.register("attempts", "Calls to models, retries and fallbacks included", self.attempts.clone());
        r.register("tokens", "Tokens used", self.tokens.clone());
        r.register("cost_usd", "Money spent", self.cost.clone());
        r.register("model_slots_in_use", "Slots of a model that are taken", self.slots.clone());
        r.register("model_slots_limit", "Slots of a model there are now", self.limit.clone());
        r.register("model_queue_requests", "Requests waiting for a model", self.queued.clone());
        r.register("model_queue_tokens", "Their tokens", self.queued_tokens.clone());
        r.register("leases", "Requests that hold something of a limit", self.leases.clone());
        r.register("reserved_tokens", "Tokens held by requests under way", self.reserved_tokens.clone());
        r.register("reserved_usd", "Money held by requests under way", self.reserved_usd.clone());
        r.register("open_streams", "Streams that count against a limit", self.streams.clone());
        r.register_with_unit("ledger_lag", "Journal not yet in the database", Unit::Bytes, self.lag.clone());
        self
    }

    /// A request came in.
    pub(crate) fn entered(&self, _surface: Surface) {
        self.in_flight.inc();
    }

    /// Requests admitted and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// A request ended.
    pub(crate) fn ended(&self, r: &RequestRecord) {
        self.in_flight.dec();
        let labels = Ended { surface: surface(r.surface), ending: r.ending.as_str() };
        self.duration.get_or_create(&labels).observe(r.total_us as f64 / 1e6);
        self.ended.get_or_create(&labels).inc();
        if let Some(us) = r.first_output_us {
            self.first_output.observe(us as f64 / 1e6);
        }
        for a in &r.attempts {
            let model = a.model.as_str().to_owned();
            self.attempts.get_or_create(&ByModel { model: model.clone() }).inc();
            let count = |direction, n| {
                self.tokens.get_or_create(&Tokens { model: model.clone(), direction }).inc_by(n);
            };
            count(Direction::Input, a.usage.input_tokens);
            count(Direction::Output, a.usage.output_tokens);
        }
        self.cost.inc_by(r.cost.as_usd());
    }

    /// All of it as text, with the gate and the ledger as they are now.
    pub(crate) fn render(&self, gate: &admission::Snapshot, ledger: &store::Health) -> String {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for m in &gate.models {
            let label = ByModel { model: m.model.as_str().to_owned() };
            self.slots.get_or_create(&label).set(i64::from(m.in_flight));
            self.limit.get_or_create(&label).set(i64::from(m.limit));
            self.queued.get_or_create(&label).set(signed(m.queued_entries as u64));
            self.queued_tokens.get_or_create(&label).set(signed(m.queued_tokens));
        }
        self.leases.set(signed((gate.leases + gate.expired) as u64));
        for scope in admission::Scope::KINDS {
            let label = ByScope { scope };
            let held = gate.held_by_scope.iter().filter(|(s, _)| s.kind() == scope).map(|(_, held)| *held);
            let held = held.fold(admission::Amount::ZERO, admission::Amount::plus);
            let streams = gate.streams_by_scope.iter().filter(|(s, _)| s.kind() == scope);
            self.reserved_tokens.get_or_create(&label).set(signed(held.tokens));
            self.reserved_usd.get_or_create(&label).set(held.money.as_usd());
            self.streams.get_or_create(&label).set(streams.map(|(_, n)| i64::from(*n)).sum());
        }
        self.lag.set(signed(ledger.lag_bytes));
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

fn surface(s: Surface) -> &'static str {
    match s {
        Surface::Openai => "openai",
        Surface::Anthropic => "anthropic",
        Surface::Native => "native",
        Surface::Cli => "cli",
    }
}
