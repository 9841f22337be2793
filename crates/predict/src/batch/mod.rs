//! Many requests, one run: what waits when a worker is free is run together, and each caller gets the rows of its own.
//!
//! ```text
//! submit ─ idle and quick ─→ run on the caller's thread ──────────────┐
//!    └────→ queue ── worker free ──→ taken (alike, up to max rows) ──→ run ──→ parted ──→ answered
//!             │  └─ deadline passed → Deadline                          └─ failed → each alone
//!             ├─ full → Full
//!             └─ caller gone → removed, its place is free
//! ```
//!
//! Nobody waits for company when a model is idle. When it is not, a worker that is free may wait for the next request as long
//! as its gap, by measure, costs those that wait less than a run of its own would ([`pace`]), and never longer than the
//! settings' delay. Invariants: an answer's rows are those of its request; an error is that of its request alone; what waits
//! is bounded in requests and in rows.

mod batcher;
mod counts;
mod job;
pub mod pace;
pub mod probe;
pub mod queue;
mod worker;

pub use batcher::{Batcher, Settings};
pub use counts::{Counts, OfSize};
pub use job::Done;
