//! Thousands of canaries: how often a sound one is rolled back, how often a harmful one is caught.

use std::collections::BTreeMap;

use models::rollout::{
    Action, ArmBatch, Batch, End, Input, Moments, Phase, Rollout, Settings, Split, Subject, SubjectKind,
};
use rand::SeedableRng;
use rand_distr::{Binomial, Distribution, LogNormal};
use rand_pcg::Pcg64;

use super::{config, minutes};

/// What is true of the two sides.
#[derive(Clone, Copy)]
struct World {
    /// The share of hits of the proportion: canary, control.
    hits: (f64, f64),
    /// What the canary's mean is more, as a share.
    dearer: f64,
    /// The share of failing and of slow requests of the canary.
    errors: f64,
    slow: f64,
    /// The share of units that come to the canary, where half are to.
    divided: f64,
    /// Units of both sides in twenty minutes.
    units: u64,
}

const SOUND: World =
    World { hits: (0.2, 0.2), dearer: 0.0, errors: 0.01, slow: 0.004, divided: 0.5, units: 800 };

#[derive(Debug, Default)]
struct Ends {
    promoted: f64,
    rolled_back: f64,
    invalid: f64,
    held: f64,
    /// Looks until it was rolled back or invalid, on average.
    looks: f64,
    /// Those that a test of a fixed level, repeated at every look, would have rolled back.
    naive: f64,
}

fn draw(n: u64, p: f64, generator: &mut Pcg64) -> u64 {
    Binomial::new(n, p).unwrap().sample(generator)
}

/// One rollout, looked at every twenty minutes; what is true changes nothing while it lasts.
fn one(world: World, settings: &Settings, generator: &mut Pcg64) -> (Option<End>, u32, bool) {
    let subject = Subject { kind: SubjectKind::Model, name: "m".into() };
    let (mut rollout, _) = Rollout::begin(subject, ("new", "old"), settings.clone(), minutes(0));
    rollout.apply(minutes(0), Input::Enter);
    let prices = LogNormal::new(0.0, 1.0).unwrap();
    let (mut look, mut naive) = (0_u32, false);
    let mut both = (Moments::default(), Moments::default());
    while let Phase::Canary(step) = *rollout.phase() {
        look += 1;
        let n = draw(world.units, world.divided, generator);
        let m = world.units - n;
        let mut arm = |units: u64, hit: f64, dearer: f64| {
            let priced = (units / 20).max(units.min(12));
            let dear = Moments::of((0..priced).map(|_| prices.sample(generator) * (1.0 + dearer)));
            let hits = Moments::hits(draw(units, hit, generator), units);
            let metrics = BTreeMap::from([("late".to_owned(), hits), ("cost".to_owned(), dear)]);
            let (errors, slow) = (draw(units, world.errors, generator), draw(units, world.slow, generator));
            ArmBatch { units, requests: units, errors, slow, metrics }
        };
        let (canary, control) = (arm(n, world.hits.0, world.dearer), arm(m, world.hits.1, 0.0));
        both.0.add(canary.metrics["late"]);
        both.1.add(control.metrics["late"]);
        let p = (both.0.mean + both.1.mean) / 2.0;
        let se = (p * (1.0 - p) * (1.0 / both.0.n as f64 + 1.0 / both.1.n as f64)).sqrt();
        naive |= (both.0.mean - both.1.mean) / se > 1.645;
        let control = if rollout.split() == Split::of(10_000) { ArmBatch::default() } else { control };
        for action in
            rollout.apply(minutes(i64::from(look) * 20), Input::Seen(Batch { step, canary, control }))
        {
            match action {
                Action::Page(_) => return (None, look, naive),
                Action::RollBack(event) => {
                    assert!(!event.sentence.is_empty() && !event.report.metrics.is_empty())
                }
                _ => {}
            }
        }
    }
    let Phase::Ended(end) = *rollout.phase() else { panic!("{:?}", rollout.phase()) };
    (Some(end), look, naive)
}

fn many(name: &str, world: World, runs: u32) -> Ends {
    let settings = Settings::new(&config(
        "
canary: [10, 50, 100]
step: {at_least: 30m, at_most: 16h, samples: 200}
bake: 10m
metrics:
  - {name: late, kind: proportion, better: lower, margin: 0.03}
  - {name: cost, better: lower, margin: 0.5}
guardrails: {error_rate: 0.02, latency_p99: 200ms}
",
    ))
    .unwrap();
    let mut generator = Pcg64::seed_from_u64(blake3_seed(name));
    let mut ends = Ends::default();
    for _ in 0..runs {
        let (end, looks, naive) = one(world, &settings, &mut generator);
        ends.naive += f64::from(naive);
        match end {
            Some(End::Promoted) => ends.promoted += 1.0,
            Some(End::RolledBack) => {
                (ends.rolled_back, ends.looks) = (ends.rolled_back + 1.0, ends.looks + f64::from(looks))
            }
            Some(End::Invalid) => {
                (ends.invalid, ends.looks) = (ends.invalid + 1.0, ends.looks + f64::from(looks))
            }
            None => ends.held += 1.0,
            Some(other) => panic!("{other:?}"),
        }
    }
    let stopped = (ends.rolled_back + ends.invalid).max(1.0);
    ends.looks /= stopped;
    for share in
        [&mut ends.promoted, &mut ends.rolled_back, &mut ends.invalid, &mut ends.held, &mut ends.naive]
    {
        *share /= f64::from(runs);
    }
    println!(
        "{name}: promoted {:.4}, rolled back {:.4}, invalid {:.4}, held {:.4}; stopped after {:.1} looks; a repeated fixed \
         test would have rolled back {:.3}",
        ends.promoted, ends.rolled_back, ends.invalid, ends.held, ends.looks, ends.naive
    );
    ends
}

fn blake3_seed(name: &str) -> u64 {
    models::rollout::place("simulation", name)
}

#[test]
fn an_a_a_canary_is_rolled_back_as_rarely_as_alpha_says() {
    let ends = many("A/A", SOUND, 2_000);
    assert!(ends.rolled_back <= 0.05 && ends.invalid <= 0.003, "{ends:?}");
    assert!(ends.promoted >= 0.9, "{ends:?}");
    assert!(ends.naive > 0.15, "the contrast is gone: {ends:?}");
}

/// All that may be is as bad as it may be: errors and slow requests at their limits, metrics as much worse as is accepted.
#[test]
fn a_canary_at_its_limits_is_rolled_back_and_promoted_as_rarely_as_alpha_says() {
    let at_limits = World { hits: (0.23, 0.2), dearer: 0.5 / 1.648_721, errors: 0.02, slow: 0.01, ..SOUND };
    let ends = many("at all limits", at_limits, 1_000);
    assert!(ends.rolled_back <= 0.05, "{ends:?}");
    assert!(ends.promoted <= 0.05, "{ends:?}");
    let one_limit = World { hits: (0.23, 0.2), ..SOUND };
    let ends = many("one metric worse by the margin", one_limit, 500);
    assert!(ends.rolled_back <= 0.05 && ends.promoted <= 0.05, "{ends:?}");
}

#[test]
fn harm_is_caught() {
    let worlds = [
        ("late, worse by twice the margin", World { hits: (0.26, 0.2), ..SOUND }, 0.95),
        ("late, worse by three times the margin", World { hits: (0.29, 0.2), ..SOUND }, 0.999),
        ("cost, worse by three times the margin", World { dearer: 1.5 / 1.648_721, ..SOUND }, 0.95),
        ("errors twice the limit", World { errors: 0.04, ..SOUND }, 0.99),
        ("errors ten times the limit", World { errors: 0.2, ..SOUND }, 1.0),
        ("slow requests three times the limit", World { slow: 0.03, ..SOUND }, 0.999),
    ];
    for (name, world, power) in worlds {
        let ends = many(name, world, 500);
        assert!(ends.rolled_back >= power, "{name}: {ends:?}");
        assert_eq!(ends.promoted, 0.0, "{name}: {ends:?}");
    }
}

#[test]
fn units_that_are_not_divided_as_they_were_to_be_are_caught() {
    for (name, divided, power) in
        [("47 of 100", 0.47, 0.8), ("45 of 100", 0.45, 0.99), ("40 of 100", 0.4, 1.0), ("nobody", 0.0, 1.0)]
    {
        let ends = many(&format!("ratio, {name}"), World { divided, ..SOUND }, 500);
        assert!(ends.invalid >= power, "{name}: {ends:?}");
    }
}

#[test]
fn too_few_users_to_tell_are_held_and_never_promoted() {
    let ends = many("six units in twenty minutes", World { units: 6, ..SOUND }, 500);
    assert_eq!(ends.promoted, 0.0, "{ends:?}");
    assert!(ends.held >= 0.95, "{ends:?}");
}

/// Rare hits and few units: where a normal approximation is at its worst.
#[test]
fn a_rare_event_is_no_reason_to_roll_back_a_sound_canary() {
    let rare = World { hits: (0.01, 0.01), units: 120, ..SOUND };
    let ends = many("rare events", rare, 1_000);
    assert!(ends.rolled_back <= 0.05, "{ends:?}");
    let at_limit = World { hits: (0.035, 0.005), ..rare };
    let ends = many("rare events, worse by the margin", at_limit, 500);
    assert!(ends.rolled_back <= 0.05 && ends.promoted <= 0.05, "{ends:?}");
}
