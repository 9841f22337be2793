//! The stage kinds of this crate: `chunk`, `extractive`, `select`, `ground`. Each occupies a core for milliseconds;
//! only `ground` streams, and so may wait for its reader.

mod ground;

use std::marker::PhantomData;
use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Document, Effort, Error, Inputs, Kind, Media, Outcome, Signature, Stage, Tail,
    Value,
};
use pipeline::{Problem, Registry, Shows, Site, StageKind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::chunk::chunk;
use crate::count::Estimate;
use crate::extractive::{Per, select, summarize};
use ground::GroundConfig;

/// Adds the kinds of this crate.
pub fn register(registry: &mut Registry) {
    registry.register(Pure::<ChunkConfig>(PhantomData));
    registry.register(Pure::<ExtractiveConfig>(PhantomData));
    registry.register(Pure::<SelectConfig>(PhantomData));
    registry.register(Pure::<GroundConfig>(PhantomData));
}

/// Cuts a document into chunks on its sections, paragraphs and sentences.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ChunkConfig {
    /// Longest chunk, in tokens (estimated).
    #[schemars(range(min = 16))]
    tokens: u32,
    /// What neighbours may share, in tokens; at most half of a chunk.
    overlap: u32,
}

impl Default for ChunkConfig {
    fn default() -> Self {
        ChunkConfig { tokens: 1_200, overlap: 100 }
    }
}

/// Picks the sentences that say most as a draft, without a model.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ExtractiveConfig {
    /// How many sentences.
    #[schemars(range(min = 1, max = 100))]
    sentences: usize,
}

impl Default for ExtractiveConfig {
    fn default() -> Self {
        ExtractiveConfig { sentences: 5 }
    }
}

/// Picks the most salient sentences of a document's chunks, so that a small model reads only those.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct SelectConfig {
    /// All sentences together, in tokens (estimated).
    #[schemars(range(min = 16))]
    tokens: u32,
    /// What shares them.
    per: Per,
    /// The stretches of the document that are picked from, and become the chunks of the output, in tokens.
    #[schemars(range(min = 16))]
    chunk: u32,
}

impl Default for SelectConfig {
    fn default() -> Self {
        SelectConfig { tokens: 6_000, per: Per::Chunk, chunk: 8_000 }
    }
}

/// A configuration that is a stage.
trait Config: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    const NAME: &'static str;
    const SHOWS: Shows = Shows::Nothing;
    fn signature(&self) -> Signature;
    /// The input that it can work on while that is made.
    const TAIL_INPUT: Option<&str> = None;
    fn tail(&self, _cx: &Context, _others: &Inputs) -> Option<Box<dyn Tail>> {
        None
    }
    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>>;
}

struct Pure<C>(PhantomData<C>);

impl<C: Config> StageKind for Pure<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(C).to_value()
    }

    fn build(&self, config: &Json, _site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        match serde_json::from_value::<C>(config.clone()) {
            Ok(config) => Ok(Arc::new(Built { signature: config.signature(), config })),
            Err(e) => Err(vec![Problem {
                pointer: String::new(),
                message: e.to_string(),
                remedy: format!("see the fields of `{}` in the reference", C::NAME),
            }]),
        }
    }

    fn shows(&self) -> Shows {
        C::SHOWS
    }
}

struct Built<C> {
    config: C,
    signature: Signature,
}

impl<C: Config> Stage for Built<C> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn tail_input(&self) -> Option<&str> {
        C::TAIL_INPUT
    }

    fn tail(&self, cx: &Context, others: &Inputs) -> Option<Box<dyn Tail>> {
        self.config.tail(cx, others)
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        self.config.run(cx, inputs)
    }
}

/// The signature of a stage that gives its output at once, from a core of its own.
fn signature(inputs: &[(&str, Kind)], output: Kind) -> Signature {
    let inputs = inputs.iter().map(|(n, k)| ((*n).to_owned(), k.clone())).collect();
    Signature { inputs, output, streams: false, instant: true, effort: Effort::Core }
}

/// The input as a document; text becomes a plain one.
fn document(inputs: &Inputs, name: &str) -> Result<Arc<Document>, Error> {
    match inputs.get(name) {
        Some(Value::Document(d)) => Ok(Arc::clone(d)),
        Some(Value::Text(t)) => {
            let (media, text) = (Media::Plain, Arc::clone(t));
            Ok(Arc::new(Document { title: None, media, text, sections: Vec::new() }))
        }
        _ => Err(Error::new(Code::Internal, format!("the input `{name}` is no document"))),
    }
}

fn ready<'a>(r: Result<Value, Error>) -> BoxFuture<'a, Outcome<Value>> {
    Box::pin(std::future::ready(r.into()))
}

impl Config for ChunkConfig {
    const NAME: &'static str = "chunk";
    fn signature(&self) -> Signature {
        signature(&[("document", Kind::Document)], Kind::Chunks)
    }
    fn run<'a>(&'a self, _cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let chunks = document(&inputs, "document")
                .map(|d| Value::Chunks(chunk(&d, self.tokens, self.overlap, &Estimate).into()));
            chunks.into()
        })
    }
}

impl Config for ExtractiveConfig {
    const NAME: &'static str = "extractive";
    const SHOWS: Shows = Shows::Draft;
    fn signature(&self) -> Signature {
        signature(&[("document", Kind::Document)], Kind::Text)
    }
    fn run<'a>(&'a self, _cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        ready(document(&inputs, "document").map(|d| Value::text(summarize(&d, self.sentences))))
    }
}

impl Config for SelectConfig {
    const NAME: &'static str = "select";
    fn signature(&self) -> Signature {
        signature(&[("document", Kind::Document)], Kind::Chunks)
    }
    fn run<'a>(&'a self, _cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        ready(document(&inputs, "document").map(|d| {
            let chunks = chunk(&d, self.chunk, 0, &Estimate);
            let picked = select(&d, &chunks, self.tokens, self.per, &Estimate);
            Value::Chunks(picked.into_iter().map(|s| s.chunk).collect())
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_a_closed_schema_and_builds_from_its_defaults() {
        let mut registry = Registry::default();
        register(&mut registry);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["chunk", "extractive", "ground", "select"]);
        let name = contract::StageName::new("s");
        let site = Site { name: &name, each: false };
        for kind in registry.iter() {
            assert_eq!(kind.schema()["additionalProperties"], json!(false));
            let stage = kind.build(&json!({}), &site).unwrap();
            let Signature { instant, effort, streams, .. } = *stage.signature();
            assert!(
                instant && (effort == Effort::Core) != streams,
                "what streams may wait, so it is not one poll"
            );
            assert_eq!(stage.tail_input().is_some(), streams);
            assert!(kind.build(&json!({"nonsense": 1}), &site).is_err());
        }
    }
}
