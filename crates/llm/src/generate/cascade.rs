//! The stage kind `cascade`: a small model first, a larger one when its answer does not pass its checks.
//!
//! Each rung is a `generate` of its own on the same prompt: every call is recorded under its own model and price, and each
//! model's own fallbacks stand in for it. Invariants: what is shown is one model's answer, from its beginning on: that of any
//! but the last model is held back until it is accepted, that of the last streams; an error that would be the same anywhere
//! (a wrong request, filtered content, no time, no budget) ends the cascade.

mod accept;
mod config;

use std::path::PathBuf;
use std::sync::Arc;

use contract::{BoxFuture, Code, Context, Error, Inputs, ModelName, Outcome, Signature, Stage, Value};
use pipeline::{Problem, Shows, Site, StageKind};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Generate, GenerateKind, problem, show};
use accept::{Accept, Refused};
use config::Config;

/// Makes `cascade` stages of what makes `generate` stages.
#[derive(Clone, Debug)]
pub struct CascadeKind(GenerateKind);

impl CascadeKind {
    /// Stages that ask the same models and read prompts from the same folder.
    pub fn new(generate: GenerateKind) -> Self {
        CascadeKind(generate)
    }
}

impl StageKind for CascadeKind {
    fn name(&self) -> &'static str {
        "cascade"
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(Config).to_value()
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        Config::deserialize(config).ok().and_then(|c| c.prompt).into_iter().collect()
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = Config::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `cascade`")])?;
        let mut problems = Vec::new();
        for (i, model) in config.models.iter().enumerate() {
            if config.models.iter().take(i).any(|m| m == model) {
                let m = format!("`{model}` is asked twice");
                problems.push(problem(&format!("/models/{i}"), m, "name each model once"));
            }
        }
        if config.models.len() < 2 {
            let m = "a cascade of one model".to_owned();
            problems.push(problem("/models", m, "name a second model, or use `generate`"));
        }
        let accept = Accept::new(config.accept.clone()).map_err(|wrong| {
            let named = |(name, m): (_, _)| problem(&format!("/accept/{name}"), m, "correct it");
            problems.extend(wrong.into_iter().map(named));
        });
        let logprobs = accept.as_ref().is_ok_and(Accept::wants_logprobs);
        let mut rungs = Vec::new();
        for (i, model) in config.models.iter().enumerate() {
            match self.0.stage(config.generate(model)) {
                Ok(stage) => rungs.push(Generate { logprobs, ..stage }),
                // What is wrong with the prompt is wrong on every rung.
                Err(found) => problems.extend(found.into_iter().filter_map(|p| match p.pointer.as_str() {
                    "/model" => Some(Problem { pointer: format!("/models/{i}"), ..p }),
                    _ => (i == 0).then_some(p),
                })),
            }
        }
        match (accept, rungs.pop()) {
            (Ok(accept), Some(last)) if problems.is_empty() => {
                Ok(Arc::new(Cascade { rungs, last: Generate { logprobs: false, ..last }, accept }))
            }
            _ => Err(problems),
        }
    }

    fn shows(&self) -> Shows {
        Shows::Deltas
    }
}

struct Cascade {
    /// All but the last, in order.
    rungs: Vec<Generate>,
    last: Generate,
    accept: Accept,
}

impl Stage for Cascade {
    fn signature(&self) -> &Signature {
        self.last.signature()
    }

    fn models(&self) -> Vec<ModelName> {
        self.rungs.iter().chain([&self.last]).map(|g| g.model.clone()).collect()
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            for rung in &self.rungs {
                let asked = async { rung.ask(cx, &*rung.prompt.of(cx)?, &inputs, None).await };
                let why = match asked.await {
                    Ok((answer, None)) => {
                        let value = rung.value(answer.text.clone());
                        match (self.accept.refuses(&answer, value.is_ok()), value) {
                            (None, Ok(value)) => {
                                tally(cx, rung, "accepted");
                                return match show(cx.sink.as_deref(), &answer.text).await {
                                    Ok(()) => Outcome::Complete(value),
                                    Err(e) => Outcome::Failed(e),
                                };
                            }
                            (why, _) => why.unwrap_or(Refused::Schema),
                        }
                    }
                    Ok((_, Some(e))) | Err(e) if is_the_end(&e) => return Outcome::Failed(e),
                    Ok((_, Some(_))) | Err(_) => Refused::Failed,
                };
                tally(cx, rung, why.figure());
            }
            let outcome = self.last.run(cx, inputs).await;
            tally(
                cx,
                &self.last,
                if outcome.error().is_none() { "accepted" } else { Refused::Failed.figure() },
            );
            outcome
        })
    }
}

/// Notes in the record how a model's answer fared: `{model: {accepted: 1}}`.
fn tally(cx: &Context, rung: &Generate, figure: &str) {
    cx.meter.tally("cascade", rung.model.as_str(), &[(figure, 1)]);
}

/// Whether an error is not a model's: the next one would meet it too, or must not be asked.
fn is_the_end(e: &Error) -> bool {
    matches!(
        e.code,
        Code::InvalidRequest
            | Code::ContentFiltered
            | Code::DeadlineExceeded
            | Code::BudgetExhausted
            | Code::Cancelled
            | Code::Draining
    )
}
