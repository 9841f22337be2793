//! The report as one page of HTML: no script, no font, no picture from anywhere, light and dark as the reader's system is.
//!
//! Everything that is put in is escaped by the template's name, `.html`; only the plots are marked as safe, and a test puts hostile names
//! into every place.

use minijinja::value::Serde;
use minijinja::{Environment, Error, Value, context};

use super::Record;
use super::plots::{Line, square};
use super::view::View;
use crate::evaluate::Evaluation;

const NAME: &str = "page.html";
const TEMPLATE: &str = include_str!("page.html");

/// The page of a record.
pub(super) fn of(record: &Record) -> String {
    render(record).unwrap_or_else(|error| {
        // The template is fixed: a failure here is a defect, and the record has all of it.
        tracing::error!(error = %format!("{error:#}"), "a model report could not be made a page");
        String::from("<!doctype html><meta charset=\"utf-8\"><title>report</title><p>This page could not be made; the record has all of it.")
    })
}

fn render(record: &Record) -> Result<String, Error> {
    let mut env = Environment::new();
    env.add_template(NAME, TEMPLATE)?;
    env.get_template(NAME)?.render(context! {
        v => Value::from(Serde(View::of(record))),
        plots => plots(record),
        compared => record.champion.is_some(),
    })
}

/// The plots that there is something for.
fn plots(record: &Record) -> Vec<Value> {
    let Some(evaluation) = &record.evaluation else { return Vec::new() };
    type Points = Vec<(f64, f64)>;
    let calibration =
        |e: &Evaluation| -> Points { e.calibration.iter().map(|b| (b.predicted, b.observed)).collect() };
    let plot = |title: &'static str, of: &dyn Fn(&Evaluation) -> Points, diagonal, axes, marked| {
        let is = of(evaluation);
        let was = record.champion.as_ref().map(of).unwrap_or_default();
        let lines = [Line { class: "was", points: &was, marked }, Line { class: "is", points: &is, marked }];
        let drawn = square(&lines, diagonal, axes);
        (!is.is_empty()).then(|| context! { title, svg => Value::from_safe_string(drawn) })
    };
    let rates = ("false positive rate", "true positive rate");
    let all = [
        plot("ROC curve", &|e| e.roc.clone(), true, rates, false),
        plot("Precision and recall", &|e| e.precision_recall.clone(), false, ("recall", "precision"), false),
        plot("Calibration", &calibration, true, ("predicted", "observed"), true),
    ];
    all.into_iter().flatten().collect()
}
