//! The walk over the graph: starts every node whose inputs are there, applies the failure contract of each that ends.
//!
//! A node goes waiting → running → settled (with a value or without). Arrows that a contract adds: a failed node with a
//! fallback waits for that node and then settles with its value. Nothing leaves `settled`.

use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Effort, Error, Event, FailureContract, Inputs, Outcome, Sink, StageRecord,
    StageState, Value,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::node::{self, Ended};
use super::shown::Tailing;
use crate::Shows;
use crate::graph::{Graph, Node, Source};

/// Where a node stands.
#[derive(Debug, Clone)]
enum State {
    Waiting,
    Running,
    /// Failed, and takes the value of this node once that settles.
    FallingBack(usize),
    /// Given to whatever takes it; `None` when it was skipped.
    Settled(Option<Value>),
}

/// The run's own view of the graph.
struct Walk<'a> {
    graph: &'a Graph,
    input: Value,
    cx: Context,
    sink: Arc<dyn Sink>,
    states: Vec<State>,
    /// Lazy nodes that a failure has made necessary.
    called: Vec<bool>,
    /// Tails whose stream failed before it showed anything: they work on what stands in for it, as any other node.
    detached: Vec<bool>,
    /// The first failure that a contract took in.
    degraded: Option<Error>,
}

type Running<'a> = FuturesUnordered<BoxFuture<'a, (usize, u64, Ended)>>;

/// Runs the graph to its end.
pub(super) async fn run(graph: &Graph, input: Value, cx: Context, sink: Arc<dyn Sink>) -> Outcome<Value> {
    let n = graph.nodes.len();
    let (states, called, detached) = (vec![State::Waiting; n], vec![false; n], vec![false; n]);
    let mut walk = Walk { graph, input, cx, sink, states, called, detached, degraded: None };
    let mut running = Running::new();
    loop {
        if let Err(e) = walk.start(&mut running).await {
            return Outcome::Failed(e);
        }
        if let Some(State::Settled(value)) = walk.states.get(graph.result) {
            return match (value, walk.degraded) {
                (Some(v), None) => Outcome::Complete(v.clone()),
                (Some(v), Some(e)) => Outcome::Partial(v.clone(), e),
                (None, e) => {
                    Outcome::Failed(e.unwrap_or_else(|| Error::new(Code::Internal, "the answer was skipped")))
                }
            };
        }
        let Some((at, started_us, ended)) = running.next().await else {
            return Outcome::Failed(Error::new(Code::Internal, "no stage can go on; this is a defect"));
        };
        if let Err(e) = walk.end(at, started_us, ended).await {
            return Outcome::Failed(e);
        }
    }
}

impl<'a> Walk<'a> {
    /// Starts every node that can start.
    async fn start(&mut self, running: &mut Running<'a>) -> Result<(), Error> {
        for at in 0..self.graph.nodes.len() {
            let Some(node) = self.graph.nodes.get(at) else { continue };
            let wanted = !node.lazy || self.called.get(at) == Some(&true);
            let waits = matches!(self.states.get(at), Some(State::Waiting));
            // A tail starts with the node whose stream it works on.
            if waits && self.gives_way(node) {
                continue;
            }
            let tails = node.tail_of.is_some() && self.detached.get(at) != Some(&true);
            if !waits || !wanted || tails || !self.ready(node, None) {
                continue;
            }
            let tailed = node.tailed_by.and_then(|t| self.graph.nodes.get(t).map(|n| (t, n)));
            if let Some((_, t)) = tailed
                && !self.ready(t, Some(at))
            {
                continue;
            }
            let started_us = self.cx.elapsed_us();
            let cx = self.context(node);
            let tail = match tailed {
                Some((t, tail_node)) => {
                    let (tail_cx, inputs) = (self.context(tail_node), self.inputs(tail_node));
                    self.set(t, State::Running);
                    self.tell(tail_node, StageState::Started, 0).await?;
                    let tail = Tailing::start(tail_node.stage.clone(), tail_cx, inputs);
                    if tail.is_none() {
                        let m = format!(
                            "stage `{}` takes a stream but did not start on it; this is a defect",
                            tail_node.name
                        );
                        return Err(Error::new(Code::Internal, m));
                    }
                    tail
                }
                None => None,
            };
            self.set(at, State::Running);
            self.tell(node, StageState::Started, 0).await?;
            let work = self.work(at, node, cx, tail);
            running.push(Box::pin(async move { (at, started_us, work.await) }));
        }
        Ok(())
    }

    /// Whether a node that would occupy a core waits while a draft is made: that is what the caller sees first, and the
    /// drafts of other requests want the cores too.
    fn gives_way(&self, node: &Node) -> bool {
        let drafting = |(at, n): (usize, &Node)| {
            let wanted = !n.lazy || self.called.get(at) == Some(&true);
            let state = self.states.get(at);
            let now = matches!(state, Some(State::Running))
                || wanted && matches!(state, Some(State::Waiting)) && self.ready(n, None);
            is_draft(n) && now
        };
        node.stage.signature().effort == Effort::Core
            && !is_draft(node)
            && self.graph.nodes.iter().enumerate().any(drafting)
    }

    /// Whether all that a node takes is there (but for the stream of `except`).
    fn ready(&self, node: &Node, except: Option<usize>) -> bool {
        node.sources()
            .filter(|s| Some(*s) != except)
            .all(|s| matches!(self.states.get(s), Some(State::Settled(_))))
    }

    fn work(&self, at: usize, node: &'a Node, cx: Context, tail: Option<Tailing>) -> BoxFuture<'a, Ended> {
        let inputs = self.inputs(node);
        if let Some((element, source)) = &node.each {
            let (over, sink) = (self.value(*source), self.sink.clone());
            return match over {
                Some(over) => {
                    Box::pin(async move { node::each(node, cx, inputs, element, &over, &sink).await })
                }
                None => {
                    Box::pin(async { failed(Error::new(Code::PartFailed, "what it works on was skipped")) })
                }
            };
        }
        let shows = match tail {
            Some(_) => node.tailed_by.and_then(|t| self.graph.nodes.get(t)).map_or(node.shows, |t| t.shows),
            None => node.shows,
        };
        let result = at == self.graph.result || node.tailed_by == Some(self.graph.result);
        let sink = (shows == Shows::Deltas && result).then(|| self.sink.clone());
        Box::pin(node::once(node, cx, inputs, sink, tail))
    }

    fn value(&self, source: Source) -> Option<Value> {
        match source {
            Source::Input => Some(self.input.clone()),
            Source::Node(n) => match self.states.get(n) {
                Some(State::Settled(v)) => v.clone(),
                _ => None,
            },
        }
    }

    fn inputs(&self, node: &Node) -> Inputs {
        node.inputs.iter().filter_map(|(name, s)| self.value(*s).map(|v| (name.clone(), v))).collect()
    }

    fn context(&self, node: &Node) -> Context {
        let now = self.cx.clock.now();
        let mut cx = self.cx.clone();
        cx.stage = Some(node.name.clone());
        cx.meter.limit(&node.name, &node.budget);
        // Leave the stages behind it the time they were promised.
        let reserved = self.cx.deadline.remaining(now).map(|left| left.saturating_sub(node.reserve));
        cx.deadline = self.cx.deadline.within(now, reserved).within(now, node.budget.total);
        cx
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(s) = self.states.get_mut(at) {
            *s = state;
        }
    }

    async fn tell(&self, node: &Node, state: StageState, elapsed_us: u64) -> Result<(), Error> {
        let budget_ms = budget_ms(node);
        let event =
            Event::Stage { name: node.name.clone(), state, elapsed_ms: elapsed_us / 1_000, budget_ms };
        self.sink.send(event).await
    }

    /// Records a node that ended and applies its contract.
    async fn end(&mut self, at: usize, started_us: u64, ended: Ended) -> Result<(), Error> {
        let Some(node) = self.graph.nodes.get(at) else { return Ok(()) };
        let Ended { outcome, tail, first_output_us, parts } = ended;
        self.record(node, started_us, first_output_us, parts, &outcome).await?;
        if let (Some(t), Some(mut tail)) = (node.tailed_by, tail)
            && let Some(tail_node) = self.graph.nodes.get(t)
        {
            // A stream cut short makes its tail partial too, whatever the tail thought of it.
            if let (Some(e), Outcome::Complete(v)) = (outcome.error(), &tail) {
                tail = Outcome::Partial(v.clone(), e.clone());
            }
            let absorbed = self.absorb(at, node, outcome);
            let stands_in = matches!(self.states.get(at), Some(State::FallingBack(_)));
            let shown = matches!(tail.value(), Some(Value::Text(t)) if !t.is_empty());
            if absorbed.is_ok() && stands_in && !shown {
                self.set(t, State::Waiting);
                if let Some(d) = self.detached.get_mut(t) {
                    *d = true;
                }
                self.fall_back();
                return Ok(());
            }
            self.record(tail_node, started_us, first_output_us, None, &tail).await?;
            if let Err(e) = absorbed {
                return self.absorb(t, tail_node, Outcome::Failed(e));
            }
            // Some of the text was shown, and what is shown stays: the fallback is the value, unchecked.
            if let Some(State::FallingBack(f)) = self.states.get(at).cloned() {
                self.set(t, State::FallingBack(f));
            } else {
                self.absorb(t, tail_node, tail)?;
            }
        } else {
            self.absorb(at, node, outcome)?;
        }
        self.fall_back();
        Ok(())
    }

    async fn record(
        &self,
        node: &Node,
        started_us: u64,
        first_output_us: Option<u64>,
        parts: Option<(u64, u64)>,
        outcome: &Outcome<Value>,
    ) -> Result<(), Error> {
        let ended_us = self.cx.elapsed_us();
        let state = match outcome {
            Outcome::Complete(_) => StageState::Done,
            Outcome::Partial(..) => StageState::Partial,
            Outcome::Failed(_) => StageState::Failed,
        };
        let draft = match (node.shows, outcome.value()) {
            (Shows::Draft, Some(Value::Text(text))) => Some(text.to_string()),
            _ => None,
        };
        let hits = self.cx.meter.cache_hits(&node.name);
        self.cx.meter.stage(StageRecord {
            name: node.name.clone(),
            started_us,
            first_output_us: first_output_us.or_else(|| draft.is_some().then_some(ended_us)),
            ended_us,
            budget_ms: budget_ms(node),
            state,
            error: outcome.error().cloned(),
            parts: parts.map(|(of, failed)| [of, failed, hits]),
        });
        if let Some(text) = draft {
            self.sink.send(Event::Draft { text }).await?;
        }
        self.tell(node, state, ended_us.saturating_sub(started_us)).await
    }

    /// Applies the failure contract: the node settles, falls back, or the run fails.
    fn absorb(&mut self, at: usize, node: &Node, outcome: Outcome<Value>) -> Result<(), Error> {
        let (value, error) = match outcome {
            Outcome::Complete(v) => {
                self.set(at, State::Settled(Some(v)));
                return Ok(());
            }
            Outcome::Partial(v, e) => (Some(v), e),
            Outcome::Failed(e) => (None, e),
        };
        if error.code == Code::Cancelled {
            return Err(error);
        }
        let settled = match (&node.on_failure, value) {
            (FailureContract::Fail | FailureContract::Retry(_), _) | (FailureContract::Partial, None) => {
                return Err(error);
            }
            (FailureContract::Partial, Some(v)) => State::Settled(Some(v)),
            (FailureContract::Skip, _) => State::Settled(None),
            (FailureContract::Default(v), _) => State::Settled(Some(v.clone())),
            (FailureContract::Fallback(_), _) => match node.fallback {
                Some(f) => {
                    if let Some(c) = self.called.get_mut(f) {
                        *c = true;
                    }
                    State::FallingBack(f)
                }
                None => return Err(error),
            },
        };
        self.degraded.get_or_insert(error);
        self.set(at, settled);
        Ok(())
    }

    /// Settles the nodes whose fallback has settled.
    fn fall_back(&mut self) {
        // Chains of fallbacks are no longer than the graph.
        for _ in 0..self.states.len() {
            for at in 0..self.states.len() {
                if let Some(State::FallingBack(f)) = self.states.get(at)
                    && let Some(State::Settled(v)) = self.states.get(*f).cloned()
                {
                    self.set(at, State::Settled(v));
                }
            }
        }
    }
}

/// Whether it makes a draft without a model.
fn is_draft(node: &Node) -> bool {
    node.shows == Shows::Draft && node.stage.signature().instant
}

fn failed(e: Error) -> Ended {
    Ended { outcome: Outcome::Failed(e), tail: None, first_output_us: None, parts: None }
}

fn budget_ms(node: &Node) -> Option<u64> {
    node.budget.total.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
