//! A gate's file: YAML, with everything that is wrong in it told by line and column.

use serde_json::Value;
use yaml::Node;
use yaml::problem::{Problem, sort};

use super::config::GateConfig;
use super::lineage::PARTS;
use crate::evaluate::Metric;

const EMPTY: &str = "write `primary: {metric: auc, margin: 0.005}` to begin with";

/// Reads a file.
///
/// # Errors
/// Every problem in it, in the order of the file.
pub fn parse(text: &str) -> Result<GateConfig, Vec<Problem>> {
    let parsed = yaml::spans::parse_plain(text, EMPTY);
    let mut problems = parsed.problems;
    let Some(tree) = parsed.root else { return Err(problems) };
    problems.extend(yaml::shape::check(&json_schema(), &tree));
    if problems.is_empty() {
        match serde_json::from_value::<GateConfig>(tree.to_json()) {
            Ok(config) => {
                problems.extend(sense(&config, &tree));
                if problems.is_empty() {
                    return Ok(config);
                }
            }
            Err(error) => problems.push(Problem::new(tree.at, "", error.to_string(), "correct it")),
        }
    }
    sort(&mut problems);
    Err(problems)
}

/// The JSON Schema of a gate's file, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(GateConfig).to_value();
    yaml::shape::without_null(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "A Forebay gate".into());
    }
    schema
}

/// What has the right shape and makes no sense.
fn sense(config: &GateConfig, tree: &Node) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut hold = |holds: bool, pointer: &str, message: &str, remedy: &str| {
        if !holds {
            found.push(Problem::new(tree.locate(pointer).label(), pointer, message, remedy));
        }
    };
    let above = |x: f64| x.is_finite() && x >= 0.0;
    let share = |x: f64| x > 0.0 && x < 1.0;
    hold(above(config.primary.margin), "/primary/margin", "a margin is not negative", "give 0 or more");
    hold(
        share(config.primary.alpha) && config.primary.alpha <= 0.5,
        "/primary/alpha",
        "not a chance of error",
        "give a share such as 0.05",
    );
    for (name, floor) in &config.floors {
        let pointer = yaml::tree::join("/floors", name);
        if let Err(error) = name.parse::<Metric>() {
            hold(false, &pointer, &error, "name a metric");
        }
        hold(floor.is_finite(), &pointer, "not a number", "give a number");
    }
    if let Some(c) = &config.calibration {
        let any = c.ece.is_some() || c.brier.is_some();
        hold(any, "/calibration", "nothing is asked for", "add `ece` or `brier`");
        hold(c.ece.is_none_or(above), "/calibration/ece", "an error is not negative", "give 0 or more");
        hold(c.brier.is_none_or(above), "/calibration/brier", "a margin is not negative", "give 0 or more");
    }
    if let Some(s) = &config.slices {
        hold(
            !s.columns.is_empty(),
            "/slices/columns",
            "no column is named",
            "name the columns that divide the rows",
        );
        let any = s.margin.is_some() || s.floor.is_some();
        hold(any, "/slices", "nothing is asked for", "add `margin` or `floor`");
        hold(s.margin.is_none_or(above), "/slices/margin", "a margin is not negative", "give 0 or more");
    }
    if let Some(f) = &config.fairness {
        hold(
            !f.columns.is_empty(),
            "/fairness/columns",
            "no column is named",
            "name the columns that hold groups",
        );
        let any = f.dp_difference.is_some() || f.eo_difference.is_some() || f.ratio.is_some();
        hold(any, "/fairness", "nothing is asked for", "add `dp_difference`, `eo_difference` or `ratio`");
        let within = f.confidence > 0.5 && f.confidence < 1.0;
        hold(within, "/fairness/confidence", "not a confidence", "give a share such as 0.95");
    }
    let times = [
        (config.latency.and_then(|l| l.times_champion), "/latency/times_champion"),
        (config.size.and_then(|s| s.times_champion), "/size/times_champion"),
    ];
    for (times, pointer) in times {
        hold(times.is_none_or(|t| t > 0.0 && t.is_finite()), pointer, "not a factor", "give 1.5, say");
    }
    for (at, part) in config.lineage.iter().enumerate() {
        let known = PARTS.contains(&part.as_str());
        let remedy = yaml::problem::suggest(part, "there are", PARTS.iter().copied());
        hold(known, &format!("/lineage/{at}"), &format!("`{part}` is no part of a record"), &remedy);
    }
    let enough = (100..=100_000).contains(&config.replicates);
    hold(enough, "/replicates", "too few or too many", "give 100 to 100000");
    found
}
