//! Whether a model is not worse than another on the same rows, by more than a margin: the paired tests of a gate.
//!
//! Every test answers one question in one form: the gain of the challenger over the champion (positive is better, whatever the metric's
//! direction), the lower end of its one-sided interval, and the p-value of "it is worse by the margin or more". Non-inferior is when
//! the lower end is not below −margin. A margin of zero asks for a model that is shown not to be worse at all.
//!
//! | test | for | source |
//! |---|---|---|
//! | `delong` | `auc`, equal weights | DeLong, DeLong, Clarke-Pearson 1988; computed as Sun, Xu 2014 |
//! | `mcnemar` | `accuracy`, equal weights | Tango 1998: the score test of a difference of paired shares; at margin 0 it is McNemar's |
//! | `paired_t` | `log_loss`, `brier`, `mae`, equal weights | Student's t of the rows' differences |
//! | `bootstrap` | everything | rows drawn in pairs with replacement, percentiles |
//!
//! All take rows as independent of each other. Where they are not (many rows of one customer), intervals are too narrow and the margin
//! has to allow for it.

mod bootstrap;
mod delong;
mod mcnemar;
mod t;

use serde::{Deserialize, Serialize};

pub use bootstrap::bootstrap;
pub use delong::{Delong, delong};
pub use mcnemar::{mcnemar, tango, tango_bound};
pub use t::paired_t;

use crate::evaluate::{Measure, Metric, Resampling, Truth};

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The one that is made for the metric, and `bootstrap` where there is none.
    #[default]
    Auto,
    /// DeLong's, of areas under the ROC curve.
    Delong,
    /// Tango's score test, of shares that are right; McNemar's at a margin of zero.
    Mcnemar,
    /// Student's, of mean losses.
    PairedT,
    /// The bootstrap, of anything.
    Bootstrap,
}

impl Test {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Test::Auto => "auto",
            Test::Delong => "DeLong's test",
            Test::Mcnemar => "Tango's score test",
            Test::PairedT => "paired t-test",
            Test::Bootstrap => "paired bootstrap",
        }
    }
}

/// What a paired test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Which test was made.
    pub test: Test,
    /// The challenger's figure.
    pub challenger: f64,
    /// The champion's figure.
    pub champion: f64,
    /// How much better the challenger is.
    pub gain: f64,
    /// The lower end of the one-sided interval of the gain, at the level of the test.
    pub low: f64,
    /// The p-value of "worse by the margin or more".
    pub p: f64,
    /// The margin.
    pub margin: f64,
    /// The level.
    pub alpha: f64,
}

impl Paired {
    /// Whether the challenger is shown not to be worse by the margin.
    pub fn non_inferior(&self) -> bool {
        self.low >= -self.margin
    }
}

/// A gain that is thought to be normal, with its standard error. `se` of zero is certainty.
fn normal(gain: f64, se: f64, margin: f64, alpha: f64) -> (f64, f64) {
    if se > 0.0 {
        (gain - normal_quantile(1.0 - alpha) * se, normal_above((gain + margin) / se))
    } else {
        (gain, if gain >= -margin { 0.0 } else { 1.0 })
    }
}

/// The chance that a standard normal lies above `z`.
pub(crate) fn normal_above(z: f64) -> f64 {
    statrs::function::erf::erfc(z / std::f64::consts::SQRT_2) / 2.0
}

/// The quantile of the standard normal.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * p)
}

/// The metric with the two models' rows made ready for it.
#[derive(Debug)]
pub struct Pair<'a> {
    /// Which metric.
    pub metric: Metric,
    /// The challenger's.
    pub challenger: Measure<'a>,
    /// The champion's, of the same rows in the same order.
    pub champion: Measure<'a>,
}

/// Compares two models. `None` when the metric is not defined for these rows, or the test is not one of this metric.
pub fn compare(pair: &Pair<'_>, wanted: Test, (margin, alpha): (f64, f64), r: Resampling) -> Option<Paired> {
    let (challenger, champion) = (pair.challenger.value()?, pair.champion.value()?);
    let plain = pair.challenger.rows().weights().is_none();
    let done = |test, gain: f64, (low, p)| Paired { test, challenger, champion, gain, low, p, margin, alpha };
    let test = match (wanted, pair.metric) {
        (Test::Auto, Metric::Auc) if plain => Test::Delong,
        (Test::Auto, Metric::Accuracy | Metric::MicroF1) if plain => Test::Mcnemar,
        (Test::Auto, Metric::LogLoss | Metric::Brier | Metric::Mae)
            if plain && pair.challenger.losses().is_some() =>
        {
            Test::PairedT
        }
        (Test::Auto, _) => Test::Bootstrap,
        // These know no weights.
        (Test::Delong | Test::Mcnemar | Test::PairedT, _) if !plain => return None,
        (test, _) => test,
    };
    match test {
        Test::Delong if pair.metric == Metric::Auc => {
            let (Truth::Binary { labels, scores: a }, Truth::Binary { scores: b, .. }) =
                (pair.challenger.rows().truth(), pair.champion.rows().truth())
            else {
                return None;
            };
            let found = delong(labels, a, b)?;
            Some(done(test, found.gain(), normal(found.gain(), found.se, margin, alpha)))
        }
        Test::Mcnemar => {
            let (a, b) = (pair.challenger.right()?, pair.champion.right()?);
            let count =
                |x: bool, y: bool| a.iter().zip(&b).filter(|(a, b)| (**a, **b) == (x, y)).count() as f64;
            let (n, gained, lost) = (a.len() as f64, count(true, false), count(false, true));
            let p = normal_above(tango(n, gained, lost, -margin));
            Some(done(test, (gained - lost) / n, (tango_bound(n, gained, lost, alpha), p)))
        }
        Test::PairedT => {
            // A gain is a loss that is spared.
            let (a, b) = (pair.challenger.losses()?, pair.champion.losses()?);
            let gains: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
            let (gain, low, p) = paired_t(&gains, margin, alpha)?;
            Some(done(test, gain, (low, p)))
        }
        Test::Bootstrap => {
            let gain = pair.metric.gain(challenger, champion);
            bootstrap(pair, margin, alpha, r).map(|found| done(test, gain, found))
        }
        Test::Auto | Test::Delong => None,
    }
}
