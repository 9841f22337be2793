//! Pipelines run by durable runs: the same graph, stages and contracts as a live one, each stage an attempt of the
//! [scheduler](crate::runs).
//!
//! A [`Definition`] is a checked pipeline. Asked for a run of it, [`Durable`] fills in what the run is given (`{{ params.x }}`,
//! a partition, the values of a matrix), hashes the files that the stages read, and makes a plan that holds all of that: a
//! run goes on as it was planned, whatever the configuration says meanwhile. A stage's attempt builds the stage of its plan,
//! gives it the outputs of the stages that it needs, and keeps its value. Where the kind allows it, a value is taken from an
//! earlier run that had made it of the same ([`content`]); why one was made again is noted in the journal.
//!
//! Invariants: nothing of a plan is looked up again while the run goes on but the kinds of stages; what leaves the run is made
//! under the key of its effect; what a stage prints is bounded.

mod collected;
mod content;
mod definition;
mod each;
mod elements;
mod execute;
mod fill;
mod folders;
mod host;
mod kept;
mod log;
mod made;
mod named;
mod news;
mod plan;
mod stage;
mod start;
mod upkeep;

pub(crate) use collected::COLUMNS;
pub use definition::{Asked, Definition, Definitions, Partition};
pub(crate) use host::Inner;
pub use host::{Durable, Ended, KIND, Means};
pub use kept::Kept;
pub use log::read as read_log;
pub use named::{Keeper, Named};
