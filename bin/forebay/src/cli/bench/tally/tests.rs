//! Percentiles against their definition, counts that add up, rates that no straggler and no queue bends.

use proptest::prelude::*;

use super::*;
use crate::cli::bench::answer::Took;
use crate::cli::bench::plan::Planned;

pub(in crate::cli::bench) fn sample(due_ms: u64, total_ms: u64, outcome: Outcome) -> Sample {
    let planned = Planned {
        number: due_ms,
        due: Duration::from_millis(due_ms),
        measured: true,
        tenant: 0,
        input: 10,
        output: 10,
        stream: true,
        seed: 0,
    };
    let took = Took { input_tokens: 10, output_tokens: 11, counted: true, cost_nanousd: None };
    let first_us = Some(total_ms * 500);
    Sample { planned, late_us: 0, first_us, total_us: total_ms * 1_000, outcome, took }
}

fn judge(window_ms: u64) -> Judge {
    Judge { slo: None, price: None, window: Duration::from_millis(window_ms) }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Complete),
        "[a-z]{1,3}".prop_map(|code| Outcome::Partial { code }),
        (400u16..600, "[a-z]{0,3}").prop_map(|(status, code)| Outcome::Error { status, code }),
        any::<bool>().prop_map(|retry_after| Outcome::Shed {
            status: 429,
            code: "overloaded".into(),
            retry_after
        }),
        Just(Outcome::TimedOut),
        Just(Outcome::Broken("cut")),
        Just(Outcome::Unfinished),
    ]
}

proptest! {
    #[test]
    fn a_percentile_has_its_share_at_or_below_it_and_is_a_value_that_was_there(
        values in prop::collection::vec(0u64..10_000, 1..500),
    ) {
        let p = Percentiles::of(values.clone()).unwrap();
        let share = |limit: u64| values.iter().filter(|v| **v <= limit).count() as f64 / values.len() as f64;
        let below = |limit: u64| values.iter().filter(|v| **v < limit).count() as f64 / values.len() as f64;
        for (q, at) in [(0.5, p.p50), (0.9, p.p90), (0.99, p.p99), (0.999, p.p999)] {
            prop_assert!(values.contains(&at) && share(at) >= q && below(at) < q, "{at} at {q}");
        }
        prop_assert_eq!(p.max, *values.iter().max().unwrap());
        prop_assert!(p.p50 <= p.p90 && p.p90 <= p.p99 && p.p99 <= p.p999 && p.p999 <= p.max);
    }

    #[test]
    fn every_request_is_counted_once(outcomes in prop::collection::vec(any_outcome(), 0..300)) {
        let samples: Vec<Sample> = outcomes.into_iter().enumerate().map(|(i, o)| sample(i as u64, 5, o)).collect();
        let tally = judge(1_000).tally(samples.iter());
        let c = tally.counts;
        prop_assert_eq!(tally.sent, c.complete + c.sheds + c.failed());
        prop_assert_eq!(tally.sent, samples.len() as u64);
        prop_assert_eq!(tally.by_code.values().sum::<u64>(), c.sheds + c.failed());
        prop_assert!(c.good == c.complete && c.sheds_with_retry_after <= c.sheds);
        prop_assert!(tally.by_code.len() <= CODES + 1);
    }

    #[test]
    fn a_rate_is_never_above_what_the_window_gives(
        ends in prop::collection::vec(0u64..100_000, 0..400), window in 1u64..60_000,
    ) {
        let n = ends.len() as f64;
        let rate = per_second(ends.into_iter().map(Duration::from_millis).collect(), Duration::from_millis(window));
        prop_assert!(rate >= 0.0 && rate <= n / (window as f64 / 1_000.0) + 1e-9);
    }
}

#[test]
fn a_server_that_keeps_up_has_the_rate_that_was_offered() {
    let samples: Vec<Sample> = (0..1_000).map(|i| sample(i * 10, 3_000, Outcome::Complete)).collect();
    let rate = judge(10_000).tally(samples.iter()).complete_per_second;
    assert!((rate - 100.0).abs() < 1.0, "{rate}");
}

#[test]
fn a_queue_that_is_worked_off_later_is_no_throughput_and_a_straggler_no_lack_of_it() {
    // A thousand requests in ten seconds; the server can do 50 a second.
    let slow = |i: u64| sample(i * 10, (i + 1) * 20 - i * 10, Outcome::Complete);
    let mut samples: Vec<Sample> = (0..1_000).map(slow).collect();
    let rate = judge(10_000).tally(samples.iter()).complete_per_second;
    assert!((rate - 50.0).abs() < 1.0, "{rate}");
    samples.push(sample(0, 500_000, Outcome::Complete));
    let rate = judge(10_000).tally(samples.iter()).complete_per_second;
    assert!((rate - 50.0).abs() < 1.0, "{rate}");
}

#[test]
fn only_answers_within_the_slo_are_good() {
    let samples: Vec<Sample> = [100, 200, 300, 400].map(|ms| sample(ms, ms, Outcome::Complete)).into();
    let slo = Slo { first_us: Some(150_000), total_us: Some(1_000_000), tpot_us: None };
    let tally = Judge { slo: Some(slo), ..judge(1_000) }.tally(samples.iter());
    assert_eq!((tally.counts.complete, tally.counts.good), (4, 3));
    assert_eq!((tally.complete_per_second, tally.goodput), (4.0, 3.0));
    // Ten tokens behind the first, in half of the time.
    assert_eq!(tally.tpot_us.unwrap().max, 20_000);
}

#[test]
fn the_servers_word_on_cost_goes_before_a_price() {
    let mut said = sample(0, 10, Outcome::Complete);
    said.took.cost_nanousd = Some(7);
    let silent = sample(1, 10, Outcome::Complete);
    let price = Some(Price { input: 1_000.0, output: 2_000.0 });
    let cost = Judge { price, ..judge(1_000) }.tally([&said, &silent].into_iter()).cost.unwrap();
    assert_eq!(cost, Cost { nanousd: 7 + 10 * 1_000 + 11 * 2_000, said: 1, computed: 1 });
    assert_eq!(judge(1_000).tally([&silent].into_iter()).cost, None);
}
