//! Kinds of stages whose behaviour a test scripts by configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{
    BoxFuture, Budget, Clock, Code, Context, Deadline, Effort, Error, Event, Inputs, Kind, Meter, Outcome,
    RequestId, Signature, Stage, Tail, UnixMillis, Value,
};
use pipeline::task::{RuntimeClock, sleep};
use pipeline::{OnFailure, PipelineSpec, Problem, Registry, Shows, Site, Source, StageKind, StageSpec};
use serde_json::{Value as Json, json};

/// `work {takes, ms, fail_times, pieces, give}`: waits, fails as often as told, then gives.
pub struct Work {
    pub running: Arc<AtomicUsize>,
    pub calls: Arc<AtomicUsize>,
}

struct WorkStage {
    signature: Signature,
    config: Json,
    running: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    failures: AtomicUsize,
}

struct Running(Arc<AtomicUsize>);
impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StageKind for Work {
    fn name(&self) -> &'static str {
        "work"
    }
    fn schema(&self) -> Json {
        json!({"type": "object"})
    }
    fn build(&self, config: &Json, site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        if let Some(p) = config.get("problem").and_then(Json::as_str) {
            return Err(vec![Problem {
                pointer: "/problem".into(),
                message: p.into(),
                remedy: "remove it".into(),
            }]);
        }
        let takes = config.get("takes").and_then(Json::as_array).cloned().unwrap_or_default();
        let mut inputs: indexmap::IndexMap<String, Kind> =
            takes.iter().filter_map(Json::as_str).map(|n| (n.to_owned(), Kind::Any)).collect();
        if site.each {
            inputs.insert("item".into(), Kind::Any);
        }
        let output = match config.get("gives").and_then(Json::as_str) {
            Some("list") => Kind::List(Box::new(Kind::Text)),
            Some("embedding") => Kind::Embedding,
            _ => Kind::Text,
        };
        let streams = config.get("pieces").is_some();
        let instant = config.get("instant") == Some(&json!(true));
        let blocking = config.get("blocking") == Some(&json!(true));
        let effort = if blocking { Effort::Core } else { Effort::Waits };
        Ok(Arc::new(WorkStage {
            signature: Signature { inputs, output, streams, instant, effort },
            config: config.clone(),
            running: self.running.clone(),
            calls: self.calls.clone(),
            failures: AtomicUsize::new(0),
        }))
    }
}

impl Stage for WorkStage {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            self.running.fetch_add(1, Ordering::SeqCst);
            self.calls.fetch_add(1, Ordering::SeqCst);
            let _running = Running(self.running.clone());
            let number = |k: &str| self.config.get(k).and_then(Json::as_u64).unwrap_or(0);
            if number("ms") > 0 {
                sleep(Duration::from_millis(number("ms"))).await;
            }
            let item = match inputs.get("item") {
                Some(Value::Text(t)) => t.to_string(),
                _ => String::new(),
            };
            let bad_item =
                self.config.get("bad_item").and_then(Json::as_str) == Some(&item) && !item.is_empty();
            if bad_item || (self.failures.fetch_add(1, Ordering::SeqCst) as u64) < number("fail_times") {
                return Outcome::Failed(Error::new(Code::UpstreamError, "scripted"));
            }
            let mut text = String::new();
            for n in 0..number("pieces") {
                let piece = format!("p{n} ");
                text.push_str(&piece);
                if let Some(sink) = &cx.sink
                    && let Err(e) = sink.send(Event::Delta { text: piece }).await
                {
                    return Outcome::Failed(e);
                }
                if n + 1 == number("cut_after") {
                    return Outcome::Failed(Error::new(Code::UpstreamTruncated, "scripted cut"));
                }
                if number("piece_ms") > 0 {
                    sleep(Duration::from_millis(number("piece_ms"))).await;
                }
            }
            if self.config.get("gives").and_then(Json::as_str) == Some("list") {
                return Outcome::Complete(Value::List(
                    ["a", "b", "c", "d"].map(|t| Some(Value::text(t))).into(),
                ));
            }
            let give = self.config.get("give").and_then(Json::as_str);
            Outcome::Complete(Value::text(match give {
                Some(g) => g.to_owned(),
                None if text.is_empty() => {
                    let all: Vec<String> = inputs.iter().map(|(k, v)| format!("{k}={}", show(v))).collect();
                    all.join(",")
                }
                None => text,
            }))
        })
    }
}

pub fn show(v: &Value) -> String {
    match v {
        Value::Text(t) => t.to_string(),
        Value::List(items) => {
            items.iter().map(|i| i.as_ref().map_or("-".into(), show)).collect::<Vec<_>>().join("+")
        }
        other => other.kind().to_string(),
    }
}

/// `upper`: works on a stream, in capitals, holding back one piece.
pub struct Upper;
struct UpperStage(Signature);
struct UpperTail(String, String);

impl StageKind for Upper {
    fn name(&self) -> &'static str {
        "upper"
    }
    fn schema(&self) -> Json {
        json!({"type": "object"})
    }
    fn build(&self, _: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let inputs = [("text".to_owned(), Kind::Text)].into_iter().collect();
        let signature =
            Signature { inputs, output: Kind::Text, streams: true, instant: false, effort: Effort::Waits };
        Ok(Arc::new(UpperStage(signature)))
    }
}
impl Stage for UpperStage {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn tail_input(&self) -> Option<&str> {
        Some("text")
    }
    fn tail(&self, _: &Context, _: &Inputs) -> Option<Box<dyn Tail>> {
        Some(Box::new(UpperTail(String::new(), String::new())))
    }
    fn run<'a>(&'a self, _: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        let text = inputs.get("text").map(show).unwrap_or_default().to_uppercase();
        Box::pin(async move { Outcome::Complete(Value::text(text)) })
    }
}
impl Tail for UpperTail {
    fn push(&mut self, piece: &str) -> String {
        let now = std::mem::replace(&mut self.0, piece.to_uppercase());
        self.1.push_str(&now);
        now
    }
    fn finish(mut self: Box<Self>) -> (String, Outcome<Value>) {
        self.1.push_str(&self.0);
        (self.0, Outcome::Complete(Value::text(self.1)))
    }
}

/// A registry with the kinds above and the counters of `work`.
pub fn registry() -> (Registry, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (running, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut registry = Registry::default();
    registry.register(Work { running: running.clone(), calls: calls.clone() });
    registry.register(Drafting(Work { running: running.clone(), calls: calls.clone() }));
    registry.register(Upper);
    (registry, running, calls)
}

/// `drafting`: `work` whose output is shown as a draft.
struct Drafting(Work);
impl StageKind for Drafting {
    fn name(&self) -> &'static str {
        "drafting"
    }
    fn schema(&self) -> Json {
        self.0.schema()
    }
    fn build(&self, config: &Json, site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        self.0.build(config, site)
    }
    fn shows(&self) -> Shows {
        Shows::Draft
    }
}

pub fn stage(name: &str, kind: &str, config: Json) -> StageSpec {
    StageSpec {
        name: name.into(),
        kind: kind.into(),
        config,
        from: Source::Auto,
        each: None,
        parallel: None,
        on_failure: OnFailure::Fail,
        stream: None,
        draft: None,
        budget: Budget::default(),
        runs: Default::default(),
    }
}

pub fn spec(stages: Vec<StageSpec>) -> PipelineSpec {
    PipelineSpec {
        input: Kind::Text,
        output: Kind::Text,
        budget: Budget::default(),
        stages,
        result: None,
        durable: Default::default(),
    }
}

pub fn context() -> Context {
    let clock = RuntimeClock::starting_at(UnixMillis(0));
    Context {
        request: RequestId::from_parts(UnixMillis(0), 7),
        tenant: "t".into(),
        user: None,
        stage: None,
        arrived: clock.now(),
        deadline: Deadline::NEVER,
        budget: Budget::default(),
        clock: Arc::new(clock),
        meter: Arc::new(Meter::default()),
        trace: None,
        retrying: false,
        mid_stream: contract::MidStream::Error,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    }
}
