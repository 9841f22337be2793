//! What all kinds of this module are: a configuration that is checked, and work that runs as a job of a durable run.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{BoxFuture, Context, Effort, Inputs, Kind, Outcome, Signature, Stage, Value};
use pipeline::{Problem, Site, StageKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::Means;
use super::job::Job;
use crate::check;

/// A kind of this module.
pub(super) trait ModelStage: Sized + Send + Sync + 'static {
    const NAME: &'static str;
    /// Its inputs, and what each is.
    const INPUTS: &'static [(&'static str, Kind)];
    /// What it gives.
    const OUTPUT: Kind = Kind::Json(None);
    /// The fields that name files.
    const PATHS: &'static [&'static str] = &[];
    /// What it occupies while it works.
    const EFFORT: Effort = Effort::Heavy;
    type Config: DeserializeOwned + JsonSchema;

    /// Checks a configuration, and makes what runs. Everything that is wrong is reported.
    fn build(config: Self::Config, means: &dyn Means) -> Result<Self, Vec<Problem>>;

    /// The files it is made of.
    fn files(_config: &Self::Config) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether what comes of it depends on its inputs and its files alone.
    fn cached(config: &Self::Config) -> bool;

    /// What it does. Dropping the future leaves what an attempt that died leaves, which the next one takes over.
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>>;
}

pub(super) struct ModelKind<S> {
    means: Arc<dyn Means>,
    stage: PhantomData<fn() -> S>,
}

impl<S: ModelStage> ModelKind<S> {
    pub(super) fn new(means: &Arc<dyn Means>) -> ModelKind<S> {
        ModelKind { means: Arc::clone(means), stage: PhantomData }
    }
}

impl<S: ModelStage> StageKind for ModelKind<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(S::Config).to_value()
    }

    fn build(&self, config: &Json, _site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = serde_json::from_value::<S::Config>(config.clone()).map_err(|e| {
            vec![problem("", &e.to_string(), &format!("see the fields of `{}` in the reference", S::NAME))]
        })?;
        let stage = S::build(config, &*self.means)?;
        let inputs = S::INPUTS.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone()));
        let signature = Signature {
            inputs: inputs.collect(),
            output: S::OUTPUT,
            streams: false,
            instant: false,
            effort: S::EFFORT,
        };
        Ok(Arc::new(Built { means: Arc::clone(&self.means), signature, stage }))
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        serde_json::from_value::<S::Config>(config.clone()).map(|c| S::files(&c)).unwrap_or_default()
    }

    fn durable(&self) -> bool {
        true
    }

    fn paths(&self) -> &'static [&'static str] {
        S::PATHS
    }

    fn cached(&self, config: &Json) -> bool {
        serde_json::from_value::<S::Config>(config.clone()).is_ok_and(|c| S::cached(&c))
    }
}

struct Built<S> {
    means: Arc<dyn Means>,
    signature: Signature,
    stage: S,
}

impl<S: ModelStage> Stage for Built<S> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let job = match Job::begin(&*self.means, cx) {
                Ok(job) => job,
                Err(error) => return Outcome::Failed(error),
            };
            self.stage.run(&job, &inputs).await.into()
        })
    }
}

pub(super) fn problem(pointer: &str, message: &str, remedy: &str) -> Problem {
    Problem { pointer: pointer.into(), message: message.into(), remedy: remedy.into() }
}

/// What is wrong with the name of a registered model, as far as it is known.
pub(super) fn misnamed(name: &str) -> Option<Problem> {
    let refused = check::model_name(name).err().filter(|_| !open(name))?;
    let remedy = "a name has no `/`, `:`, `%` and quotes, and is not empty";
    Some(problem("/model", &refused.message, remedy))
}

/// Whether a text is still to be filled in: a run does so before it builds the stage.
pub(super) fn open(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}
