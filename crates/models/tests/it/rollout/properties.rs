//! Whatever happens: a model that knows only the promises watches the machine.

use std::collections::BTreeMap;

use models::rollout::{
    Action, ArmBatch, Batch, End, Input, Moments, Phase, Point, Rollout, Settings, ShadowBatch, Subject,
    SubjectKind,
};
use proptest::prelude::*;

use super::{config, minutes};

fn arm() -> impl Strategy<Value = ArmBatch> {
    (0_u64..400, 0_u64..4, 0_u64..4, 0_u64..=100).prop_map(|(n, errors, slow, late)| ArmBatch {
        units: n,
        requests: n,
        errors: errors.min(n),
        slow: slow.min(n),
        metrics: BTreeMap::from([
            ("late".to_owned(), Moments::hits(n * late / 1_000, n)),
            ("unknown".to_owned(), Moments::hits(1, 1)),
        ]),
    })
}

fn input() -> impl Strategy<Value = Input> {
    let by = || "ada".to_owned();
    prop_oneof![
        4 => Just(Input::Tick),
        4 => (0_u64..200).prop_map(|n| Input::Shadowed(ShadowBatch { compared: n, agreed: n, requests: n, ..ShadowBatch::default() })),
        20 => (0_usize..4, arm(), arm()).prop_map(|(step, canary, mut control)| {
            // Sides of about the same size, or every run would end as invalid.
            control.units = canary.units;
            Input::Seen(Batch { step, canary, control })
        }),
        4 => Just(Input::Enter),
        3 => Just(Input::Approve { by: by() }),
        1 => Just(Input::Extend { by: by(), ms: 3_600_000 }),
        1 => Just(Input::Override { by: by(), why: String::new() }),
    ]
}

fn rare() -> impl Strategy<Value = Input> {
    let by = || "bob".to_owned();
    prop_oneof![
        40 => input(),
        1 => Just(Input::Reject { by: by(), why: String::new() }),
        1 => Just(Input::RollBack { by: by(), why: String::new() }),
        1 => Just(Input::Kill { by: by(), why: String::new() }),
        1 => Just(Input::ChampionChanged { to: "v0".into() }),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>(), any::<bool>(), prop::sample::select(vec!["[5, 25, 100]", "[50, 100]", "[1, 20, 75, 100]"]))
        .prop_map(|(shadow, first, last, canary)| {
            let asked: Vec<&str> = [(first, "canary"), (last, "champion")].into_iter().filter(|a| a.0).map(|a| a.1).collect();
            let text = format!(
                "{}canary: {canary}\nstep: {{at_least: 10m, at_most: 2h, samples: 100}}\nguardrails: {{error_rate: 0.1}}\n\
                 metrics: [{{name: late, kind: proportion, better: lower, margin: 0.08}}]\napprove_before: [{}]\n",
                if shadow { "shadow: 30m\n" } else { "" },
                asked.join(", ")
            );
            Settings::new(&config(&text)).unwrap()
        })
}

fn begin(settings: &Settings) -> Rollout {
    let subject = Subject { kind: SubjectKind::Llm, name: "writer".into() };
    Rollout::begin(subject, ("v2", "v1"), settings.clone(), minutes(0)).0
}

/// What a watcher counts by itself.
#[derive(Default)]
struct Watcher {
    units: Vec<(u64, u64)>,
    overridden: bool,
    approved: Vec<Point>,
    last_share: u32,
    ends: u32,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_machine_keeps_its_promises(
        settings in settings(), inputs in prop::collection::vec((rare(), 0_i64..40), 1..80),
    ) {
        let mut rollout = begin(&settings);
        let mut now = 0;
        let mut watcher = Watcher { units: vec![(0, 0); 8], ..Watcher::default() };
        let mut step_reached: Option<usize> = None;
        for (input, passed) in inputs {
            now += passed;
            let before = rollout.clone();
            let (phase, held) = (before.phase().clone(), before.held());
            match &input {
                Input::Seen(batch) if step_reached.is_some_and(|reached| batch.step <= reached) => {
                    watcher.units[batch.step].0 += batch.canary.units;
                    watcher.units[batch.step].1 += batch.control.units;
                }
                Input::Override { .. } if held.is_some() => watcher.overridden = true,
                Input::Approve { .. } => if let Phase::Waiting(point) = phase { watcher.approved.push(point) },
                // Below it, what was approved and seen was of another comparison.
                Input::ChampionChanged { .. } => watcher.approved.clear(),
                _ => {}
            }
            let person = matches!(input, Input::Extend { .. } | Input::Override { .. });
            let actions = rollout.apply(minutes(now), input);
            // After an end nothing changes.
            if matches!(phase, Phase::Ended(_)) {
                prop_assert_eq!(&rollout, &before);
                prop_assert!(actions.is_empty());
                continue;
            }
            // What is held goes on only by a person's word.
            if held.is_some() && !person && !matches!(rollout.phase(), Phase::Ended(_)) && rollout.champion() == before.champion() {
                prop_assert_eq!(rollout.phase(), &phase);
                prop_assert_eq!(rollout.held(), held);
            }
            match rollout.phase() {
                Phase::Canary(step) => {
                    // One step at a time, and every one before it has seen its samples.
                    prop_assert!(step_reached.map_or(*step == 0, |reached| *step == reached || *step == reached + 1));
                    for (canary, control) in &watcher.units[..*step] {
                        prop_assert!(*canary.min(control) >= 100, "{:?}", watcher.units);
                    }
                    step_reached = Some(*step);
                    let split = rollout.split();
                    prop_assert!(split.canary >= watcher.last_share);
                    prop_assert_eq!(split.control, split.canary.min(10_000 - split.canary));
                    watcher.last_share = split.canary;
                }
                Phase::Ended(end) => {
                    prop_assert_eq!(rollout.split().canary, 0);
                    watcher.ends += 1;
                    let ending = actions.iter().filter(|a| matches!(a, Action::Promote(_) | Action::RollBack(_))).count();
                    prop_assert_eq!(ending, 1, "one action ends it");
                    if *end == End::Promoted {
                        let Some(Action::Promote(event)) = actions.last() else { panic!() };
                        let proven = event.report.metrics.iter().all(|m| m.gain.unwrap().low >= -m.margin);
                        prop_assert!(proven || watcher.overridden, "{:?}", event.report);
                        prop_assert!(event.report.metrics.iter().all(|m| m.canary.1.min(m.control.1) >= 100));
                        prop_assert_eq!(before.split().canary, 10_000);
                    }
                }
                Phase::Shadow | Phase::Ready | Phase::Waiting(_) => {}
            }
            prop_assert!(watcher.ends <= 1);
            prop_assert_eq!(rollout.split().canary > 0 && rollout.shadows(), false);
        }
    }

    /// Kept as text after every input or not at all: the same state, and the same to be done.
    #[test]
    fn equal_inputs_give_an_equal_state_whether_it_was_kept_or_not(
        settings in settings(), inputs in prop::collection::vec((input(), 0_i64..40), 1..20),
    ) {
        let (mut straight, mut kept) = (begin(&settings), begin(&settings));
        let mut now = 0;
        for (input, passed) in inputs {
            now += passed;
            let text = serde_json::to_string(&kept).unwrap();
            kept = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&kept, &straight);
            prop_assert_eq!(kept.apply(minutes(now), input.clone()), straight.apply(minutes(now), input));
        }
        prop_assert_eq!(kept, straight);
    }
}

/// The generated histories reach every kind of end, or the properties say little.
#[test]
fn generated_histories_reach_promotion_and_rollback() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut ends = BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        let settings = settings().new_tree(&mut runner).unwrap().current();
        let inputs = prop::collection::vec((rare(), 0_i64..40), 80).new_tree(&mut runner).unwrap().current();
        let mut rollout = begin(&settings);
        let mut now = 0;
        for (input, passed) in inputs {
            now += passed;
            rollout.apply(minutes(now), input);
        }
        *ends.entry(format!("{:?}", rollout.phase())).or_default() += 1;
    }
    println!("{ends:?}");
    for end in ["Promoted", "RolledBack", "Killed", "Superseded", "Rejected"] {
        assert!(ends.contains_key(&format!("Ended({end})")), "{end} is never reached: {ends:?}");
    }
}
