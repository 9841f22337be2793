//! The live executor: one request, in memory, streaming.
//!
//! A live run is a stream of events and nothing else: whoever holds it drives it, and dropping it cancels everything it
//! does. It spawns no task (stages that occupy a core run on the blocking pool), so a slow reader slows its own run
//! and no other, and a caller that leaves stops every model call by the drop of one value.
//!
//! Invariants: the last event is `done`, and it is there unless the run was dropped; an `error` event precedes it when
//! the outcome is not complete; `delta` texts joined are the answer, or its beginning.

mod buffer;
mod node;
mod run;
mod shown;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use contract::{BoxFuture, Budget, Context, Event, Meter, Outcome, Sink, Value};
use futures_core::Stream;

use crate::Shows;
use crate::graph::Graph;
use buffer::Buffer;
pub(crate) use node::{call, elements, panicked, together};

/// A run of a graph that goes on while it is polled.
pub struct Live {
    work: Option<BoxFuture<'static, Outcome<Value>>>,
    outcome: Option<Outcome<Value>>,
    buffer: Arc<Buffer>,
    meter: Arc<Meter>,
    /// Whether anything useful was shown.
    useful: bool,
    /// Told how it ended.
    told: Option<Told>,
}

/// Who is told how a run ended.
type Told = Box<dyn FnOnce(&Outcome<Value>) + Send>;

/// Starts a run: nothing happens until the stream is polled. `cx` is the request's; its deadline and budget are made
/// tighter by the pipeline's own.
pub fn start(graph: Arc<Graph>, input: Value, mut cx: Context) -> Live {
    let buffer = Arc::new(Buffer::default());
    let meter = cx.meter.clone();
    let now = cx.clock.now();
    cx.deadline = cx.deadline.within(now, graph.budget.total);
    cx.budget = tighter(cx.budget, graph.budget);
    let sink: Arc<dyn Sink> = buffer.clone();
    let work = Box::pin(async move { run::run(&graph, input, cx, sink).await });
    Live { work: Some(work), outcome: None, buffer, meter, useful: false, told: None }
}

/// A run of a graph whose answer is known: no stage runs. It is shown as the graph would have shown it.
pub fn already(graph: &Graph, answer: Value, cx: &Context) -> Live {
    let buffer = Arc::new(Buffer::default());
    let shown = graph.nodes.get(graph.result).is_some_and(|n| n.shows == Shows::Deltas);
    if let (true, Value::Text(text)) = (shown, &answer) {
        buffer.force(Event::Delta { text: text.to_string() });
    }
    let work = Box::pin(async { Outcome::Complete(answer) });
    Live { work: Some(work), outcome: None, buffer, meter: cx.meter.clone(), useful: false, told: None }
}

impl Live {
    /// Tells somebody how it ended, just before its last event; nobody when it is dropped before.
    #[must_use]
    pub fn telling(mut self, told: impl FnOnce(&Outcome<Value>) + Send + 'static) -> Live {
        self.told = Some(Box::new(told));
        self
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome<Value>> {
        self.outcome.as_ref()
    }

    fn end(&mut self, outcome: Outcome<Value>) {
        if let Some(told) = self.told.take() {
            told(&outcome);
        }
        if let Some(e) = outcome.error() {
            let partial = self.useful || outcome.value().is_some();
            self.buffer.force(Event::error(e, partial));
        }
        let spent = self.meter.spent();
        let output = outcome.value().filter(|_| !self.buffer.streamed()).map(Value::to_json);
        self.buffer.force(Event::Done {
            done: true,
            usage: spent.usage,
            cost_nanousd: spent.cost,
            stages: self.meter.stages(),
            output,
            facts: self.meter.facts(),
            model_version: self.meter.model_version(),
        });
        self.outcome = Some(outcome);
    }
}

impl Stream for Live {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        this.buffer.register(cx);
        if let Some(work) = &mut this.work
            && let Poll::Ready(outcome) = work.as_mut().poll(cx)
        {
            this.work = None;
            this.end(outcome);
        }
        match this.buffer.pop() {
            Some(event) => {
                this.useful |= matches!(event, Event::Draft { .. } | Event::Delta { .. });
                Poll::Ready(Some(event))
            }
            None if this.work.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// The smaller of each limit.
fn tighter(a: Budget, b: Budget) -> Budget {
    fn min<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
    Budget {
        first_output: min(a.first_output, b.first_output),
        total: min(a.total, b.total),
        tokens: min(a.tokens, b.tokens),
        usd: min(a.usd, b.usd),
    }
}
