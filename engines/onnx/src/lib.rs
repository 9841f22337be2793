//! ONNX Runtime behind [`predict::Backend`].
//!
//! The library is found and loaded when the first model is: a server without such models needs none. One environment lives as
//! long as the process; each loaded model is a session of its own with its own threads, that wait without spinning. Nothing
//! here reads a format that can run code, and no operator library is loaded that a model would name.
//!
//! Invariant: what a model gives that is no tensor (the maps of a classifier) is a tensor before it leaves this crate.

mod load;
mod memory;
mod outputs;
mod runtime;
mod session;
mod types;
mod values;

pub use runtime::Onnx;
