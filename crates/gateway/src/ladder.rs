//! What a pipeline does when its models are so busy that a request would wait too long: less, at once, rather than all of
//! it, too late.
//!
//! ```text
//! expected wait ≤ limit ──▶ as written; a complete answer is kept where `cached` is a rung
//!   └── longer: down the rungs, to the first that helps
//!         cached the answer that the very same request had before, while it is young enough
//!         model  the same with a smaller model, where that one's wait is within the limit
//!         draft  what can be made without a model
//!         job    all of it, later: 202, for callers who understand that
//!         shed   a refusal that says when to come again
//! ```
//!
//! Decided before admission, by the wait that the queue and the measured rate of each model foretell. Invariants: nobody waits
//! first and goes down then; what was done instead is told to the caller, recorded and counted. A job has the time that its
//! caller gave it, and goes down no rung.

mod kept;

use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Context, Deadline, Error, PipelineName, RetryHint, TenantId, UserId, Value};
use pipeline::live::{self, Live};

pub use self::kept::KeptAnswers;
use self::kept::{Answer, Place};
use crate::app::{App, Pipeline};
use crate::auth::Caller;
use crate::errors::Failure;
use crate::inside;

/// Input tokens of a call whose prompt is not made yet.
const ONE_CALL: u64 = 1_000;

/// When a pipeline does less, and what.
#[derive(Debug, Clone)]
pub struct WhenBusy {
    /// The longest wait for a model that is no reason to do less.
    pub wait: Duration,
    /// What it does instead: the first that helps.
    pub rungs: Vec<Rung>,
}

impl WhenBusy {
    fn kept(&self) -> Option<&Arc<KeptAnswers>> {
        self.rungs.iter().find_map(|r| match r {
            Rung::Cached(kept) => Some(kept),
            _ => None,
        })
    }
}

/// What a pipeline does when it is busy.
#[derive(Debug, Clone)]
pub enum Rung {
    /// An answer that was given before.
    Cached(Arc<KeptAnswers>),
    /// The same with other models.
    Model(Arc<Pipeline>),
    /// Only what needs no model.
    Draft(Arc<Pipeline>),
    /// All of it, later.
    Job,
    /// Nothing: a refusal.
    Shed,
}

/// As it stands in headers, records and metrics.
const CACHED: &str = "cached";
pub(crate) const JOB: &str = "job";
const SHED: &str = "shed";

impl Rung {
    /// The name in headers, records and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cached(_) => CACHED,
            Self::Model(_) => "model",
            Self::Draft(_) => "draft",
            Self::Job => JOB,
            Self::Shed => SHED,
        }
    }
}

/// What is done in place of all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instead {
    pub(crate) rung: &'static str,
    /// How old the answer is that is given, when it was kept.
    pub(crate) age: Option<Duration>,
}

/// A call of a pipeline, before it is admitted.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a PipelineName,
    pub(crate) caller: &'a Caller,
    pub(crate) user: Option<&'a UserId>,
    pub(crate) input: &'a Value,
    pub(crate) stream: bool,
    /// Whether its caller takes a job in place of an answer.
    pub(crate) takes_job: bool,
}

/// The pipeline as it is to run now.
pub(crate) struct Way {
    pub(crate) pipeline: Pipeline,
    /// What is done instead of all of it.
    pub(crate) instead: Option<Instead>,
    then: Then,
}

enum Then {
    Run,
    /// Runs, and is kept when it is complete.
    Keep(Arc<KeptAnswers>, Place),
    /// Was run before.
    Answer(Arc<Answer>),
}

impl Way {
    fn of(pipeline: Pipeline, instead: Option<&'static str>) -> Self {
        let instead = instead.map(|rung| Instead { rung, age: None });
        Way { pipeline, instead, then: Then::Run }
    }

    /// What starts the run, once its request is admitted.
    pub(crate) fn parts(self) -> (Pipeline, Option<Instead>, Start) {
        let graph = self.pipeline.graph.clone();
        (self.pipeline, self.instead, Start { graph, then: self.then })
    }
}

/// A run that has not begun.
pub(crate) struct Start {
    graph: Arc<pipeline::Graph>,
    then: Then,
}

impl Start {
    /// Begins it.
    pub(crate) fn live(self, input: Value, cx: Context) -> Live {
        match self.then {
            Then::Run => live::start(self.graph, input, cx),
            Then::Answer(answer) => live::already(&self.graph, answer.value.clone(), &cx),
            Then::Keep(kept, place) => {
                let clock = cx.clock.clone();
                live::start(self.graph, input, cx)
                    .telling(move |outcome| kept.keep(place, outcome, clock.now()))
            }
        }
    }
}

/// The pipeline as it is to run now, and what it does instead of all of it.
///
/// # Errors
/// `overloaded` with the time after which the wait is expected to be within the limit. One that asks for a job in its place
/// says so: see [`Failure::job`].
pub(crate) fn descend(app: &App, call: &Call<'_>, pipeline: Pipeline) -> Result<Way, Box<Failure>> {
    let Some(busy) = pipeline.when_busy.clone() else { return Ok(Way::of(pipeline, None)) };
    // A job has the time that its caller gave it, and its answer does for others.
    let tenant = &call.caller.tenant;
    let wait = match inside::priority() {
        Some(_) => Duration::ZERO,
        None => expected(app, tenant, &pipeline),
    };
    let place = busy.kept().filter(|_| !call.caller.freshness.no_store).map(|kept| {
        let user = call.user.filter(|_| has_answers_by_user(app, &pipeline));
        (kept, kept::place(tenant, user, call.input))
    });
    if wait <= busy.wait {
        let mut way = Way::of(pipeline, None);
        if let Some((kept, place)) = place {
            way.then = Then::Keep(kept.clone(), place);
        }
        return Ok(way);
    }
    for rung in &busy.rungs {
        let way = match rung {
            Rung::Cached(kept) => {
                let now = app.inner.clock.now();
                let found = place.as_ref().and_then(|(_, place)| kept.find(place, now));
                let young = found.filter(|(_, age)| call.caller.freshness.takes(*age));
                young.map(|(answer, age)| {
                    // It uses nothing, and waits nowhere.
                    let free =
                        Pipeline { models: Vec::new(), price: contract::Price::FREE, ..pipeline.clone() };
                    let instead = Some(Instead { rung: CACHED, age: Some(age) });
                    Way { pipeline: free, instead, then: Then::Answer(answer) }
                })
            }
            Rung::Model(p) if expected(app, tenant, p) > busy.wait => None,
            Rung::Model(p) | Rung::Draft(p) => Some(Way::of((**p).clone(), Some(rung.as_str()))),
            Rung::Job if call.takes_job && !call.stream && app.jobs().is_some() => {
                // Counted when it is one.
                return Err(Failure::job(shed(call.name, wait, busy.wait), call.name.clone()));
            }
            Rung::Job => None,
            Rung::Shed => {
                let e = shed(call.name, wait, busy.wait);
                app.inner.metrics.degraded(call.name, SHED);
                app.inner.metrics.refused(crate::metrics::At::Gate, tenant, &e);
                return Err(e.into());
            }
        };
        if let Some(way) = way {
            app.inner.metrics.degraded(call.name, rung.as_str());
            return Ok(way);
        }
    }
    Ok(Way::of(pipeline, None))
}

/// Counts a call that was to be a job as what became of it.
pub(crate) fn became(app: &App, tenant: &TenantId, name: &PipelineName, job: bool, refusal: &Error) {
    app.inner.metrics.degraded(name, if job { JOB } else { SHED });
    if !job {
        app.inner.metrics.refused(crate::metrics::At::Gate, tenant, refusal);
    }
}

/// Whether a model of it has answers that are one end user's alone.
fn has_answers_by_user(app: &App, pipeline: &Pipeline) -> bool {
    let mut caches = pipeline.models.iter().filter_map(|m| app.model(m)?.cache);
    caches.any(|c| c.scope == llm::CacheScope::User)
}

/// How long a call of the busiest of its models would wait, as far as it can be foretold.
fn expected(app: &App, tenant: &TenantId, pipeline: &Pipeline) -> Duration {
    let ask = || admission::Ask { priority: None, tokens: ONE_CALL, deadline: Deadline::NEVER };
    let waits = pipeline.models.iter().filter_map(|m| app.inner.gate.outlook(m, tenant, ask()).wait);
    waits.max().unwrap_or_default()
}

fn shed(name: &PipelineName, wait: Duration, most: Duration) -> Error {
    let m = format!(
        "pipeline `{name}` would wait {:.1} s for its model, and waits {:.1} s at most",
        wait.as_secs_f64(),
        most.as_secs_f64()
    );
    let after = (wait.saturating_sub(most)).max(Duration::from_millis(100));
    Error::new(Code::Overloaded, m).retry(RetryHint::After(after)).limit_source(format!("pipeline:{name}"))
}
