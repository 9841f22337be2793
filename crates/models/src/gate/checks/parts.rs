//! Checks of parts of the rows: the worst slice, and groups that are to be treated alike.

use serde_json::{Value, json};

use crate::evaluate::{Error, Interval, Metric, Rows, fairness};
use crate::gate::config::{FairnessRule, Judge, Slices};
use crate::gate::decide::{At, said};
use crate::gate::decision::Check;

/// A part of the rows, with both models' figures.
struct Part {
    value: String,
    rows: usize,
    challenger: f64,
    champion: Option<f64>,
}

/// The worst part of each column, by the margin to the champion and by the floor.
pub(in crate::gate) fn slices(at: &At<'_>) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let Some(rule) = &at.gate.slices else { return Ok(checks) };
    let metric = rule.metric.unwrap_or(at.gate.primary.metric);
    for column in &rule.columns {
        let (parts, skipped) = parts(at, rule, metric, column)?;
        let told = |check: Check| {
            check
                .with("metric", metric.to_string())
                .with("parts", parts.len())
                .with("skipped", skipped)
                .with("minimum", rule.minimum)
        };
        let gain = |part: &Part, of: f64| metric.gain(part.challenger, of);
        let worst = |by: &dyn Fn(&Part) -> Option<f64>| {
            parts.iter().filter_map(|p| Some((by(p)?, p))).min_by(|a, b| a.0.total_cmp(&b.0))
        };
        let nothing = |name: String| {
            let sentence = format!(
                "no part of `{column}` has {} rows and a defined {metric}, so nothing is shown",
                rule.minimum
            );
            told(Check::new(name, false, sentence))
        };
        if let Some(floor) = rule.floor {
            let name = format!("slices.{column}.floor");
            checks.push(match worst(&|p| Some(gain(p, floor))) {
                Some((by, part)) => {
                    let sentence = format!(
                        "the worst part by `{column}` is `{}` ({} rows) with {metric} {}, and is to reach {}",
                        part.value,
                        part.rows,
                        said(part.challenger),
                        said(floor)
                    );
                    let check = Check::new(name, by >= 0.0, sentence).of(part.challenger, floor);
                    told(check).with("part", part.value.as_str()).with("rows", part.rows)
                }
                None => nothing(name),
            });
        }
        // A first model has nobody to be worse than.
        if let (Some(margin), true) = (rule.margin, at.case.champion.is_some()) {
            let name = format!("slices.{column}.margin");
            checks.push(match worst(&|p| p.champion.map(|c| gain(p, c))) {
                Some((by, part)) => {
                    let sentence = format!(
                        "against the champion it does worst on `{column}` `{}` ({} rows): {metric} {} against {}, \
                         and may be {} worse",
                        part.value,
                        part.rows,
                        said(part.challenger),
                        said(part.champion.unwrap_or_default()),
                        said(margin)
                    );
                    let check = Check::new(name, by >= -margin, sentence).of(by, -margin);
                    told(check).with("part", part.value.as_str()).with("rows", part.rows)
                }
                None => nothing(name),
            });
        }
    }
    Ok(checks)
}

/// The parts that are large enough, and how many were not, or have no figure.
fn parts(at: &At<'_>, rule: &Slices, metric: Metric, column: &str) -> Result<(Vec<Part>, usize), Error> {
    let (mut parts, mut skipped) = (Vec::new(), 0);
    let champion = at.comparable();
    for (value, chosen) in at.case.challenger.rows.column(column)?.parts() {
        let figure = |rows: &Rows| match rows.subset(&chosen) {
            Some(part) => Ok::<_, Error>(at.measure(metric, &part)?.value()),
            None => Ok(None),
        };
        let enough = chosen.len() as u64 >= rule.minimum;
        let Some(challenger) = (if enough { figure(at.case.challenger.rows)? } else { None }) else {
            skipped += 1;
            continue;
        };
        let champion = match champion {
            Some(c) => figure(c.rows)?,
            None => None,
        };
        parts.push(Part { value: value.to_owned(), rows: chosen.len(), challenger, champion });
    }
    Ok((parts, skipped))
}

/// Whether groups are treated alike.
pub(in crate::gate) fn fairness(at: &At<'_>) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let Some(rule) = &at.gate.fairness else { return Ok(checks) };
    let rows = at.case.challenger.rows;
    for column in &rule.columns {
        let key = rows.column(column)?;
        let found = fairness::compare(rows, key, at.gate.threshold, rule.minimum, at.resampling());
        let limits = [
            ("dp_difference", "selection rates differ by", rule.dp_difference),
            ("eo_difference", "true or false positive rates differ by", rule.eo_difference),
            ("ratio", "the smallest selection rate, as a share of the largest, is", rule.ratio),
        ];
        for (figure, words, limit) in limits {
            let Some(limit) = limit else { continue };
            let interval = found.as_ref().and_then(|f| match figure {
                "dp_difference" => f.dp_difference,
                "eo_difference" => f.eo_difference,
                _ => f.dp_ratio,
            });
            let name = format!("fairness.{column}.{figure}");
            let small: Vec<Value> = found
                .iter()
                .flat_map(|f| &f.small)
                .map(|(value, rows)| json!({"group": value, "rows": rows}))
                .collect();
            let groups: Vec<Value> = found.iter().flat_map(|f| &f.groups).map(|g| {
                json!({"group": g.value, "rows": g.rows, "selection_rate": g.selection_rate, "tpr": g.tpr, "fpr": g.fpr})
            }).collect();
            let check = match interval {
                Some(interval) => judged(rule, (name, figure, words), column, interval, limit),
                None => Check::new(
                    name,
                    false,
                    format!(
                        "fewer than two groups of `{column}` have {} rows and both labels, so nothing is shown",
                        rule.minimum
                    ),
                ),
            };
            checks.push(check.with("groups", groups).with("too_small", small).with("minimum", rule.minimum));
        }
    }
    Ok(checks)
}

fn judged(
    rule: &FairnessRule,
    (name, figure, words): (String, &str, &str),
    column: &str,
    interval: Interval,
    limit: f64,
) -> Check {
    let ratio = figure == "ratio";
    let value = match (rule.judge, ratio) {
        (Judge::Figure, _) => interval.value,
        (Judge::Interval, false) => interval.high,
        (Judge::Interval, true) => interval.low,
    };
    let passed = if ratio { value >= limit } else { value <= limit };
    let sentence = format!(
        "over groups of `{column}` {words} {} ({} to {}, {} % sure), and {} {}",
        said(interval.value),
        said(interval.low),
        said(interval.high),
        said(rule.confidence * 100.0),
        if ratio { "is to be at least" } else { "may by" },
        said(limit),
    );
    Check::new(name, passed, sentence)
        .of(value, limit)
        .with("figure", interval.value)
        .with("low", interval.low)
        .with("high", interval.high)
        .with("judge", json!(rule.judge))
}
