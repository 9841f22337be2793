//! The formulas, over plain slices: no validation, no configuration, no state.
//!
//! All slices of a call have one length; what lies behind the shortest is not looked at. Weights are finite and not negative, scores
//! are finite: [`crate::evaluate::Rows`] sees to it. `None` means that the figure is not defined for these rows (no positives, no
//! weight at all), never that it is zero. Every formula is that of scikit-learn unless it says otherwise, and is compared with it to
//! 1e-9 [test: metrics_are_those_of_scikit_learn].

pub mod calibration;
pub mod multiclass;
pub mod rank;
pub mod regression;
pub mod threshold;

/// Weights of rows: all one when none are given.
pub type Weights<'a> = Option<&'a [f64]>;

/// The weight of a row.
pub(crate) fn weight(weights: Weights<'_>, row: usize) -> f64 {
    weights.map_or(1.0, |w| w.get(row).copied().unwrap_or_default())
}

/// `a / b`, when there is any `b`.
pub(crate) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

/// The weighted mean of values.
pub fn mean(values: impl Iterator<Item = f64>, weights: Weights<'_>) -> Option<f64> {
    let (mut sum, mut all) = (0.0, 0.0);
    for (row, value) in values.enumerate() {
        let w = weight(weights, row);
        // A row without weight says nothing, whatever its value.
        if w > 0.0 {
            sum += w * value;
            all += w;
        }
    }
    ratio(sum, all)
}
