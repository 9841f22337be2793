//! A ledger record as spans: the request, its stages, its attempts.
//!
//! ```text
//! SERVER  POST /v1/chat/completions, or pipeline {name}     parent: the caller's span
//! ├─ INTERNAL  stage {name}
//! │  └─ CLIENT  chat {model}                                GenAI conventions; from the call itself, not the queue
//! └─ CLIENT  chat {model}                                   a plain model call
//! ```
//!
//! Pure. Text of people never enters a span: an error is its code alone.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::trace::{Trace, attempt_span, stage_span};
use contract::{AttemptRecord, Ending, ModelName, RequestRecord, StageRecord, StageState, Surface};
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::Upstream;

/// The scope of all that this crate makes.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("forebay").with_version(env!("CARGO_PKG_VERSION")).build()
}

/// The spans of a request that has ended, the request's own first.
pub fn spans(
    record: &RequestRecord,
    trace: &Trace,
    upstreams: &HashMap<ModelName, Upstream>,
) -> Vec<SpanData> {
    let times = Times::of(record);
    let make = Make { trace, times };
    let mut all = Vec::with_capacity(1 + record.stages.len() + record.attempts.len());
    all.push(make.request(record));
    all.extend(record.stages.iter().map(|s| make.stage(record, s)));
    all.extend(record.attempts.iter().map(|a| make.attempt(record, a, upstreams.get(&a.model))));
    all
}

/// Points of a record on the wall clock.
#[derive(Clone, Copy)]
struct Times {
    arrived: SystemTime,
}

impl Times {
    fn of(record: &RequestRecord) -> Self {
        let millis = u64::try_from(record.at.0).unwrap_or(0);
        Times { arrived: UNIX_EPOCH + Duration::from_millis(millis) }
    }

    /// `us` after the request's arrival.
    fn at(self, us: u64) -> SystemTime {
        self.arrived.checked_add(Duration::from_micros(us)).unwrap_or(self.arrived)
    }
}

struct Make<'a> {
    trace: &'a Trace,
    times: Times,
}

/// What differs from one span to the next.
struct Shape {
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    kind: SpanKind,
    name: String,
    from_us: u64,
    to_us: u64,
    attributes: Vec<KeyValue>,
    status: Status,
    event: Option<(&'static str, u64)>,
}

impl Make<'_> {
    fn request(&self, r: &RequestRecord) -> SpanData {
        let route = route(r);
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", route.clone()),
            KeyValue::new("forebay.request.id", r.id.to_string()),
            KeyValue::new("forebay.tenant", r.tenant.as_str().to_owned()),
            KeyValue::new("forebay.stream", r.stream),
            KeyValue::new("forebay.ending", r.ending.as_str()),
            KeyValue::new("forebay.cost_nanousd", r.cost.nanos()),
            KeyValue::new("forebay.tokens.input", int(r.usage.input_tokens)),
            KeyValue::new("forebay.tokens.output", int(r.usage.output_tokens)),
        ];
        let text = |key: &'static str, v: Option<&str>| v.map(|v| KeyValue::new(key, v.to_owned()));
        attributes.extend(text("forebay.pipeline", r.pipeline.as_ref().map(|p| p.as_str())));
        attributes.extend(text("forebay.pipeline.version", r.pipeline_version.as_deref()));
        attributes.extend(text("forebay.model", r.model.as_ref().map(|m| m.as_str())));
        attributes.extend(text("error.type", r.error.as_ref().map(|e| e.code.as_str())));
        let name = match &r.pipeline {
            Some(p) => format!("pipeline {p}"),
            None => format!("POST {route}"),
        };
        self.span(Shape {
            id: self.trace.root.span,
            parent: self.trace.parent,
            kind: SpanKind::Server,
            name,
            from_us: 0,
            to_us: r.total_us,
            attributes,
            status: status(r.ending, r.error.as_ref()),
            event: r.first_output_us.map(|us| ("forebay.first_output", us)),
        })
    }

    fn stage(&self, r: &RequestRecord, s: &StageRecord) -> SpanData {
        let mut attributes = vec![
            KeyValue::new("forebay.stage.name", s.name.as_str().to_owned()),
            KeyValue::new("forebay.stage.state", s.state.as_str()),
        ];
        attributes.extend(s.budget_ms.map(|ms| KeyValue::new("forebay.stage.budget_ms", int(ms))));
        if let Some([total, failed, cached]) = s.parts {
            attributes.push(KeyValue::new("forebay.stage.parts", int(total)));
            attributes.push(KeyValue::new("forebay.stage.parts_failed", int(failed)));
            attributes.push(KeyValue::new("forebay.stage.parts_cached", int(cached)));
        }
        attributes.extend(s.error.as_ref().map(|e| KeyValue::new("error.type", e.code.as_str())));
        let status = match (&s.error, s.state) {
            (Some(e), StageState::Failed) => Status::error(e.code.as_str()),
            _ => Status::Unset,
        };
        self.span(Shape {
            id: stage_span(r.id, &s.name),
            parent: Some(self.trace.root.span),
            kind: SpanKind::Internal,
            name: format!("stage {}", s.name),
            from_us: s.started_us,
            to_us: s.ended_us,
            attributes,
            status,
            event: s.first_output_us.map(|us| ("forebay.first_output", us)),
        })
    }

    fn attempt(&self, r: &RequestRecord, a: &AttemptRecord, upstream: Option<&Upstream>) -> SpanData {
        // A stage that was cut short leaves no record, and so no span to hang from.
        let stage = a.stage.as_ref().filter(|name| r.stages.iter().any(|s| s.name == **name));
        let mut attributes = gen_ai(a, upstream);
        attributes.extend([
            KeyValue::new("gen_ai.usage.input_tokens", int(a.usage.input_tokens)),
            KeyValue::new("gen_ai.usage.output_tokens", int(a.usage.output_tokens)),
            KeyValue::new("forebay.model", a.model.as_str().to_owned()),
            KeyValue::new("forebay.attempt.number", i64::from(a.number)),
            KeyValue::new("forebay.attempt.queued_us", int(a.queued_us)),
            KeyValue::new("forebay.cost_nanousd", a.cost.nanos()),
        ]);
        if a.usage.cached_input_tokens > 0 {
            let cached = int(a.usage.cached_input_tokens);
            attributes.push(KeyValue::new("gen_ai.usage.cache_read.input_tokens", cached));
        }
        if let Some(reason) = &a.finish_reason {
            let reasons = vec![StringValue::from(reason.clone())];
            attributes
                .push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons))));
        }
        let stood_in = a.instead_of.as_ref().map(|m| m.as_str().to_owned());
        attributes.extend(stood_in.map(|m| KeyValue::new("forebay.attempt.instead_of", m)));
        attributes.extend(a.reason.map(|r| KeyValue::new("forebay.attempt.reason", r.as_str())));
        let prompt = a.prompt_version.clone();
        attributes.extend(prompt.map(|v| KeyValue::new("forebay.prompt.version", v)));
        attributes.extend(a.error.as_ref().map(|e| KeyValue::new("error.type", e.code.as_str())));
        let model = upstream.map_or(a.model.as_str(), |u| u.model.as_str());
        self.span(Shape {
            id: attempt_span(r.id, a.ordinal),
            parent: Some(stage.map_or(self.trace.root.span, |name| stage_span(r.id, name))),
            kind: SpanKind::Client,
            name: format!("chat {model}"),
            from_us: a.started_us.saturating_add(a.queued_us).min(a.ended_us),
            to_us: a.ended_us,
            attributes,
            status: status(a.ending, a.error.as_ref()),
            event: a.first_token_us.map(|us| ("gen_ai.first_token", us)),
        })
    }

    fn span(&self, s: Shape) -> SpanData {
        let flags = if self.trace.root.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let trace = TraceId::from_bytes(self.trace.root.trace);
        let id = SpanId::from_bytes(s.id);
        let mut events = SpanEvents::default();
        if let Some((name, us)) = s.event {
            events.events.push(Event::new(name, self.times.at(us), Vec::new(), 0));
        }
        SpanData {
            span_context: SpanContext::new(trace, id, flags, false, TraceState::default()),
            parent_span_id: s.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: s.kind == SpanKind::Server && s.parent.is_some(),
            span_kind: s.kind,
            name: s.name.into(),
            start_time: self.times.at(s.from_us),
            end_time: self.times.at(s.to_us),
            attributes: s.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: s.status,
            instrumentation_scope: scope(),
        }
    }
}

/// What spans and metrics of a model call have in common.
pub(crate) fn gen_ai(a: &AttemptRecord, upstream: Option<&Upstream>) -> Vec<KeyValue> {
    let provider = upstream.map_or_else(|| a.endpoint.as_str().to_owned(), |u| u.provider.clone());
    let model = upstream.map_or_else(|| a.model.as_str().to_owned(), |u| u.model.clone());
    let mut all = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider),
        KeyValue::new("gen_ai.request.model", model),
    ];
    all.extend(a.model_version.clone().map(|v| KeyValue::new("gen_ai.response.model", v)));
    if let Some(u) = upstream {
        all.extend(u.host.clone().map(|h| KeyValue::new("server.address", h)));
        all.extend(u.port.map(|p| KeyValue::new("server.port", i64::from(p))));
    }
    all
}

fn route(r: &RequestRecord) -> String {
    match r.surface {
        Surface::Openai => "/v1/chat/completions".to_owned(),
        Surface::Completions => "/v1/completions".to_owned(),
        Surface::Responses => "/v1/responses".to_owned(),
        Surface::Anthropic => "/v1/messages".to_owned(),
        Surface::Inference => "/v2/models/{name}/infer".to_owned(),
        Surface::Native | Surface::Cli => "/v1/pipelines/{name}".to_owned(),
    }
}

/// A caller that leaves and a partial answer are no errors of ours to alert on; the code is among the attributes.
fn status(ending: Ending, error: Option<&contract::Error>) -> Status {
    match (ending, error) {
        (Ending::Failed | Ending::Lost, Some(e)) => Status::error(e.code.as_str()),
        (Ending::Failed | Ending::Lost, None) => Status::error(ending.as_str()),
        _ => Status::Unset,
    }
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
