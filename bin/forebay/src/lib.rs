//! The binary's own parts: the configuration file, the command line, the import of price tables.
//!
//! Everything that knows all crates lives here and nowhere else.

mod aside;
pub mod assembly;
mod bucket;
pub mod capture;
mod choosing;
pub mod cli;
pub mod config;
pub mod datasets;
mod error;
pub mod expectations;
pub mod features;
mod folders;
mod following;
pub mod gguf;
pub mod inventory;
mod learning;
pub mod lineage;
mod logs;
mod noting;
mod panics;
mod pipelines;
mod predictions;
pub mod prices;
mod reload;
mod rolling;
mod signing;
pub mod sources;
mod stages;
pub mod starting;
pub mod telemetry;
mod upstreams;
pub mod watching;
pub mod wiring;
mod worker;

pub use error::Error;
