//! The endpoints of a model as one: which is asked, which rests, and how often anything is tried again.
//!
//! - [`health`]: how one endpoint is doing; [`pick`]: the choice between several; [`retries`]: who may try again.
//! - What decides is pure and lives in `admission`; here it is kept behind locks and fed with what happened.

pub(crate) mod health;
pub(crate) mod pick;
pub(crate) mod retries;

pub use health::{EndpointState, Health};
pub use retries::Retries;
