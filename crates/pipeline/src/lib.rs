//! The graph of stages: checked before anything runs, its budget split into a plan, executed live; runs that outlive
//! the process ([`runs`]); and what starts them ([`triggers`]).
//!
//! The only crate that spawns tasks.

pub mod artifacts;
mod below;
mod check;
mod code;
pub mod durable;
pub mod exec;
mod graph;
mod kinds;
pub mod lineage;
pub mod live;
pub mod nested;
pub mod outside;
mod registry;
pub mod runs;
mod spec;
pub mod task;
pub mod triggers;
pub mod units;
mod word;

pub use below::is_below;
pub use check::{check, durable as is_durable};
pub use code::{Git, git};
pub use graph::{Graph, Node, Source as NodeSource};
pub use kinds::{Parts, register};
pub use registry::{Problem, Registry, Shows, Site, StageKind, Tables, TextField};
pub use spec::{
    Collect, DurableSpec, Finding, OnFailure, PipelineSpec, Place, Source, StageInRuns, StageSpec,
};
