//! How long large inputs take, by the duration that the test runner shows:
//! `cargo nextest run --release -p forebay-models --run-ignored only -E 'test(speed)' --status-level pass`.

use models::evaluate::{EvaluateConfig, Key, Rows, Truth, evaluate};
use models::gate::{Verdict, decide, parse};
use models::rollout::{ArmBatch, Batch, Input, Moments, Rollout, Settings, Subject, SubjectKind};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::gate::{NOW, case};

fn rows(seed: u64, n: usize) -> Rows {
    let (mut hidden, mut own) = (Pcg64::seed_from_u64(1), Pcg64::seed_from_u64(seed));
    let (mut labels, mut scores) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let p: f64 = hidden.random();
        labels.push(hidden.random_bool(p));
        scores.push((p + 0.2 * (own.random::<f64>() - 0.5)).clamp(0.0, 1.0));
    }
    let carrier = (0..n).map(|row| Some(["AA", "BB", "CC", "DD"][row % 4]));
    Rows::new(Truth::Binary { labels, scores }).unwrap().key(Key::new("carrier", carrier)).unwrap()
}

#[test]
#[ignore = "a measurement"]
fn a_million_rows_with_slices_and_groups_are_evaluated() {
    let config = EvaluateConfig {
        slices: vec!["carrier".into()],
        groups: vec!["carrier".into()],
        ..EvaluateConfig::default()
    };
    assert!(evaluate(&rows(2, 1_000_000), &config).unwrap().metrics["auc"].unwrap() > 0.8);
}

fn gated(metric: &str, n: usize) {
    let text = format!("primary: {{metric: {metric}, margin: 0.01}}\nreplicates: 1000");
    let (new, old) = (rows(2, n), rows(3, n));
    assert_eq!(
        decide(&parse(&text).unwrap(), &case(&new, Some(&old)), NOW).unwrap().verdict,
        Verdict::Accepted
    );
}

#[test]
#[ignore = "a measurement"]
fn a_million_rows_are_compared_by_delong() {
    gated("auc", 1_000_000);
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_rows_are_compared_by_a_thousand_draws_of_the_bootstrap() {
    gated("average_precision", 100_000);
}

#[test]
#[ignore = "a measurement"]
fn a_rollout_takes_a_hundred_thousand_batches() {
    let text = "
canary: [50, 100]
step: {at_least: 300d, at_most: 400d}
metrics: [{name: late, kind: proportion, better: lower, margin: 0.02}, {name: cost, better: lower, margin: 0.5}]
guardrails: {error_rate: 0.02, latency_p99: 200ms}
";
    let settings = Settings::new(&crate::rollout::config(text)).unwrap();
    let subject = Subject { kind: SubjectKind::Model, name: "m".into() };
    let (mut rollout, _) = Rollout::begin(subject, ("v2", "v1"), settings, crate::rollout::minutes(0));
    rollout.apply(crate::rollout::minutes(0), Input::Enter);
    let arm = || ArmBatch {
        units: 10,
        requests: 10,
        metrics: [("late", Moments::hits(2, 10)), ("cost", Moments::of([1.0, 2.0]))]
            .map(|(name, m)| (name.to_owned(), m))
            .into(),
        ..ArmBatch::default()
    };
    for at in 0..100_000 {
        rollout.apply(
            crate::rollout::minutes(at),
            Input::Seen(Batch { step: 0, canary: arm(), control: arm() }),
        );
    }
    assert_eq!(rollout.split().canary, 5_000);
}
