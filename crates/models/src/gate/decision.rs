//! A decision: every check with what was found, what was asked and a sentence; and the verdict, which is all of them.
//!
//! Invariants: a decision is accepted only when every check passed; it never changes (a later approval makes another one); the same
//! case under the same gate gives the same decision, the time of it apart.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::case::{Approved, Holdout};
use super::checks::facts::agreement;

/// The check of people's word.
pub(super) const APPROVAL: &str = "approval";

/// Whether a model may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Accepted,
    /// It may not.
    Refused,
    /// Nothing is missing but people's word.
    WaitsForApproval,
}

/// A decision record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The form of this record: `forebay.decision/1`.
    pub schema: String,
    /// Under which name the models answer.
    pub model: String,
    /// Who wants to answer.
    pub challenger: String,
    /// Who answers now.
    pub champion: Option<String>,
    /// The rows they were asked.
    pub holdout: Holdout,
    /// The hash of what was asked.
    pub asked: String,
    /// The hash of the gate, in canonical form.
    pub gate: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, each check by itself.
    pub checks: Vec<Check>,
    /// Who agreed.
    pub approvals: Vec<Approved>,
    /// Where the randomness came from.
    pub seed: u64,
    /// When it was decided.
    pub at: UnixMillis,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `primary`, `calibration.ece`, `fairness.region.dp_difference`, …
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// What was found, where it is a number.
    pub value: Option<f64>,
    /// What was asked, where it is a number.
    pub limit: Option<f64>,
    /// What the sentence is made from.
    pub evidence: Map<String, Value>,
    /// For people.
    pub sentence: String,
}

impl Check {
    /// A check that held or not.
    pub(super) fn new(name: impl Into<String>, passed: bool, sentence: impl Into<String>) -> Check {
        let (name, sentence) = (name.into(), sentence.into());
        Check { name, passed, value: None, limit: None, evidence: Map::new(), sentence }
    }

    /// The same with what was found and what was asked.
    pub(super) fn of(mut self, value: impl Into<Option<f64>>, limit: impl Into<Option<f64>>) -> Check {
        (self.value, self.limit) = (value.into(), limit.into());
        self
    }

    /// The same with evidence: numbers that are not finite are left out, since JSON has none.
    pub(super) fn with(mut self, name: &str, evidence: impl Into<Value>) -> Check {
        self.evidence.insert(name.to_owned(), evidence.into());
        self
    }
}

impl Decision {
    /// The checks that did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed)
    }

    /// The decision with somebody's word more: another record, which may be accepted where this one waited. Who said it before is not
    /// counted twice; what was refused stays so.
    #[must_use]
    pub fn agreed(&self, approved: Approved, now: UnixMillis) -> Decision {
        let mut next = self.clone();
        next.approvals.push(approved);
        next.at = now;
        for check in next.checks.iter_mut().filter(|check| check.name == APPROVAL) {
            let roles = check.evidence.get("roles").and_then(Value::as_array);
            let roles: Vec<String> =
                roles.into_iter().flatten().filter_map(|r| r.as_str().map(str::to_owned)).collect();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of people")]
            let wanted = check.limit.unwrap_or(1.0) as u64;
            *check = agreement(&next.approvals, wanted, &roles);
        }
        if next.verdict == Verdict::WaitsForApproval && next.checks.iter().all(|check| check.passed) {
            next.verdict = Verdict::Accepted;
        }
        next
    }

    /// The decision in a sentence.
    pub fn sentence(&self) -> String {
        let against = self.champion.as_ref().map_or_else(
            || "there being no champion yet".to_owned(),
            |champion| format!("against `{champion}`"),
        );
        let reasons = || self.failed().map(|c| c.sentence.as_str()).collect::<Vec<_>>().join("; ");
        match self.verdict {
            Verdict::Accepted => {
                format!(
                    "`{}` may answer as `{}`, {against}: all {} checks held",
                    self.challenger,
                    self.model,
                    self.checks.len()
                )
            }
            Verdict::Refused => {
                format!("`{}` may not answer as `{}`, {against}: {}", self.challenger, self.model, reasons())
            }
            Verdict::WaitsForApproval => format!(
                "`{}` may answer as `{}`, {against}, when people agree: {}",
                self.challenger,
                self.model,
                reasons()
            ),
        }
    }
}
