//! The paired tests against SciPy and statsmodels, and their error over simulated pairs.

use models::evaluate::{Choices, Measure, Metric, Resampling, Rows, Truth};
use models::gate::paired::{
    Pair, Paired, Test, bootstrap, compare, delong, mcnemar, paired_t, tango, tango_bound,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

use crate::golden::{bools, close, floats, read};

fn binary(labels: &[bool], scores: &[f64]) -> Rows {
    Rows::new(Truth::Binary { labels: labels.to_vec(), scores: scores.to_vec() }).unwrap()
}

fn test(
    metric: Metric,
    test: Test,
    (a, b): (&Rows, &Rows),
    margin: f64,
    resampling: Resampling,
) -> Option<Paired> {
    let measure = |rows| Measure::new(metric, rows, Choices::default()).unwrap();
    let pair = Pair { metric, challenger: measure(a), champion: measure(b) };
    compare(&pair, test, (margin, 0.05), resampling)
}

#[test]
fn delong_is_that_of_the_definition_and_of_scipy() {
    let of = &read("paired.json")["delong"];
    let float = |name: &str| of[name].as_f64().unwrap();
    let (labels, a, b) = (bools(&of["labels"]), floats(&of["a"]), floats(&of["b"]));
    let found = delong(&labels, &a, &b).unwrap();
    for (found, name) in [(found.a, "auc_a"), (found.b, "auc_b"), (found.se, "se")] {
        close(name, found, float(name));
    }
    let rows = (&binary(&labels, &a), &binary(&labels, &b));
    let found = test(Metric::Auc, Test::Auto, rows, float("margin"), Resampling::default()).unwrap();
    assert_eq!(found.test, Test::Delong);
    close("p", found.p, float("p"));
    close("bound", found.low, float("bound"));
}

#[test]
fn mcnemar_and_tango_are_those_of_statsmodels_and_scipy() {
    let all = read("paired.json");
    for case in all["mcnemar"].as_array().unwrap() {
        let float = |name: &str| case[name].as_f64().unwrap();
        close("mcnemar", mcnemar(float("gained"), float("lost")), float("p"));
    }
    for case in all["tango"].as_array().unwrap() {
        let float = |name: &str| case[name].as_f64().unwrap();
        let (n, gained, lost) = (float("n"), float("gained"), float("lost"));
        close("z", tango(n, gained, lost, -float("margin")), float("z"));
        close("bound", tango_bound(n, gained, lost, 0.05), float("bound"));
    }
}

#[test]
fn the_paired_t_test_is_that_of_scipy() {
    let of = &read("paired.json")["paired_t"];
    let (a, b) = (floats(&of["a"]), floats(&of["b"]));
    let gains: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
    let (_, low, p) = paired_t(&gains, of["margin"].as_f64().unwrap(), 0.05).unwrap();
    close("p", p, of["p"].as_f64().unwrap());
    close("bound", -low, of["bound"].as_f64().unwrap());
}

/// The generators differ, so the two ends do too: by less than the noise of 20,000 draws.
#[test]
fn the_bootstrap_is_that_of_scipy_within_its_noise() {
    let all = read("paired.json");
    let of = &all["delong"];
    let (labels, a, b) = (bools(&of["labels"]), floats(&of["a"]), floats(&of["b"]));
    let (a, b) = (binary(&labels, &a), binary(&labels, &b));
    let measure = |rows| Measure::new(Metric::AveragePrecision, rows, Choices::default()).unwrap();
    let pair = Pair { metric: Metric::AveragePrecision, challenger: measure(&a), champion: measure(&b) };
    let (low, _) =
        bootstrap(&pair, 0.0, 0.05, Resampling { replicates: 20_000, ..Resampling::default() }).unwrap();
    let (expected, se) =
        (all["bootstrap"]["low"].as_f64().unwrap(), all["bootstrap"]["se"].as_f64().unwrap());
    assert!((low - expected).abs() < 0.07 * se, "{low}, not {expected}");
}

proptest! {
    #[test]
    fn a_model_is_not_worse_than_itself_and_a_wider_margin_never_refuses(
        rows in prop::collection::vec((any::<bool>(), 0.0..1.0, 0.0..1.0), 10..80), margin in 0.0..0.2,
    ) {
        let labels: Vec<bool> = rows.iter().map(|r| r.0).collect();
        let (a, b): (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.1, r.2)).unzip();
        let (a, b) = (binary(&labels, &a), binary(&labels, &b));
        let few = Resampling { replicates: 100, ..Resampling::default() };
        for metric in [Metric::Auc, Metric::Accuracy, Metric::Brier, Metric::LogLoss, Metric::F1] {
            if let Some(found) = test(metric, Test::Auto, (&a, &a), 0.001, few) {
                prop_assert!(found.gain.abs() < 1e-12);
                if metric != Metric::Accuracy {
                    prop_assert!(found.non_inferior(), "{}: {:?}", metric, found);
                }
            }
            let (Some(narrow), Some(wide)) =
                (test(metric, Test::Auto, (&a, &b), margin, few), test(metric, Test::Auto, (&a, &b), margin + 0.1, few))
            else { continue };
            prop_assert!(!narrow.non_inferior() || wide.non_inferior());
            prop_assert!(wide.p <= narrow.p + 1e-12);
            prop_assert!(narrow.low <= narrow.gain + 1e-9, "{:?}", narrow);
        }
    }

    #[test]
    fn the_bound_of_tango_is_where_its_test_is_just_passed(gained in 0_u32..60, lost in 0_u32..60, same in 1_u32..500) {
        let (gained, lost) = (f64::from(gained), f64::from(lost));
        let n = gained + lost + f64::from(same);
        let bound = tango_bound(n, gained, lost, 0.05);
        prop_assert!(bound <= (gained - lost) / n);
        prop_assert!(tango(n, gained, lost, bound - 1e-6) >= 1.6448);
        prop_assert!(tango(n, gained, lost, bound + 1e-6) <= 1.6449);
    }
}

/// What is worse by just the margin is taken as rarely as α says; what is as good is taken often.
#[test]
fn a_model_that_is_worse_by_the_margin_is_taken_as_rarely_as_alpha_says() {
    let mut generator = Pcg64::seed_from_u64(5);
    // The bootstrap takes its time.
    let (pairs, drawn, n) = (1_000, 100, 300);
    let mut taken = [0_u32; 4];
    for pair in 0..pairs {
        let mut rows: Vec<(bool, [f64; 3])> = Vec::new();
        for row in 0..n {
            let label = row % 2 == 0;
            let mut score = |gap: f64| -> f64 {
                let noise: f64 = StandardNormal.sample(&mut generator);
                noise + if label { gap } else { 0.0 }
            };
            // Areas Φ(gap/√2): 0.80, 0.80 and 0.75.
            rows.push((label, [score(1.190_232_6), score(1.190_232_6), score(0.953_872_6)]));
        }
        let labels: Vec<bool> = rows.iter().map(|r| r.0).collect();
        let model = |m: usize| binary(&labels, &rows.iter().map(|r| r.1[m]).collect::<Vec<_>>());
        let (old, same, worse) = (model(0), model(1), model(2));
        let few = Resampling { replicates: 100, seed: generator.random(), ..Resampling::default() };
        let mut take = |at: usize, new: &Rows, how: Test| {
            taken[at] += u32::from(test(Metric::Auc, how, (new, &old), 0.05, few).unwrap().non_inferior());
        };
        take(0, &worse, Test::Delong);
        take(2, &same, Test::Delong);
        if pair < drawn {
            take(1, &worse, Test::Bootstrap);
            take(3, &same, Test::Bootstrap);
        }
    }
    let of = |n: u32, of: i32| f64::from(n) / f64::from(of);
    let share = [of(taken[0], pairs), of(taken[1], drawn), of(taken[2], pairs), of(taken[3], drawn)];
    println!(
        "worse by the margin is taken: DeLong {}, bootstrap {}; as good: {}, {}",
        share[0], share[1], share[2], share[3]
    );
    assert!(share[0] <= 0.065 && share[1] <= 0.1, "{share:?}");
    assert!(share[2] >= 0.3 && share[3] >= 0.3, "{share:?}");
}
