//! Golden values of SciPy, scikit-learn, fairlearn, NannyML and river; properties; simulations.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own world: what is not there is a failure"
)]

mod alarm;
mod alert;
mod alert_properties;
mod drift;
mod monitor;
mod performance;
mod report;
mod retrain;
mod sketch;
mod stream;
mod support;
