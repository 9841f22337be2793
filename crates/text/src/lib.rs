//! Documents in, without any model: text out of files, sentences, chunks, extractive drafts, and the check of an
//! answer against its source.
//!
//! Everything here is pure and synchronous; the stage kinds ([`register`]) only wrap it. Nothing here reads a file,
//! asks the time or calls a model. Failures are [`contract::Error`]s, since they reach the caller as they are.

pub mod chunk;
pub mod count;
pub mod extract;
pub mod extractive;
pub mod ground;
mod kinds;
pub mod sentences;
mod words;

pub use count::{CountTokens, Estimate};
pub use kinds::register;
