//! Webhooks: signed messages to addresses that others name, by the Standard Webhooks specification, version 1, or, about the
//! registry, in MLflow's headers.
//!
//! It sends once and says what came of it: when to try again is the outbox's ([`pipeline::runs::Outbox`]). It follows no
//! redirect, and connects to public addresses only, unless told otherwise. By the same guard [`Caller`] asks the addresses that
//! stages of runs name.

mod call;
mod client;
mod deliver;
mod error;
mod guard;
mod seal;
mod sign;

pub use call::Caller;
pub use deliver::{Settings, Webhooks};
pub use error::Error;
pub use guard::{Guarded, is_public};
pub use seal::Sealing;
pub use sign::Signer;
