//! The kind `ground`: checks an answer sentence by sentence while it arrives, or a finished one at once.
//!
//! Both ways show the same text and record the same facts: `coverage`, `citations`, `grounding`. A sentence is shown
//! only after it was checked as a whole; nothing that was shown is taken back.

use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Document, Effort, Error, Event, Inputs, Kind, Meter, Outcome, Signature, Tail,
    Value,
};
use pipeline::{Shows, task};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Config, document, signature};
use crate::chunk::chunk;
use crate::count::Estimate;
use crate::ground::{GroundedSentence, Grounder, Policy, Report, Source};

/// Checks a text against its source: numbers, names and quotations must occur in it; sentences are cited.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GroundConfig {
    /// What happens to a sentence with a fact that the source does not have.
    policy: Policy,
    /// The chunks over which coverage is counted, in tokens.
    #[schemars(range(min = 16))]
    chunk: u32,
}

impl Default for GroundConfig {
    fn default() -> Self {
        GroundConfig { policy: Policy::Drop, chunk: 1_200 }
    }
}

impl GroundConfig {
    /// Indexes the source: some 17 ms for 60,000 tokens.
    fn grounder(&self, source: &Document) -> Grounder {
        let index = Source::new(source, &chunk(source, self.chunk, 0, &Estimate));
        Grounder::new(Arc::new(index), self.policy)
    }
}

impl Config for GroundConfig {
    const NAME: &'static str = "ground";
    const SHOWS: Shows = Shows::Deltas;
    const TAIL_INPUT: Option<&str> = Some("text");

    fn signature(&self) -> Signature {
        let inputs = [("text", Kind::Text), ("source", Kind::Document)];
        Signature { streams: true, effort: Effort::Waits, ..signature(&inputs, Kind::Text) }
    }

    fn tail(&self, cx: &Context, others: &Inputs) -> Option<Box<dyn Tail>> {
        // A source that is missing fails the stage at its end: a tail cannot fail before.
        let source = document(others, "source");
        let (config, meter) = (self.clone(), Arc::clone(&cx.meter));
        Some(Box::new(Checking { config, source, meter, grounder: None, shown: String::new() }))
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let (source, text) = match (document(&inputs, "source"), document(&inputs, "text")) {
                (Ok(s), Ok(t)) => (s, t),
                (Err(e), _) | (_, Err(e)) => return Outcome::Failed(e),
            };
            let config = self.clone();
            let work = task::blocking("ground", move || {
                let mut grounder = config.grounder(&source);
                let mut checked = grounder.push(&text.text);
                checked.extend(grounder.finish());
                (checked, grounder.report())
            });
            let Ok((checked, report)) = work.await else {
                return Outcome::Failed(Error::new(Code::Internal, "the check panicked; this is a defect"));
            };
            let mut shown = String::new();
            for s in checked.into_iter().filter(|s| !s.text.is_empty()) {
                shown.push_str(&s.text);
                if let Some(sink) = &cx.sink
                    && let Err(e) = sink.send(Event::Delta { text: s.text }).await
                {
                    return Outcome::Partial(Value::text(shown), e);
                }
            }
            record(&cx.meter, &report);
            Outcome::Complete(Value::text(shown))
        })
    }
}

fn record(meter: &Meter, report: &Report) {
    meter.fact("coverage", json!(report.coverage));
    meter.fact("citations", json!(report.citations));
    meter.fact("grounding", json!(report.counts));
}

/// The check of one stream. The source is indexed when the first piece comes, while the model makes the second.
struct Checking {
    config: GroundConfig,
    source: Result<Arc<Document>, Error>,
    meter: Arc<Meter>,
    grounder: Option<Grounder>,
    shown: String,
}

impl Checking {
    fn show(&mut self, checked: &[GroundedSentence]) -> String {
        let text: String = checked.iter().map(|s| s.text.as_str()).collect();
        self.shown.push_str(&text);
        text
    }
}

impl Tail for Checking {
    fn push(&mut self, piece: &str) -> String {
        let Ok(source) = &self.source else { return String::new() };
        let checked = self.grounder.get_or_insert_with(|| self.config.grounder(source)).push(piece);
        self.show(&checked)
    }

    fn finish(mut self: Box<Self>) -> (String, Outcome<Value>) {
        let mut grounder = match (self.grounder.take(), &self.source) {
            (_, Err(e)) => return (String::new(), Outcome::Failed(e.clone())),
            (Some(grounder), _) => grounder,
            (None, Ok(source)) => self.config.grounder(source),
        };
        let rest = self.show(&grounder.finish());
        record(&self.meter, &grounder.report());
        (rest, Outcome::Complete(Value::text(self.shown)))
    }
}
