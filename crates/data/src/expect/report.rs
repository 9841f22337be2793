//! What came of looking at data: plain values, to be printed, kept or drawn.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::expect::shape::ColumnSeen;
use crate::expect::{Severity, page};

/// What a report is called that is written as this one is. Fields are added under the same name; one that changes its meaning or goes
/// gets the next.
pub(crate) const SCHEMA: &str = "forebay.expectations/1";
/// What stands for a value that is not to be shown.
const REDACTED: &str = "•••";

/// What came of all expectations. As JSON it is a stable format: docs/reference/expectations.md says what each field means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The format, `forebay.expectations/1`.
    pub schema: String,
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
    /// What the columns concerned look like.
    #[serde(default)]
    pub columns: Vec<ColumnSeen>,
    /// How many rows versions had, up to this one, the oldest first; empty for rows that were about to be added.
    #[serde(default)]
    pub history: Vec<Counted>,
}

/// How many rows a version had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The version.
    pub version: u64,
    /// Its rows.
    pub rows: u64,
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
    /// The columns it is about, as far as they are there.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Rows that break it, for checks of rows.
    pub rows_failed: Option<u64>,
    /// Their share of the rows that were looked at, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
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

    /// Takes the values of these columns out: of examples, of the bins of distributions, and of what columns look like. Counts stay.
    /// What the expectations themselves say stays too.
    pub fn redact(&mut self, columns: &[String]) {
        let hidden = |name: &String| columns.contains(name);
        for outcome in &mut self.outcomes {
            for example in &mut outcome.examples {
                for (_, value) in example.iter_mut().filter(|(name, value)| hidden(name) && !value.is_null())
                {
                    *value = REDACTED.into();
                }
            }
            if outcome.columns.iter().any(hidden) {
                let bins = outcome.observed.get_mut("bins").and_then(Value::as_array_mut);
                for (at, bin) in bins.into_iter().flatten().enumerate() {
                    if let Some(label) = bin.get_mut("bin") {
                        *label = format!("bin {}", at + 1).into();
                    }
                }
                // What the engine says of an expression may quote a value.
                if let Some(problem) = outcome.problem.as_mut().filter(|_| outcome.check == "sql") {
                    *problem = "the condition could not be worked out; its words are redacted".to_owned();
                }
            }
        }
        for column in self.columns.iter_mut().filter(|c| hidden(&c.name)) {
            column.values = None;
        }
    }

    /// The report as one page that needs nothing else: no script, no font, no address of anybody.
    pub fn html(&self) -> String {
        page::of(self)
    }
}
