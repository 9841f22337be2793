//! Lineage: what was made of what, and how all of that hangs together.
//!
//! ```text
//! a stage ends ── [`Told`] ── fact in the store, in the transaction of the end ──┐
//! `forebay data add` ──────── fact ─────────────────────────────────────────────┼─ [`Walk`] ── graph, upstream and downstream
//! others' OpenLineage events ─ fact ─────────────────────────────────────────────┘
//! ```
//!
//! A fact has ends: things that were read and written, each with the state that it was in. Two facts hang together where one
//! wrote what the other read; nothing else is kept, so that there is nothing that could disagree with the facts. Invariants: a
//! fact is kept once, with the end of its stage or not at all; names are bounded; a walk ends, whatever the facts say.

mod graph;
mod read;
mod send;
mod told;
mod view;
mod walk;
mod write;

pub use crate::code::{Git, git};
pub use graph::{Columns, Direction, Found, Graph, Job, JobId, Link, Node, NodeId, Wanted};
pub use read::{Teller, event};
pub use send::{Emitter, Receivers, Sent};
pub use told::{Told, fact, state_of};
pub use view::graph;
pub use walk::Walk;
pub(crate) use write::{Attempted, State, run_event};
