//! Checks of facts: the holdout, what was measured, what is taken and given, what it was made of, who agreed.

use std::collections::BTreeSet;

use serde_json::json;

use crate::gate::case::Approved;
use crate::gate::config::SignatureRule;
use crate::gate::decide::{At, said};
use crate::gate::decision::{APPROVAL, Check};

/// Both models on the same rows, enough of them, and behind what the models learned from.
pub(in crate::gate) fn holdout(at: &At<'_>) -> Check {
    let (case, rule) = (at.case, at.gate.holdout);
    let rows = case.challenger.rows.len() as u64;
    let mut problems = Vec::new();
    if case.champion.is_some() && at.comparable().is_none() {
        problems.push("the two models were not asked the same rows".to_owned());
    }
    if rows < rule.rows {
        problems.push(format!("it has {rows} rows, and is to have {}", rule.rows));
    }
    if rule.time_ordered {
        match case.holdout.from {
            None => problems.push(
                "its rows have no time, so it cannot be shown to lie behind the training data".to_owned(),
            ),
            Some(from) => {
                let contenders =
                    [("challenger", Some(&case.challenger)), ("champion", case.champion.as_ref())];
                for (who, contender) in contenders {
                    let Some(contender) = contender else { continue };
                    match contender.trained_until {
                        Some(until) if until >= from => {
                            problems.push(format!("the {who} learned from rows that are as late as it"));
                        }
                        None if who == "challenger" => {
                            problems.push("nobody says up to when the challenger learned".to_owned());
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let passed = problems.is_empty();
    let named = format!("`{}`@{}", case.holdout.dataset, case.holdout.version);
    let sentence = if passed {
        let behind = if rule.time_ordered { ", all behind the training data" } else { "" };
        format!("the holdout {named} has {rows} rows, the same for both{behind}")
    } else {
        format!("the holdout {named} will not do: {}", problems.join("; "))
    };
    Check::new("holdout", passed, sentence)
        .of(rows as f64, rule.rows as f64)
        .with("from", json!(case.holdout.from))
        .with("until", json!(case.holdout.until))
        .with("trained_until", json!(case.challenger.trained_until))
}

/// A measured quantity against a limit of its own and one that the champion sets.
struct Quantity<'a> {
    name: &'a str,
    words: &'a str,
    unit: &'a str,
    challenger: Option<f64>,
    champion: Option<f64>,
}

impl Quantity<'_> {
    fn against(&self, limit: Option<f64>, times: Option<f64>, first: bool) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut hold = |name: String, limit: Option<f64>, whose: &str| {
            checks.push(match (self.challenger, limit) {
                (Some(value), Some(limit)) => {
                    let sentence = format!(
                        "{} is {} {unit}, and may be {} {unit}{whose}",
                        self.words,
                        said(value),
                        said(limit),
                        unit = self.unit
                    );
                    Check::new(name, value <= limit, sentence).of(value, limit)
                }
                _ => Check::new(name, false, format!("{} was not measured, so nothing is shown", self.words)),
            });
        };
        if limit.is_some() {
            hold(self.name.to_owned(), limit, "");
        }
        if let (Some(times), false) = (times, first) {
            let limit = self.champion.map(|c| c * times);
            hold(
                format!("{}.times_champion", self.name),
                limit,
                &format!(", {} times the champion's", said(times)),
            );
        }
        checks
    }
}

pub(in crate::gate) fn latency(at: &At<'_>) -> Vec<Check> {
    let Some(rule) = at.gate.latency else { return Vec::new() };
    let quantity = Quantity {
        name: "latency.p99",
        words: "the 99th percentile of an answer",
        unit: "ms",
        challenger: at.case.challenger.measured.latency_p99_ms,
        champion: at.case.champion.as_ref().and_then(|c| c.measured.latency_p99_ms),
    };
    let limit = rule.p99.map(|t| t.0.as_secs_f64() * 1e3);
    quantity.against(limit, rule.times_champion, at.case.champion.is_none())
}

pub(in crate::gate) fn size(at: &At<'_>) -> Vec<Check> {
    let Some(rule) = at.gate.size else { return Vec::new() };
    let mb = |bytes: Option<u64>| bytes.map(|b| b as f64 / 1e6);
    let (new, old) = (at.case.challenger.measured, at.case.champion.as_ref().map(|c| c.measured));
    let first = old.is_none();
    let artifact = Quantity {
        name: "size.artifact",
        words: "the artifact",
        unit: "MB",
        challenger: mb(new.artifact_bytes),
        champion: mb(old.and_then(|m| m.artifact_bytes)),
    };
    let memory = Quantity {
        name: "size.memory",
        words: "the memory of the model",
        unit: "MB",
        challenger: mb(new.memory_bytes),
        champion: None,
    };
    let mut checks = artifact.against(mb(rule.artifact.map(|s| s.0)), rule.times_champion, first);
    checks.extend(memory.against(mb(rule.memory.map(|s| s.0)), None, first));
    checks
}

pub(in crate::gate) fn regression_set(at: &At<'_>) -> Option<Check> {
    let rule = at.gate.regression_set?;
    let name = "regression_set";
    Some(match &at.case.challenger.kept {
        None => {
            Check::new(name, false, "the rows that must be right were not looked at, so nothing is shown")
        }
        Some(kept) => {
            let named = kept.wrong.iter().take(5).map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
            let wrong = match kept.failed {
                0 => "all are".to_owned(),
                n => format!("{n} are not: {named}"),
            };
            let sentence =
                format!("of {} rows that must be right {wrong}; {} may be wrong", kept.rows, rule.wrong);
            let passed = kept.rows > 0 && kept.failed <= rule.wrong;
            Check::new(name, passed, sentence)
                .of(kept.failed as f64, rule.wrong as f64)
                .with("wrong", json!(kept.wrong))
        }
    })
}

pub(in crate::gate) fn signature(at: &At<'_>) -> Option<Check> {
    let name = "signature";
    if at.gate.signature == SignatureRule::Any {
        return None;
    }
    let Some(new) = &at.case.challenger.signature else {
        return Some(Check::new(name, false, "the challenger does not say what it takes and gives"));
    };
    let Some(champion) = &at.case.champion else {
        let sentence = format!("it takes {} columns and gives {}", new.inputs.len(), new.outputs.len());
        return Some(Check::new(name, true, sentence));
    };
    let Some(old) = &champion.signature else {
        return Some(Check::new(
            name,
            false,
            "the champion does not say what it takes and gives, so the two cannot be compared",
        ));
    };
    let reasons = match at.gate.signature {
        SignatureRule::Same if new != old => vec!["it is not the champion's, to the letter".to_owned()],
        SignatureRule::Compatible => new.breaks(old),
        _ => Vec::new(),
    };
    let sentence = if reasons.is_empty() {
        "whoever calls the champion can call the challenger".to_owned()
    } else {
        format!("who calls the champion cannot call the challenger: it {}", reasons.join(", "))
    };
    Some(Check::new(name, reasons.is_empty(), sentence).with("reasons", json!(reasons)))
}

pub(in crate::gate) fn lineage(at: &At<'_>) -> Option<Check> {
    if at.gate.lineage.is_empty() {
        return None;
    }
    let known = &at.case.challenger.lineage;
    let absent = |part: &&String| known.get(*part).is_none_or(|name| name.trim().is_empty());
    let missing: Vec<&str> = at.gate.lineage.iter().filter(absent).map(String::as_str).collect();
    let sentence = if missing.is_empty() {
        format!("the record names its {}", at.gate.lineage.join(", "))
    } else {
        format!("the record does not name its {}", missing.join(", "))
    };
    Some(Check::new("lineage", missing.is_empty(), sentence).with("lineage", json!(known)))
}

/// Whether those agreed who must: different people, and somebody of each role.
pub(in crate::gate) fn approval(at: &At<'_>) -> Option<Check> {
    let rule = at.gate.approval.clone().unwrap_or_default();
    let first = if at.case.champion.is_none() { at.gate.first.people } else { 0 };
    let wanted = rule.people.max(first).max(u64::from(!rule.roles.is_empty()));
    if wanted == 0 {
        return None;
    }
    Some(agreement(&at.case.approvals, wanted, &rule.roles))
}

/// Whether so many people, and somebody in each role, said yes.
pub(in crate::gate) fn agreement(approvals: &[Approved], wanted: u64, roles: &[String]) -> Check {
    let people: BTreeSet<&str> = approvals.iter().map(|a| a.by.as_str()).collect();
    let has = |role: &&String| !approvals.iter().any(|a| a.roles.contains(role));
    let missing: Vec<&str> = roles.iter().filter(has).map(String::as_str).collect();
    let passed = people.len() as u64 >= wanted && missing.is_empty();
    let agreed = people.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
    let mut sentence = format!("{} of {wanted} agreed", people.len());
    if !agreed.is_empty() {
        sentence.push_str(&format!(" ({agreed})"));
    }
    if !missing.is_empty() {
        sentence.push_str(&format!("; nobody did as {}", missing.join(", ")));
    }
    let check = Check::new(APPROVAL, passed, sentence).of(people.len() as f64, wanted as f64);
    if roles.is_empty() { check } else { check.with("roles", json!(roles)) }
}
