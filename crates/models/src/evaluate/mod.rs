//! What a model is worth: figures of its predictions against what was true, in total, by slice and by group.
//!
//! ```text
//! columns ─▶ Rows (one length, finite) ─▶ evaluate(EvaluateConfig) ─▶ Evaluation ─▶ gate, card
//!                                            └─ Measure: one metric, ready for many weightings (bootstrap)
//!                                                 └─ metrics::*: the bare formulas
//! ```
//!
//! Pure: no I/O, no clock; randomness comes from a seed that is kept in the record. Never decides whether a model may answer
//! ([`crate::gate`] does), never predicts.

mod config;
mod error;
mod evaluation;
pub mod fairness;
mod measure;
mod metric;
pub mod metrics;
mod points;
pub(crate) mod resample;
mod rows;

pub use config::{CostConfig, EvaluateConfig};
pub use error::Error;
pub use evaluation::{Evaluation, Kept, Part, Slice, evaluate, kept};
pub use fairness::Fairness;
pub use measure::{Choices, Measure};
pub use metric::Metric;
pub use points::thinned;
pub use resample::{Interval, Resampling};
pub use rows::{Key, Rows, Truth};
