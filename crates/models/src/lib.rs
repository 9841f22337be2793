//! What tracking and the registry of models mean beyond their storage: what a name, a value, a path and an address may be
//! ([`check`], [`uri`]), and where **artifacts** are ([`artifacts`]). The words of refusals are those of MLflow 3.17, whose clients
//! read them.
//!
//! It knows no HTTP and no database.

pub mod artifacts;
pub mod check;
mod error;
mod names;
mod posix;
pub mod uri;

pub use error::Error;
pub use names::{hex, random_name};
