//! How right a model is: once the truth is known, by slices and in windows of prediction time, and an estimate until
//! then.
//!
//! A number comes with an interval or not at all to an alarm: [`Interval`] says how it was made. Labels come late: a
//! window whose labels are not in is never compared with one whose are ([`Windows`]); until then [`estimate`] says what
//! is likely, marked as an estimate, and is held to what came true later ([`back_test`]).

mod binary;
mod cbpe;
mod fairness;
mod interval;
mod isotonic;
mod ranking;
mod regression;
mod slice;
mod window;

pub use binary::{BinaryData, BinaryMetric, Confusion, Measure};
pub use cbpe::{
    BackTest, Estimated, EstimatedMetric, MulticlassEstimated, back_test, estimate, estimate_classes,
};
pub use fairness::{Fairness, FairnessLimits, Group, fairness};
pub use interval::{Interval, IntervalMethod, bootstrap, delong, normal_mean, wilson};
pub use isotonic::Isotonic;
pub use regression::{RegressionData, RegressionMetric};
pub use slice::{SliceKey, SliceLimits, Slices, slices};
pub use window::{Change, MatureValue, Matured, Maturity, WindowSettings, WindowState, Windows, compare};
