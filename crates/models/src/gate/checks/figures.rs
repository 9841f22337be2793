//! Checks of figures over all rows: the primary one against the champion, floors, calibration.

use crate::evaluate::{Error, Metric, Rows, Truth};
use crate::gate::decide::{At, said, undefined};
use crate::gate::decision::Check;
use crate::gate::paired::{Pair, Paired, compare};

/// The primary figure: against the champion, and for a first model against a floor or a model that knows nothing.
pub(in crate::gate) fn primary(at: &At<'_>) -> Result<Check, Error> {
    let rule = at.gate.primary;
    let rows = at.case.challenger.rows;
    match (&at.case.champion, at.comparable(), at.gate.first.floor) {
        (Some(_), Some(champion), _) => {
            let pair = Pair {
                metric: rule.metric,
                challenger: at.measure(rule.metric, rows)?,
                champion: at.measure(rule.metric, champion.rows)?,
            };
            let found = compare(&pair, rule.test, (rule.margin, rule.alpha), at.resampling());
            Ok(found.map_or_else(
                || undefined("primary".into(), &rule.metric.to_string()),
                |f| paired(rule.metric, &f),
            ))
        }
        (Some(_), None, _) => Ok(Check::new(
            "primary",
            false,
            "the champion was asked other rows than the challenger, so the two cannot be compared",
        )),
        (None, _, Some(floor)) => reaches(at, floor),
        (None, ..) => knows_more(at),
    }
}

fn paired(metric: Metric, found: &Paired) -> Check {
    let passed = found.non_inferior();
    let worst = match -found.low {
        loss if loss > 0.0 => format!("at worst {} worse", said(loss)),
        gain => format!("at least {} better", said(-gain)),
    };
    let within = if passed { "within" } else { "which is more than" };
    let sentence = format!(
        "{metric} is {} against the champion's {}: {worst} ({}, {} % sure), {within} the margin of {}",
        said(found.challenger),
        said(found.champion),
        found.test.name(),
        said((1.0 - found.alpha) * 100.0),
        said(found.margin),
    );
    evidence(Check::new("primary", passed, sentence).of(found.low, -found.margin), metric, found)
}

fn evidence(check: Check, metric: Metric, found: &Paired) -> Check {
    check
        .with("metric", metric.to_string())
        .with("test", serde_json::json!(found.test))
        .with("challenger", found.challenger)
        .with("champion", found.champion)
        .with("gain", found.gain)
        .with("low", found.low)
        .with("p", found.p)
        .with("margin", found.margin)
        .with("alpha", found.alpha)
}

/// What a first model's figure is shown to be at least (or at most, where less is better): the unfavourable end of its interval.
fn reaches(at: &At<'_>, floor: f64) -> Result<Check, Error> {
    let rule = at.gate.primary;
    let measure = at.measure(rule.metric, at.case.challenger.rows)?;
    let resampling = at.resampling();
    let Some(value) = measure.value() else {
        return Ok(undefined("primary".into(), &rule.metric.to_string()));
    };
    let rows = measure.rows();
    let mut generator = resampling.generator("first");
    let mut counts = vec![0.0; rows.len()];
    let mut figures: Vec<f64> = (0..resampling.replicates)
        .filter_map(|_| {
            crate::evaluate::resample::draw(&mut generator, rows.weights(), &mut counts);
            measure.weighted(Some(&counts))
        })
        .collect();
    figures.sort_unstable_by(f64::total_cmp);
    let tail = if rule.metric.higher_is_better() { rule.alpha } else { 1.0 - rule.alpha };
    let enough = figures.len() * 2 >= resampling.replicates as usize;
    let end = crate::evaluate::metrics::calibration::quantile(&figures, tail).filter(|_| enough);
    let Some(end) = end else { return Ok(undefined("primary".into(), &rule.metric.to_string())) };
    let passed = rule.metric.gain(end, floor) >= 0.0;
    let sentence = format!(
        "a first model: {} is {}, at worst {} ({} % sure), {} {}",
        rule.metric,
        said(value),
        said(end),
        said((1.0 - rule.alpha) * 100.0),
        if passed { "which reaches" } else { "which does not reach" },
        said(floor),
    );
    let check = Check::new("primary", passed, sentence).of(end, floor);
    Ok(check.with("metric", rule.metric.to_string()).with("challenger", value).with("alpha", rule.alpha))
}

/// The answers of models that say the same of every row: how often it is so, or the mean; and of a decision, yes to all and no to all,
/// because what calls everything positive has a high recall and knows nothing.
fn blind(rows: &Rows) -> Result<Vec<Rows>, Error> {
    let weights = rows.weights();
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        crate::evaluate::metrics::mean(values, weights).unwrap_or_default()
    };
    let truths = match rows.truth() {
        Truth::Binary { labels, .. } => {
            let share = mean(&mut labels.iter().map(|l| f64::from(*l)));
            let of = |score| Truth::Binary { labels: labels.clone(), scores: vec![score; labels.len()] };
            [share, 0.0, 1.0].map(of).to_vec()
        }
        Truth::Multiclass { classes, labels, .. } => {
            let of = |class: usize| mean(&mut labels.iter().map(|l| f64::from(*l as usize == class)));
            let shares: Vec<f64> = (0..classes.len()).map(of).collect();
            let probabilities = shares.repeat(labels.len());
            vec![Truth::Multiclass { classes: classes.clone(), labels: labels.clone(), probabilities }]
        }
        Truth::Regression { truth, .. } => {
            let center = mean(&mut truth.iter().copied());
            vec![Truth::Regression { truth: truth.clone(), predicted: vec![center; truth.len()] }]
        }
    };
    let weighted = |truth| match weights {
        Some(weights) => Rows::new(truth)?.weighted(weights.to_vec()),
        None => Rows::new(truth),
    };
    truths.into_iter().map(weighted).collect()
}

/// Whether a first model is shown to be better than one that says the same of every row.
fn knows_more(at: &At<'_>) -> Result<Check, Error> {
    let rule = at.gate.primary;
    let blind = blind(at.case.challenger.rows)?;
    let challenger = at.measure(rule.metric, at.case.challenger.rows)?;
    let mut best = None;
    for rows in &blind {
        let measure = at.measure(rule.metric, rows)?;
        let Some(value) = measure.value() else { continue };
        if best.as_ref().is_none_or(|(_, than)| rule.metric.gain(value, *than) > 0.0) {
            best = Some((measure, value));
        }
    }
    let Some((champion, _)) = best else { return Ok(undefined("primary".into(), &rule.metric.to_string())) };
    let pair = Pair { metric: rule.metric, challenger, champion };
    let Some(found) = compare(&pair, rule.test, (0.0, rule.alpha), at.resampling()) else {
        return Ok(undefined("primary".into(), &rule.metric.to_string()));
    };
    let passed = found.low > 0.0;
    let sentence = format!(
        "a first model: {} is {} against {} of a model that says the same of every row, {} ({}, {} % sure)",
        rule.metric,
        said(found.challenger),
        said(found.champion),
        if passed { "which is better" } else { "which is not shown to be better" },
        found.test.name(),
        said((1.0 - rule.alpha) * 100.0),
    );
    Ok(evidence(Check::new("primary", passed, sentence).of(found.low, 0.0), rule.metric, &found))
}

/// Figures that must be reached.
pub(in crate::gate) fn floors(at: &At<'_>) -> Result<Vec<Check>, Error> {
    let check = |(name, floor): (&String, &f64)| {
        let full = format!("floor.{name}");
        let Ok(metric) = name.parse::<Metric>() else { return Ok(undefined(full, name)) };
        let Some(value) = at.measure(metric, at.case.challenger.rows)?.value() else {
            return Ok(undefined(full, name));
        };
        let passed = metric.gain(value, *floor) >= 0.0;
        let bound = if metric.higher_is_better() { "at least" } else { "at most" };
        let sentence = format!("{metric} is {}, and is to be {bound} {}", said(value), said(*floor));
        Ok(Check::new(full, passed, sentence).of(value, *floor))
    };
    at.gate.floors.iter().map(check).collect()
}

/// Whether probabilities mean what they say.
pub(in crate::gate) fn calibration(at: &At<'_>) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let Some(rule) = at.gate.calibration else { return Ok(checks) };
    let of = |metric, rows| Ok::<_, Error>(at.measure(metric, rows)?.value());
    if let Some(limit) = rule.ece {
        let name = "calibration.ece".to_owned();
        checks.push(match of(Metric::EceMass, at.case.challenger.rows)? {
            Some(ece) => {
                let sentence = format!(
                    "probabilities are off by {} on average, and may be by {}",
                    said(ece),
                    said(limit)
                );
                Check::new(name, ece <= limit, sentence).of(ece, limit).with("bins", 10)
            }
            None => undefined(name, "calibration"),
        });
    }
    if let (Some(margin), Some(champion)) = (rule.brier, at.comparable()) {
        let name = "calibration.brier".to_owned();
        let both = (of(Metric::Brier, at.case.challenger.rows)?, of(Metric::Brier, champion.rows)?);
        checks.push(match both {
            (Some(a), Some(b)) => {
                let sentence = format!(
                    "the Brier score is {} against the champion's {}, and may be {} higher",
                    said(a),
                    said(b),
                    said(margin)
                );
                let check = Check::new(name, a <= b + margin, sentence).of(a, b + margin);
                check.with("challenger", a).with("champion", b).with("margin", margin)
            }
            _ => undefined(name, "the Brier score"),
        });
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::paired::Test;

    #[test]
    fn a_blind_model_has_the_figures_of_one() {
        let rows = Rows::new(Truth::Binary { labels: vec![true, false, false, false], scores: vec![0.9; 4] })
            .unwrap();
        let Truth::Binary { scores, .. } = blind(&rows).unwrap()[0].truth().clone() else { panic!() };
        assert_eq!(scores, [0.25; 4]);
        let rows = Rows::new(Truth::Regression { truth: vec![1.0, 3.0], predicted: vec![0.0; 2] }).unwrap();
        let Truth::Regression { predicted, .. } = blind(&rows).unwrap()[0].truth().clone() else { panic!() };
        assert_eq!(predicted, [2.0; 2]);
    }

    #[test]
    fn a_test_that_does_not_fit_its_metric_shows_nothing() {
        let rows = Rows::new(Truth::Binary { labels: vec![true, false], scores: vec![0.9, 0.2] }).unwrap();
        let of = |metric| crate::evaluate::Measure::new(metric, &rows, Default::default()).unwrap();
        let pair = Pair { metric: Metric::F1, challenger: of(Metric::F1), champion: of(Metric::F1) };
        for test in [Test::Delong, Test::Mcnemar, Test::PairedT] {
            assert_eq!(compare(&pair, test, (0.0, 0.05), Default::default()), None);
        }
    }
}
