//! The graph of stages: checked before anything runs, its budget split into a plan, executed live; runs that outlive
//! the process ([`runs`]); and what starts them ([`triggers`]).
//!
//! The only crate that spawns tasks.

mod check;
mod graph;
pub mod live;
mod registry;
pub mod runs;
mod spec;
pub mod task;
pub mod triggers;

pub use check::check;
pub use graph::{Graph, Node, Source as NodeSource};
pub use registry::{Problem, Registry, Shows, Site, StageKind};
pub use spec::{Finding, OnFailure, PipelineSpec, Place, Source, StageSpec};
