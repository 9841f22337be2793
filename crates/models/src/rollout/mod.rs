//! How a version comes to answer: unheard, then some, then everybody; and how it is taken back.
//!
//! ```text
//! shadow ─▶ (approval) ─▶ ready ─▶ canary 5 % ─▶ 25 % ─▶ (approval) ─▶ 100 % ─▶ promoted
//!    │                    in line     │            │                      │
//!    └── held ◀─ the time is over ────┴────────────┴──────────────────────┤   extended, overridden or rolled back by people
//!                                                                         ▼
//!         guardrail broken · metric inferior · ratio off · somebody says so: rolled back, invalid, killed, rejected
//! ```
//!
//! Several variants side by side, for as long as it takes to know which is best, are an [`Experiment`].
//!
//! One machine for models, prompts, pipelines and the choice of chat models. It is a pure function of what it is told: no clock, no
//! randomness, no I/O; the caller keeps the state in one transaction with what it does, and goes on from it after a restart.
//!
//! Invariants [test: whatever_happens_the_machine_keeps_its_promises]:
//! - nothing is promoted that has not seen the minimum samples in every step, and has not been proven or moved on by a person;
//! - after an end nothing changes and nothing is to be done; every end but promotion is one action that gives everybody the champion;
//! - what is held goes on only by a person's word, and can still be ended by what is seen;
//! - the share of the canary never falls before the end, and the control gets as much as there is for it;
//! - equal inputs give an equal state, whether it was kept as text in between or not.

mod assign;
mod config;
mod experiment;
mod judge;
mod machine;
mod moments;
mod releases;
mod report;
mod seen;
pub mod sequential;
mod state;

pub use assign::{Arm, Split, place};
pub use config::{Better, Guardrails, Kind, MetricRule, Point, Problem, RolloutConfig, Settings, Step};
pub use experiment::{
    Experiment, ExperimentConfig, ExperimentPhase, Finding, Variant, VariantBatch, VariantReport,
};
pub use moments::Moments;
pub use releases::{BeginError, Releases, Route, Todo};
pub use report::{GuardReport, MetricReport, Report, Standing};
pub use seen::{ArmBatch, Batch, ShadowBatch};
pub use state::{Action, End, Event, Hold, Input, Phase, Rollout, Subject, SubjectKind};
