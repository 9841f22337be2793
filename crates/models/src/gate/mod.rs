//! Whether a model may answer: champion against challenger on one frozen holdout that lies behind what both learned from.
//!
//! ```text
//! gates/NAME.yaml ─▶ GateConfig ┐
//! Case { two models' rows,      ├─▶ decide ─▶ Decision { checks, verdict } ─▶ Sealed (canonical, hashed, signed)
//!   measured, lineage, people } ┘
//! ```
//!
//! Pure: no I/O, the time is given, randomness comes from the gate's seed. All checks must hold; what was asked for and cannot be looked
//! at does not hold. Aliases are moved by whoever keeps them, and only with an accepted decision.

mod case;
mod checks;
mod config;
mod decide;
mod decision;
mod file;
mod lineage;
pub mod paired;
pub mod seal;

pub use case::{Approved, Case, Contender, Holdout, Measured};
pub use config::{
    Approval, Calibration, FairnessRule, First, GateConfig, HoldoutRule, Judge, Latency, Primary,
    RegressionSet, SignatureRule, SizeRule, Slices,
};
pub use decide::decide;
pub use decision::{Check, Decision, Verdict};
pub use file::{json_schema, parse};
pub use lineage::{Field, Lineage, ModelSignature};
