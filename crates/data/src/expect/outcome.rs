//! From counts to outcomes: what was expected, what was found, whether that is enough.

use serde_json::{Value, json};

use crate::ColumnType;
use crate::expect::plan::{Kind, Plan};
use crate::expect::report::{Outcome, Report, SCHEMA};
use crate::expect::suite::{Check, Expected};
use crate::expect::tally::{Duplicates, Seen, Tally};
use crate::expect::{Severity, config};

/// What a report needs besides counts.
pub(crate) struct Ends<'a> {
    pub(crate) dataset: &'a str,
    pub(crate) version: Option<u64>,
    /// Now, in milliseconds since the epoch.
    pub(crate) now_ms: i64,
    /// What groupings found, by the place of the expectation.
    pub(crate) duplicates: &'a std::collections::BTreeMap<usize, Duplicates>,
}

/// How far the newest time may be ahead of the warehouse's clock, in milliseconds: two clocks are never quite the same.
const AHEAD_MS: i64 = 5 * 60_000;

impl Plan {
    /// The report of a tally over all rows.
    pub(crate) fn report(&self, tally: Tally, ends: &Ends<'_>) -> Report {
        let (rows, kept) = (tally.rows, tally.kept);
        let mut outcomes = Vec::with_capacity(self.suite.len());
        let each =
            self.suite.expected.iter().zip(self.kinds()).zip(self.columns()).zip(tally.seen).enumerate();
        for (at, (((expected, kind), places), seen)) in each {
            let mut outcome = Outcome {
                name: expected.name.clone(),
                check: expected.check.kind().to_owned(),
                severity: expected.severity,
                passed: false,
                expected: words(expected),
                observed: Value::Null,
                columns: self.named(kind, places),
                rows_failed: None,
                share: None,
                examples: Vec::new(),
                problem: None,
            };
            match seen.broken.clone() {
                Some(why) => outcome.problem = Some(why),
                None => self.fill(&mut outcome, at, kind, seen, kept, ends),
            }
            let all =
                if matches!(kind, Kind::Row(_) | Kind::Quick(..) | Kind::Known(..)) { rows } else { kept };
            outcome.share = outcome.rows_failed.filter(|_| all > 0).map(|n| n as f64 / all as f64);
            outcomes.push(outcome);
        }
        let passed = outcomes.iter().all(|o| o.passed || o.severity == Severity::Warn);
        Report {
            schema: SCHEMA.to_owned(),
            dataset: ends.dataset.to_owned(),
            version: ends.version,
            at: ends.now_ms,
            rows,
            passed,
            outcomes,
            columns: tally.shapes.columns(&self.schema),
            history: Vec::new(),
        }
    }

    /// The names of the columns an expectation is about.
    fn named(&self, kind: &Kind, places: &[usize]) -> Vec<String> {
        if let Kind::Unique(columns) = kind {
            return columns.clone();
        }
        let mut places = places.to_vec();
        places.sort_unstable();
        places.dedup();
        places.iter().filter_map(|at| self.schema.columns.get(*at).map(|c| c.name.clone())).collect()
    }

    fn fill(&self, o: &mut Outcome, at: usize, kind: &Kind, seen: Seen, kept: u64, ends: &Ends<'_>) {
        match kind {
            Kind::Row(_) | Kind::Quick(..) | Kind::Known(..) => {
                o.passed = seen.failed == 0;
                o.observed = json!({"failed": seen.failed});
                (o.rows_failed, o.examples) = (Some(seen.failed), seen.examples);
            }
            Kind::Share(_, most) => {
                let share = if kept == 0 { 0.0 } else { seen.failed as f64 / kept as f64 };
                o.passed = share <= *most;
                o.observed = json!({"failed": seen.failed, "share": share});
                (o.rows_failed, o.examples) = (Some(seen.failed), seen.examples);
            }
            Kind::Newest(_, most) => match seen.newest {
                None => o.problem = Some("there is no time in any row".to_owned()),
                Some(newest) => {
                    let age = ends.now_ms.saturating_sub(newest.div_euclid(1000));
                    o.passed = (-AHEAD_MS..=*most).contains(&age);
                    if age < -AHEAD_MS {
                        let ahead = age.saturating_neg().div_euclid(1000);
                        let why = "no time of a row is later than now: look at its zone, or at the warehouse's clock";
                        o.problem =
                            Some(format!("the newest time is {ahead} s from now, in the future; {why}"));
                    }
                    o.observed =
                        json!({"newest_ms": newest.div_euclid(1000), "age_seconds": age.div_euclid(1000)});
                }
            },
            Kind::Bins(column, reference) => {
                let most = match &self.suite.expected.get(at).map(|e| &e.check) {
                    Some(Check::Distribution { max_psi, .. }) => *max_psi,
                    _ => 0.0,
                };
                match reference.psi(&seen.bins) {
                    None => o.problem = Some("there are no rows to compare".to_owned()),
                    Some(psi) => o.passed = psi <= most,
                }
                let ty = self.schema.columns.get(*column).map_or(&ColumnType::Float, |c| &c.ty);
                o.observed = reference.observed(&seen.bins, ty);
            }
            Kind::Rows => {
                let Some(Check::Volume(volume)) = self.suite.expected.get(at).map(|e| &e.check) else {
                    return;
                };
                let history = self.given.history.get(&at).map(Vec::as_slice).unwrap_or_default();
                (o.passed, o.observed) = enough(volume, kept, history);
            }
            Kind::Unique(_) => match ends.duplicates.get(&at) {
                None => o.problem = Some("the rows were not grouped".to_owned()),
                Some(found) => {
                    o.passed = found.rows == 0;
                    o.observed = json!({"failed": found.rows});
                    o.rows_failed = Some(found.rows);
                    o.examples = found.examples.values().cloned().collect();
                }
            },
            Kind::Columns(wrong) => {
                o.passed = wrong.is_empty();
                o.observed = json!({"differences": wrong});
            }
            Kind::Problem(why) => o.problem = Some(why.clone()),
        }
    }
}

/// Whether a number of rows is within bounds and near the mean of those before.
fn enough(volume: &config::Volume, rows: u64, history: &[u64]) -> (bool, Value) {
    let within = volume.min.is_none_or(|min| rows >= min) && volume.max.is_none_or(|max| rows <= max);
    let Some(wanted) = volume.history.as_ref().filter(|_| !history.is_empty()) else {
        return (within, json!({"rows": rows}));
    };
    let mean = history.iter().map(|n| *n as f64).sum::<f64>() / history.len() as f64;
    let near = (rows as f64 - mean).abs() <= wanted.within * mean;
    (within && near, json!({"rows": rows, "mean": mean, "versions": history.len()}))
}

/// What is expected, in words.
fn words(expected: &Expected) -> String {
    let between = |what: &str, min: Option<String>, max: Option<String>| match (min, max) {
        (Some(min), Some(max)) => format!("{what} from {min} to {max}"),
        (Some(min), None) => format!("{what} of {min} or more"),
        (None, Some(max)) => format!("{what} of {max} or less"),
        (None, None) => what.to_owned(),
    };
    match &expected.check {
        Check::Schema { columns, closed } => {
            let each = columns.iter().map(|(name, ty)| match ty {
                Some(ty) => format!("{name} {ty}"),
                None => name.clone(),
            });
            let only = if *closed { ", and no others" } else { "" };
            format!("columns {}{only}", each.collect::<Vec<_>>().join(", "))
        }
        Check::NotNull(c) if c.max_share > 0.0 => {
            format!("`{}` missing in at most {} % of rows", c.column, c.max_share * 100.0)
        }
        Check::NotNull(c) => format!("`{}` in every row", c.column),
        Check::Range(c) => between(
            &format!("`{}`", c.column),
            c.min.as_ref().map(ToString::to_string),
            c.max.as_ref().map(ToString::to_string),
        ),
        Check::Unique(c) => format!("no two rows with the same {}", c.columns.join(", ")),
        Check::Set(c) => {
            let shown: Vec<String> = c.values.iter().take(10).map(ToString::to_string).collect();
            let more = if c.values.len() > shown.len() { ", …" } else { "" };
            format!("`{}` one of {}{more}", c.column, shown.join(", "))
        }
        Check::Pattern(c) => format!("`{}` matching {}", c.column, c.regex),
        Check::Length(c) => between(
            &format!("`{}` in characters", c.column),
            c.min.map(|n| n.to_string()),
            c.max.map(|n| n.to_string()),
        ),
        Check::Freshness { column, said, .. } => format!("the newest `{column}` at most {said} ago"),
        Check::Volume(c) => {
            let rows = between("rows", c.min.map(|n| n.to_string()), c.max.map(|n| n.to_string()));
            match &c.history {
                Some(h) => {
                    format!("{rows}, within {} % of the mean of {} before", h.within * 100.0, h.versions)
                }
                None => rows,
            }
        }
        Check::Distribution { column, against, max_psi } => {
            format!("`{column}` distributed as in {against}, PSI of {max_psi} or less")
        }
        Check::Sql(condition) => condition.clone(),
        Check::References { column, dataset, key, .. } => format!("`{column}` one of `{dataset}`.`{key}`"),
    }
}
