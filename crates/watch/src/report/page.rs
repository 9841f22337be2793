//! The report as one page of HTML: no script, no font, no picture from anywhere, light and dark as the reader's system is.
//!
//! Everything that is put in is escaped by the template's name, `.html`; nothing is marked as safe here.

use contract::grouped;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::{ColumnReport, DriftReport, Shape, Summary};
use crate::drift::Level;

const NAME: &str = "page.html";
const TEMPLATE: &str = include_str!("page.html");
/// Columns that are drawn, at most: a table of a thousand columns is a page that opens.
const DRAWN: usize = 60;
/// The width and the height of a plot of numbers.
const PLOT: (f64, f64) = (400.0, 100.0);

pub(super) fn of(report: &DriftReport) -> String {
    render(report).unwrap_or_else(|_| {
        // The template is fixed, and a test renders it: the JSON form has every figure.
        String::from("<!doctype html><meta charset=\"utf-8\"><title>report</title><p>This page could not be made; the JSON report has all of it.")
    })
}

fn render(report: &DriftReport) -> Result<String, minijinja::Error> {
    let mut env = Environment::new();
    env.add_template(NAME, TEMPLATE)?;
    let views: Vec<View<'_>> = report.columns.iter().map(View::of).collect();
    let count = |level| report.of(level).count();
    let schema = &report.schema;
    let changes: Vec<(&str, &str, &Vec<String>)> = [
        ("gone", "columns that are not there any more", &schema.gone),
        ("emptied", "columns that hold nothing any more", &report.emptied),
        ("other kind", "columns that hold another kind of values", &schema.other_kind),
        ("new", "columns that were not there", &schema.new),
    ]
    .into_iter()
    .filter(|(_, _, names)| !names.is_empty())
    .collect();
    env.get_template(NAME)?.render(context! {
        at => report.at.rfc3339(),
        reference => Value::from(Serde(&report.reference)),
        window => Value::from(Serde(&report.window)),
        rows => (grouped(report.reference.rows), grouped(report.window.rows)),
        level => class(report.level),
        drifted => count(Level::Alert),
        warned => count(Level::Warn),
        calm => count(Level::Calm),
        too_few => count(Level::TooFew),
        broken => changes.iter().any(|(name, ..)| *name != "new"),
        changes => Value::from(Serde(changes)),
        columns => Value::from(Serde(&views)),
        drawn => DRAWN,
        limits => Value::from(Serde(&report.limits)),
        left_out => Value::from(Serde(&report.left_out)),
    })
}

fn class(level: Level) -> &'static str {
    match level {
        Level::Alert => "bad",
        Level::Warn => "warn",
        Level::Calm => "good",
        Level::TooFew => "few",
    }
}

/// A column as the page shows it.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    class: &'static str,
    verdict: &'static str,
    test: &'static str,
    q: String,
    by: &'static str,
    effect: String,
    /// The effect beside its limit, as the width of a bar in percent; the limit is at a half.
    width: f64,
    figures: Vec<(&'static str, String)>,
    plot: Option<Plot>,
    moved: Vec<(&'static str, String, String)>,
    values: Vec<Row>,
    unseen: usize,
    unseen_share: String,
}

/// Two outlines of densities over one axis.
#[derive(Serialize)]
struct Plot {
    was: String,
    is: String,
    low: String,
    high: String,
    /// Where the means are.
    means: (f64, f64),
}

/// A category and its shares: in words, and as widths in percent.
#[derive(Serialize)]
struct Row {
    label: String,
    unseen: bool,
    was: String,
    is: String,
    was_width: f64,
    is_width: f64,
}

impl View<'_> {
    fn of(column: &ColumnReport) -> View<'_> {
        let figure = |name, value: Option<f64>| value.map(|value| (name, format!("{value:.3}")));
        let figures = [
            figure("PSI", column.psi),
            figure("KS", column.ks),
            figure("W1 (in standard deviations)", column.w1),
            figure("JS", column.js),
        ];
        let mut view = View {
            name: &column.column,
            class: class(column.level),
            verdict: match column.level {
                Level::Alert => "drifted",
                Level::Warn => "moved",
                Level::Calm => "as before",
                Level::TooFew => "too few rows",
            },
            test: match column.test.as_str() {
                "ks" => "Kolmogorov–Smirnov",
                "missing" => "share that is missing",
                "mmd" => "MMD",
                _ => "chi-squared",
            },
            q: column.q.map_or_else(|| "–".to_owned(), probability),
            by: match column.by.as_str() {
                "w1" => "W1",
                "js" => "JS",
                "mmd" => "MMD²",
                _ => "PSI",
            },
            effect: format!("{:.3}", column.effect),
            width: (column.of_limit * 50.0).clamp(0.0, 100.0),
            figures: figures.into_iter().flatten().collect(),
            plot: None,
            moved: Vec::new(),
            values: Vec::new(),
            unseen: 0,
            unseen_share: String::new(),
        };
        view.shape(&column.shape);
        view
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Numbers { reference, window, from, to, bars } => {
                let top = bars.iter().map(|b| b.reference.max(b.window)).fold(1e-12, f64::max);
                let was: Vec<f64> = bars.iter().map(|b| b.reference / top).collect();
                let is: Vec<f64> = bars.iter().map(|b| b.window / top).collect();
                let place = |x: f64| ((x - from) / (to - from) * PLOT.0).clamp(0.0, PLOT.0);
                self.plot = Some(Plot {
                    was: outline(&was),
                    is: outline(&is),
                    low: number(*from),
                    high: number(*to),
                    means: (place(reference.mean), place(window.mean)),
                });
                self.moved = moved(reference, window);
            }
            Shape::Categories { values, others, unseen, unseen_share, missing } => {
                let others = Some(others.clone()).filter(|o| o.reference > 0.0 || o.window > 0.0);
                let none =
                    super::Bar { label: "missing".to_owned(), reference: missing.0, window: missing.1 };
                let none = Some(none).filter(|n| n.reference > 0.0 || n.window > 0.0);
                let known = values.iter().cloned().chain(others).chain(none).map(|bar| (bar, false));
                let all: Vec<_> = known.chain(unseen.iter().cloned().map(|bar| (bar, true))).collect();
                let top = all.iter().map(|(b, _)| b.reference.max(b.window)).fold(1e-12, f64::max);
                let row = |(bar, unseen): (super::Bar, bool)| Row {
                    unseen,
                    was: percent(bar.reference),
                    is: percent(bar.window),
                    was_width: bar.reference / top * 100.0,
                    is_width: bar.window / top * 100.0,
                    label: bar.label,
                };
                self.values = all.into_iter().map(row).collect();
                self.unseen = unseen.len();
                self.unseen_share = percent(*unseen_share);
            }
        }
    }
}

fn moved(was: &Summary, is: &Summary) -> Vec<(&'static str, String, String)> {
    let row = |name, of: fn(&Summary) -> f64| (name, number(of(was)), number(of(is)));
    let mut rows = vec![
        row("mean", |s| s.mean),
        row("standard deviation", |s| s.deviation),
        row("smallest", |s| s.min),
        row("median", |s| s.median),
        row("largest", |s| s.max),
    ];
    if was.missing > 0.0 || is.missing > 0.0 {
        rows.push(("missing", percent(was.missing), percent(is.missing)));
    }
    rows
}

/// The path of bars from 0 to 1, as wide as the plot together.
fn outline(bars: &[f64]) -> String {
    let step = PLOT.0 / bars.len().max(1) as f64;
    let mut path = format!("M0 {}", PLOT.1);
    for (at, height) in bars.iter().enumerate() {
        let y = PLOT.1 - height * (PLOT.1 - 4.0);
        path.push_str(&format!("L{:.1} {y:.1}L{:.1} {y:.1}", at as f64 * step, (at + 1) as f64 * step));
    }
    path.push_str(&format!("L{} {}", PLOT.0, PLOT.1));
    path
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p == 0.0 || p >= 10.0 => format!("{p:.0} %"),
        p if p >= 0.05 => format!("{p:.1} %"),
        _ => "< 0.1 %".to_owned(),
    }
}

fn probability(q: f64) -> String {
    match q {
        q if q < 1e-12 => "< 1e-12".to_owned(),
        q if q < 0.001 => format!("{q:.0e}"),
        q => format!("{q:.3}"),
    }
}

/// Four digits that matter.
fn number(x: f64) -> String {
    let size = x.abs();
    match size {
        _ if x == 0.0 => "0".to_owned(),
        s if !(1e-4..1e9).contains(&s) => format!("{x:.3e}"),
        s if s >= 1000.0 => format!("{x:.0}"),
        s if s >= 100.0 => format!("{x:.1}"),
        s if s >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    }
}
