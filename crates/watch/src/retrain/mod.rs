//! Whether a model is trained again, and why not.
//!
//! ```text
//! idle ── a reason ──▶ wanted ── quiet, and nothing holds it ──▶ running ── promoted, rejected, failed ──▶ idle (rests)
//!                        ▲  └── this data and code are trained already: dropped        │
//!                        └──────────── reasons that came meanwhile ───────────────────┤
//!                                     stopped ◀── the k-th in a row was of no use ─────┘   until a person resumes
//! ```
//!
//! Reasons that come together are one run; those that come while it runs are the next. What holds it (a failed
//! validation, a rollout, the rest after the last run, the day's budget) holds it back and loses nothing. A person who
//! asks waits for no quiet, no rest and no budget, and ends a stop; a failed validation, a rollout and a run under way
//! hold people too.
//!
//! Pure: it is told reasons, what the world is like and the time, and gives back what to do; serialised it survives a
//! restart. A run's key is the same when it is decided again, so that a host which starts each key once starts no run
//! twice. Invariants: at most one run at a time; a model, data and code that were trained are never trained again; over
//! any day at most `per_day` runs that no person asked for; drift alone never promotes.

mod decide;
mod settings;

pub use decide::{Action, Ended, Hold, Inputs, Retraining, Start, Status};
pub use settings::{Reason, RetrainSettings};
