//! One request from its admission to its ledger record.
//!
//! [`Request`] is the permit: it holds the reservation and the stream's place. Its drop is the only end there is: usage
//! settles, the ledger gets one record, the metrics one observation — whether the answer was complete, failed, or the
//! caller left in the middle of it.

use std::sync::Arc;

use admission::{Amount, Demand, Entry, Growing, Outlook};
use contract::{
    Budget, Code, Context, Deadline, Ending, Error, Meter, MidStream, ModelName, Money, Outcome,
    PipelineName, Price, RequestId, RequestRecord, Reserve, Surface, TenantId, Tick, Trace, UnixMillis,
    UserId, Value,
};
use store::Admitted;

use crate::app::{App, Pipeline};
use crate::auth::Caller;
use crate::choosing::Chosen;
use crate::deltas::Growth;
use crate::drain;
use crate::ended::Watched;
use crate::errors::Failure;
use crate::headers::Rates;
use crate::heard::Heard;
use crate::inside;
use crate::ladder::{self, Instead};
use crate::metrics::At;
use crate::replay::{self, Told};

/// Output tokens reserved for a pipeline that limits money alone.
const OUTPUT_WITHOUT_LIMIT: u64 = 1_024;

/// What a caller asks for.
pub(crate) struct Ask {
    pub(crate) surface: Surface,
    pub(crate) target: Target,
    pub(crate) user: Option<UserId>,
    pub(crate) stream: bool,
    /// Estimated input.
    pub(crate) input_tokens: u64,
    /// The most output asked for.
    pub(crate) max_output_tokens: Option<u64>,
    /// When its head was there: a body that comes slowly counts.
    pub(crate) arrived: Tick,
    /// What is done because its pipeline is busy.
    pub(crate) instead: Option<Instead>,
    /// That its pipeline was chosen among several.
    pub(crate) chosen: Option<Chosen>,
    /// What is remembered of its answer.
    pub(crate) heard: Option<Arc<Heard>>,
}

/// Who is to answer.
pub(crate) enum Target {
    Model(ModelName, Price),
    Pipeline(PipelineName, Box<Pipeline>),
}

impl Target {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Target::Model(name, _) => name.as_str(),
            Target::Pipeline(name, _) => name.as_str(),
        }
    }
}

/// An admitted request.
pub(crate) struct Request {
    app: App,
    entry: Option<Entry>,
    rates: Rates,
    /// The models of its pipeline.
    models: Vec<ModelName>,
    pub(crate) cx: Context,
    record: Option<Box<RequestRecord>>,
    trace: Option<Trace>,
    /// What is done because its pipeline is busy.
    pub(crate) instead: Option<Instead>,
    /// Whoever keeps its answer.
    told: Option<Arc<Told>>,
    /// What is remembered of its answer.
    heard: Option<Arc<Heard>>,
}

impl Request {
    /// Lets a request in: limits, reservation, and a note in the journal that it may cost something. `alone` says by what the
    /// queue of its model knows it, when that alone decides ([`llm::Models::mark_if_alone`]): then most of what that refuses
    /// is refused here, before anything is begun ([`crate::sample`]).
    pub(crate) fn admit(
        app: &App,
        caller: Caller,
        ask: Ask,
        alone: impl FnOnce(Tick) -> Option<u64>,
    ) -> Result<Request, Box<Failure>> {
        let tenant = caller.tenant.clone();
        Self::enter(app, caller, ask, alone).map_err(|(at, failure)| {
            app.inner.metrics.refused(at, &tenant, &failure.error);
            failure
        })
    }

    fn enter(
        app: &App,
        caller: Caller,
        ask: Ask,
        alone: impl FnOnce(Tick) -> Option<u64>,
    ) -> Result<Request, (At, Box<Failure>)> {
        if app.is_draining() {
            return Err((At::Gate, drain::refusal().into()));
        }
        if !app.inner.ledger.is_healthy() {
            return Err((At::Gate, storage_unavailable().into()));
        }
        let Caller { tenant, key, trace: from, mid_stream, freshness, deferred, takes_job: _ } = caller;
        let chosen = ask.chosen.as_ref().map(|chosen| chosen.id);
        let id = chosen.or_else(inside::take_id).unwrap_or_else(|| app.request_id());
        let trace = app.generation.settings.tracing.as_ref().map(|t| t.trace(id, from));
        let policy = match &ask.target {
            // Nobody sees it before its end.
            _ if !ask.stream => MidStream::Restart,
            Target::Pipeline(_, p) => mid_stream.unwrap_or(p.mid_stream),
            Target::Model(..) => mid_stream.unwrap_or_default(),
        };
        let (model, pipeline, price, version, budget, models) = match ask.target {
            Target::Model(m, price) => (Some(m), None, price, None, Budget::default(), Vec::new()),
            Target::Pipeline(n, p) => (None, Some(n), p.price, Some(p.version), p.graph.budget, p.models),
        };
        let who = admission::Caller {
            tenant: tenant.clone(),
            key: key.clone(),
            user: ask.user.clone(),
            pipeline: pipeline.clone(),
        };
        let demand = Demand {
            // A pipeline asks for what its stages say, however long its input is and whatever the caller's limit.
            input_tokens: budget.tokens.map_or(ask.input_tokens, |t| ask.input_tokens.min(t)),
            max_output_tokens: ask.max_output_tokens.filter(|_| pipeline.is_none()),
            price,
            stream: ask.stream,
            model: model.clone(),
            budget: of_budget(&budget, &price, ask.input_tokens),
        };
        // The wall clock at arrival: reading a document may have taken a while since.
        let since = app.inner.clock.now().since(ask.arrived).as_millis();
        let at = UnixMillis(app.inner.clock.wall().0.saturating_sub(i64::try_from(since).unwrap_or(0)));
        let entry = app.inner.gate.enter(&who, &demand);
        let entry = entry.map_err(|refusal| (At::Gate, Failure::refused(*refusal, at)))?;
        if let Some(model) = model.as_ref().filter(|_| !inside::is_behalf()) {
            let deadline = Deadline::from_now(ask.arrived, app.generation.settings.total);
            let slot = admission::Ask { priority: None, tokens: ask.input_tokens, deadline };
            let mark = |now| if app.inner.sample.takes(now, &tenant) { None } else { alone(now) };
            if let Some(refusal) = app.inner.gate.refuse(model, &tenant, slot, mark) {
                let mut failure = Failure::refused(*refusal, at);
                failure.request = Some(id);
                failure.rates = Some(Rates { windows: entry.rate_headers(), at });
                return Err((At::Queue, failure));
            }
        }
        let reserved = entry.reserved();
        let admitted = Admitted {
            id,
            at,
            tenant: tenant.clone(),
            key: key.clone(),
            user: ask.user.clone(),
            pipeline: pipeline.clone(),
            model: model.clone(),
            surface: ask.surface,
            stream: ask.stream,
            input_tokens: demand.input_tokens,
            reserved_tokens: reserved.tokens,
            reserved_cost: reserved.money,
        };
        if app.inner.ledger.admitted(&admitted).is_err() {
            return Err((At::Gate, storage_unavailable().into()));
        }
        let record = RequestRecord {
            id,
            at,
            surface: ask.surface,
            tenant: tenant.clone(),
            key,
            user: ask.user.clone(),
            pipeline,
            pipeline_version: version,
            model,
            stream: ask.stream,
            queued_us: 0,
            first_output_us: None,
            total_us: 0,
            usage: contract::Usage::default(),
            cost: Money::ZERO,
            attempts: Vec::new(),
            stages: Vec::new(),
            facts: serde_json::Map::new(),
            ending: Ending::Cancelled,
            error: None,
        };
        // The calls of a pipeline may use more than was reserved at the door: then they ask for more.
        let growing = || Box::new(Reserved(entry.growing()));
        let meter = if record.pipeline.is_some() { Meter::with_reserve(growing()) } else { Meter::default() };
        let mut cx = context(app, id, tenant, ask.user, ask.arrived, budget, meter);
        cx.trace = trace.map(|t| t.root);
        cx.mid_stream = policy;
        cx.retrying = inside::is_again();
        cx.freshness = freshness;
        let instead = ask.instead.or(deferred.then_some(Instead { rung: ladder::JOB, age: None }));
        if let Some(instead) = instead {
            cx.meter.fact("degraded", instead.rung.into());
        }
        if let Some(age) = instead.and_then(|i| i.age) {
            cx.meter.fact("degraded_age_s", age.as_secs().into());
        }
        if let Some(chosen) = ask.chosen {
            chosen.note(&cx.meter);
        }
        inside::show(&cx.meter);
        app.inner.metrics.entered(ask.surface);
        let told = replay::current();
        if let Some(told) = &told {
            told.admitted(id);
        }
        let rates = Rates { windows: entry.rate_headers(), at };
        Ok(Request {
            app: app.clone(),
            entry: Some(entry),
            rates,
            models,
            cx,
            record: Some(Box::new(record)),
            trace,
            instead,
            told,
            heard: ask.heard,
        })
    }

    /// What keeps a model's answer within its reservation.
    pub(crate) fn growth(&self, price: Price, input_tokens: u64) -> Option<Growth> {
        let entry = self.entry.as_ref()?;
        let reserved = entry.reserved().tokens.saturating_sub(input_tokens);
        Some(Growth { hold: entry.growing(), price, input_tokens, reserved, output: 0 })
    }

    /// Where a call of the pipeline's busiest model would stand now: requests before it, and the wait as far as it is
    /// known.
    pub(crate) fn outlook(&self) -> Outlook {
        let ask = |tokens| admission::Ask { priority: None, tokens, deadline: self.cx.deadline };
        let looked = self.models.iter().map(|m| self.app.inner.gate.outlook(m, &self.cx.tenant, ask(1_000)));
        looked.max_by_key(|o| (o.wait, o.ahead)).unwrap_or(Outlook { ahead: 0, wait: None })
    }

    /// Its id.
    pub(crate) fn id(&self) -> RequestId {
        self.cx.request
    }

    /// Whether its answer is kept for readers that come back.
    pub(crate) fn is_kept(&self) -> bool {
        self.told.is_some()
    }

    /// The caller's rates when it came in.
    pub(crate) fn rates(&self) -> Rates {
        self.rates
    }

    /// The caller has something useful: counts once.
    pub(crate) fn first_output(&mut self) {
        let now = self.cx.elapsed_us();
        if let Some(r) = &mut self.record
            && r.first_output_us.is_none()
        {
            r.first_output_us = Some(now);
        }
    }

    /// It ended with everything.
    pub(crate) fn complete(mut self) {
        self.end(Ending::Complete, None);
    }

    /// It ended with an error, after something usable or not.
    pub(crate) fn failed(mut self, error: &Error, partial: bool) {
        let ending = match (error.code, partial) {
            (Code::Cancelled, _) => Ending::Cancelled,
            (_, true) => Ending::Partial,
            (_, false) => Ending::Failed,
        };
        self.end(ending, Some(error.clone()));
    }

    /// It ended before its first byte: what the caller is told.
    pub(crate) fn refuse(self, error: Error) -> Box<Failure> {
        let (request, rates) = (Some(self.id()), Some(self.rates()));
        self.failed(&error, false);
        let mut failure = Box::<Failure>::from(error);
        (failure.request, failure.rates) = (request, rates);
        failure
    }

    /// It ended as a pipeline's outcome says.
    pub(crate) fn outcome(self, outcome: &Outcome<Value>) {
        if let (Some(heard), Outcome::Complete(value) | Outcome::Partial(value, _)) = (&self.heard, outcome) {
            heard.whole(&value.to_text());
        }
        match outcome {
            Outcome::Complete(_) => self.complete(),
            Outcome::Partial(_, e) => self.failed(e, true),
            Outcome::Failed(e) => self.failed(e, false),
        }
    }

    fn end(&mut self, ending: Ending, error: Option<Error>) {
        let (Some(entry), Some(mut record)) = (self.entry.take(), self.record.take()) else { return };
        if let Some(told) = &self.told {
            told.ended(ending, error.as_ref(), &self.cx.meter);
        }
        let (spent, attempts, stages, facts) = self.cx.meter.take();
        entry.settle(&spent.usage, spent.cost);
        record.queued_us = attempts.iter().map(|a| a.queued_us).max().unwrap_or(0);
        record.total_us = self.cx.elapsed_us();
        (record.usage, record.cost) = (spent.usage, spent.cost);
        (record.attempts, record.stages, record.facts) = (attempts, stages, facts);
        (record.ending, record.error) = (ending, error);
        if let Err(e) = self.app.inner.ledger.settled(&record) {
            tracing::error!(request = %record.id, error = %e, "failed to keep a ledger record");
        }
        let inner = &self.app.inner;
        inner.metrics.left();
        let observers = self.app.observers();
        let watched = observers.any().then(|| {
            let (observers, generation) = (observers.clone(), self.app.generation.clone());
            Watched { observers, heard: self.heard.take(), generation }
        });
        let tracing = self.app.generation.settings.tracing.as_ref();
        let trace = tracing.zip(self.trace).map(|(t, trace)| (t.sink.clone(), trace));
        inner.ended.put(&inner.metrics, record, trace, watched);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(Ending::Cancelled, Some(Error::new(Code::Cancelled, "the caller left")));
    }
}

fn context(
    app: &App,
    request: RequestId,
    tenant: TenantId,
    user: Option<UserId>,
    arrived: Tick,
    budget: Budget,
    meter: Meter,
) -> Context {
    let total = budget.total.unwrap_or(app.generation.settings.total);
    Context {
        request,
        tenant,
        user,
        stage: None,
        arrived,
        deadline: Deadline::from_now(arrived, total),
        budget,
        clock: app.inner.clock.clone(),
        meter: Arc::new(meter),
        trace: None,
        retrying: false,
        mid_stream: MidStream::Error,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    }
}

/// A request's reservation, as its meter sees it.
struct Reserved(Growing);

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reserved")
    }
}

impl Reserve for Reserved {
    fn grow(&self, tokens: u64, money: Money) -> Result<(), Error> {
        Ok(self.0.to(Amount { tokens, money })?)
    }
}

/// What a pipeline's own budget lets it use at most; `None` when it limits neither tokens nor money.
fn of_budget(budget: &Budget, price: &Price, input: u64) -> Option<Amount> {
    if budget.tokens.is_none() && budget.usd.is_none() {
        return None;
    }
    let tokens = budget.tokens.unwrap_or_else(|| input.saturating_add(OUTPUT_WITHOUT_LIMIT));
    let output_tokens = tokens;
    let dearest = Price { output: price.output.max(price.input), ..Price::FREE };
    let all = dearest.cost(&contract::Usage { output_tokens, ..contract::Usage::default() });
    let money = match (budget.usd, budget.tokens) {
        (Some(usd), Some(_)) => usd.min(all),
        (Some(usd), None) => usd,
        (None, _) => all,
    };
    Some(Amount { tokens, money })
}

pub(crate) fn storage_unavailable() -> Error {
    let m = "the ledger cannot be written, and nothing is answered that cannot be accounted: see /readyz";
    Error::new(Code::StorageUnavailable, m)
        .retry(contract::RetryHint::After(std::time::Duration::from_secs(5)))
}
