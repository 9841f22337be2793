//! Figures against scikit-learn and fairlearn, and what must hold of them whatever the rows.

mod properties;

use models::evaluate::metrics::calibration::{Bins, curve};
use models::evaluate::metrics::rank::{Ranking, roc_points};
use models::evaluate::metrics::threshold::Confusion;
use models::evaluate::{
    Choices, CostConfig, EvaluateConfig, Key, Measure, Metric, Rows, Truth, evaluate, fairness, kept,
};
use serde_json::Value;

use crate::golden::{bools, close, floats, pairs, read};

const THRESHOLD: f64 = 0.45;

fn choices() -> Choices {
    Choices { threshold: THRESHOLD, false_positive: 2.0, false_negative: 5.0, bins: 10 }
}

/// Plain and weighted rows, with what was recorded of each.
fn both(truth: Truth, of: &Value) -> [(Rows, Value); 2] {
    let rows = Rows::new(truth).unwrap();
    let weighted = rows.clone().weighted(floats(&of["weights"])).unwrap();
    [(rows, of["plain"].clone()), (weighted, of["weighted"].clone())]
}

fn binary(of: &Value) -> Truth {
    Truth::Binary { labels: bools(&of["labels"]), scores: floats(&of["scores"]) }
}

fn compare(rows: &Rows, expected: &Value) -> usize {
    let expected = expected.as_object().unwrap();
    for (name, value) in expected {
        let metric: Metric = name.parse().unwrap();
        let found = Measure::new(metric, rows, choices()).unwrap().value().unwrap();
        close(name, found, value.as_f64().unwrap());
    }
    expected.len()
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let all = read("metrics.json");
    let mut compared = 0;
    for (rows, expected) in both(binary(&all["binary"]), &all["binary"]) {
        compared += compare(&rows, &expected["metrics"]);
        let Truth::Binary { labels, scores } = rows.truth() else { panic!() };
        let c = Confusion::at(labels, scores, rows.weights(), THRESHOLD);
        for (found, expected) in [c.tp, c.fp, c.tn, c.fn_].into_iter().zip(floats(&expected["confusion"])) {
            close("confusion", found, expected);
        }
        let roc = roc_points(&Ranking::of(scores).cuts(labels, rows.weights()));
        let expected = pairs(&expected["roc"]);
        assert_eq!(roc.len(), expected.len());
        for (found, expected) in roc.iter().zip(expected) {
            close("fpr", found.0, expected.0);
            close("tpr", found.1, expected.1);
        }
    }
    let of = &all["multiclass"];
    let classes = (0..of["classes"].as_u64().unwrap()).map(|c| c.to_string()).collect();
    let labels = floats(&of["labels"]).into_iter().map(|c| c as u32).collect();
    let truth = Truth::Multiclass { classes, labels, probabilities: floats(&of["probabilities"]) };
    for (rows, expected) in both(truth, of) {
        compared += compare(&rows, &expected);
    }
    let of = &all["regression"];
    let truth = Truth::Regression { truth: floats(&of["truth"]), predicted: floats(&of["predicted"]) };
    for (rows, expected) in both(truth, of) {
        compared += compare(&rows, &expected);
    }
    assert_eq!(compared, 2 * (14 + 4 + 4));
}

#[test]
fn calibration_curves_are_those_of_scikit_learn() {
    let of = &read("metrics.json")["binary"];
    let (labels, scores) = (bools(&of["labels"]), floats(&of["scores"]));
    for (bins, name) in [(Bins::EqualWidth, "curve"), (Bins::EqualMass, "curve_mass")] {
        let (found, expected) = (curve(&labels, &scores, None, (bins, 10)), pairs(&of[name]));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            close(name, found.predicted, expected.0);
            close(name, found.observed, expected.1);
        }
    }
}

fn groups(of: &Value) -> Key {
    Key::new("group", of["group"].as_array().unwrap().iter().map(Value::as_str))
}

#[test]
fn fairness_is_that_of_fairlearn() {
    let all = read("metrics.json");
    let expected = &all["fairness"];
    let config = EvaluateConfig {
        groups: vec!["group".into()],
        group_minimum: 10,
        threshold: THRESHOLD,
        ..EvaluateConfig::default()
    };
    let [(plain, _), (weighted, _)] = both(binary(&all["binary"]), &all["binary"]);
    let found = evaluate(&plain.key(groups(&all["binary"])).unwrap(), &config).unwrap().fairness.remove(0);
    for (name, interval) in [
        ("dp_difference", found.dp_difference),
        ("dp_ratio", found.dp_ratio),
        ("eo_difference", found.eo_difference),
    ] {
        let interval = interval.unwrap();
        close(name, interval.value, expected[name].as_f64().unwrap());
        assert!(interval.low <= interval.value && interval.value <= interval.high, "{name}: {interval:?}");
    }
    for group in &found.groups {
        close(
            &group.value,
            group.selection_rate.unwrap(),
            expected["selection_rate"][&group.value].as_f64().unwrap(),
        );
    }
    let found = evaluate(&weighted.key(groups(&all["binary"])).unwrap(), &config).unwrap().fairness.remove(0);
    close("dp", found.dp_difference.unwrap().value, expected["weighted_dp_difference"].as_f64().unwrap());
    close("eo", found.eo_difference.unwrap().value, expected["weighted_eo_difference"].as_f64().unwrap());
}

#[test]
fn a_group_that_is_too_small_is_named_and_not_compared() {
    let all = read("metrics.json");
    let rows = Rows::new(binary(&all["binary"])).unwrap().key(groups(&all["binary"])).unwrap();
    let found = fairness::compare(&rows, rows.column("group").unwrap(), 0.5, 60, Default::default()).unwrap();
    assert_eq!(found.groups.len(), 2);
    assert_eq!(found.small.len(), 1);
    let alone =
        fairness::compare(&rows, rows.column("group").unwrap(), 0.5, 1_000, Default::default()).unwrap();
    assert_eq!((alone.dp_difference, alone.eo_difference), (None, None), "nothing to compare is not fair");
}

#[test]
fn an_evaluation_has_slices_curves_and_all_its_figures_and_is_the_same_again() {
    let all = read("metrics.json");
    let rows = Rows::new(binary(&all["binary"])).unwrap().key(groups(&all["binary"])).unwrap();
    let config = EvaluateConfig {
        slices: vec!["group".into()],
        groups: vec!["group".into()],
        group_minimum: 30,
        ..EvaluateConfig::default()
    };
    let found = evaluate(&rows, &config).unwrap();
    assert_eq!(found.metrics.len(), 13, "{:?}", found.metrics);
    assert!(found.metrics.values().all(Option::is_some));
    assert!(found.roc.len() > 10 && found.precision_recall.len() > 10 && found.calibration.len() == 10);
    let parts = &found.slices[0].parts;
    let told: u64 = parts.iter().map(|p| p.rows).chain(found.slices[0].small.values().copied()).sum();
    assert_eq!(told, 240);
    assert_eq!(
        serde_json::to_string(&found).unwrap(),
        serde_json::to_string(&evaluate(&rows, &config).unwrap()).unwrap()
    );
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<models::evaluate::Evaluation>(&text).unwrap().rows, 240);
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_the_reason() {
    let truth = |labels: usize, scores: Vec<f64>| Truth::Binary { labels: vec![true; labels], scores };
    let error = |truth| Rows::new(truth).unwrap_err().to_string();
    assert_eq!(error(truth(0, vec![])), "evaluate: there are no rows");
    assert_eq!(error(truth(2, vec![0.5])), "evaluate: the column `score` has 1 values for 2 rows");
    assert_eq!(
        error(truth(2, vec![0.5, f64::NAN])),
        "evaluate: row 1 of the column `score` is not a finite number"
    );
    let rows = Rows::new(truth(2, vec![0.5, 0.7])).unwrap();
    assert!(rows.clone().weighted(vec![1.0, -1.0]).unwrap_err().to_string().contains("is negative"));
    assert!(rows.clone().weighted(vec![0.0, 0.0]).is_err());
    let config = EvaluateConfig { slices: vec!["carrier".into()], ..EvaluateConfig::default() };
    assert_eq!(
        evaluate(&rows, &config).unwrap_err().to_string(),
        "evaluate: there is no column `carrier`; there are: none"
    );
    let wrong = EvaluateConfig { metrics: vec![Metric::Rmse], ..EvaluateConfig::default() };
    assert!(
        evaluate(&rows, &wrong).unwrap_err().to_string().contains("a binary classification has no `rmse`")
    );
    let odd = EvaluateConfig {
        bins: 0,
        confidence: 1.0,
        cost: CostConfig { false_positive: -1.0, false_negative: 1.0 },
        ..EvaluateConfig::default()
    };
    assert_eq!(odd.problems().iter().map(|p| p.0).collect::<Vec<_>>(), ["bins", "confidence", "cost"]);
}

#[test]
fn scores_that_are_no_probabilities_have_no_calibration() {
    let rows = Rows::new(Truth::Binary { labels: vec![true, false], scores: vec![3.0, -1.0] }).unwrap();
    let found = evaluate(&rows, &EvaluateConfig::default()).unwrap();
    for name in ["log_loss", "brier", "ece", "ece_mass"] {
        assert_eq!(found.metrics[name], None);
    }
    assert_eq!(found.metrics["auc"], Some(1.0));
    assert!(found.calibration.is_empty());
}

#[test]
fn rows_that_must_be_right_are_told_by_name_when_they_are_not() {
    let rows =
        Rows::new(Truth::Binary { labels: vec![true, false, true], scores: vec![0.9, 0.8, 0.4] }).unwrap();
    let names = ["first", "second", "third"].map(str::to_owned);
    let found = kept(&rows, &names, 0.5, 0.0);
    assert_eq!((found.rows, found.failed), (3, 2));
    assert_eq!(found.wrong, ["second", "third"]);
    let numbers = Truth::Regression { truth: vec![1.0, 2.0], predicted: vec![1.05, 2.2] };
    assert_eq!(kept(&Rows::new(numbers).unwrap(), &names, 0.5, 0.1).wrong, ["second"]);
}
