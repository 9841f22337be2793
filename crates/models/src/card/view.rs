//! The record as card and page show it: numbers and times in words, parts sorted by what matters.

use contract::{UnixMillis, grouped};
use serde::Serialize;

use super::Record;
use crate::evaluate::{Evaluation, Interval, Metric};
use crate::gate::Verdict;

/// The most rows of a table that is shown; what is left out is counted.
const ROWS: usize = 30;

/// What both templates take.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    record: &'a Record,
    trained_at: Option<String>,
    training: Option<String>,
    latency: Option<String>,
    artifact: Option<String>,
    memory: Option<String>,
    rows: Option<String>,
    holdout_times: Option<String>,
    verdict: Option<&'static str>,
    sentence: Option<String>,
    decided_at: Option<String>,
    metrics: Vec<Figure>,
    slices: Vec<Slice>,
    groups: Vec<Column>,
    importance: Vec<(String, f64, String)>,
    importance_left: usize,
    params: Vec<(String, String)>,
}

/// A figure, beside the champion's.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: String,
    champion: Option<String>,
    /// Whether it is better than the champion's, when they differ.
    better: Option<bool>,
}

/// The parts of a column, the worst first.
#[derive(Debug, Serialize)]
struct Slice {
    column: String,
    metric: String,
    parts: Vec<Part>,
    left: usize,
    small: usize,
}

#[derive(Debug, Serialize)]
struct Part {
    value: String,
    rows: String,
    figure: String,
    /// The place on a scale of 0 to 100 from the worst to the best part.
    place: f64,
}

/// The groups of a column.
#[derive(Debug, Serialize)]
struct Column {
    column: String,
    figures: Vec<(&'static str, String)>,
    groups: Vec<[String; 5]>,
    small: Vec<String>,
}

impl View<'_> {
    pub(super) fn of(record: &Record) -> View<'_> {
        let evaluation = record.evaluation.as_ref();
        let bytes = |n: Option<u64>| n.map(|n| format!("{} MB", number(n as f64 / 1e6)));
        let most = record.importance.iter().map(|(_, x)| x.abs()).fold(f64::MIN_POSITIVE, f64::max);
        View {
            record,
            trained_at: record.trained_at.map(instant),
            training: record.training_seconds.map(span),
            latency: record.measured.latency_p99_ms.map(|ms| format!("{} ms", number(ms))),
            artifact: bytes(record.measured.artifact_bytes),
            memory: bytes(record.measured.memory_bytes),
            rows: evaluation.map(|e| grouped(e.rows)),
            holdout_times: record.holdout.as_ref().and_then(|h| match (h.from, h.until) {
                (Some(from), Some(until)) => Some(format!("{} to {}", instant(from), instant(until))),
                _ => None,
            }),
            verdict: record.decision.as_ref().map(|d| match d.verdict {
                Verdict::Accepted => "accepted",
                Verdict::Refused => "refused",
                Verdict::WaitsForApproval => "waits for approval",
            }),
            sentence: record.decision.as_ref().map(crate::gate::Decision::sentence),
            decided_at: record.decision.as_ref().map(|d| instant(d.at)),
            metrics: evaluation.map(|e| figures(e, record.champion.as_ref())).unwrap_or_default(),
            slices: evaluation.map(|e| slices(e, record)).unwrap_or_default(),
            groups: evaluation.map(groups).unwrap_or_default(),
            importance: record
                .importance
                .iter()
                .take(ROWS)
                .map(|(name, x)| (name.clone(), x.abs() / most * 100.0, number(*x)))
                .collect(),
            importance_left: record.importance.len().saturating_sub(ROWS),
            params: record
                .made_of
                .params
                .iter()
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
        }
    }
}

fn figures(evaluation: &Evaluation, champion: Option<&Evaluation>) -> Vec<Figure> {
    let figure = |(name, value): (&String, &Option<f64>)| {
        let other = champion.and_then(|c| c.metrics.get(name).copied().flatten());
        let gain = match (name.parse::<Metric>(), value, other) {
            (Ok(metric), Some(value), Some(other)) => Some(metric.gain(*value, other)),
            _ => None,
        };
        Figure {
            name: name.clone(),
            value: value.map_or_else(|| "not defined".to_owned(), number),
            champion: other.map(number),
            better: gain.filter(|gain| *gain != 0.0).map(|gain| gain > 0.0),
        }
    };
    evaluation.metrics.iter().map(figure).collect()
}

/// The metric that parts are shown by: the gate's primary one, or the first that every part may have.
fn shown_metric(evaluation: &Evaluation, record: &Record) -> Option<Metric> {
    let primary = record.decision.iter().flat_map(|d| &d.checks).find(|c| c.name == "primary");
    let primary = primary.and_then(|c| c.evidence.get("metric")?.as_str()?.parse::<Metric>().ok());
    let known = |m: &Metric| evaluation.metrics.get(&m.to_string()).is_some_and(Option::is_some);
    primary.into_iter().chain(Metric::all()).find(known)
}

fn slices(evaluation: &Evaluation, record: &Record) -> Vec<Slice> {
    let Some(metric) = shown_metric(evaluation, record) else { return Vec::new() };
    let slice = |slice: &crate::evaluate::Slice| {
        let figure = |part: &crate::evaluate::Part| part.metrics.get(&metric.to_string()).copied().flatten();
        let mut parts: Vec<_> = slice.parts.iter().filter_map(|p| Some((figure(p)?, p))).collect();
        let worth = |x: f64| metric.gain(x, 0.0);
        parts.sort_by(|a, b| worth(a.0).total_cmp(&worth(b.0)));
        let ends = (parts.first().map(|p| p.0), parts.last().map(|p| p.0));
        let place = |x: f64| match ends {
            (Some(worst), Some(best)) if worst != best => (x - worst) / (best - worst) * 100.0,
            _ => 100.0,
        };
        let part = |(x, p): &(f64, &crate::evaluate::Part)| Part {
            value: p.value.clone(),
            rows: grouped(p.rows),
            figure: number(*x),
            place: place(*x),
        };
        Slice {
            column: slice.column.clone(),
            metric: metric.to_string(),
            left: parts.len().saturating_sub(ROWS),
            parts: parts.iter().take(ROWS).map(part).collect(),
            small: slice.small.len(),
        }
    };
    evaluation.slices.iter().map(slice).collect()
}

fn groups(evaluation: &Evaluation) -> Vec<Column> {
    let column = |f: &crate::evaluate::Fairness| {
        let said = |i: Interval| {
            let (value, low, high) = (number(i.value), number(i.low), number(i.high));
            format!("{value} ({low} to {high}, {} % sure)", number(f.resampling.confidence * 100.0))
        };
        let rate = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), number);
        let figures = [
            ("demographic parity difference", f.dp_difference),
            ("selection rate ratio", f.dp_ratio),
            ("equalised odds difference", f.eo_difference),
        ];
        Column {
            column: f.column.clone(),
            figures: figures
                .into_iter()
                .map(|(name, i)| {
                    (name, i.map_or_else(|| "not known: fewer than two groups to compare".to_owned(), said))
                })
                .collect(),
            groups: f
                .groups
                .iter()
                .map(|g| [g.value.clone(), grouped(g.rows), rate(g.selection_rate), rate(g.tpr), rate(g.fpr)])
                .collect(),
            small: f.small.iter().map(|(value, rows)| format!("{value} ({rows})")).collect(),
        }
    };
    evaluation.fairness.iter().map(column).collect()
}

/// A number with four digits behind the point at most, and large ones without.
pub(super) fn number(x: f64) -> String {
    let text = if x.abs() >= 1_000.0 {
        format!("{x:.0}")
    } else if x != 0.0 && x.abs() < 0.000_1 {
        return format!("{x:.1e}");
    } else {
        format!("{x:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{} s", number(s)),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

fn instant(at: UnixMillis) -> String {
    at.rfc3339().trim_end_matches('Z').replace('T', " ") + " UTC"
}
