//! Makes a decision: every check of a gate over a case, in an order that never changes.

use contract::UnixMillis;

use super::case::Case;
use super::checks::{facts, figures, parts};
use super::config::GateConfig;
use super::decision::{Check, Decision, Verdict};
use super::seal;
use crate::evaluate::{Choices, Error, Measure, Metric, Resampling, Rows};

/// A gate at work on a case.
pub(super) struct At<'a> {
    pub(super) gate: &'a GateConfig,
    pub(super) case: &'a Case<'a>,
}

impl At<'_> {
    pub(super) fn choices(&self) -> Choices {
        Choices {
            threshold: self.gate.threshold,
            false_positive: self.gate.cost.false_positive,
            false_negative: self.gate.cost.false_negative,
            bins: 10,
        }
    }

    pub(super) fn resampling(&self) -> Resampling {
        let confidence = self.gate.fairness.as_ref().map_or(0.95, |f| f.confidence);
        Resampling { replicates: self.gate.replicates, confidence, seed: self.gate.seed }
    }

    pub(super) fn measure<'r>(&self, metric: Metric, rows: &'r Rows) -> Result<Measure<'r>, Error> {
        Measure::new(metric, rows, self.choices())
    }

    /// The champion, when it was asked the same as the challenger: what was asked something else cannot be compared.
    pub(super) fn comparable(&self) -> Option<&super::case::Contender<'_>> {
        self.case.champion.as_ref().filter(|c| c.rows.asked() == self.case.challenger.rows.asked())
    }
}

/// Decides.
///
/// # Errors
/// The gate names a column that the holdout does not have, or a metric that predictions of this kind do not have: it was not written
/// for such a model, and says nothing of it.
pub fn decide(gate: &GateConfig, case: &Case<'_>, now: UnixMillis) -> Result<Decision, Error> {
    let at = At { gate, case };
    let mut checks = vec![facts::holdout(&at)];
    checks.push(figures::primary(&at)?);
    checks.extend(figures::floors(&at)?);
    checks.extend(figures::calibration(&at)?);
    checks.extend(parts::slices(&at)?);
    checks.extend(parts::fairness(&at)?);
    checks.extend(facts::latency(&at));
    checks.extend(facts::size(&at));
    checks.extend(facts::regression_set(&at));
    checks.extend(facts::signature(&at));
    checks.extend(facts::lineage(&at));
    let approved = facts::approval(&at);
    let verdict = match (checks.iter().all(|c| c.passed), approved.as_ref().is_none_or(|c| c.passed)) {
        (false, _) => Verdict::Refused,
        (true, true) => Verdict::Accepted,
        (true, false) => Verdict::WaitsForApproval,
    };
    checks.extend(approved);
    Ok(Decision {
        schema: "forebay.decision/1".to_owned(),
        model: case.model.clone(),
        challenger: case.challenger.id.clone(),
        champion: case.champion.as_ref().map(|c| c.id.clone()),
        holdout: case.holdout.clone(),
        asked: case.challenger.rows.asked(),
        gate: seal::hash(gate),
        verdict,
        checks,
        approvals: case.approvals.clone(),
        seed: gate.seed,
        at: now,
    })
}

/// A number as people read it: four digits behind the point, without zeros at the end.
pub(super) fn said(x: f64) -> String {
    let text = format!("{x:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// A check of a figure that is not defined: no evidence is not success.
pub(super) fn undefined(name: String, what: &str) -> Check {
    Check::new(name, false, format!("{what} is not defined for these rows, so nothing is shown"))
}
