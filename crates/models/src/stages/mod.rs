//! The stages of durable pipelines that make models and let them answer: `train`, `evaluate`, `register`, `rollout`, `batch_predict`.
//!
//! ```text
//! table ─▶ train ─▶ Candidate ─▶ evaluate ─▶ Candidate ─▶ register ── accepted ─▶ the alias stands for the new version
//!           │ model.onnx, forebay.json       │ figures      └─ refused ─▶ the stage fails; the alias stays
//!           └──────────── a tracked run, its parameters, figures, inputs and artifacts ────────────┘
//! ```
//!
//! `batch_predict` asks a model about every row of a table.
//!
//! A version that `register` gave the alias `challenger` instead, `rollout` brings to the champion's place beside the champion.
//!
//! **What crosses a boundary** is a [`Candidate`]: JSON that names the model's file and its record by their content, the table by its
//! version, and the tracked run. Equal tables under an equal configuration are trained once: the result is kept by what it is made of.
//!
//! **Once.** An attempt may die at any point and be made again. The tracked run, the version in the registry and the decision are
//! found again by the key of the attempt's effect, so that there is one of each. A training that is dropped ends its worker, and its
//! tracked run is killed.
//!
//! **An alias that a gate watches moves by an accepted decision alone**, which is signed and kept beside the version.
//!
//! **Nothing is opened** before a stage runs: kinds are made, and stages are built, from the configuration alone.

mod adopt;
mod asked;
mod batch;
mod both;
mod candidate;
mod error;
mod evaluate;
mod job;
mod kind;
mod mlmodel;
mod rebuild;
mod record;
mod register;
mod released;
mod rollout;
mod scores;
mod track;
mod train;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Context, Value};
use pipeline::artifacts::Artifacts as Files;
use pipeline::{Git, Registry};
use predict::Backend;
use store::tracking::Tracking;

use crate::artifacts::Artifacts;
use crate::gate::seal::Signer;
use crate::train::Frame;

pub use asked::{Answers, Asked};
pub use batch::{Configured, Score, Scoring};
pub use candidate::Candidate;
pub use rebuild::{Rebuilt, rebuild};
pub use record::{RECORD, Recorded};
pub use register::gated;
pub use released::{Released, decision_of, file_of, find, keep_decision};
pub use scores::Scores;

/// What the program around knows, and the stages ask for when they need it.
pub trait Means: Send + Sync {
    /// The project's folder, which files of the configuration are relative to.
    fn folder(&self) -> &Path;

    /// The columns of a version of a table (`DATASET@NAME`), in an order that is the same whenever they are read.
    fn frame<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Frame, contract::Error>>;

    /// The model that the configuration calls so.
    fn model(&self, name: &str) -> Option<Configured>;

    /// The rows of a version of a table with the columns that `scoring` works out beside their own, as a version of the stage's own
    /// dataset; once for the attempt's effect. An attempt goes on behind what an earlier one has done of it.
    fn scored<'a>(
        &'a self,
        cx: &'a Context,
        table: &'a str,
        scoring: Scoring,
    ) -> BoxFuture<'a, Result<Value, contract::Error>>;

    /// Where files are that stages leave.
    fn files(&self) -> Files;

    /// Where runs and models are noted; nothing where only a configuration is checked.
    fn tracked(&self) -> Option<Tracked>;

    /// The program that grows trees.
    fn worker(&self) -> PathBuf;

    /// What runs models.
    fn backend(&self) -> Arc<dyn Backend>;

    /// Who signs decisions.
    ///
    /// # Errors
    /// Why nobody can, for the run.
    fn signer(&self) -> Result<Arc<dyn Signer + Send + Sync>, contract::Error>;

    /// At which commit the project is.
    fn git<'a>(&'a self) -> BoxFuture<'a, Option<Git>>;
}

/// Where runs and models are noted, and their artifacts kept.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// Runs, models, versions, aliases.
    pub tracking: Tracking,
    /// Their files.
    pub artifacts: Arc<dyn Artifacts>,
}

/// Adds the kinds of this module.
pub fn register(registry: &mut Registry, means: &Arc<dyn Means>) {
    registry.register(kind::ModelKind::<train::TrainStage>::new(means));
    registry.register(kind::ModelKind::<adopt::AdoptStage>::new(means));
    registry.register(kind::ModelKind::<evaluate::EvaluateStage>::new(means));
    registry.register(kind::ModelKind::<register::RegisterStage>::new(means));
    registry.register(kind::ModelKind::<rollout::RolloutStage>::new(means));
    registry.register(kind::ModelKind::<batch::BatchStage>::new(means));
}
