//! Prometheus metrics. Labels are closed sets: surfaces, endings, codes, and names of the configuration — never user
//! text, and never a tenant that the configuration does not name.
//!
//! A request is observed once, when it has ended, from its ledger record: nothing is on the path of a token.

mod cache;
mod calls;
mod exposition;
mod families;
mod features;
mod gen_ai;
mod handles;
mod jobs;
mod monitors;
mod names;
mod overhead;
mod predictions;
mod rollouts;

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use admission::BreakerState;
use contract::{
    Code, Ending, EndpointName, Error, ModelName, PipelineName, RequestRecord, StageName, Surface, TenantId,
};
use llm::EndpointState;
use parking_lot::Mutex;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use exposition::Format;

use crate::app::Settings;
use cache::Cache;
use calls::{Call, Sort};
use families::Noted;
use features::Features;
use gen_ai::GenAi;
use handles::Handles;
use jobs::Jobs;
use monitors::Monitors;
use names::Names;
use predictions::Predictions;
use rollouts::Rollouts;

/// A name of the configuration as a label value: a clone is a count, not a copy.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Label<N>(N);

impl<N: Display> EncodeLabelValue for Label<N> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{}", self.0)
    }
}

/// The same, or nothing.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Maybe<N>(Option<N>);

impl<N: Display> EncodeLabelValue for Maybe<N> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match &self.0 {
            Some(name) => write!(encoder, "{name}"),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    surface: &'static str,
    ending: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByModel {
    model: Label<ModelName>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    model: Label<ModelName>,
    ending: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fallback {
    model: Label<ModelName>,
    instead_of: Label<ModelName>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Again {
    model: Label<ModelName>,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByEndpoint {
    model: Label<ModelName>,
    endpoint: Label<EndpointName>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Degraded {
    pipeline: Label<PipelineName>,
    rung: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByScope {
    scope: &'static str,
}

/// Who spent it, on what.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Payer {
    model: Label<ModelName>,
    pipeline: Maybe<PipelineName>,
    tenant: Label<TenantId>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    model: Label<ModelName>,
    pipeline: Maybe<PipelineName>,
    tenant: Label<TenantId>,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    pipeline: Maybe<PipelineName>,
    stage: Label<StageName>,
}

/// Where a request was refused.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum At {
    /// At the door: limits, budgets, a server that ends.
    Gate,
    /// At the queue of its model, or in it.
    Queue,
}

impl At {
    const fn as_str(self) -> &'static str {
        match self {
            At::Gate => "gate",
            At::Queue => "queue",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Shed {
    at: &'static str,
    code: &'static str,
    tenant: Label<TenantId>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

/// What became of a request that asks for an answer to be kept, other than to be the first of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It joined one under way.
    Joined,
    /// It got the answer of one that had ended.
    Replayed,
    /// It read on behind an event.
    Resumed,
    /// It was refused.
    Refused,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The same, by model among others.
type NotedHistograms<L> = Noted<L, Histogram>;

/// The gateway's counters.
pub(crate) struct Metrics {
    own: Registry,
    gen_ai: GenAi,
    names: Names,
    ends: Handles<(Surface, Ending), (Histogram, Counter)>,
    calls: Handles<Sort, Call>,
    shed: Handles<(At, Code, TenantId), Counter>,
    cache: Cache,
    jobs: Jobs,
    features: Features,
    monitors: Monitors,
    predictions: Predictions,
    rollouts: Rollouts,
    ended: Family<Ended, Counter>,
    in_flight: Gauge,
    duration: Histograms<Ended>,
    first_output: Histogram,
    overhead: Histogram,
    attempts: Noted<Attempt, Counter>,
    retries: Noted<Again, Counter>,
    fallbacks: Noted<Fallback, Counter>,
    queue_wait: NotedHistograms<ByModel>,
    tokens: Noted<Tokens, Counter>,
    cost: Noted<Payer, Counter<f64, AtomicU64>>,
    stages: Histograms<Stage>,
    budget_used: Histograms<Stage>,
    over_budget: Family<Stage, Counter>,
    sheds: Family<Shed, Counter>,
    degraded: Family<Degraded, Counter>,
    slots: Family<ByModel, Gauge>,
    resting: Family<ByEndpoint, Gauge>,
    at_endpoint: Family<ByEndpoint, Gauge>,
    endpoint_limit: Family<ByEndpoint, Gauge>,
    limit: Family<ByModel, Gauge>,
    queued: Family<ByModel, Gauge>,
    queued_tokens: Family<ByModel, Gauge>,
    /// Held while what is shown is made.
    reading: Mutex<()>,
    leases: Gauge,
    reserved_tokens: Family<ByScope, Gauge>,
    reserved_usd: Family<ByScope, Gauge<f64, AtomicU64>>,
    streams: Family<ByScope, Gauge>,
    replays: Family<ByOutcome, Counter>,
    replay_memory: Gauge,
    lag: Gauge,
    tasks: Gauge,
    dropped: Family<Reason, Counter>,
    reloads: Family<Reload, Counter>,
    refused: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
}

/// From 20 µs to 50 ms.
fn microseconds() -> Histogram {
    Histogram::new([
        20e-6, 40e-6, 60e-6, 80e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 600e-6, 800e-6, 1e-3, 2e-3, 5e-3,
        10e-3, 20e-3, 50e-3,
    ])
}

/// Shares of a budget; over 1 is over it.
fn shares() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 2.0])
}

impl Metrics {
    pub(crate) fn new(settings: &Settings) -> Self {
        let m = Metrics {
            own: Registry::with_prefix("forebay"),
            gen_ai: GenAi::new(settings),
            names: Names::new(settings),
            ends: Handles::default(),
            calls: Handles::default(),
            shed: Handles::default(),
            cache: Cache::default(),
            jobs: Jobs::default(),
            features: Features::default(),
            monitors: Monitors::default(),
            predictions: Predictions::default(),
            rollouts: Rollouts::default(),
            ended: Family::default(),
            in_flight: Gauge::default(),
            duration: Family::new_with_constructor(seconds),
            first_output: seconds(),
            overhead: microseconds(),
            attempts: Noted::default(),
            retries: Noted::default(),
            fallbacks: Noted::default(),
            queue_wait: Noted::over(Family::new_with_constructor(seconds)),
            tokens: Noted::default(),
            cost: Noted::default(),
            stages: Family::new_with_constructor(seconds),
            budget_used: Family::new_with_constructor(shares),
            over_budget: Family::default(),
            sheds: Family::default(),
            degraded: Family::default(),
            slots: Family::default(),
            resting: Family::default(),
            at_endpoint: Family::default(),
            endpoint_limit: Family::default(),
            limit: Family::default(),
            queued: Family::default(),
            queued_tokens: Family::default(),
            reading: Mutex::default(),
            leases: Gauge::default(),
            reserved_tokens: Family::default(),
            reserved_usd: Family::default(),
            streams: Family::default(),
            replays: Family::default(),
            replay_memory: Gauge::default(),
            lag: Gauge::default(),
            tasks: Gauge::default(),
            dropped: Family::default(),
            reloads: Family::default(),
            refused: Gauge::default(),
        };
        m.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.own;
        r.register("requests", "Requests that ended, by surface and how", self.ended.clone());
        r.register("requests_in_flight", "Requests admitted and not ended", self.in_flight.clone());
        r.register("attempts", "Calls to models, retries and fallbacks included", self.attempts.family());
        let again = "Calls that were not the first for their answer, by why they were made";
        r.register("retries", again, self.retries.family());
        r.register("fallbacks", "Calls to a model that stands in for another", self.fallbacks.family());
        r.register("tokens", "Tokens used", self.tokens.family());
        r.register("cost_usd", "Money spent", self.cost.family());
        r.register(
            "stages_over_budget",
            "Stages that took longer than their budget",
            self.over_budget.clone(),
        );
        r.register("sheds", "Requests refused at the gate, or given up in a queue", self.sheds.clone());
        let less =
            "Requests of a pipeline that did less because its models were busy, by what it did instead";
        r.register("degraded", less, self.degraded.clone());
        r.register("model_slots_in_use", "Slots of a model that are taken", self.slots.clone());
        r.register("model_slots_limit", "Slots of a model there are now", self.limit.clone());
        r.register("endpoint_resting", "Whether an endpoint rests after failures", self.resting.clone());
        let bears = "Calls that an endpoint of several is given at once";
        r.register("endpoint_limit", bears, self.endpoint_limit.clone());
        r.register("endpoint_in_flight", "Calls under way at an endpoint", self.at_endpoint.clone());
        r.register("model_queue_requests", "Requests waiting for a model", self.queued.clone());
        r.register("model_queue_tokens", "Their tokens", self.queued_tokens.clone());
        r.register("leases", "Requests that hold something of a limit", self.leases.clone());
        r.register("reserved_tokens", "Tokens held by requests under way", self.reserved_tokens.clone());
        r.register("reserved_usd", "Money held by requests under way", self.reserved_usd.clone());
        r.register("open_streams", "Streams that count against a limit", self.streams.clone());
        r.register("tasks", "Tasks of the server that have not ended", self.tasks.clone());
        self.cache.register(r);
        self.jobs.register(r);
        self.features.register(r);
        self.monitors.register(r);
        self.predictions.register(r);
        self.rollouts.register(r);
        r.register("telemetry_dropped", "Requests not told to the collector", self.dropped.clone());
        r.register("config_reloads", "Attempts to load another configuration", self.reloads.clone());
        r.register("config_refused", "Whether the last one was refused: 0 or 1", self.refused.clone());
        r.register(
            "replays",
            "Requests that joined, repeated or read on in the answer of another",
            self.replays.clone(),
        );
        r.register_with_unit(
            "replay_memory",
            "Held by answers that are kept",
            Unit::Bytes,
            self.replay_memory.clone(),
        );
        let s = || Unit::Seconds;
        r.register_with_unit("request_duration", "From arrival to end", s(), self.duration.clone());
        let first = self.first_output.clone();
        r.register_with_unit("first_output", "From arrival to the first useful output", s(), first);
        let overhead = "Time of a request in which no stage and no model was at work";
        r.register_with_unit("overhead", overhead, s(), self.overhead.clone());
        let wait = "How long a call waited for a slot of its model";
        r.register_with_unit("queue_wait", wait, s(), self.queue_wait.family());
        r.register_with_unit("stage_duration", "Time of a stage", s(), self.stages.clone());
        let used = "Time of a stage by its budget";
        r.register_with_unit(
            "stage_budget_used",
            used,
            Unit::Other("ratio".to_owned()),
            self.budget_used.clone(),
        );
        r.register_with_unit("ledger_lag", "Journal not yet in the database", Unit::Bytes, self.lag.clone());
        self
    }

    /// The names of another configuration are labels from now on too.
    pub(crate) fn name(&self, settings: &Settings) {
        self.names.add(settings);
        self.calls.forget();
        self.shed.forget();
    }

    /// Forgets what was counted of models that are gone: named by no configuration that is in force, and nothing of them
    /// is under way.
    pub(crate) fn keep(&self, is_there: impl Fn(&ModelName) -> bool) {
        let is = |model: &Label<ModelName>| is_there(&model.0);
        let gone = [
            self.attempts.retain(|l| is(&l.model)),
            self.retries.retain(|l| is(&l.model)),
            self.fallbacks.retain(|l| is(&l.model) && is(&l.instead_of)),
            self.queue_wait.retain(|l| is(&l.model)),
            self.tokens.retain(|l| is(&l.model)),
            self.cost.retain(|l| is(&l.model)),
            self.cache.keep(is),
            self.gen_ai.keep(is),
        ];
        if gone.contains(&true) {
            self.names.keep(is_there);
            self.calls.forget();
        }
    }

    /// A request came in.
    pub(crate) fn entered(&self, _surface: Surface) {
        self.in_flight.inc();
    }

    /// Another configuration was put in place, or refused.
    pub(crate) fn reloaded(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.reloads.get_or_create(&Reload { result }).inc();
        self.refused.set((!applied).into());
    }

    /// Requests admitted and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// A request was refused before anything ran, and has no record.
    pub(crate) fn refused(&self, at: At, tenant: &TenantId, e: &Error) {
        self.shed(at, e.code, tenant);
    }

    fn shed(&self, at: At, code: Code, tenant: &TenantId) {
        let find = || {
            let tenant = self.names.tenant(tenant);
            self.sheds.get_or_create_owned(&Shed { at: at.as_str(), code: code.as_str(), tenant })
        };
        self.shed.with((at, code, tenant.clone()), find, |counter| _ = counter.inc());
    }

    /// A request found the answer of another, or not.
    pub(crate) fn replayed(&self, how: Repeat) {
        let outcome = match how {
            Repeat::Joined => "joined",
            Repeat::Replayed => "replayed",
            Repeat::Resumed => "resumed",
            Repeat::Refused => "refused",
        };
        self.replays.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// What is held by answers that are kept, in bytes.
    pub(crate) fn replays_hold(&self, bytes: usize) {
        self.replay_memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What jobs are doing.
    pub(crate) fn jobs_are(&self, counts: &pipeline::runs::Counts, now: contract::UnixMillis) {
        self.jobs.are(counts, now);
    }

    /// A request ended.
    pub(crate) fn left(&self) {
        self.in_flight.dec();
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, r: &RequestRecord) {
        let find = || {
            let labels = Ended { surface: surface(r.surface), ending: r.ending.as_str() };
            (self.duration.get_or_create_owned(&labels), self.ended.get_or_create_owned(&labels))
        };
        self.ends.with((r.surface, r.ending), find, |(duration, ended)| {
            duration.observe(r.total_us as f64 / 1e6);
            ended.inc();
        });
        if let Some(us) = r.first_output_us {
            self.first_output.observe(us as f64 / 1e6);
        }
        if let Some(us) = overhead::overhead_us(r).filter(|_| !cache::shared(r)) {
            self.overhead.observe(us as f64 / 1e6);
        }
        // No room at a model is ours to answer for; the same word from an upstream is not.
        if let Some(e) = &r.error
            && matches!(e.code, Code::Overloaded | Code::RateLimited)
            && e.upstream_status.is_none()
        {
            self.shed(At::Queue, e.code, &r.tenant);
        }
        self.attempts(r);
        self.stages(r);
        self.cache.observe(r);
    }

    /// A pipeline does less because its models are busy.
    pub(crate) fn degraded(&self, pipeline: &PipelineName, rung: &'static str) {
        self.degraded.get_or_create(&Degraded { pipeline: Label(pipeline.clone()), rung }).inc();
    }

    fn stages(&self, r: &RequestRecord) {
        for s in &r.stages {
            let labels = Stage { pipeline: Maybe(r.pipeline.clone()), stage: Label(s.name.clone()) };
            let took_us = s.ended_us.saturating_sub(s.started_us);
            self.stages.get_or_create(&labels).observe(took_us as f64 / 1e6);
            if let Some(budget) = s.budget_ms.filter(|ms| *ms > 0) {
                let share = took_us as f64 / (budget as f64 * 1e3);
                self.budget_used.get_or_create(&labels).observe(share);
                if share > 1.0 {
                    self.over_budget.get_or_create(&labels).inc();
                }
            }
        }
    }

    /// All of it as text, with the gate, the ledger and the exporter's drops as they are now.
    pub(crate) fn render(
        &self,
        gate: &admission::Snapshot,
        ledger: &store::Health,
        endpoints: &[(ModelName, EndpointName, EndpointState)],
        dropped: &[(&'static str, u64)],
        format: Format,
    ) -> String {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        // Of what there is now, and nothing of what there was. One reader at a time: another would find it half made.
        let _one = self.reading.lock();
        for gauges in [&self.slots, &self.limit, &self.queued, &self.queued_tokens] {
            gauges.clear();
        }
        for gauges in [&self.resting, &self.endpoint_limit, &self.at_endpoint] {
            gauges.clear();
        }
        for m in &gate.models {
            let label = ByModel { model: Label(m.model.clone()) };
            self.slots.get_or_create(&label).set(i64::from(m.in_flight));
            self.limit.get_or_create(&label).set(i64::from(m.limit));
            self.queued.get_or_create(&label).set(signed(m.queued_entries as u64));
            self.queued_tokens.get_or_create(&label).set(signed(m.queued_tokens));
        }
        for (model, endpoint, state) in endpoints {
            let label = ByEndpoint { model: Label(model.clone()), endpoint: Label(endpoint.clone()) };
            self.resting.get_or_create(&label).set(i64::from(state.breaker != BreakerState::Closed));
            if let Some(limit) = state.limit {
                self.endpoint_limit.get_or_create(&label).set(i64::from(limit));
            }
            self.at_endpoint.get_or_create(&label).set(i64::from(state.in_flight));
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
        self.tasks.set(signed(pipeline::task::alive() as u64));
        for (reason, n) in dropped {
            // The sums are the exporter's: never lower than what was shown before.
            self.dropped.get_or_create(&Reason { reason }).inner().fetch_max(*n, Ordering::Relaxed);
        }
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut out, &self.own);
        let _ = encode_registry(&mut out, self.gen_ai.registry());
        let _ = encode_eof(&mut out);
        format.of(out)
    }
}

fn surface(s: Surface) -> &'static str {
    match s {
        Surface::Openai => "openai",
        Surface::Completions => "completions",
        Surface::Responses => "responses",
        Surface::Anthropic => "anthropic",
        Surface::Inference => "inference",
        Surface::Native => "native",
        Surface::Cli => "cli",
    }
}

#[cfg(test)]
pub(crate) mod tests;
