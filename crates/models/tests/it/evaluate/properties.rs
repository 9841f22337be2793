//! What holds of figures whatever the rows are.

use models::evaluate::metrics::calibration::{Bins, curve, ece};
use models::evaluate::metrics::rank::{average_precision, roc_auc};
use models::evaluate::{Choices, Key, Measure, Metric, Resampling, Rows, Truth, fairness};
use proptest::prelude::*;

fn rows() -> impl Strategy<Value = Vec<(bool, f64, u8)>> {
    // Few different scores: ties everywhere.
    prop::collection::vec((any::<bool>(), (0_u8..=20).prop_map(|s| f64::from(s) / 20.0), 0_u8..4), 1..80)
}

fn columns(rows: &[(bool, f64, u8)]) -> (Vec<bool>, Vec<f64>, Vec<f64>) {
    (
        rows.iter().map(|r| r.0).collect(),
        rows.iter().map(|r| r.1).collect(),
        rows.iter().map(|r| f64::from(r.2)).collect(),
    )
}

proptest! {
    /// A row of weight three is three rows, one of weight zero is none: for every metric.
    #[test]
    fn a_weight_is_a_number_of_rows(rows in rows().prop_filter("some weight", |r| r.iter().any(|r| r.2 > 0))) {
        let (labels, scores, weights) = columns(&rows);
        let repeat: Vec<_> = rows.iter().flat_map(|r| std::iter::repeat_n((r.0, r.1, 1), r.2.into())).collect();
        let weighted = Rows::new(Truth::Binary { labels, scores }).unwrap().weighted(weights).unwrap();
        let (labels, scores, _) = columns(&repeat);
        let repeated = Rows::new(Truth::Binary { labels, scores }).unwrap();
        // Quantiles of bins of equal mass are those of rows.
        for metric in Metric::all().filter(|m| m.fits(repeated.truth()) && *m != Metric::EceMass) {
            let of = |rows| Measure::new(metric, rows, Choices::default()).unwrap().value();
            match (of(&weighted), of(&repeated)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-9, "{}: {} and {}", metric, a, b),
                (a, b) => prop_assert_eq!(a, b, "{}", metric),
            }
        }
    }

    #[test]
    fn auc_is_the_share_of_pairs_in_order_and_turns_with_the_scores(rows in rows()) {
        let (labels, scores, _) = columns(&rows);
        let mut pairs = (0.0, 0.0);
        for (a, _) in rows.iter().enumerate().filter(|(_, r)| r.0) {
            for b in rows.iter().filter(|r| !r.0) {
                let a = rows[a].1;
                pairs.0 += if a > b.1 { 1.0 } else if a == b.1 { 0.5 } else { 0.0 };
                pairs.1 += 1.0;
            }
        }
        let found = roc_auc(&labels, &scores, None);
        prop_assert_eq!(found.is_some(), pairs.1 > 0.0);
        if let Some(found) = found {
            prop_assert!((found - pairs.0 / pairs.1).abs() < 1e-9);
            let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
            prop_assert!((roc_auc(&labels, &turned, None).unwrap() - (1.0 - found)).abs() < 1e-9);
        }
        let precision = average_precision(&labels, &scores, None);
        prop_assert_eq!(precision.is_some(), labels.contains(&true));
        prop_assert!(precision.is_none_or(|p| (0.0..=1.0 + 1e-12).contains(&p)));
    }

    #[test]
    fn calibration_error_lies_within_its_bounds_and_bins_hold_every_row(
        rows in rows(), count in 1_usize..30, mass in any::<bool>(),
    ) {
        let (labels, scores, _) = columns(&rows);
        let bins = curve(&labels, &scores, None, (if mass { Bins::EqualMass } else { Bins::EqualWidth }, count));
        prop_assert_eq!(bins.iter().map(|b| b.weight).sum::<f64>(), rows.len() as f64);
        prop_assert!(bins.len() <= count);
        prop_assert!(bins.windows(2).all(|w| w[0].predicted < w[1].predicted));
        prop_assert!((0.0..=1.0).contains(&ece(&bins).unwrap()));
    }

    #[test]
    fn groups_that_are_alike_differ_by_nothing(rows in rows()) {
        let (mut labels, mut scores, _) = columns(&rows);
        let half = labels.len();
        labels.extend_from_within(..);
        scores.extend_from_within(..);
        let group = (0..2 * half).map(|row| Some(if row < half { "a" } else { "b" }));
        let all = Rows::new(Truth::Binary { labels, scores }).unwrap().key(Key::new("g", group)).unwrap();
        let resampling = Resampling { replicates: 100, ..Resampling::default() };
        let found = fairness::compare(&all, all.column("g").unwrap(), 0.5, 1, resampling).unwrap();
        prop_assert_eq!(found.dp_difference.unwrap().value, 0.0);
        prop_assert_eq!(found.dp_ratio.unwrap().value, 1.0);
        prop_assert!(found.eo_difference.is_none_or(|d| d.value == 0.0));
    }
}

/// Over hundreds of data sets whose difference is known, the interval holds it about as often as it says.
#[test]
fn intervals_of_fairness_hold_the_truth_as_often_as_they_say() {
    use rand::{RngExt, SeedableRng};
    let mut generator = rand_pcg::Pcg64::seed_from_u64(3);
    let resampling = Resampling { replicates: 200, confidence: 0.95, seed: 9 };
    let (each, rates) = (400, [0.3, 0.5]);
    // Weighted rows are drawn one by one, which takes its time.
    for (weighted, sets) in [(false, 400), (true, 60)] {
        let mut held = 0;
        for _ in 0..sets {
            let (mut scores, mut group) = (Vec::new(), Vec::new());
            for (name, rate) in ["a", "b"].into_iter().zip(rates) {
                for _ in 0..each {
                    scores.push(f64::from(generator.random_bool(rate)));
                    group.push(Some(name));
                }
            }
            let labels = (0..scores.len()).map(|n| n % 2 == 0).collect();
            let mut rows = Rows::new(Truth::Binary { labels, scores }).unwrap();
            if weighted {
                rows = rows.weighted(vec![2.0; 2 * each]).unwrap();
            }
            let rows = rows.key(Key::new("g", group)).unwrap();
            let found = fairness::compare(&rows, rows.column("g").unwrap(), 0.5, 1, resampling).unwrap();
            let interval = found.dp_difference.unwrap();
            held += u32::from(interval.low <= 0.2 && 0.2 <= interval.high);
        }
        let share = f64::from(held) / f64::from(sets);
        assert!((0.90..=0.99).contains(&share), "{share} of intervals hold the truth");
    }
}
