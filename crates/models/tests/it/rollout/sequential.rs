//! The sequential tests against their definitions, computed by SciPy.

use models::rollout::sequential::{Guard, Ratio, difference};
use models::rollout::{Kind, Moments};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_distr::{Binomial, Distribution, LogNormal};
use rand_pcg::Pcg64;

use crate::golden::{close, floats, read};

#[test]
fn evidence_of_a_guard_is_that_of_its_definition() {
    let all = read("rollout.json");
    for case in all["guard"].as_array().unwrap() {
        let mut guard = Guard::new(case["limit"].as_f64().unwrap());
        for batch in case["batches"].as_array().unwrap() {
            guard.see(batch[0].as_u64().unwrap(), batch[1].as_u64().unwrap());
        }
        close("log evidence", guard.log_evidence(), case["log"].as_f64().unwrap());
    }
}

#[test]
fn ratios_are_those_of_scipy() {
    let all = read("rollout.json");
    for case in all["ratio"].as_array().unwrap() {
        let of = |name: &str| case[name].as_f64().unwrap();
        let found = Ratio::of(of("a") as u64, of("b") as u64, of("expected"));
        close("p", found.p, of("p"));
        close("chi squared", found.chi_squared_p, of("chi_squared_p"));
    }
}

/// The closed form against the mixture itself, integrated and solved numerically.
#[test]
fn a_confidence_sequence_ends_where_the_mixture_says() {
    let all = read("rollout.json");
    for case in all["difference"].as_array().unwrap() {
        let of = |name: &str| case[name].as_f64().unwrap();
        let kind = if case["kind"] == "mean" { Kind::Mean } else { Kind::Proportion };
        let strata = case["strata"].as_array().unwrap();
        let pairs: Vec<(Moments, Moments)> =
            strata.iter().map(|s| (Moments::of(floats(&s[0])), Moments::of(floats(&s[1])))).collect();
        let found = difference(&pairs, kind, of("margin"), of("alpha")).unwrap();
        close("estimate", found.estimate, of("estimate"));
        close("low", found.low, of("estimate") - of("radius"));
        close("high", found.high, of("estimate") + of("radius"));
    }
}

#[test]
fn a_failure_after_a_day_of_success_is_seen_within_few_requests() {
    let mut guard = Guard::new(0.02);
    (0..1_000).for_each(|_| guard.see(1, 100));
    assert!(!guard.broken(0.01));
    let mut failed = 0;
    while !guard.broken(0.01) {
        guard.see(1, 1);
        failed += 1;
    }
    println!("after 100,000 sound requests, {failed} failures in a row end it");
    assert!(failed <= 60, "{failed}");
    let mut fresh = Guard::new(0.02);
    (0..3).for_each(|_| fresh.see(1, 1));
    assert!(fresh.broken(0.01), "and at the beginning three");
}

/// 2,000 comparisons, each looked at 150 times: the interval leaves the truth out at some look as rarely as α says. A fixed interval,
/// repeated, does so in most of them.
#[test]
fn an_interval_holds_the_truth_at_all_looks_together() {
    let mut generator = Pcg64::seed_from_u64(11);
    let prices = LogNormal::new(0.0, 1.0).unwrap();
    let hits = Binomial::new(50, 0.3).unwrap();
    let (runs, alpha) = (2_000, 0.05);
    for kind in [Kind::Proportion, Kind::Mean] {
        let (mut missed, mut fixed) = (0, 0);
        for _ in 0..runs {
            let mut sides = [Moments::default(); 2];
            let (mut miss, mut fixed_miss) = (false, false);
            for look in 0..150 {
                for side in &mut sides {
                    side.add(match kind {
                        Kind::Proportion => Moments::hits(hits.sample(&mut generator), 50),
                        Kind::Mean => Moments::of((0..10).map(|_| prices.sample(&mut generator))),
                    });
                }
                // The minimum samples of a rollout.
                if look < 9 {
                    continue;
                }
                let margin = if kind == Kind::Proportion { 0.03 } else { 0.3 };
                let found = difference(&[(sides[0], sides[1])], kind, margin, alpha).unwrap();
                miss |= found.low > 0.0 || found.high < 0.0;
                let se = sides.iter().map(|s| s.squares / (s.n as f64).powi(2)).sum::<f64>().sqrt();
                fixed_miss |= (found.estimate / se).abs() > 1.96;
            }
            missed += u32::from(miss);
            fixed += u32::from(fixed_miss);
        }
        let (missed, fixed) = (f64::from(missed) / f64::from(runs), f64::from(fixed) / f64::from(runs));
        println!("{kind:?}: the truth is left out in {missed}, of a repeated fixed interval in {fixed}");
        assert!(missed <= alpha && fixed > 0.3);
    }
}

/// Failures at the very limit, for 20,000 requests.
#[test]
fn a_guard_at_its_limit_is_broken_as_rarely_as_alpha_says() {
    let mut generator = Pcg64::seed_from_u64(12);
    for (limit, alpha, size) in [(0.01, 0.05, 200), (0.2, 0.05, 137), (0.001, 0.05, 500)] {
        let batch = Binomial::new(size, limit).unwrap();
        let mut broken = 0;
        for _ in 0..2_000 {
            let mut guard = Guard::new(limit);
            broken += u32::from((0..20_000 / size).any(|_| {
                guard.see(batch.sample(&mut generator), size);
                guard.broken(alpha)
            }));
        }
        let share = f64::from(broken) / 2_000.0;
        println!("limit {limit}: broken by chance in {share}");
        assert!(share <= alpha, "{share}");
    }
}

proptest! {
    #[test]
    fn moments_add_in_any_order_to_those_of_all_values(
        values in prop::collection::vec(-1e3..1e3, 0..60), cut in 0_usize..60,
    ) {
        let cut = cut.min(values.len());
        let (mut a, b) = (Moments::of(values[..cut].to_vec()), Moments::of(values[cut..].to_vec()));
        a.add(b);
        let whole = Moments::of(values.clone());
        prop_assert_eq!(a.n, whole.n);
        prop_assert!((a.mean - whole.mean).abs() < 1e-9 && (a.squares - whole.squares).abs() < 1e-6);
        let hits = values.iter().filter(|v| **v > 0.0).count() as u64;
        let of = Moments::of(values.iter().map(|v| f64::from(*v > 0.0)));
        let short = Moments::hits(hits, values.len() as u64);
        prop_assert!((of.mean - short.mean).abs() < 1e-9 && (of.squares - short.squares).abs() < 1e-9);
    }

    #[test]
    fn values_that_are_not_numbers_are_not_taken(n in 1_u64..9, bad in prop::sample::select(vec![f64::NAN, f64::INFINITY, -1.0])) {
        let mut all = Moments::of([1.0, 2.0]);
        all.add(Moments { n, mean: 1.0, squares: bad });
        prop_assert_eq!(all.n, 2);
        if bad != -1.0 {
            all.add(Moments { n, mean: bad, squares: 0.0 });
            prop_assert_eq!(all.n, 2);
        }
    }

    #[test]
    fn more_of_the_same_narrows_the_interval_and_values_that_are_equal_are_no_certainty(n in 30_u64..500) {
        let same = Moments { n, mean: 1.0, squares: 0.0 };
        let width = |n: u64| {
            let a = Moments { n, ..same };
            let found = difference(&[(a, a)], Kind::Mean, 0.1, 0.05).unwrap();
            found.high - found.low
        };
        prop_assert!(width(n) > 0.0 && width(n) > width(2 * n));
        let pairs = [(Moments::hits(0, n), Moments::hits(0, n))];
        let none = difference(&pairs, Kind::Proportion, 0.01, 0.05).unwrap();
        prop_assert!(none.low < 0.0 && none.high > 0.0);
    }
}
