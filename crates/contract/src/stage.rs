//! A stage: one node of a pipeline, the same for a live request and a durable run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::{
    Attempt, Budget, Clock, Code, Deadline, Error, Event, Freshness, Kind, Meter, MidStream, ModelName,
    Outcome, RequestId, StageName, TenantId, Tick, TraceContext, UserId, Value,
};

/// A boxed, sendable future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a stage takes and gives, for the check before anything runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Named inputs with the kind each must have. A stage with exactly one takes `from`, else the pipeline's input.
    pub inputs: IndexMap<String, Kind>,
    /// What it gives.
    pub output: Kind,
    /// Whether it can give its output piece by piece ([`Event::Delta`]).
    pub streams: bool,
    /// Whether its output comes without any model, so that it can serve a first-output budget.
    pub instant: bool,
    /// What it occupies while it works.
    pub effort: Effort,
}

/// What a stage occupies while it works, by which an executor chooses the place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Nothing: it waits for others.
    Waits,
    /// A core, for one poll that is bounded: it runs aside, and takes its turn there.
    Core,
    /// Cores, disks or processes of its own for as long as it takes: in a durable run it yields to those who wait for an answer.
    Heavy,
}

/// The inputs of one call, by name. An input left out by its contract (`skip`) is absent.
pub type Inputs = IndexMap<String, Value>;

/// The table that is given under a name: a dataset and the content name of one of its versions.
///
/// # Errors
/// Something else is given, or nothing.
pub fn given_table<'i>(inputs: &'i Inputs, name: &str) -> Result<&'i Arc<str>, Error> {
    let message = match inputs.get(name) {
        Some(Value::Table(text)) => return Ok(text),
        Some(other) => format!("the input `{name}` is {}, and no table", other.kind()),
        None => format!("the input `{name}` was left out, and nothing can be made without it"),
    };
    Err(Error::new(Code::InvalidRequest, message))
}

/// Where a stage's output goes while it is made.
///
/// Contract: `send` waits when the reader is slow (bounded in tokens), and fails only when the reader is gone; a stage
/// then stops, without an error of its own. Dropping the future of `send` sends nothing.
pub trait Sink: Send + Sync {
    /// Hands an event over.
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>>;
}

/// What a stage knows about the call it serves.
#[derive(Clone)]
pub struct Context {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// The end user, when named.
    pub user: Option<UserId>,
    /// The stage's own name; `None` in a plain model call.
    pub stage: Option<StageName>,
    /// When the request arrived: all times in records count from here.
    pub arrived: Tick,
    /// Until when this stage may take.
    pub deadline: Deadline,
    /// The pipeline's limits in tokens and money (the meter knows what is spent).
    pub budget: Budget,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is used.
    pub meter: Arc<Meter>,
    /// It was tried before, and failed: what asks others takes it out of the budget of retries.
    pub retrying: bool,
    /// What happens when a stream breaks that the caller has seen something of.
    pub mid_stream: MidStream,
    /// The span that the request's calls to others are part of, when it is traced.
    pub trace: Option<TraceContext>,
    /// What the caller allows of caches.
    pub freshness: Freshness,
    /// Where output goes, when this stage's output is shown.
    pub sink: Option<Arc<dyn Sink>>,
    /// The attempt of a durable run that it is; `None` in a live one.
    pub attempt: Option<Arc<Attempt>>,
}

impl Context {
    /// Microseconds from the request's arrival to now.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.clock.now().since(self.arrived).as_micros()).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("request", &self.request)
            .field("stage", &self.stage)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Works on another stage's output while that is made: checks, redacts or cites a streamed answer sentence by sentence.
///
/// Pure and quick: it holds text back, it never waits.
pub trait Tail: Send {
    /// Takes the next piece and gives what may be shown now (often nothing).
    fn push(&mut self, piece: &str) -> String;
    /// The stream has ended: gives what is left to show and the stage's outcome.
    fn finish(self: Box<Self>) -> (String, Outcome<Value>);
}

/// One node of a pipeline.
///
/// Contract of `run`: dropping the future cancels the work and releases all it holds; it does not spawn; it may be
/// called many times at once; it records each model call in the meter however that call ends. It need not watch the
/// deadline: the executor does, by dropping it. A stage of [`Effort::Core`] does its work in one poll.
pub trait Stage: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;
    /// The input that this stage can take as a stream, when it can: the executor then gives all other inputs to
    /// [`Stage::tail`] before the stream starts, and never calls `run`.
    fn tail_input(&self) -> Option<&str> {
        None
    }
    /// Starts working on a stream. Called only when [`Stage::tail_input`] names an input.
    fn tail(&self, _cx: &Context, _others: &Inputs) -> Option<Box<dyn Tail>> {
        None
    }
    /// The models it may ask, for what a call may cost and where it would wait.
    fn models(&self) -> Vec<ModelName> {
        Vec::new()
    }
    /// Serves one call.
    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>>;
}
