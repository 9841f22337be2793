//! Durable runs: work that outlives the process that took it. A job is a run of one stage; graphs, schedules and triggers
//! are runs of more. There is one scheduler, this one.
//!
//! A run is a *journal* of [`Entry`]s: commands (what was asked: submit, cancel) and facts (what came of it: leased, done,
//! failed, lost). [`Run`] is what a journal says, and nothing else: [`Run::replay`] of a journal, or of any beginning of it,
//! is the run as it was then. [`Run::step`] decides: it takes what happened, and gives what is to be recorded and done.
//! It knows no clock, no storage and no task; [`Scheduler`] does, and does nothing before the entries are on disk.
//!
//! ```text
//! stage   blocked ── what it waits for is done ──▶ ready ── taken ──▶ leased ── done ──▶ done
//!                                                    ▲                  │
//!                                                    ├─ returned ───────┤  the server stops; not counted
//!                                                    ├─ postponed ──────┤  no room now; not counted
//!                                                    ├─ failed, again ──┤  counted against `attempts`
//!                                                    ├─ lost, again ────┤  the worker died, crashed or fell silent; against `losses`
//!                                                    │                  └─ failed for good ──▶ failed
//! run     queued ⇄ running (something is leased) ──▶ succeeded | failed | cancelled, once, for ever
//! ```
//!
//! Invariants: a run ends exactly once, and nothing is recorded behind its end; an attempt is recorded before it starts, so
//! attempts are at-least-once; a stage's output is taken once, under a key made of the run, the stage and its input, from
//! whichever attempt is first, so its effect is exactly-once. Nothing here assumes that a run has one stage.

mod active;
mod asked;
mod attempt;
mod counts;
mod entry;
mod line;
mod links;
mod outbox;
mod retry;
mod run;
mod scheduler;
mod state;
mod step;
mod take;
mod turns;
mod upkeep;
mod work;

pub use counts::Counts;
pub use entry::{Contract, Entry, Lane, Plan, Retry, StagePlan};
pub use outbox::{Deliver, Delivered, Message, Outbox, Signed, next_delivery, signed_with};
pub(crate) use retry::{Tried, Verdict, decide};
pub use run::Run;
pub(crate) use scheduler::unavailable;
pub use scheduler::{Adopt, Scheduler, SchedulerSettings, Submission};
pub use state::{Action, Held, Here, Input, Made, Phase, Report, StageState, Status};
pub use work::{ByKind, Execute, Finished, Given, Task};
