//! `batch_predict`: what a predictive model says of every row of a table.
//!
//! table → (rows, some thousand at a time, in the order they stand) → the model, in this process, by its file → the table with the
//! model's outputs as columns beside its own.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytes::Bytes;
use contract::lineage::{Thing, ThingKind};
use contract::{BoxFuture, Code, Inputs, Kind, Value};
use pipeline::{Problem, task};
use predict::batch::probe::{Found as Shared, shares};
use predict::{Artifact, DataType, LoadSettings, Model};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Means;
use super::asked::columns;
use super::error::{crashed, kept, predicted};
use super::job::Job;
use super::kind::{ModelStage, misnamed, problem};
use super::released::{self, Released};
use super::scores::{Scores, columns_of, nothing, scores};
use crate::onnx::Classes;
use crate::train::Frame;

/// Threads of one piece of rows, at most.
const THREADS: usize = 256;

/// Asks a predictive model about every row of a table. The result is the table with the model's outputs as columns: one
/// of a number or a text a row is called as the output is, one of several a row gives a column for each, `OUTPUT_CLASS` where the
/// model's classes are known and `OUTPUT_0`, `OUTPUT_1` and so on where they are not. A run that dies goes on where it was, as long
/// as the same version answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchConfig {
    /// A predictive model of the configuration, or the name of a registered one.
    model: String,
    /// The alias of the registered version that is asked. Unless given: that of the configuration, or `champion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// The number of the registered version that is asked, instead of an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    version: Option<i64>,
    /// The columns of the table that stay. Unless given: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<Vec<String>>,
    /// The columns that the model is asked with, in its order, where it takes one tensor and does not say itself what they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<Vec<String>>,
    /// The model's outputs that are wanted. Unless given: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<String>>,
    /// What the names of new columns begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prefix: String,
    /// Threads that work on one piece of rows. Unless given: as many as there are cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threads: Option<NonZeroUsize>,
}

/// A predictive model that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// Its file.
    File(PathBuf),
    /// A registered one.
    Registered {
        /// Its name.
        name: String,
        /// The alias of the version that answers.
        alias: String,
    },
    /// A language model.
    Language,
}

/// Asks about rows.
pub(super) struct BatchStage {
    config: BatchConfig,
    of: Of,
}

/// Whom a stage asks.
enum Of {
    File(PathBuf),
    /// A registered model, and its alias or the number of a version.
    Registered(String, Result<String, i64>),
    /// None can be: the configuration is only known as a whole when a run begins.
    Nobody(String),
}

impl Of {
    fn new(config: &BatchConfig, means: &dyn Means) -> Of {
        let (name, alias) = match means.model(&config.model) {
            Some(Configured::Language) => {
                let m = format!("`{}` is a language model: `generate` with `each` asks one", config.model);
                return Of::Nobody(m);
            }
            Some(Configured::File(file)) => match (&config.alias, config.version) {
                (None, None) => return Of::File(file),
                _ => {
                    let m = format!(
                        "`{}` is a file, which has no versions: leave `alias` and `version` out",
                        config.model
                    );
                    return Of::Nobody(m);
                }
            },
            Some(Configured::Registered { name, alias }) => (name, alias),
            None => (config.model.clone(), "champion".to_owned()),
        };
        let alias = || config.alias.clone().unwrap_or(alias);
        Of::Registered(name, config.version.map_or_else(|| Ok(alias()), Err))
    }
}

/// A file that is asked, and what is known of it.
struct Found {
    file: Artifact,
    bytes: Bytes,
    classes: Option<Classes>,
    thing: Thing,
    /// Which it is, in words.
    said: String,
}

impl Found {
    async fn of(job: &Job<'_>, of: &Of, named: &str) -> Result<Found, contract::Error> {
        let (name, which) = match of {
            Of::Nobody(why) => return Err(refused(why.clone())),
            Of::Registered(name, which) => (name, which.as_deref().map_err(|number| *number)),
            Of::File(path) => {
                let (own, path) = (path.clone(), job.means.folder().join(path));
                let failed = |e: std::io::Error| {
                    refused(format!("the model's file `{}` cannot be read: {}", own.display(), e.kind()))
                };
                let (read, file) = (path.clone(), Artifact::File(path));
                let read = task::reading("read a model", move || std::fs::read(read)).await;
                let bytes = Bytes::from(read.map_err(|e| crashed(&e))?.map_err(failed)?);
                let hash = blake3::hash(&bytes).to_hex();
                let thing = Thing::new(ThingKind::Model, named).at(hash.as_str());
                let said = format!("the file {}", own.display());
                return Ok(Found { file, bytes, classes: None, thing, said });
            }
        };
        let found = released::find(job.tracked(), job.tenant(), name, which).await.map_err(kept)?;
        let Some(version) = found else {
            let m = format!("the alias `{}` of `{name}` stands for no version", which.unwrap_or_default());
            return Err(refused(m));
        };
        let released = Released::of(job.tracked(), job.tenant(), version).await.map_err(kept)?;
        let (number, bytes) = (released.version.version, released.file);
        let thing = released::thing(name, number);
        let classes = released.record.and_then(|record| record.classes);
        let said = format!("version {number} of {name}");
        Ok(Found { file: Artifact::Content(bytes.clone()), bytes, classes, thing, said })
    }
}

/// Columns of a table that are worked out row by row.
pub struct Scoring {
    /// The columns of the table that stay; `None` for all of them.
    pub keep: Option<Vec<String>>,
    /// The columns that are looked at; `None` for all of them.
    pub needs: Option<Vec<String>>,
    /// The columns that are added, with one value each for what type they have.
    pub columns: Vec<(String, Scores)>,
    /// What tells these columns from others.
    pub stamp: String,
    /// Who works them out.
    pub model: Thing,
    /// Works them out, in the order of `columns`. Blocks.
    pub score: Score,
}

/// What works columns out of some rows.
pub type Score = Box<dyn FnMut(&Frame) -> Result<Vec<Scores>, contract::Error> + Send>;

impl ModelStage for BatchStage {
    const NAME: &'static str = "batch_predict";
    const INPUTS: &'static [(&'static str, Kind)] = &[("table", Kind::Table)];
    const OUTPUT: Kind = Kind::Table;
    type Config = BatchConfig;

    fn build(config: BatchConfig, means: &dyn Means) -> Result<Self, Vec<Problem>> {
        let mut problems: Vec<Problem> = misnamed(&config.model).into_iter().collect();
        if config.alias.is_some() && config.version.is_some() {
            let m = "an alias and a version are two answers to one question";
            problems.push(problem("/version", m, "leave one of `alias` and `version` out"));
        }
        if config.version.is_some_and(|number| number < 1) {
            problems.push(problem("/version", "versions are counted from 1", "write the version's number"));
        }
        if config.threads.is_some_and(|threads| threads.get() > THREADS) {
            let remedy = format!("write up to {THREADS}, or leave it out: one for each core");
            problems.push(problem("/threads", "so many threads only wait for each other", &remedy));
        }
        for (name, list) in [("outputs", &config.outputs), ("features", &config.features)] {
            let twice = list
                .iter()
                .flatten()
                .enumerate()
                .find(|(at, own)| list.iter().flatten().take(*at).any(|o| o == *own));
            if let Some((at, own)) = twice {
                let pointer = format!("/{name}/{at}");
                problems.push(problem(&pointer, &format!("`{own}` is there twice"), "name each once"));
            }
            if list.as_ref().is_some_and(Vec::is_empty) {
                let pointer = format!("/{name}");
                problems.push(problem(&pointer, "the list is empty", "name at least one, or leave it out"));
            }
        }
        let of = Of::new(&config, means);
        if problems.is_empty() { Ok(BatchStage { config, of }) } else { Err(problems) }
    }

    fn cached(config: &BatchConfig) -> bool {
        // What an alias stands for, and a file holds, is looked at in every run.
        config.version.is_some()
    }

    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let table = contract::given_table(inputs, "table")?;
            let found = Found::of(job, &self.of, &self.config.model).await?;
            job.say(format!("{} is asked", found.said));
            let (config, backend) = (self.config.clone(), job.means.backend());
            let load = move || Asking::load(&*backend, &found, config).map(|asking| (asking, found));
            let (asking, found) = task::blocking("load a model", load).await.map_err(|e| crashed(&e))??;
            let value = job.means.scored(job.cx, table, asking.scoring(&found)).await?;
            job.note(format!("by {}", found.said));
            Ok(value)
        })
    }
}

/// A loaded model and what is wanted of it.
struct Asking {
    config: BatchConfig,
    model: Box<dyn Model>,
    /// Places of outputs, with the columns that each becomes.
    outputs: Vec<(usize, Vec<String>)>,
}

fn refused(message: String) -> contract::Error {
    contract::Error::new(Code::InvalidRequest, message)
}

impl Asking {
    fn load(
        backend: &dyn predict::Backend,
        found: &Found,
        config: BatchConfig,
    ) -> Result<Asking, contract::Error> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let settings = LoadSettings { threads: config.threads.unwrap_or_else(cores) };
        let mut model = backend.load(&found.file, &settings).map_err(|e| predicted(&e))?;
        if shares(&mut *model) == Shared::Differs {
            let m = format!(
                "`{}` answers rows that are asked together otherwise than each alone: ask it row by row, over a server",
                config.model
            );
            return Err(refused(m));
        }
        let signature = model.signature();
        if !signature.may_batch() {
            let m = format!(
                "`{}` takes no rows: the first dimension of what it takes or gives is fixed",
                config.model
            );
            return Err(refused(m));
        }
        let places: Vec<usize> = match &config.outputs {
            Some(names) => {
                let place = |name: &String| signature.output(name).map_err(|e| predicted(&e));
                names.iter().map(place).collect::<Result<_, _>>()?
            }
            None => (0..signature.outputs.len()).collect(),
        };
        let mut outputs = Vec::with_capacity(places.len());
        for at in places {
            let Some(field) = signature.outputs.get(at) else { continue };
            let names = columns_of(field, found.classes.as_ref()).ok_or_else(|| {
                let m = format!(
                    "the output `{field}` has no fixed number of values a row: leave it out by `outputs`"
                );
                refused(m)
            })?;
            outputs.push((at, names.into_iter().map(|name| format!("{}{name}", config.prefix)).collect()));
        }
        Ok(Asking { config, model, outputs })
    }

    /// The columns of the table that it looks at; `None` when it takes all.
    fn needs(&self) -> Option<Vec<String>> {
        if let Some(own) = &self.config.features {
            return Some(own.clone());
        }
        match self.model.signature().inputs.as_slice() {
            [only] if only.shape.get(1) != Some(&1) && only.shape.len() == 2 => {
                let named = &self.model.metadata().features;
                (!named.is_empty()).then(|| named.clone())
            }
            inputs => Some(inputs.iter().map(|field| field.name.clone()).collect()),
        }
    }

    fn scoring(self, found: &Found) -> Scoring {
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        let columns = self.outputs.iter().flat_map(|(at, names)| {
            let ty = self.model.signature().outputs.get(*at).map_or(DataType::Fp32, |f| f.datatype);
            names.iter().map(move |name| (name.clone(), nothing(ty)))
        });
        Scoring {
            keep: self.config.keep.clone(),
            needs: self.needs(),
            columns: columns.collect(),
            stamp: format!("{} {config}", blake3::hash(&found.bytes).to_hex()),
            model: found.thing.clone(),
            score: Box::new({
                let mut asking = self;
                move |frame| asking.score(frame).map_err(|e| predicted(&e))
            }),
        }
    }

    fn score(&mut self, frame: &Frame) -> Result<Vec<Scores>, predict::Error> {
        let Asking { config, model, outputs } = self;
        let mut columns = columns(frame, &(0..frame.rows()));
        if let Some(own) = &config.features {
            let place = |name: &str| own.iter().position(|f| f == name);
            columns.0.retain(|(name, _)| place(name).is_some());
            columns.0.sort_by_key(|(name, _)| place(name));
        }
        let inputs = columns.bind(model.signature(), model.metadata())?;
        let places: Vec<usize> = outputs.iter().map(|(at, _)| *at).collect();
        let given = model.run(&inputs, &places)?;
        let mut all = Vec::new();
        for (tensor, (_, names)) in given.iter().zip(outputs.iter()) {
            if tensor.len() != frame.rows() * names.len() {
                let m = format!("{} rows were asked, and {} values came", frame.rows(), tensor.len());
                return Err(predict::Error::Run(m));
            }
            scores(tensor, names.len(), &mut all)?;
        }
        Ok(all)
    }
}
