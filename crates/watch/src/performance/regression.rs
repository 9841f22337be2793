//! A model of a number against what was true.

use serde::{Deserialize, Serialize};

use super::binary::Measure;
use super::interval;
use crate::Error;
use crate::error::same_length;

/// What was said, and what was true.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegressionData {
    said: Vec<f64>,
    truth: Vec<f64>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegressionMetric {
    /// Mean absolute error, in the units of the target.
    Mae,
    /// Root of the mean squared error.
    Rmse,
    /// The share of the variance that is explained; below zero when the mean would be better.
    R2,
}

impl RegressionData {
    /// Pairs predictions with what was true.
    ///
    /// # Errors
    /// When they are not of one length, or one is not finite.
    pub fn new(said: Vec<f64>, truth: Vec<f64>) -> Result<Self, Error> {
        same_length("predictions and labels", said.len(), truth.len())?;
        match said.iter().chain(&truth).find(|v| !v.is_finite()) {
            Some(&value) => {
                Err(Error::Value { what: "a prediction or label", value, why: "it is not finite" })
            }
            None => Ok(RegressionData { said, truth }),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Rows by their numbers, once for each time they are named.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> RegressionData {
        let picked = rows.iter().filter_map(|&r| Some((*self.said.get(r)?, *self.truth.get(r)?)));
        let (said, truth) = picked.unzip();
        RegressionData { said, truth }
    }

    fn errors(&self) -> impl Iterator<Item = f64> {
        self.said.iter().zip(&self.truth).map(|(said, truth)| said - truth)
    }

    /// The value of a metric; none without rows, and of R² when the truth does not vary.
    pub fn value(&self, metric: RegressionMetric) -> Option<f64> {
        if self.is_empty() {
            return None;
        }
        let n = self.len() as f64;
        let squares = || self.errors().map(|e| e * e).sum::<f64>();
        match metric {
            RegressionMetric::Mae => Some(self.errors().map(f64::abs).sum::<f64>() / n),
            RegressionMetric::Rmse => Some((squares() / n).sqrt()),
            RegressionMetric::R2 => {
                let mean = self.truth.iter().sum::<f64>() / n;
                let spread: f64 = self.truth.iter().map(|t| (t - mean) * (t - mean)).sum();
                (spread > 0.0).then(|| 1.0 - squares() / spread)
            }
        }
    }

    /// The value with an interval of probability `level`: by formula for the mean absolute error, by 500 resamples from
    /// `seed` for the others.
    pub fn measure(&self, metric: RegressionMetric, level: f64, seed: u64) -> Option<Measure> {
        let value = self.value(metric)?;
        let interval = match metric {
            RegressionMetric::Mae => {
                interval::normal_mean(&self.errors().map(f64::abs).collect::<Vec<f64>>(), level)
            }
            RegressionMetric::Rmse | RegressionMetric::R2 => {
                interval::bootstrap(self.len(), 500, level, seed, |rows| self.select(rows).value(metric))
            }
        };
        Some(Measure { value, interval })
    }
}
