//! Figures of a number that was predicted.

use super::{Weights, mean, ratio};

/// The mean absolute error.
pub fn mae(truth: &[f64], predicted: &[f64], weights: Weights<'_>) -> Option<f64> {
    mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).abs()), weights)
}

/// The root of the mean squared error.
pub fn rmse(truth: &[f64], predicted: &[f64], weights: Weights<'_>) -> Option<f64> {
    mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)), weights).map(f64::sqrt)
}

/// The share of the variance that is explained. Undefined where the truth does not vary.
pub fn r2(truth: &[f64], predicted: &[f64], weights: Weights<'_>) -> Option<f64> {
    let center = mean(truth.iter().copied(), weights)?;
    let spread = mean(truth.iter().map(|y| (y - center).powi(2)), weights)?;
    let error = mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)), weights)?;
    ratio(error, spread).map(|unexplained| 1.0 - unexplained)
}

/// The mean absolute error as a share of the truth, which is held off zero by the machine's epsilon.
pub fn mape(truth: &[f64], predicted: &[f64], weights: Weights<'_>) -> Option<f64> {
    mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).abs() / y.abs().max(f64::EPSILON)), weights)
}
