//! One node of a live run: its deadline, its tries, its fan-out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::{
    Code, Context, Effort, Error, Event, FailureContract, Inputs, MidStream, Outcome, RetryHint, Sink, Stage,
    StageName, Value,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::shown::{Shown, Tailing};
use crate::graph::Node;
use crate::task;

/// What a node ended with.
pub(super) struct Ended {
    pub(super) outcome: Outcome<Value>,
    /// The outcome of the tail that worked on its stream.
    pub(super) tail: Option<Outcome<Value>>,
    pub(super) first_output_us: Option<u64>,
    /// Elements: how many, how many failed.
    pub(super) parts: Option<(u64, u64)>,
}

/// Runs a node once for its whole input. `tail` works on its stream.
pub(super) async fn once(
    node: &Node,
    cx: Context,
    inputs: Inputs,
    sink: Option<Arc<dyn Sink>>,
    tail: Option<Tailing>,
) -> Ended {
    let streams = node.stage.signature().streams;
    let mut inner = cx.clone();
    if sink.is_none() {
        // What nobody sees begins anew unseen.
        inner.mid_stream = MidStream::Restart;
    }
    let shown = Arc::new(Shown::new(sink, tail, cx.clone()));
    inner.sink = streams.then(|| shown.clone() as Arc<dyn Sink>);
    let run = tries(node, &inner, inputs, || shown.first_us().is_some());
    let mut outcome = match task::within(&*cx.clock, cx.deadline, run).await {
        Ok(outcome) => outcome,
        Err(task::Elapsed) => Outcome::Failed(late(node)),
    };
    // What was streamed before the failure is usable text.
    if let Outcome::Failed(e) = &outcome {
        let text = shown.text();
        if !text.is_empty() {
            outcome = Outcome::Partial(Value::text(text), e.clone());
        }
    }
    let tail = shown.finish().await;
    Ended { outcome, tail, first_output_us: shown.first_us(), parts: None }
}

/// Runs a node for each element, `parallel` at a time, and tells the caller of each that ends.
pub(super) async fn each(
    node: &Node,
    cx: Context,
    inputs: Inputs,
    element: &str,
    over: &Value,
    sink: &Arc<dyn Sink>,
) -> Ended {
    let items = match elements(over) {
        Ok(items) => items,
        Err(e) => {
            return Ended { outcome: Outcome::Failed(e), tail: None, first_output_us: None, parts: None };
        }
    };
    let of = items.len();
    let results: Mutex<Vec<Option<Result<Value, Error>>>> = Mutex::new(vec![None; of]);
    let first = Mutex::new(None);
    let work = async {
        let mut waiting = items.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < node.parallel {
                let Some((index, item)) = waiting.next() else { break };
                let mut given = inputs.clone();
                if node.stage.signature().inputs.contains_key("index") {
                    given.insert("index".to_owned(), Value::Json(Arc::new((index + 1).into())));
                }
                let mut own = cx.clone();
                (own.sink, own.mid_stream) = (None, MidStream::Restart);
                running.push(async move {
                    let outcome = match item {
                        Some(item) => {
                            given.insert(element.to_owned(), item);
                            tries(node, &own, given, || false).await
                        }
                        None => {
                            Outcome::Failed(Error::new(Code::PartFailed, "the element before it is missing"))
                        }
                    };
                    (index, outcome)
                });
            }
            let Some((index, outcome)) = running.next().await else { return Ok(()) };
            let event = part(node, index, of, &outcome);
            let (result, fatal) = match outcome {
                Outcome::Complete(v) => (Ok(v), None),
                Outcome::Partial(_, e) | Outcome::Failed(e) => {
                    let fatal = matches!(node.on_failure, FailureContract::Partial).then_some(()).is_none();
                    (Err(e.clone()), fatal.then_some(e))
                }
            };
            if let Some(slot) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *slot = Some(result);
            }
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| cx.elapsed_us());
            sink.send(event).await?;
            if let Some(e) = fatal {
                return Err(e);
            }
        }
    };
    let ended = match task::within(&*cx.clock, cx.deadline, work).await {
        Ok(r) => r,
        Err(task::Elapsed) => Err(late(node)),
    };
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (outcome, failed) = together(results, ended.err());
    let parts = Some((of as u64, failed));
    let first_output_us = first.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ended { outcome, tail: None, first_output_us, parts }
}

/// The outcome of a fan-out by those of its elements (`None`: it did not come to its end), and how many failed. `cut` is what
/// ended it before all of them had.
pub(crate) fn together(
    results: Vec<Option<Result<Value, Error>>>,
    cut: Option<Error>,
) -> (Outcome<Value>, u64) {
    let of = results.len();
    let failed = results.iter().filter(|r| !matches!(r, Some(Ok(_)))).count();
    let first = results.iter().flatten().find_map(|r| r.as_ref().err().cloned());
    let value = Value::List(results.into_iter().map(|r| r.and_then(Result::ok)).collect());
    let outcome = match cut.or(first) {
        None => Outcome::Complete(value),
        Some(e) if failed == of => Outcome::Failed(e),
        Some(e) => {
            let message = format!("{failed} of {of} parts failed: {e}");
            Outcome::Partial(value, Error { message, code: Code::PartFailed, ..e })
        }
    };
    (outcome, failed as u64)
}

/// Tries as often as the contract says, while nothing was shown.
async fn tries(node: &Node, cx: &Context, inputs: Inputs, was_shown: impl Fn() -> bool) -> Outcome<Value> {
    let more = match node.on_failure {
        FailureContract::Retry(n) => n,
        _ => 0,
    };
    let again = Context { retrying: true, ..cx.clone() };
    for n in 0..more {
        let outcome = run(node, if n == 0 { cx } else { &again }, inputs.clone()).await;
        let Some(error) = outcome.error() else { return outcome };
        if was_shown() || matches!(error.class(), contract::Class::Invalid | contract::Class::Denied) {
            return outcome;
        }
        let pause = match error.retry {
            RetryHint::After(d) => d,
            RetryHint::No | RetryHint::Elsewhere => Duration::from_millis(200).saturating_mul(1 << n.min(5)),
        };
        task::sleep(pause).await;
    }
    run(node, if more == 0 { cx } else { &again }, inputs).await
}

async fn run(node: &Node, cx: &Context, inputs: Inputs) -> Outcome<Value> {
    call(&node.stage, &node.name, cx, inputs).await
}

/// One call of a stage; aside, when it occupies a core.
pub(crate) async fn call(
    stage: &Arc<dyn Stage>,
    name: &StageName,
    cx: &Context,
    inputs: Inputs,
) -> Outcome<Value> {
    if stage.signature().effort != Effort::Core {
        return stage.run(cx, inputs).await;
    }
    let (stage, own) = (stage.clone(), cx.clone());
    match task::blocking("stage", move || in_one_poll(&*stage, &own, inputs)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failed(panicked(name)),
    }
}

/// A stage that fell over.
pub(crate) fn panicked(name: &StageName) -> Error {
    Error::new(Code::Internal, format!("stage `{name}` panicked; this is a defect"))
}

fn in_one_poll(stage: &dyn Stage, cx: &Context, inputs: Inputs) -> Outcome<Value> {
    let mut work = stage.run(cx, inputs);
    match work.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => {
            Outcome::Failed(Error::new(Code::Internal, "a stage of one poll waited; this is a defect"))
        }
    }
}

/// What a stage is run for each of.
pub(crate) fn elements(over: &Value) -> Result<Vec<Option<Value>>, Error> {
    match over {
        Value::Chunks(chunks) => Ok(chunks.iter().map(|c| Some(Value::Text(c.text.clone()))).collect()),
        Value::List(items) => Ok(items.to_vec()),
        other => Err(Error::new(
            Code::Internal,
            format!("`each` over one {}; the check lets none pass", other.kind()),
        )),
    }
}

fn part(node: &Node, index: usize, of: usize, outcome: &Outcome<Value>) -> Event {
    let text = match outcome.value() {
        Some(Value::Text(t)) => Some(t.to_string()),
        Some(Value::Json(j)) => Some(j.to_string()),
        _ => None,
    };
    let error = outcome.error().map(|e| e.message.clone());
    let text = if error.is_some() { None } else { text };
    Event::Part { stage: node.name.clone(), index: index as u64, of: of as u64, text, error }
}

fn late(node: &Node) -> Error {
    Error::new(Code::DeadlineExceeded, format!("stage `{}` ran out of its time", node.name))
}
