//! A small registry, so that the configuration is tested without any engine.

use std::sync::Arc;

use contract::{BoxFuture, Context, Effort, Inputs, Kind, Outcome, Signature, Stage, Value};
use pipeline::{Problem, Registry, Shows, Site, StageKind};
use serde_json::{Value as Json, json};

struct Fake(Signature);

impl Stage for Fake {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn run<'a>(&'a self, _: &'a Context, _: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async { Outcome::Complete(Value::Text("".into())) })
    }
}

struct Named {
    name: &'static str,
    schema: fn() -> Json,
    input: (&'static str, Kind),
    output: Kind,
    model: bool,
}

impl StageKind for Named {
    fn name(&self) -> &'static str {
        self.name
    }
    fn schema(&self) -> Json {
        (self.schema)()
    }
    fn shows(&self) -> Shows {
        match self.name {
            "extractive" => Shows::Draft,
            "generate" => Shows::Deltas,
            _ => Shows::Nothing,
        }
    }
    fn build(&self, _: &Json, site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let (mut name, mut kind) = self.input.clone();
        if site.each {
            (name, kind) = ("item", Kind::Any);
        }
        Ok(Arc::new(Fake(Signature {
            inputs: [(name.to_owned(), kind)].into_iter().collect(),
            output: self.output.clone(),
            streams: self.model,
            instant: !self.model,
            effort: Effort::Waits,
        })))
    }
}

/// Kinds `extractive`, `chunk` and `generate`.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(Named {
        name: "extractive",
        schema: || {
            json!({"type": "object", "additionalProperties": false,
                "properties": {"sentences": {"type": "integer", "minimum": 1, "maximum": 50}}})
        },
        input: ("document", Kind::Document),
        output: Kind::Text,
        model: false,
    });
    registry.register(Named {
        name: "chunk",
        schema: || {
            json!({"type": "object", "additionalProperties": false, "required": ["tokens"],
                "properties": {"tokens": {"$ref": "#/$defs/positive"}, "overlap": {"type": "integer"}},
                "$defs": {"positive": {"type": "integer", "exclusiveMinimum": 0}}})
        },
        input: ("document", Kind::Document),
        output: Kind::Chunks,
        model: false,
    });
    registry.register(Named {
        name: "generate",
        schema: || {
            json!({"type": "object", "additionalProperties": false, "required": ["model", "prompt"],
                "properties": {"model": {"type": "string", "x-forebay-ref": "model"},
                    "prompt": {"type": "string", "x-forebay-ref": "file"}}})
        },
        input: ("text", Kind::Any),
        output: Kind::Text,
        model: true,
    });
    registry
}
