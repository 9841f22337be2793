//! The stages of durable pipelines that work on data: `ingest`, `sql`, `validate`, `commit`, `features`.
//!
//! **What crosses a boundary** is a table by its immutable version, `DATASET@NAME`: the name is made of the content, so equal data
//! is an equal value, and what depends on it is not run again. What a stage makes and nobody publishes is a version of a *staging*
//! dataset, `staging.PIPELINE.STAGE`; [`collect`] gives back what no run has kept of it.
//!
//! **Once.** An attempt may die at any point and be made again, or be made twice at once. Every commit of a stage (to its staging
//! dataset, to the dataset that is published, to a quarantine) is under the key of the attempt's effect ([`crate::Effect`]):
//! whoever comes second finds the version of who came first, and takes it for its own. Nothing is visible before its commit.
//!
//! **Pinned.** A stage reads versions and nothing else. What it names without a version is the newest when the attempt begins,
//! and which that was is in its log and in the commit that it makes.
//!
//! **Nothing is opened** before a stage runs: kinds are made, and stages are built, from the configuration alone.

mod columns;
mod commit;
mod config;
mod error;
mod extend;
mod features;
mod ingest;
mod job;
mod keep;
mod kind;
mod place;
mod rows;
mod sql;
mod table;
mod validate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::BoxFuture;
use pipeline::Registry;

use crate::features::FeatureView;
use crate::{How, Policy, Source, Warehouse};

pub use columns::columns;
pub use extend::{Extension, PART, extend};
pub use keep::{STAGING, collect};
pub use place::place;
pub use rows::{gather, rows};

/// What the program around knows, and the stages ask for when they need it.
pub trait Means: Send + Sync {
    /// The warehouse, opened when it is first asked for.
    ///
    /// # Errors
    /// Why it cannot be opened, for the run.
    fn warehouse(&self) -> Result<Warehouse, contract::Error>;

    /// The project's folder, which files of the configuration are relative to.
    fn folder(&self) -> &Path;

    /// What the configuration says of a dataset; `None` for one it does not name.
    fn dataset(&self, name: &str) -> Option<Configured>;

    /// The feature view of that name.
    fn view(&self, name: &str) -> Option<FeatureView>;

    /// The files that names and patterns relative to the project's folder stand for, in order.
    ///
    /// # Errors
    /// A name or pattern that stands for none, as a sentence.
    fn files(&self, patterns: &[String]) -> Result<Vec<PathBuf>, String>;

    /// A folder of documents, relative to the project's, where its rows can be read: what each file is called, its hash, its text.
    fn documents<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Fetched, contract::Error>>;

    /// Brings the rows of a configured dataset where they can be read.
    fn fetch<'a>(&'a self, dataset: &'a str) -> BoxFuture<'a, Result<Fetched, contract::Error>>;
}

/// Rows that can be read.
pub struct Fetched {
    /// Where they are.
    pub source: Source,
    /// What a person should know of them, for the stage's log.
    pub notes: Vec<String>,
    /// What has to live until they were read: a temporary folder.
    pub held: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// What the configuration says of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// How new rows go together with those there are.
    pub how: How,
    /// The file of what is expected of every change.
    pub expectations: Option<PathBuf>,
    /// What becomes of rows that are not as expected.
    pub policy: Policy,
    /// Whether it says where rows come from.
    pub has_source: bool,
}

/// Adds the kinds of this module.
pub fn register(registry: &mut Registry, means: Arc<dyn Means>) {
    registry.register(kind::DataKind::<ingest::IngestConfig>::new(&means));
    registry.register(kind::DataKind::<sql::SqlConfig>::new(&means));
    registry.register(kind::DataKind::<validate::ValidateConfig>::new(&means));
    registry.register(kind::DataKind::<commit::CommitConfig>::new(&means));
    registry.register(kind::DataKind::<features::FeaturesConfig>::new(&means));
}
