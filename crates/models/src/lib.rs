//! Models: what they are worth, whether they may answer, and how they come to; and what tracking and their registry mean beyond
//! storage.
//!
//! - [`evaluate`]: figures of predictions against what was true, in total, by slice and by group.
//! - [`gate`]: whether a model may answer, as a signed record.
//! - [`rollout`]: how a version comes to answer, and is taken back.
//! - [`rolling`]: rollouts of registered models, kept with what they do.
//! - [`reproduce`]: what a model was made of, and whether it comes out again.
//! - [`card`]: what people read of a model, made from its record.
//! - [`train`]: from a table of columns to a model, by gradient-boosted trees, linear models and online learning.
//! - [`onnx`]: models as ONNX files with their pre-processing inside; models of other libraries, turned into such files or refused.
//! - [`stages`]: `train`, `evaluate` and `register`, as stages of durable pipelines.
//! - [`release`]: which version answers, moved by people: forward by what a gate decided, back by what was before.
//! - [`choice`]: which model of the configuration answers to a name, as versions of a registered model.
//! - [`check`], [`uri`]: what a name, a value, a path and an address may be. The words of refusals are those of MLflow 3.17, whose
//!   clients read them.
//! - [`artifacts`]: where files of runs and models are.
//!
//! Everything that decides is pure: time and seeds come in as parameters, and equal input gives an equal decision. Nothing here
//! knows HTTP or a database, and nothing but the stages reads a clock or asks a model.

pub mod artifacts;
pub mod card;
pub mod check;
pub mod choice;
mod error;
pub mod evaluate;
pub mod gate;
mod names;
pub mod onnx;
mod posix;
pub mod release;
pub mod reproduce;
pub mod rolling;
pub mod rollout;
pub mod stages;
pub mod train;
pub mod uri;

pub use error::Error;
pub use names::{hex, random_name};
