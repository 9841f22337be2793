//! Distances and tests against SciPy, and what a verdict is.

use proptest::prelude::*;
use watch::drift::{
    Basis, DriftLimits, KsMethod, Level, Measured, NumericReference, Profile, Reference, Sample, Side,
    Subject, Vectors, benjamini_hochberg, chi_squared, compare_categories, jensen_shannon, judge, ks, mmd,
    mmd_linear, psi, share_test, wasserstein,
};
use watch::sketch::{Bins, CategorySketch, NumericSketch};

use crate::support::{column, golden, near, near_relative, number, numbers, whole};

#[test]
fn distances_and_tests_equal_scipy() {
    let rows = golden("drift");
    for row in &rows {
        let kind = row["kind"].as_str().unwrap();
        let seed = |i: usize| row["seeds"][i].as_u64().unwrap();
        let a = Sample::new(column(kind, seed(0), whole(row, "n"), 0.0));
        let b = Sample::new(column(kind, seed(1), whole(row, "m"), number(row, "shift")));
        let label = format!("{kind} {} {} {}", row["n"], row["m"], row["shift"]);
        let test = ks(a.sorted(), b.sorted()).unwrap();
        near(&format!("ks {label}"), test.statistic, number(row, "ks"), 1e-12);
        near(&format!("p of ks {label}"), test.p_value, number(row, "ks_p"), 1e-9);
        let exact = whole(row, "n").max(whole(row, "m")) <= 10_000;
        assert_eq!(test.method, if exact { KsMethod::Exact } else { KsMethod::Asymptotic });
        near(&format!("w1 {label}"), wasserstein(a.sorted(), b.sorted()).unwrap(), number(row, "w1"), 1e-9);
        // As text: a fast reader of numbers may be off in the last place, and an edge is a value.
        let edges = row["edges"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().parse().unwrap());
        let bins = Bins::from_edges(edges.collect()).unwrap();
        let (r, c) = (bins.of_sorted(a.sorted(), 0), bins.of_sorted(b.sorted(), 0));
        near(&format!("psi {label}"), psi(&r, &c).unwrap(), number(row, "psi"), 1e-9);
        near(&format!("js {label}"), jensen_shannon(&r, &c).unwrap(), number(row, "js"), 1e-9);
        let chi = chi_squared(&r, &c).unwrap();
        let expected = &row["chi2"];
        near(&format!("χ² {label}"), chi.statistic, expected[0].as_f64().unwrap(), 1e-9);
        assert_eq!(chi.degrees, expected[1].as_u64().unwrap());
        near(&format!("p of χ² {label}"), chi.p_value, expected[2].as_f64().unwrap(), 1e-9);
        near(&format!("deviation {label}"), deviation(a.sorted()), number(row, "std"), 1e-9);
    }
    assert_eq!(rows.len(), 84);
}

fn deviation(values: &[f64]) -> f64 {
    let mut sketch = NumericSketch::with_capacity(64);
    sketch.extend(values);
    sketch.deviation().unwrap()
}

#[test]
fn small_probabilities_are_right_in_their_first_digits_too() {
    for row in golden("drift") {
        let expected = number(&row, "ks_p");
        if expected > 1e-15 && expected < 1e-3 {
            let kind = row["kind"].as_str().unwrap();
            let seed = |i: usize| row["seeds"][i].as_u64().unwrap();
            let a = Sample::new(column(kind, seed(0), whole(&row, "n"), 0.0));
            let b = Sample::new(column(kind, seed(1), whole(&row, "m"), number(&row, "shift")));
            near_relative("p", ks(a.sorted(), b.sorted()).unwrap().p_value, expected, 1e-4);
        }
    }
}

#[test]
fn the_false_discovery_rate_equals_scipy() {
    for row in golden("fdr") {
        let q = benjamini_hochberg(&numbers(&row["p"]));
        for (q, expected) in q.into_iter().zip(numbers(&row["q"])) {
            near("q", q, expected, 1e-12);
        }
    }
    assert!(benjamini_hochberg(&[0.01, f64::NAN, 0.04])[1].is_nan());
    assert_eq!(benjamini_hochberg(&[0.01, f64::NAN, 0.04])[0], 0.02, "what was not judged is no test");
}

#[test]
fn mean_discrepancy_equals_the_formula_and_finds_what_moved() {
    for row in golden("mmd") {
        let (n, m, width) = (whole(&row, "n"), whole(&row, "m"), whole(&row, "width"));
        let seed = row["seed"].as_u64().unwrap();
        let a = column("bell", seed, n * width, 0.0);
        let b = column("bell", seed + 100, m * width, number(&row, "shift"));
        let (a, b) = (Vectors::new(&a, width).unwrap(), Vectors::new(&b, width).unwrap());
        let found = mmd(&a, &b, 199, 1).unwrap();
        near("σ", found.bandwidth, number(&row, "sigma"), 1e-9);
        near("mmd", found.statistic, number(&row, "mmd"), 1e-9);
        let linear = mmd_linear(&a, &b).unwrap();
        near("linear mmd", linear.statistic, number(&row, "linear"), 1e-9);
        near("linear p", linear.p_value, number(&row, "linear_p"), 1e-9);
        assert_eq!(found, mmd(&a, &b, 199, 1).unwrap(), "a seed gives the same");
        if number(&row, "shift") > 0.3 {
            assert_eq!(found.p_value, 1.0 / 200.0);
        }
    }
}

#[test]
fn the_permutation_test_keeps_its_level() {
    let hits = (0..200u64)
        .filter(|&i| {
            let (a, b) = (column("bell", 10 + i, 60, 0.0), column("bell", 9_000 + i, 60, 0.0));
            let found = mmd(&Vectors::new(&a, 3).unwrap(), &Vectors::new(&b, 3).unwrap(), 99, i).unwrap();
            found.p_value <= 0.1
        })
        .count();
    // 20 expected, standard deviation 4.2.
    assert!((8..=33).contains(&hits), "{hits} of 200");
}

fn reference(values: &[f64], capacity: usize) -> NumericReference {
    let mut sketch = NumericSketch::with_capacity(capacity);
    sketch.extend(values);
    NumericReference::new(sketch).unwrap()
}

#[test]
fn sketches_stay_within_the_error_they_state() {
    for (at, kind) in ["bell", "ties", "heavy"].into_iter().enumerate() {
        for shift in [0.0, 0.1, 0.5] {
            let a = column(kind, 70 + at as u64, 40_000, 0.0);
            let b = column(kind, 80 + at as u64, 30_000, shift);
            let kept = reference(&a, 256);
            let mut window = NumericSketch::with_capacity(256);
            window.extend(&b);
            let (a, b) = (Sample::new(a), Sample::new(b));
            let exact = kept.compare_exactly(&a, Side::Sample(&b)).unwrap();
            let sketched = kept.compare(Side::Sketch(&window)).unwrap();
            assert_eq!((exact.basis, sketched.basis), (Basis::Exact, Basis::Sketched));
            assert!((exact.ks.statistic - sketched.ks.statistic).abs() <= sketched.ks.error);
            assert!((exact.w1 - sketched.w1).abs() <= sketched.w1_error);
            assert!(sketched.ks.p_value >= exact.ks.p_value, "an error never passes for drift");
            assert!(sketched.ks.error < 0.08, "{}", sketched.ks.error);
            let half = kept.compare(Side::Sample(&b)).unwrap();
            assert!((exact.ks.statistic - half.ks.statistic).abs() <= half.ks.error);
        }
    }
}

#[test]
fn what_is_missing_alone_is_drift() {
    let kept = reference(&column("bell", 1, 5_000, 0.0), 2_048);
    let window = Sample::new(column("bell", 2, 2_000, 0.0)).with_missing(600);
    let found = kept.compare(Side::Sample(&window)).unwrap();
    assert!(found.ks.p_value > 0.05 && found.missing.p_value < 1e-9);
    let subject = Subject { feature: "x".into(), slice: None };
    let verdict = judge(vec![(subject, Measured::Numeric(found))], &DriftLimits::default());
    assert_eq!(verdict[0].level, Level::Alert);
}

#[test]
fn a_rare_share_is_tested_exactly() {
    for row in golden("share") {
        let at = |i: usize| row[i].as_u64().unwrap();
        let found = share_test((at(0), at(1)), (at(2), at(3))).unwrap();
        near_relative(&row.to_string(), found.p_value, row[4].as_f64().unwrap(), 1e-6);
    }
    assert!(share_test((400, 1_000), (500, 1_000)).unwrap().p_value < 1e-4, "χ² where it holds");
}

#[test]
fn many_rare_categories_in_a_small_window_are_no_alarm() {
    // Two hundred categories, the nth 1 / n as frequent as the first; a hundred rows a window.
    let mut draw = watch::Seeded::new(9);
    let weights: Vec<f64> = (1..=200).map(|i| 1.0 / f64::from(i)).collect();
    let all: f64 = weights.iter().sum();
    let mut counts = |rows: usize| {
        let mut counts = vec![0u64; 200];
        for _ in 0..rows {
            let mut at = draw.unit() * all;
            let category = weights.iter().position(|w| {
                at -= w;
                at < 0.0
            });
            counts[category.unwrap_or(199)] += 1;
        }
        counts
    };
    let reference = counts(20_000);
    let found: Vec<(f64, f64)> = (0..1_000)
        .map(|_| {
            let window = counts(100);
            let pooled = compare_categories(&reference, &window).unwrap().chi_squared.p_value;
            (pooled, chi_squared(&reference, &window).unwrap().p_value)
        })
        .collect();
    let alarms = |of: fn(&(f64, f64)) -> f64| found.iter().filter(|p| of(p) < 0.01).count();
    // Ten expected, standard deviation 3.
    assert!(alarms(|p| p.0) <= 22, "{}", alarms(|p| p.0));
    assert!(alarms(|p| p.1) > 40, "what is pooled matters: {}", alarms(|p| p.1));
}

#[test]
fn unseen_categories_have_a_bin_of_their_own() {
    let mut seen = CategorySketch::default();
    seen.extend((0..900).map(|i| Some(["a", "b", "c"][i % 3])).chain([None; 10]));
    let bins = seen.vocabulary();
    assert!(bins.complete());
    let window = bins.of_values((0..900).map(|i| Some(["a", "b", "c", "new"][i % 4])));
    assert_eq!(window, [225, 225, 225, 225, 0]);
    let found = compare_categories(&bins.of_sketch(&seen), &window).unwrap();
    assert!(found.psi > 0.2 && found.chi_squared.p_value < 1e-9);
}

fn verdict(shift: f64, rows: usize, family: usize) -> Level {
    let kept = reference(&column("bell", 1, 20_000, 0.0), 2_048);
    let found = (0..family).map(|i| {
        let by = if i == 0 { shift } else { 0.0 };
        let window = Sample::new(column("bell", 100 + i as u64, rows, by));
        let subject = Subject { feature: format!("f{i}"), slice: None };
        (subject, Measured::Numeric(kept.compare(Side::Sample(&window)).unwrap()))
    });
    judge(found.collect(), &DriftLimits::default())[0].level
}

#[test]
fn a_verdict_needs_an_effect_and_significance() {
    assert_eq!(verdict(0.0, 5_000, 20), Level::Calm);
    assert_eq!(verdict(0.5, 5_000, 20), Level::Alert);
    assert_eq!(verdict(0.02, 200_000, 1), Level::Calm, "significant, but small");
    assert_eq!(verdict(0.15, 40, 20), Level::Calm, "large, but by chance as often");
    assert_eq!(verdict(3.0, 20, 1), Level::TooFew);
}

#[test]
fn false_discoveries_over_a_family_stay_below_the_rate() {
    // 200 families of 20 features × 5 slices without drift: at most 1 % may hold any discovery.
    let kept = reference(&column("bell", 3, 20_000, 0.0), 2_048);
    let limits = DriftLimits { psi_warn: 0.0, psi_alert: 0.0, w1: 0.0, js: 0.0, ..DriftLimits::default() };
    let families = (0..200u64).filter(|&family| {
        let found = (0..100u64).map(|i| {
            let window = Sample::new(column("bell", 1_000 + family * 1_000 + i, 100, 0.0));
            let subject = Subject { feature: format!("f{}", i / 5), slice: Some(format!("s{}", i % 5)) };
            (subject, Measured::Numeric(kept.compare(Side::Sample(&window)).unwrap()))
        });
        judge(found.collect(), &limits).iter().any(|v| v.q.unwrap() < limits.q)
    });
    let alarmed = families.count();
    assert!(alarmed <= 8, "{alarmed} of 200");
}

proptest! {
    #[test]
    fn distances_are_zero_of_the_same_and_do_not_care_for_sides(
        a in prop::collection::vec(-100i32..100, 1..80),
        b in prop::collection::vec(-100i32..100, 1..80),
    ) {
        let sample = |v: &[i32]| Sample::new(v.iter().map(|&x| f64::from(x) / 8.0).collect());
        let (a, b) = (sample(&a), sample(&b));
        let (ab, ba) = (ks(a.sorted(), b.sorted()).unwrap(), ks(b.sorted(), a.sorted()).unwrap());
        prop_assert_eq!(ab.statistic, ba.statistic);
        prop_assert!((ab.p_value - ba.p_value).abs() < 1e-9);
        prop_assert_eq!(ks(a.sorted(), a.sorted()).unwrap().p_value, 1.0);
        prop_assert_eq!(wasserstein(a.sorted(), a.sorted()).unwrap(), 0.0);
        let (w, v) = (wasserstein(a.sorted(), b.sorted()).unwrap(), wasserstein(b.sorted(), a.sorted()).unwrap());
        prop_assert!((w - v).abs() < 1e-9);
        // Wasserstein is at least the distance of the means.
        let mean = |s: &Sample| s.sorted().iter().sum::<f64>() / s.sorted().len() as f64;
        prop_assert!(w + 1e-9 >= (mean(&a) - mean(&b)).abs());
    }

    #[test]
    fn psi_and_js_are_never_negative_and_zero_of_the_same(
        counts in prop::collection::vec((0u64..1_000, 0u64..1_000), 1..20),
    ) {
        let (a, b): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
        if a.iter().sum::<u64>() > 0 && b.iter().sum::<u64>() > 0 {
            prop_assert!(psi(&a, &b).unwrap() >= 0.0);
            let js = jensen_shannon(&a, &b).unwrap();
            prop_assert!((0.0..=1.0).contains(&js));
            prop_assert_eq!(psi(&a, &a).unwrap(), 0.0);
            prop_assert!(jensen_shannon(&a, &a).unwrap() < 1e-7);
        }
    }
}

#[test]
fn a_table_is_compared_by_its_profile_and_names_what_has_moved() {
    let table = |seed: u64, shift: f64| {
        let mut profile = Profile::default();
        for batch in column("bell", seed, 4_000, 0.0).chunks(512) {
            profile.numbers("calm", batch).unwrap();
        }
        profile.numbers("moved", &column("bell", seed + 1, 4_000, shift)).unwrap();
        let carriers = column("bell", seed + 2, 4_000, 0.0);
        profile
            .categories("carrier", carriers.iter().map(|v| Some(if *v < 0.0 { "AA" } else { "UA" })))
            .unwrap();
        profile
    };
    let mut training = table(1, 0.0);
    training.merge(&table(11, 0.0)).unwrap();
    let reference = Reference::new(training);
    let reference: Reference = serde_json::from_str(&serde_json::to_string(&reference).unwrap()).unwrap();
    let mut window = table(21, 1.0);
    window.numbers("fresh", &[1.0]).unwrap();
    let (found, schema) = reference.compare(&window, Some("origin=JFK")).unwrap();
    assert_eq!(schema.new, ["fresh"]);
    let verdicts = judge(found, &DriftLimits::default());
    let alerts: Vec<&str> =
        verdicts.iter().filter(|v| v.level == Level::Alert).map(|v| v.subject.feature.as_str()).collect();
    assert_eq!((alerts, verdicts.len()), (vec!["moved"], 3));
    let mut other = Profile::default();
    other.categories("calm", [Some("x")]).unwrap();
    other.categories("carrier", []).unwrap();
    let (_, schema) = reference.compare(&other, None).unwrap();
    assert_eq!(
        (schema.gone, schema.other_kind, schema.empty),
        (vec!["moved".into()], vec!["calm".into()], vec!["carrier".into()])
    );
    assert!(window.numbers("carrier", &[1.0]).is_err());
}
