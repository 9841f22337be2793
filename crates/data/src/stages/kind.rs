//! What all kinds of this module are: a configuration that is checked, and work that runs as a job of a durable run.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{BoxFuture, Context, Effort, Inputs, Kind, Outcome, Signature, Stage, Value};
use indexmap::IndexMap;
use pipeline::{Problem, Site, StageKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::Means;
use super::config::problem;
use super::job::Job;

/// The configuration of a kind.
pub(super) trait Config: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    const NAME: &'static str;
    /// The fields that are SQL.
    const CODE: &'static [&'static str] = &[];
    /// The fields that name files.
    const PATHS: &'static [&'static str] = &[];

    /// Checks it, and makes what runs. Everything that is wrong is reported.
    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>>;

    /// The files it is made of.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What it looks up by name when it is built, beside its files: each with a hash of what that says.
    fn made_of(&self, _means: &dyn Means) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Whether what comes of it depends on its inputs, its files and what it looks up alone.
    fn cached(&self, means: &dyn Means) -> bool;
}

/// What a configuration becomes.
pub(super) struct Made {
    pub(super) inputs: IndexMap<String, Kind>,
    pub(super) work: Box<dyn Work>,
}

/// What a stage does. Dropping the future leaves what an attempt that died leaves: files that no version names, at most.
pub(super) trait Work: Send + Sync {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>>;
}

pub(super) struct DataKind<C> {
    means: Arc<dyn Means>,
    config: PhantomData<fn() -> C>,
}

impl<C: Config> DataKind<C> {
    pub(super) fn new(means: &Arc<dyn Means>) -> DataKind<C> {
        DataKind { means: Arc::clone(means), config: PhantomData }
    }
}

impl<C: Config> StageKind for DataKind<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(C).to_value()
    }

    fn build(&self, config: &Json, _site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = serde_json::from_value::<C>(config.clone()).map_err(|e| {
            vec![problem("", &e.to_string(), &format!("see the fields of `{}` in the reference", C::NAME))]
        })?;
        let Made { inputs, work } = config.build(&self.means)?;
        let signature =
            Signature { inputs, output: Kind::Table, streams: false, instant: false, effort: Effort::Heavy };
        Ok(Arc::new(Built { means: Arc::clone(&self.means), signature, work }))
    }

    fn files(&self, config: &Json) -> Vec<PathBuf> {
        serde_json::from_value::<C>(config.clone()).map(|c| c.files()).unwrap_or_default()
    }

    fn made_of(&self, config: &Json) -> Vec<(String, String)> {
        serde_json::from_value::<C>(config.clone()).map(|c| c.made_of(&*self.means)).unwrap_or_default()
    }

    fn durable(&self) -> bool {
        true
    }

    fn code(&self) -> &'static [&'static str] {
        C::CODE
    }

    fn paths(&self) -> &'static [&'static str] {
        C::PATHS
    }

    fn cached(&self, config: &Json) -> bool {
        serde_json::from_value::<C>(config.clone()).is_ok_and(|c| c.cached(&*self.means))
    }
}

struct Built {
    means: Arc<dyn Means>,
    signature: Signature,
    work: Box<dyn Work>,
}

impl Stage for Built {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move {
            let job = match Job::begin(&*self.means, cx) {
                Ok(job) => job,
                Err(error) => return Outcome::Failed(error),
            };
            self.work.run(&job, &inputs).await.into()
        })
    }
}
