//! The graph of stages: checked before anything runs, its budget split into a plan, executed live; and runs that outlive
//! the process ([`runs`]).
//!
//! The only crate that spawns tasks.

mod check;
pub mod durable;
mod graph;
pub mod live;
mod registry;
pub mod runs;
mod spec;
pub mod task;

pub use check::{check, durable as is_durable};
pub use graph::{Graph, Node, Source as NodeSource};
pub use registry::{Problem, Registry, Shows, Site, StageKind};
pub use spec::{DurableSpec, Finding, OnFailure, PipelineSpec, Place, Source, StageInRuns, StageSpec};
