//! What came of looking at data: plain values, to be printed, kept or drawn.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::expect::Severity;

/// What came of all expectations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The dataset.
    pub dataset: String,
    /// The version that was looked at; `None` for rows that were about to be added.
    pub version: Option<u64>,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// Rows that were looked at.
    pub rows: u64,
    /// Whether every expectation of severity `error` passed.
    pub passed: bool,
    /// One each, in the order they were written.
    pub outcomes: Vec<Outcome>,
}

/// What came of one expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The kind of check: `range`, `unique`, …
    pub check: String,
    /// What a failure means.
    pub severity: Severity,
    /// Whether the data is as expected.
    pub passed: bool,
    /// What was expected, in words.
    pub expected: String,
    /// What was found: a number of the check's own kind, or an object of them.
    pub observed: Value,
    /// Rows that break it, for checks of rows.
    pub rows_failed: Option<u64>,
    /// Some of them, of the columns concerned.
    pub examples: Vec<Map<String, Value>>,
    /// Why it could not be looked at: a column that is not there, an expression that fails. It has not passed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Report {
    /// The expectations that did not pass, of that severity.
    pub fn failed(&self, severity: Severity) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |o| !o.passed && o.severity == severity)
    }
}
