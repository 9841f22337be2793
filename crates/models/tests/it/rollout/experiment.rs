//! Experiments: who is on what, what is found, and how often wrongly.

use std::collections::BTreeMap;

use models::rollout::{Experiment, ExperimentConfig, ExperimentPhase, Finding, Moments, VariantBatch, place};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_distr::{Binomial, Distribution};
use rand_pcg::Pcg64;

use super::minutes;

const CONFIG: &str = "
variants: [{name: base}, {name: short}, {name: long, weight: 2}]
metrics:
  - {name: liked, kind: proportion, better: higher, margin: 0.05}
  - {name: cost, better: lower, margin: 0.2}
at_most: 7d
salt: summaries-1
";

fn config(text: &str) -> ExperimentConfig {
    serde_json::from_value(yaml::spans::parse_plain(text, "").root.unwrap().to_json()).unwrap()
}

fn begin(text: &str) -> Experiment {
    Experiment::begin(config(text), minutes(0)).unwrap()
}

/// A batch of `n` users of which so many liked it, at a cost of 1 or 2 in turns, and more.
fn batch(n: u64, liked: u64, dearer: f64) -> VariantBatch {
    let costs = Moments::of((0..n).map(|i| 1.0 + (i % 2) as f64 + dearer));
    let metrics = BTreeMap::from([("liked".to_owned(), Moments::hits(liked, n)), ("cost".to_owned(), costs)]);
    VariantBatch { units: n, metrics }
}

fn batches(of: [VariantBatch; 3]) -> BTreeMap<String, VariantBatch> {
    ["base", "short", "long"].map(str::to_owned).into_iter().zip(of).collect()
}

fn findings(e: &Experiment) -> Vec<Finding> {
    e.report().iter().map(|r| r.finding).collect()
}

#[test]
fn users_are_divided_by_the_weights_and_stay_where_they_are() {
    let e = begin(CONFIG);
    let mut counts = BTreeMap::<String, f64>::new();
    for user in 0..40_000 {
        let user = format!("u{user}");
        let (variant, counts_for) = e.assign(&user);
        assert!(counts_for);
        assert_eq!(e.assign(&user).0, variant);
        *counts.entry(variant.to_owned()).or_default() += 1.0;
    }
    for (variant, share) in [("base", 0.25), ("short", 0.25), ("long", 0.5)] {
        let off = (counts[variant] - 40_000.0 * share) / (40_000.0_f64 * share * (1.0 - share)).sqrt();
        assert!(off.abs() < 4.0, "{variant}: {off}");
    }
}

#[test]
fn what_is_better_wins_and_what_is_no_different_does_not() {
    let mut e = begin(CONFIG);
    assert!(e.see(
        minutes(10),
        &batches([batch(9_000, 4_500, 0.0), batch(9_000, 5_400, 0.0), batch(18_000, 9_000, 0.0)])
    ));
    assert_eq!(
        (e.phase(), findings(&e)),
        (ExperimentPhase::Decided, vec![Finding::Better, Finding::Equivalent])
    );
    assert_eq!(e.winner().unwrap().name, "short");
    assert!(e.sentence().starts_with("`short` is better (liked better by 0.0"), "{}", e.sentence());
    assert!(e.sentence().contains("; `long` is no different ("));
    let before = e.clone();
    assert!(!e.see(minutes(20), &batches([batch(100, 0, 0.0), batch(100, 0, 0.0), batch(200, 0, 0.0)])));
    assert_eq!(e, before, "an end is an end");
}

#[test]
fn what_is_better_and_dearer_is_worse() {
    let mut e = begin(CONFIG);
    e.see(
        minutes(10),
        &batches([batch(4_000, 2_000, 0.0), batch(4_000, 2_600, 1.0), batch(8_000, 4_000, 0.0)]),
    );
    assert_eq!(findings(&e)[0], Finding::Worse);
    assert!(e.report()[0].stopped && e.winner().is_none());
}

#[test]
fn a_variant_that_does_harm_is_stopped_and_its_users_count_for_nothing() {
    let mut e = begin(CONFIG);
    let on = (0..).map(|n| format!("u{n}")).find(|u| e.assign(u).0 == "short").unwrap();
    let unmoved: Vec<(String, String)> = (0..500)
        .map(|n| format!("u{n}"))
        .filter(|u| e.assign(u).0 != "short")
        .map(|u| (u.clone(), e.assign(&u).0.to_owned()))
        .collect();
    assert!(e.see(minutes(10), &batches([batch(400, 200, 0.0), batch(400, 80, 0.0), batch(800, 400, 0.0)])));
    assert_eq!((e.phase(), findings(&e)), (ExperimentPhase::Running, vec![Finding::Worse, Finding::Open]));
    assert_eq!(e.assign(&on), ("base", false));
    assert!(unmoved.iter().all(|(user, was)| e.assign(user) == (was.as_str(), true)), "nobody else is moved");
    e.see(minutes(20), &batches([batch(400, 200, 0.0), batch(400, 400, 0.0), batch(800, 400, 0.0)]));
    assert_eq!(e.report()[0].units, 400, "what comes late is not taken");
}

#[test]
fn units_off_the_weights_make_it_invalid_and_a_week_without_a_verdict_inconclusive() {
    let mut e = begin(CONFIG);
    e.see(minutes(10), &batches([batch(1_000, 500, 0.0), batch(1_000, 500, 0.0), batch(1_500, 750, 0.0)]));
    assert_eq!(e.phase(), ExperimentPhase::Invalid);
    assert_eq!(e.sentence(), "users are not divided by the weights (1000, 1000, 1500), so nothing is known");
    assert!(e.winner().is_none());
    let mut e = begin(CONFIG);
    e.see(minutes(7 * 24 * 60), &batches([batch(200, 100, 0.0), batch(200, 104, 0.0), batch(400, 200, 0.0)]));
    assert_eq!(
        (e.phase(), findings(&e)),
        (ExperimentPhase::Inconclusive, vec![Finding::Open, Finding::Open])
    );
}

#[test]
fn what_makes_no_sense_is_told_by_its_place() {
    let text = "variants: [{name: a, weight: 0}, {name: a}]\nmetrics: [{name: m, better: lower, margin: 0}]\nat_most: 1d\nsalt: ''\nalpha: 1\nsamples: 1";
    let found = Experiment::begin(config(text), minutes(0)).unwrap_err();
    let pointers: Vec<&str> = found.iter().map(|p| p.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/variants/0/weight", "/variants/1/name", "/metrics/0/margin", "/alpha", "/samples", "/salt"]
    );
}

/// How many of `runs` experiments of 100 looks end with a winner, and how many with the second variant stopped.
fn simulate(name: &str, rates: [f64; 3], runs: u32) -> (f64, f64) {
    let mut generator = Pcg64::seed_from_u64(place("experiments", name));
    let (mut won, mut stopped) = (0, 0);
    for _ in 0..runs {
        let mut e = begin(&CONFIG.replace("  - {name: cost, better: lower, margin: 0.2}\n", ""));
        let mut look = 0;
        while e.phase() == ExperimentPhase::Running && look < 100 {
            look += 1;
            let base = Binomial::new(400, 0.5).unwrap().sample(&mut generator);
            let parts = [base / 2, base - base / 2, 400 - base];
            let mut at = 0;
            let of = parts.map(|n| {
                let hits = Binomial::new(n, rates[at]).unwrap().sample(&mut generator);
                at += 1;
                VariantBatch {
                    units: n,
                    metrics: BTreeMap::from([("liked".to_owned(), Moments::hits(hits, n))]),
                }
            });
            e.see(minutes(look * 10), &batches(of));
        }
        won += u32::from(e.winner().is_some());
        stopped += u32::from(e.report()[0].finding == Finding::Worse);
    }
    let of = |n: u32| f64::from(n) / f64::from(runs);
    println!("{name}: a winner in {}, the first variant found worse in {}", of(won), of(stopped));
    (of(won), of(stopped))
}

#[test]
fn an_experiment_finds_no_winner_among_equals() {
    let (won, worse) = simulate("three equals", [0.5; 3], 2_000);
    assert!(won + worse <= 0.05, "{won} {worse}");
}

#[test]
fn an_experiment_finds_the_winner_that_there_is() {
    let (won, _) = simulate("one better by the margin", [0.5, 0.55, 0.5], 300);
    assert!(won >= 0.9, "{won}");
    let (won, worse) = simulate("one worse by the margin", [0.5, 0.45, 0.5], 300);
    assert!(won <= 0.05 && worse >= 0.9, "{won} {worse}");
}

proptest! {
    #[test]
    fn an_experiment_kept_as_text_is_the_same_and_never_leaves_an_end(
        seen in prop::collection::vec((30_u64..400, 0.0..1.0, 0.0..1.0), 1..12),
    ) {
        let (mut straight, mut kept) = (begin(CONFIG), begin(CONFIG));
        let mut ended = None;
        for (at, (n, a, b)) in seen.into_iter().enumerate() {
            kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
            let hits = |share: f64, n: u64| (share * n as f64) as u64;
            let of = batches([batch(n, hits(a, n), 0.0), batch(n, hits(b, n), 0.0), batch(2 * n, hits(a, 2 * n), 0.0)]);
            prop_assert_eq!(straight.see(minutes(at as i64), &of), kept.see(minutes(at as i64), &of));
            prop_assert_eq!(&straight, &kept);
            if let Some(end) = ended {
                prop_assert_eq!(straight.phase(), end);
            } else if straight.phase() != ExperimentPhase::Running {
                ended = Some(straight.phase());
            }
        }
    }
}
