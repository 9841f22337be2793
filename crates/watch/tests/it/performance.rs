//! Performance against scikit-learn, statsmodels, fairlearn and NannyML; intervals that hold what they say; windows and
//! labels.

use contract::UnixMillis;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use watch::performance::{
    BinaryData, BinaryMetric, EstimatedMetric, FairnessLimits, Isotonic, Maturity, RegressionData,
    RegressionMetric, SliceLimits, WindowSettings, Windows, back_test, compare, estimate, estimate_classes,
    fairness, slices, wilson,
};
use watch::{Error, Seeded};

use crate::support::{column, golden, golden_one, near, number, numbers, scored, whole};

#[test]
fn classification_equals_scikit_learn() {
    for row in golden("binary") {
        let (scores, labels) =
            scored(row["seed"].as_u64().unwrap(), whole(&row, "n"), row["steps"].as_u64().unwrap());
        let data = BinaryData::new(scores, labels).unwrap();
        let cut = number(&row, "cut");
        let metrics = [
            ("auc", BinaryMetric::Auc),
            ("pr_auc", BinaryMetric::PrAuc),
            ("log_loss", BinaryMetric::LogLoss),
            ("brier", BinaryMetric::Brier),
            ("f1", BinaryMetric::F1),
            ("precision", BinaryMetric::Precision),
            ("recall", BinaryMetric::Recall),
            ("accuracy", BinaryMetric::Accuracy),
            ("fpr", BinaryMetric::FalsePositiveRate),
            ("fnr", BinaryMetric::FalseNegativeRate),
            ("ece", BinaryMetric::Ece),
            ("recall_at_06", BinaryMetric::RecallAtPrecision(0.6)),
        ];
        for (name, metric) in metrics {
            near(name, data.value(metric, cut).unwrap(), number(&row, name), 1e-9);
        }
        let c = data.confusion(cut);
        let interval = wilson(c.tp, c.tp + c.fn_, 0.95).unwrap();
        near("wilson", interval.low, row["wilson"][0].as_f64().unwrap(), 1e-9);
        near("wilson", interval.high, row["wilson"][1].as_f64().unwrap(), 1e-9);
    }
}

#[test]
fn regression_equals_scikit_learn() {
    for row in golden("regression") {
        let (seed, n) = (row["seed"].as_u64().unwrap(), whole(&row, "n"));
        let (truth, noise) = (column("bell", seed, n, 0.0), column("bell", seed + 1, n, 0.1));
        let said = truth.iter().zip(&noise).map(|(t, e)| t + e / 2.0).collect();
        let data = RegressionData::new(said, truth).unwrap();
        near("mae", data.value(RegressionMetric::Mae).unwrap(), number(&row, "mae"), 1e-9);
        near("rmse", data.value(RegressionMetric::Rmse).unwrap(), number(&row, "rmse"), 1e-9);
        near("r2", data.value(RegressionMetric::R2).unwrap(), number(&row, "r2"), 1e-9);
    }
}

#[test]
fn isotonic_calibration_equals_scikit_learn() {
    for row in golden("isotonic") {
        let (scores, labels) =
            scored(row["seed"].as_u64().unwrap(), whole(&row, "n"), row["steps"].as_u64().unwrap());
        let fit = Isotonic::fit(&scores, &labels).unwrap();
        for (ask, say) in numbers(&row["ask"]).into_iter().zip(numbers(&row["say"])) {
            near(&format!("at {ask}"), fit.probability(ask), say, 1e-9);
        }
    }
}

#[test]
fn fairness_equals_fairlearn() {
    for row in golden("fairness") {
        let (seed, n, groups) = (row["seed"].as_u64().unwrap(), whole(&row, "n"), whole(&row, "groups"));
        let (scores, labels) = scored(seed, n, 1 << 30);
        let mut draw = Seeded::new(seed + 100);
        let group: Vec<usize> = (0..n).map(|_| (draw.unit() * groups as f64) as usize).collect();
        let said: Vec<bool> = scores.iter().zip(&group).map(|(s, &g)| *s >= 0.4 + 0.05 * g as f64).collect();
        let names: Vec<&str> = group.iter().map(|&g| ["a", "b", "c", "d"][g]).collect();
        let found = fairness(&said, &labels, &names, &FairnessLimits::default(), 1).unwrap();
        near("difference", found.demographic_parity_difference, number(&row, "dp_difference"), 1e-9);
        near("ratio", found.demographic_parity_ratio, number(&row, "dp_ratio"), 1e-9);
        near("odds", found.equalized_odds_difference.unwrap(), number(&row, "eo_difference"), 1e-9);
        near("odds ratio", found.equalized_odds_ratio.unwrap(), number(&row, "eo_ratio"), 1e-9);
        assert!(found.ratio_interval.unwrap().holds(found.demographic_parity_ratio));
    }
}

#[test]
fn a_group_that_is_too_small_is_named_and_not_compared() {
    let said: Vec<bool> = (0..205).map(|i| i % 2 == 0 || i >= 200).collect();
    let groups: Vec<&str> =
        (0..205).map(|i| if i >= 200 { "tiny" } else { ["a", "b"][(i / 2) % 2] }).collect();
    let found = fairness(&said, &said, &groups, &FairnessLimits::default(), 1).unwrap();
    assert_eq!(found.too_small, [("tiny".to_owned(), 5)]);
    assert_eq!(found.demographic_parity_ratio, 1.0);
    let lonely = fairness(&said, &said, &vec!["a"; 205], &FairnessLimits::default(), 1);
    assert!(matches!(lonely, Err(Error::TooFew { what: "groups", .. })));
}

/// Counts of (probability in hundredths, prediction, label) as rows.
fn expand(rows: &serde_json::Value) -> (Vec<f64>, Vec<bool>, Vec<bool>) {
    let (mut scores, mut said, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.as_array().unwrap() {
        let at = |i: usize| row[i].as_u64().unwrap();
        for _ in 0..at(3) {
            scores.push(at(0) as f64 / 100.0);
            said.push(at(1) == 1);
            labels.push(at(2) == 1);
        }
    }
    (scores, said, labels)
}

const METRICS: [(&str, EstimatedMetric); 7] = [
    ("roc_auc", EstimatedMetric::Auc),
    ("average_precision", EstimatedMetric::PrAuc),
    ("f1", EstimatedMetric::F1),
    ("precision", EstimatedMetric::Precision),
    ("recall", EstimatedMetric::Recall),
    ("specificity", EstimatedMetric::Specificity),
    ("accuracy", EstimatedMetric::Accuracy),
];

#[test]
fn estimates_for_two_classes_equal_nannyml_on_its_own_set() {
    let set = &golden_one("cbpe")["binary"];
    let (scores, _, labels) = expand(&set["reference"]);
    assert_eq!(set["calibrated_first"], true);
    let fit = Isotonic::fit(&scores, &labels).unwrap();
    let mut tested = Vec::new();
    for chunk in set["chunks"].as_array().unwrap() {
        let (scores, said, labels) = expand(&chunk["rows"]);
        let probabilities = scores.iter().map(|&s| fit.probability(s)).collect();
        // It takes rows of one score one by one in average precision, scikit-learn (and we) together.
        let apart = scores.iter().enumerate().map(|(i, s)| (s + i as f64 * 1e-9).min(1.0)).collect();
        let probabilities: Vec<f64> = probabilities;
        let one_by_one = estimate(apart, probabilities.clone(), said.clone()).unwrap();
        let estimated = estimate(scores.clone(), probabilities, said).unwrap();
        for (name, metric) in METRICS {
            // It rounds cumulative counts to five digits.
            let (value, tolerance) = match metric {
                EstimatedMetric::Auc => (estimated.value(metric), 1e-7),
                EstimatedMetric::PrAuc => (one_by_one.value(metric), 1e-6),
                metric => (estimated.value(metric), 1e-9),
            };
            near(name, value.unwrap(), number(&chunk[name], "value"), tolerance);
        }
        let real = BinaryData::new(scores, labels).unwrap();
        near(
            "realised",
            real.value(BinaryMetric::Auc, 0.5).unwrap(),
            number(&chunk["roc_auc"], "realized"),
            1e-9,
        );
        let interval = estimated.interval(EstimatedMetric::Auc, 40, 0.95, 1);
        let value = estimated.value(EstimatedMetric::Auc).unwrap();
        tested.push((value, interval, real.value(BinaryMetric::Auc, 0.5).unwrap()));
    }
    let back = back_test(&tested).unwrap();
    assert_eq!(back.windows, 10);
    assert!(back.mean_absolute_error < 0.005, "{back:?}");
}

#[test]
fn estimates_for_several_classes_equal_nannyml_on_its_own_set() {
    let set = &golden_one("cbpe")["multiclass"];
    let classes = set["classes"].as_array().unwrap().len();
    let fits: Vec<Option<Isotonic>> = (0..classes)
        .map(|class| {
            let (mut scores, mut labels) = (Vec::new(), Vec::new());
            for row in set["reference"][class].as_array().unwrap() {
                for _ in 0..row[2].as_u64().unwrap() {
                    scores.push(row[0].as_f64().unwrap() / 100.0);
                    labels.push(row[1].as_u64().unwrap() == 1);
                }
            }
            set["calibrated_first"][class]
                .as_bool()
                .unwrap()
                .then(|| Isotonic::fit(&scores, &labels).unwrap())
        })
        .collect();
    for chunk in set["chunks"].as_array().unwrap() {
        let rows: Vec<Vec<usize>> = chunk["rows"]
            .as_str()
            .unwrap()
            .split(' ')
            .map(|row| row.split(',').map(|x| x.parse().unwrap()).collect())
            .collect();
        let scores: Vec<Vec<f64>> =
            (0..classes).map(|c| rows.iter().map(|row| row[c] as f64 / 100.0).collect()).collect();
        let calibrate =
            |class: usize, score: f64| fits[class].as_ref().map_or(score, |fit| fit.probability(score));
        let probabilities = scores
            .iter()
            .enumerate()
            .map(|(class, scores)| scores.iter().map(|&s| calibrate(class, s)).collect())
            .collect();
        let said: Vec<usize> = rows.iter().map(|row| row[classes]).collect();
        let estimated = estimate_classes(scores, probabilities, &said).unwrap();
        for (name, metric) in METRICS {
            match metric {
                EstimatedMetric::PrAuc => {}
                // Where rows tie in one class's score, it takes them in an order of its own.
                EstimatedMetric::Auc => {
                    near(name, estimated.value(metric), number(&chunk[name], "value"), 2e-4)
                }
                _ => near(name, estimated.value(metric), number(&chunk[name], "value"), 1e-9),
            }
        }
    }
}

/// The share of 400 samples whose interval holds the true value.
fn coverage(metric: BinaryMetric, truth: f64) -> f64 {
    let held = (0..400u64).filter(|&seed| {
        let (scores, labels) = scored(10_000 + seed * 7, 300, 1 << 30);
        let data = BinaryData::new(scores, labels).unwrap();
        data.measure(metric, 0.5, 0.9, seed).unwrap().interval.unwrap().holds(truth)
    });
    held.count() as f64 / 400.0
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let (scores, labels) = scored(99, 400_000, 1 << 30);
    let all = BinaryData::new(scores, labels).unwrap();
    // 90 %, give or take three standard deviations of 1.5 %, and the skew of small samples.
    for metric in [
        BinaryMetric::Auc,
        BinaryMetric::Brier,
        BinaryMetric::Recall,
        BinaryMetric::Precision,
        BinaryMetric::F1,
    ] {
        let held = coverage(metric, all.value(metric, 0.5).unwrap());
        assert!((0.85..=0.95).contains(&held), "{metric:?}: {held}");
    }
}

#[test]
fn slices_are_by_one_column_or_by_several_and_never_too_small() {
    let carrier: Vec<Option<&str>> = (0..200).map(|i| Some(["AA", "UA"][i % 2])).collect();
    let origin: Vec<Option<&str>> =
        (0..200).map(|i| [Some("JFK"), None, Some("LGA"), Some("EWR")][i % 4]).collect();
    let columns = [("carrier", carrier), ("origin", origin)];
    let limits = SliceLimits { min_rows: 50, most: 4 };
    let found = slices(&columns, &[vec![0], vec![1], vec![0, 1]], limits).unwrap();
    let names: Vec<String> = found.rows.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["carrier=AA", "carrier=AA, origin=JFK", "carrier=AA, origin=LGA", "carrier=UA"]);
    assert_eq!((found.too_small, found.beyond), (0, 4));
    let few = slices(&columns, &[vec![1]], SliceLimits { min_rows: 51, most: 9 }).unwrap();
    assert_eq!((few.rows.len(), few.too_small), (0, 3));
}

const HOUR: i64 = 3_600_000;

fn settings() -> WindowSettings {
    WindowSettings {
        width: Duration::from_secs(3_600),
        wait: Duration::from_secs(7_200),
        min_share: 0.8,
        max_rows: 100,
        max_windows: 5,
    }
}

#[test]
fn a_window_is_not_measured_before_its_labels_are_in() {
    let mut windows: Windows<f64, bool> = Windows::new(settings()).unwrap();
    for i in 0..10 {
        windows.predicted(&format!("p{i}"), UnixMillis(i * 60_000), 0.5);
    }
    for i in 0..8 {
        windows.labelled(&format!("p{i}"), true);
    }
    let maturity = |w: &Windows<f64, bool>, now: i64| w.states(UnixMillis(now))[0].maturity;
    assert_eq!(maturity(&windows, HOUR - 1), Maturity::Open);
    assert_eq!(maturity(&windows, 50 * HOUR), Maturity::Waiting, "time alone promises nothing");
    windows.advance(UnixMillis(3 * HOUR - 1));
    assert!(matches!(
        windows.matured(UnixMillis(50 * HOUR), UnixMillis(0)),
        Err(Error::Immature { labelled: 8, predicted: 10 })
    ));
    windows.advance(UnixMillis(3 * HOUR));
    assert_eq!(maturity(&windows, 50 * HOUR), Maturity::Mature);
    let matured = windows.matured(UnixMillis(50 * HOUR), UnixMillis(0)).unwrap();
    assert_eq!((matured.pairs().len(), windows.predictions(UnixMillis(0)).len()), (8, 10));
    let measure = |value| watch::performance::Measure { value, interval: wilson(value * 1e3, 1e3, 0.95) };
    let (a, b) = (matured.measured(measure(0.9)), matured.measured(measure(0.8)));
    assert_eq!(compare(&a, &b).apart, Some(true));
}

#[test]
fn a_window_whose_labels_never_come_is_incomplete_and_compared_with_nothing() {
    let mut windows: Windows<f64, bool> = Windows::new(settings()).unwrap();
    for i in 0..10 {
        windows.predicted(&format!("p{i}"), UnixMillis(i), 0.5);
    }
    windows.labelled("p1", true);
    windows.advance(UnixMillis(9 * HOUR));
    assert_eq!(windows.states(UnixMillis(9 * HOUR))[0].maturity, Maturity::Incomplete);
    assert!(windows.matured(UnixMillis(9 * HOUR), UnixMillis(0)).is_err());
}

#[test]
fn what_is_held_is_bounded_and_the_oldest_goes_first() {
    let mut windows: Windows<f64, bool> = Windows::new(settings()).unwrap();
    for i in 0..250 {
        windows.labelled(&format!("never-{i}"), true);
    }
    assert_eq!(windows.dropped(), 150);
    for hour in 0..8 {
        for i in 0..20 {
            windows.predicted(&format!("p{hour}-{i}"), UnixMillis(hour * HOUR), 0.5);
        }
    }
    let starts: Vec<i64> = windows.states(UnixMillis(0)).iter().map(|s| s.start.0 / HOUR).collect();
    assert_eq!(starts, [3, 4, 5, 6, 7]);
    windows.predicted("late", UnixMillis(0), 0.5);
    assert_eq!(windows.dropped(), 151, "of a window that is gone");
    for i in 0..200 {
        windows.predicted(&format!("q{i}"), UnixMillis(7 * HOUR), 0.5);
    }
    let states = windows.states(UnixMillis(0));
    assert_eq!((states.len(), states[0].predicted), (1, 100));
    assert_eq!(windows.dropped(), 151 + 120);
}

proptest! {
    /// Predictions and labels in any order, twice, too many: every prediction is counted once, a label that came first
    /// waits.
    #[test]
    fn every_prediction_is_in_one_window_whatever_the_order(
        ops in prop::collection::vec((any::<bool>(), 0u8..60), 1..200),
        hours in prop::collection::vec(0i64..4, 60),
    ) {
        let mut windows: Windows<u8, bool> = Windows::new(settings()).unwrap();
        let (mut made, mut known) = (BTreeMap::new(), BTreeMap::new());
        for &(label, i) in &ops {
            let id = format!("p{i}");
            if label {
                windows.labelled(&id, i % 2 == 0);
                known.insert(i, ());
            } else {
                windows.predicted(&id, UnixMillis(hours[i as usize] * HOUR + 5), i);
                made.insert(i, hours[i as usize]);
            }
        }
        let read = serde_json::to_string(&windows).unwrap();
        let windows: Windows<u8, bool> = serde_json::from_str(&read).unwrap();
        let states = windows.states(UnixMillis(0));
        prop_assert_eq!(states.iter().map(|s| s.predicted).sum::<u64>(), made.len() as u64);
        let both = made.keys().filter(|i| known.contains_key(i)).count() as u64;
        prop_assert_eq!(states.iter().map(|s| s.labelled).sum::<u64>(), both);
        for state in states {
            let here = made.values().filter(|h| **h * HOUR == state.start.0).count() as u64;
            prop_assert_eq!(state.predicted, here);
        }
        prop_assert_eq!(windows.dropped(), 0);
    }

    #[test]
    fn an_auc_turns_over_with_the_scores_and_a_calibration_never_descends(
        rows in prop::collection::vec((0u32..50, any::<bool>()), 2..100),
    ) {
        let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0) / 50.0).collect();
        let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
        let turned: Vec<f64> = scores.iter().map(|s| 1.0 - s).collect();
        let auc = |s: Vec<f64>| BinaryData::new(s, labels.clone()).unwrap().value(BinaryMetric::Auc, 0.5);
        match (auc(scores.clone()), auc(turned)) {
            (Some(a), Some(b)) => prop_assert!((a + b - 1.0).abs() < 1e-9),
            (a, b) => prop_assert_eq!(a, b),
        }
        let fit = Isotonic::fit(&scores, &labels).unwrap();
        let said: Vec<f64> = (0..=60).map(|i| fit.probability(f64::from(i) / 60.0)).collect();
        prop_assert!(said.is_sorted() && said.iter().all(|p| (0.0..=1.0).contains(p)));
    }
}
