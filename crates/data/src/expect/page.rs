//! A report as one page of HTML: no script, no font, no picture from anywhere, light and dark as the reader's system is.
//!
//! Everything that is put in is escaped by the template's name, `.html`; nothing is marked as safe here, and a test puts hostile names
//! and values into every place.

use contract::grouped;
use minijinja::value::Serde;
use minijinja::{Environment, Value as Shown, context};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::ColumnType;
use crate::expect::report::{Outcome, Report};
use crate::expect::shape::{ColumnSeen, Spread};
use crate::expect::{Severity, shown};

const NAME: &str = "page.html";
const TEMPLATE: &str = include_str!("page.html");
/// The longest value of an example that is shown, in characters.
const LONGEST: usize = 120;

/// The page of a report.
pub(super) fn of(report: &Report) -> String {
    render(report).unwrap_or_else(|error| {
        // The template is fixed: a failure here is a defect, and the counts are in the JSON form.
        tracing::error!(error = %format!("{error:#}"), "a report could not be made a page");
        String::from("<!doctype html><meta charset=\"utf-8\"><title>report</title><p>This page could not be made; the JSON report has all of it.")
    })
}

fn render(report: &Report) -> Result<String, minijinja::Error> {
    let kind = |o: &&Outcome| match (o.passed, o.severity) {
        (true, _) => 2,
        (false, Severity::Error) => 0,
        (false, Severity::Warn) => 1,
    };
    let count = |wanted| report.outcomes.iter().filter(|o| kind(o) == wanted).count();
    let (errors, warnings, passed) = (count(0), count(1), count(2));
    let of = |wanted| report.outcomes.iter().filter(|o| kind(o) == wanted).map(View::of).collect::<Vec<_>>();
    let (mut failed, good) = (of(0), of(2));
    failed.extend(of(1));
    let part = |n: usize| n as f64 * 100.0 / report.outcomes.len().max(1) as f64;
    let mut env = Environment::new();
    env.add_template(NAME, TEMPLATE)?;
    env.get_template(NAME)?.render(context! {
        dataset => report.dataset.as_str(),
        version => report.version,
        passed_all => report.passed,
        at => instant(report.at),
        rows => grouped(report.rows),
        expectations => report.outcomes.len(),
        errors,
        warnings,
        passed,
        parts => Shown::from(Serde([part(passed), part(warnings), part(errors)])),
        failed => Shown::from(Serde(failed)),
        good => Shown::from(Serde(good)),
        columns => Shown::from(Serde(report.columns.iter().map(|c| Column::of(c, report.rows)).collect::<Vec<_>>())),
        history => Shown::from(Serde(history(report))),
    })
}

/// An outcome as the page shows it.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    check: &'a str,
    error: bool,
    expected: &'a str,
    found: String,
    share: Option<Share>,
    problem: Option<&'a str>,
    head: Vec<&'a str>,
    examples: Vec<Vec<String>>,
    bins: Vec<Bin<'a>>,
}

/// A share of rows, in words and as the width of a bar in percent.
#[derive(Serialize)]
struct Share {
    words: String,
    width: f64,
}

/// A bin of a distribution: shares in percent, and as widths of bars.
#[derive(Serialize)]
struct Bin<'a> {
    label: &'a str,
    was: f64,
    is: f64,
    was_width: f64,
    is_width: f64,
}

impl View<'_> {
    fn of(o: &Outcome) -> View<'_> {
        // Columns as they first come: examples of one outcome have the same.
        let mut head: Vec<&str> = Vec::new();
        for name in o.examples.iter().flat_map(Map::keys) {
            if !head.contains(&name.as_str()) {
                head.push(name);
            }
        }
        let cells = |row: &Map<String, Value>| head.iter().map(|name| cell(row.get(*name))).collect();
        View {
            name: &o.name,
            check: &o.check,
            error: o.severity == Severity::Error,
            expected: &o.expected,
            found: found(o),
            // A share that is not zero is to be seen.
            share: o
                .share
                .filter(|share| *share > 0.0)
                .map(|share| Share { words: percent(share), width: (share * 100.0).max(0.5) }),
            problem: o.problem.as_deref(),
            // A column of nothing but nulls shows nothing.
            examples: match (head.as_slice(), o.check.as_str()) {
                ([_], "not_null") => Vec::new(),
                _ => o.examples.iter().map(cells).collect(),
            },
            head,
            bins: bins(o),
        }
    }
}

fn bins(o: &Outcome) -> Vec<Bin<'_>> {
    let all = o.observed.get("bins").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let share = |bin: &Value, key: &str| bin.get(key).and_then(Value::as_f64).unwrap_or_default();
    let most = all.iter().flat_map(|b| [share(b, "reference"), share(b, "now")]).fold(1e-9, f64::max);
    let bin = |b| {
        let (was, is) = (share(b, "reference"), share(b, "now"));
        Bin {
            label: b.get("bin").and_then(Value::as_str).unwrap_or_default(),
            was: was * 100.0,
            is: is * 100.0,
            was_width: was / most * 100.0,
            is_width: is / most * 100.0,
        }
    };
    all.iter().map(bin).collect()
}

/// What was found, in words.
fn found(o: &Outcome) -> String {
    let number = |key: &str| o.observed.get(key).and_then(Value::as_f64);
    match o.check.as_str() {
        "freshness" => match (number("newest_ms"), number("age_seconds")) {
            (Some(newest), Some(age)) => {
                format!("the newest is {}, {} old", instant(newest as i64), span(age))
            }
            _ => String::new(),
        },
        "volume" => {
            let rows = grouped(number("rows").unwrap_or_default() as u64);
            match (number("mean"), number("versions")) {
                (Some(mean), Some(n)) => {
                    format!("{rows} rows; {} on average in {n} before", grouped(mean.round() as u64))
                }
                _ => format!("{rows} rows"),
            }
        }
        "distribution" => number("psi").map(|psi| format!("PSI {psi:.3}")).unwrap_or_default(),
        "schema" => {
            let all = o.observed.get("differences").and_then(Value::as_array);
            let all: Vec<&str> = all.into_iter().flatten().filter_map(Value::as_str).collect();
            if all.is_empty() { "as expected".to_owned() } else { all.join(", ") }
        }
        _ => match o.rows_failed {
            Some(0) => "no row breaks it".to_owned(),
            Some(1) => "1 row breaks it".to_owned(),
            Some(n) => format!("{} rows break it", grouped(n)),
            None => String::new(),
        },
    }
}

/// A column as the page shows it.
#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    ty: &'a str,
    nulls: String,
    null_share: f64,
    bars: Vec<Bar>,
    low: &'a str,
    high: &'a str,
    values: Vec<(String, f64, String)>,
    sampled: String,
}

/// A bar of a plot that is 100 wide and 40 high.
#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    height: f64,
    label: String,
}

impl Column<'_> {
    fn of(seen: &ColumnSeen, rows: u64) -> Column<'_> {
        let null_share = seen.nulls as f64 / rows.max(1) as f64;
        let mut column = Column {
            name: &seen.name,
            ty: &seen.ty,
            nulls: if seen.nulls == 0 {
                "no nulls".to_owned()
            } else {
                format!("{} null", percent(null_share))
            },
            null_share: if seen.nulls == 0 { 0.0 } else { (null_share * 100.0).max(0.5) },
            bars: Vec::new(),
            low: "",
            high: "",
            values: Vec::new(),
            sampled: if seen.sampled < rows {
                format!("of {} values", grouped(seen.sampled))
            } else {
                String::new()
            },
        };
        match &seen.values {
            Some(Spread::Numbers { low, high, counts }) => {
                let labels = counts.iter().map(|n| (*n, grouped(*n))).collect::<Vec<_>>();
                (column.low, column.high) = (day(low), day(high));
                column.bars = bars(&labels, 1);
            }
            Some(Spread::Values { most, others }) => {
                let top = most.first().map_or(1, |(_, n)| *n).max(*others).max(1);
                let all = seen.sampled.max(1) as f64;
                let row = |label: &str, n: u64| {
                    (label.to_owned(), n as f64 * 100.0 / top as f64, percent(n as f64 / all))
                };
                column.values = most.iter().map(|(text, n)| row(text, *n)).collect();
                if *others > 0 {
                    column.values.push(row("…", *others));
                }
            }
            None => {}
        }
        column
    }
}

/// A time as it is, and a midnight as its day.
fn day(text: &str) -> &str {
    text.split_once("T00:00:00").map_or(text, |(day, _)| day)
}

/// Bars for at least so many places, the last ones taken.
fn bars(counts: &[(u64, String)], places: usize) -> Vec<Bar> {
    let most = counts.iter().map(|(n, _)| *n).max().unwrap_or_default().max(1) as f64;
    let places = places.max(counts.len());
    let step = 100.0 / places.max(1) as f64;
    let free = places - counts.len();
    let bar = |(at, (n, label)): (usize, &(u64, String))| Bar {
        x: (at + free) as f64 * step + step * 0.06,
        width: step * 0.88,
        // What is there is seen.
        height: if *n == 0 { 0.0 } else { (*n as f64 / most * 40.0).max(0.8) },
        label: label.clone(),
    };
    counts.iter().enumerate().map(bar).collect()
}

#[derive(Serialize)]
struct History {
    bars: Vec<Bar>,
    first: u64,
    last: u64,
    most: String,
}

/// The plot of row counts; nothing when there is nothing before.
fn history(report: &Report) -> Option<History> {
    let [first, .., last] = report.history.as_slice() else { return None };
    let label =
        |c: &crate::expect::Counted| (c.rows, format!("version {}: {} rows", c.version, grouped(c.rows)));
    // Few versions are narrow bars on the right.
    let bars = bars(&report.history.iter().map(label).collect::<Vec<_>>(), 15);
    let most = grouped(report.history.iter().map(|c| c.rows).max().unwrap_or_default());
    Some(History { bars, first: first.version, last: last.version, most })
}

fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "null".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p == 0.0 || p >= 10.0 => format!("{p:.0} %"),
        p if p >= 1.0 => format!("{p:.1} %"),
        p if p >= 0.001 => format!("{p:.3} %"),
        _ => "< 0.001 %".to_owned(),
    }
}

fn instant(ms: i64) -> String {
    let text = shown(ms as f64 * 1000.0, &ColumnType::DateTime);
    format!("{} UTC", text.split('.').next().unwrap_or_default().replace('T', " "))
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_what_matters() {
        assert_eq!(
            [0.0, 0.000_001, 0.000_02, 0.015, 0.5].map(percent),
            ["0 %", "< 0.001 %", "0.002 %", "1.5 %", "50 %"]
        );
        assert_eq!(instant(1_767_225_600_000), "2026-01-01 00:00:00 UTC");
        assert_eq!([5.0, 600.0, 40_000.0, 864_000.0].map(span), ["5 s", "10 min", "11 h", "10 days"]);
    }
}
