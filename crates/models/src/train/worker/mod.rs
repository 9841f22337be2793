//! Trees are grown in a process of their own: LightGBM's threads spin while they wait, and whatever it does to its memory it
//! does to its own. [`protocol`] is what is said, [`Worker`] is this side.

mod client;
pub mod protocol;

pub use client::{Worker, WorkerSettings};
