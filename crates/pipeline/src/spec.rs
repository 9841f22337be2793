//! A pipeline as a person wrote it, after parsing and before the check.

use contract::{Budget, Kind, StageName, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSpec {
    /// What it is given.
    pub input: Kind,
    /// What it answers.
    pub output: Kind,
    /// The limits of the whole.
    pub budget: Budget,
    /// Its stages, in the order they were written.
    pub stages: Vec<StageSpec>,
    /// The stage whose output is the answer; the last one when not given.
    pub result: Option<StageName>,
    /// What only durable runs have.
    pub durable: DurableSpec,
}

/// What a pipeline says of its durable runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DurableSpec {
    /// It is started by something else than a request, so that it is one.
    pub triggered: bool,
    /// What a run of it may be given, with what it is when it is not.
    pub params: Map<String, Json>,
    /// How many stages of a run may be under way at once.
    pub parallel: Option<u32>,
}

/// What a stage says of its durable runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageInRuns {
    /// Stages that it waits for without taking their output.
    pub after: Vec<StageName>,
    /// What somebody is asked before it starts.
    pub approval: Option<String>,
    /// The concurrency group whose places it takes.
    pub group: Option<String>,
    /// How often a failed attempt is made again, when the fault may pass.
    pub retries: Option<u32>,
    /// Whether its output is taken from an earlier run that made it of the same; what the kind says, without.
    pub cache: Option<bool>,
    /// It is run once for every combination of these values.
    pub matrix: Vec<(String, Vec<Json>)>,
    /// Of a stage that is run for each element: its output is a table.
    pub collect: Option<Collect>,
}

/// The table that a stage gives that is run for each element: a row for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// The fields of the element that the row has.
    pub keep: Vec<String>,
    /// What the column of the output is called.
    pub output: String,
}

/// A stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageSpec {
    /// Its name, unique in the pipeline; `input` is taken.
    pub name: StageName,
    /// The kind of stage, by its name in the registry.
    pub kind: String,
    /// The kind's own configuration.
    pub config: Json,
    /// Where inputs come from.
    pub from: Source,
    /// Run once for each element of this stage's output (or of `input`); the element is the input named `item`.
    pub each: Option<String>,
    /// How many elements at a time.
    pub parallel: Option<u32>,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// Whether its output is the streamed answer. Only one stage of a pipeline may stream.
    pub stream: Option<bool>,
    /// Whether its output is shown as a draft; the kind's own default when not given.
    pub draft: Option<bool>,
    /// Its own limits.
    pub budget: Budget,
    /// What only durable runs have.
    pub runs: StageInRuns,
}

/// Where a stage's inputs come from: stage names, or `input` for the pipeline's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Source {
    /// By name: an input is taken from the stage of the same name, or from the pipeline's input.
    #[default]
    Auto,
    /// The one input comes from here.
    One(String),
    /// Input name → source.
    Named(Vec<(String, String)>),
}

/// The failure contract as written: the fallback's name is not yet resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OnFailure {
    /// See [`contract::FailureContract::Fail`].
    #[default]
    Fail,
    /// See [`contract::FailureContract::Retry`].
    Retry(u32),
    /// See [`contract::FailureContract::Fallback`].
    Fallback(StageName),
    /// See [`contract::FailureContract::Partial`].
    Partial,
    /// See [`contract::FailureContract::Skip`].
    Skip,
    /// See [`contract::FailureContract::Default`].
    Default(Value),
}

/// A problem found by the check, at a place in the pipeline's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The place.
    pub place: Place,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A place in the pipeline's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The stage's position, or the pipeline itself.
    pub stage: Option<usize>,
    /// A field of the stage or the pipeline (`from`, `each`, `on_failure`, `budget`, …) or, with the kind's name as
    /// first element, within the kind's configuration; empty for the whole.
    pub path: Vec<String>,
}
