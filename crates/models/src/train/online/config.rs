//! What a person writes of online learning.

use pipeline::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::config::Task;

/// Learns row by row, as rows come: logistic regression of two classes (0 and 1), or linear regression.
///
/// Each row is first predicted and then learnt from, so that the figures are of rows that were not seen (prequential evaluation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlineConfig {
    /// The column that is to be predicted.
    pub target: String,
    /// Classification tells 1 from 0, regression gives a number.
    pub task: Task,
    /// How each row moves the coefficients.
    #[serde(default)]
    pub learner: Learner,
    /// Where the coefficients of words are kept.
    #[serde(default)]
    pub words: Words,
    /// Standardises numbers by the mean and the deviation of the rows so far.
    #[serde(default = "yes")]
    pub standardise: bool,
    /// Rows that the recent figures are of.
    #[serde(default = "window")]
    pub window: usize,
}

fn yes() -> bool {
    true
}

fn window() -> usize {
    1_000
}

/// How a row moves the coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Learner {
    /// Stochastic gradient descent at a steady rate.
    Sgd {
        /// How far each row moves them.
        rate: f64,
        /// L2 regularisation of those that the row touches.
        #[serde(default)]
        l2: f64,
    },
    /// FTRL-Proximal (McMahan et al., 2013): a rate for each coefficient, and exact zeros.
    Ftrl {
        /// The rate at the beginning.
        alpha: f64,
        /// How long it stays.
        beta: f64,
        /// L1 regularisation.
        l1: f64,
        /// L2 regularisation.
        l2: f64,
    },
}

impl Default for Learner {
    fn default() -> Self {
        Learner::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.0, l2: 1.0 }
    }
}

/// Where the coefficients of words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Words {
    /// Each word has its own; words that come when there are so many in their column count as unseen.
    Dictionary {
        /// The most words of a column.
        most: u32,
    },
    /// Words share `2^bits` of them for each column, by their hash. The file asks for ONNX Runtime, which has the hash.
    Hashed {
        /// 1 to 24.
        bits: u8,
    },
}

impl Default for Words {
    fn default() -> Self {
        Words::Dictionary { most: 100_000 }
    }
}

/// Everything that is wrong with a configuration.
pub fn problems(config: &OnlineConfig) -> Vec<Problem> {
    let positive = |x: f64| x > 0.0 && x.is_finite();
    let weight = |x: f64| (0.0..=1e9).contains(&x);
    let learner = match config.learner {
        Learner::Sgd { rate, l2 } => positive(rate) && weight(l2),
        Learner::Ftrl { alpha, beta, l1, l2 } => positive(alpha) && weight(beta) && weight(l1) && weight(l2),
    };
    let words = match config.words {
        Words::Dictionary { most } => most > 0,
        Words::Hashed { bits } => (1..=24).contains(&bits),
    };
    let rules = [
        (
            learner,
            "/learner",
            "rates lie above 0, regularisation is not negative",
            "leave it out for the usual",
        ),
        (
            words,
            "/words",
            "there is room for a word at least, and for 2^24 at most",
            "write `dictionary: {most: 100000}`",
        ),
        (
            (1..=1_000_000).contains(&config.window),
            "/window",
            "it has between 1 and 1000000 rows",
            "write 1000",
        ),
    ];
    let problem = |(_, pointer, message, remedy): (bool, &str, &str, &str)| Problem {
        pointer: pointer.to_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    };
    rules.into_iter().filter(|(fine, ..)| !fine).map(problem).collect()
}
