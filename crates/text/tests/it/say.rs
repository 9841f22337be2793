//! `say`: a stage that gives a scripted text, in place of a model; and the pipelines that tests run it in.

use std::sync::Arc;
use std::time::Duration;

use contract::{
    BoxFuture, Budget, Clock, Context, Deadline, Document, Effort, Event, Inputs, Kind, Media, Meter,
    Outcome, RequestId, Signature, Stage, UnixMillis, Value,
};
use futures_util::StreamExt;
use pipeline::task::{RuntimeClock, sleep};
use pipeline::{OnFailure, PipelineSpec, Problem, Registry, Site, Source, StageKind, StageSpec};
use serde_json::{Value as Json, json};

/// `say {pieces, streams}`: streams its pieces, 100 ms before each; without `streams` gives them joined. Without
/// `pieces` it repeats the chunks that it is given.
struct Say;

struct Saying {
    signature: Signature,
    pieces: Vec<String>,
}

impl StageKind for Say {
    fn name(&self) -> &'static str {
        "say"
    }

    fn schema(&self) -> Json {
        json!({"type": "object"})
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let pieces = config["pieces"].as_array().cloned().unwrap_or_default();
        let signature = Signature {
            inputs: [("of".to_owned(), Kind::Any)].into_iter().collect(),
            output: Kind::Text,
            streams: config["streams"] == json!(true),
            instant: false,
            effort: Effort::Waits,
        };
        let pieces = pieces.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        Ok(Arc::new(Saying { signature, pieces }))
    }
}

impl Stage for Saying {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        let pieces = match inputs.get("of") {
            Some(Value::Chunks(chunks)) if self.pieces.is_empty() => {
                chunks.iter().map(|c| format!("{}\n", c.text)).collect()
            }
            _ => self.pieces.clone(),
        };
        Box::pin(async move {
            for text in &pieces {
                sleep(Duration::from_millis(100)).await;
                if let Some(sink) = &cx.sink
                    && let Err(e) = sink.send(Event::Delta { text: text.clone() }).await
                {
                    return Outcome::Failed(e);
                }
            }
            Outcome::Complete(Value::text(pieces.concat()))
        })
    }
}

/// A stage that takes its inputs from where `from` says.
pub(crate) fn stage(name: &str, kind: &str, config: Json, from: &[(&str, &str)]) -> StageSpec {
    StageSpec {
        name: name.into(),
        kind: kind.into(),
        config,
        from: Source::Named(from.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()),
        each: None,
        parallel: None,
        on_failure: OnFailure::Fail,
        stream: None,
        draft: None,
        budget: Budget::default(),
        runs: Default::default(),
    }
}

/// What a run showed, each event with its time in milliseconds, and how it ended.
pub(crate) struct Ran {
    pub(crate) events: Vec<(u64, Event)>,
    pub(crate) outcome: Outcome<Value>,
    pub(crate) facts: serde_json::Map<String, Json>,
}

impl Ran {
    /// The answer's pieces and when they came.
    pub(crate) fn deltas(&self) -> Vec<(u64, &str)> {
        let mut out = Vec::new();
        for (at, e) in &self.events {
            if let Event::Delta { text } = e {
                out.push((*at, text.as_str()));
            }
        }
        out
    }
}

/// Checks a pipeline over `text`, a document, and runs it to its end.
pub(crate) async fn run(stages: Vec<StageSpec>, output: Kind, text: &str) -> Ran {
    let mut registry = Registry::default();
    text::register(&mut registry);
    registry.register(Say);
    let spec = PipelineSpec {
        input: Kind::Document,
        output,
        budget: Budget::default(),
        stages,
        result: None,
        durable: Default::default(),
    };
    let graph = pipeline::check(&spec, &registry).unwrap();
    let clock = RuntimeClock::starting_at(UnixMillis(0));
    let meter = Arc::new(Meter::default());
    let cx = Context {
        request: RequestId::from_parts(UnixMillis(0), 7),
        tenant: "t".into(),
        user: None,
        stage: None,
        arrived: clock.now(),
        deadline: Deadline::NEVER,
        budget: Budget::default(),
        clock: Arc::new(clock),
        meter: meter.clone(),
        trace: None,
        retrying: false,
        mid_stream: contract::MidStream::Error,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    };
    let document = Document { title: None, media: Media::Plain, text: text.into(), sections: Vec::new() };
    let mut live = pipeline::live::start(Arc::new(graph), Value::Document(Arc::new(document)), cx.clone());
    let mut events = Vec::new();
    while let Some(e) = live.next().await {
        events.push((cx.elapsed_us() / 1_000, e));
    }
    Ran { events, outcome: live.outcome().cloned().unwrap(), facts: meter.facts() }
}
