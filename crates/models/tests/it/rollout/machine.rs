//! The way up, and every way out.

use std::collections::BTreeMap;

use models::rollout::{
    Action, ArmBatch, Batch, End, Event, Hold, Input, Moments, Phase, Point, Rollout, Settings, ShadowBatch,
    Split, Subject, SubjectKind,
};

use super::{config, minutes};

const CONFIG: &str = "
shadow: 60m
shadow_agreement: 0.9
canary: [5, 25, 100]
step: {at_least: 10m, at_most: 2h, samples: 100}
metrics: [{name: late, kind: proportion, better: lower, margin: 0.1}]
guardrails: {error_rate: 0.05, latency_p99: 200ms}
";

fn begin(text: &str) -> Rollout {
    let subject = Subject { kind: SubjectKind::Prompt, name: "summarize".into() };
    let settings = Settings::new(&config(text)).unwrap();
    Rollout::begin(subject, ("v2", "v1"), settings, minutes(0)).0
}

fn shadowed(agreed: u64) -> Input {
    Input::Shadowed(ShadowBatch { compared: 100, agreed, requests: 100, ..ShadowBatch::default() })
}

/// A batch of `n` units on either side of which so many are late.
fn seen(step: usize, n: u64, late: (u64, u64)) -> Input {
    let arm = |late| ArmBatch {
        units: n,
        requests: n,
        metrics: BTreeMap::from([("late".to_owned(), Moments::hits(late, n))]),
        ..ArmBatch::default()
    };
    Input::Seen(Batch { step, canary: arm(late.0), control: arm(late.1) })
}

fn event(actions: &[Action]) -> &Event {
    let of = |a: &'_ Action| match a {
        Action::Page(_) | Action::Promote(_) | Action::RollBack(_) | Action::Record(_) => true,
        Action::Split(_) | Action::Shadow(_) | Action::Ask(_) => false,
    };
    match actions.iter().find(|a| of(a)).unwrap() {
        Action::Page(e) | Action::Promote(e) | Action::RollBack(e) | Action::Record(e) => e,
        _ => unreachable!(),
    }
}

/// Up to the first step.
fn canary(text: &str) -> Rollout {
    let mut rollout = begin(text);
    rollout.apply(minutes(60), shadowed(98));
    rollout.apply(minutes(61), Input::Enter);
    assert_eq!(*rollout.phase(), Phase::Canary(0));
    rollout
}

#[test]
fn a_sound_version_goes_all_the_way_up() {
    let subject = Subject { kind: SubjectKind::Model, name: "delay".into() };
    let (mut rollout, actions) =
        Rollout::begin(subject, ("v2", "v1"), Settings::new(&config(CONFIG)).unwrap(), minutes(0));
    assert_eq!(actions[0], Action::Shadow(true));
    assert!(rollout.apply(minutes(30), shadowed(97)).is_empty(), "an hour is an hour");
    let actions = rollout.apply(minutes(60), Input::Tick);
    assert_eq!((rollout.phase(), event(&actions).what.as_str()), (&Phase::Ready, "ready"));
    let actions = rollout.apply(minutes(61), Input::Enter);
    assert_eq!(actions[..2], [Action::Split(Split { canary: 500, control: 500 }), Action::Shadow(false)]);
    assert_eq!(event(&actions).sentence, "it answers 5 %, beside a control of 5 %");
    assert!(rollout.apply(minutes(65), seen(0, 200, (20, 22))).is_empty(), "ten minutes are ten minutes");
    let actions = rollout.apply(minutes(71), Input::Tick);
    assert_eq!(actions[0], Action::Split(Split { canary: 2_500, control: 2_500 }));
    let actions = rollout.apply(minutes(81), seen(1, 2_000, (200, 210)));
    assert_eq!(actions[0], Action::Split(Split { canary: 10_000, control: 0 }));
    assert_eq!(event(&actions).sentence, "it answers everybody, with the champion still warm");
    assert!(rollout.apply(minutes(90), seen(2, 500, (50, 0))).is_empty());
    let actions = rollout.apply(minutes(91), Input::Tick);
    let [Action::Promote(event)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(
        event
            .sentence
            .starts_with("`v2` is the champion of `delay`: late is 0.1 over 2200 values against 0.1055"),
        "{}",
        event.sentence
    );
    assert!(event.sentence.ends_with("so not worse by 0.1"));
    assert_eq!(*rollout.phase(), Phase::Ended(End::Promoted));
    assert_eq!(rollout.due(), None);
}

#[test]
fn what_is_worse_is_rolled_back_by_one_action_with_the_evidence() {
    let mut rollout = canary(CONFIG);
    let actions = rollout.apply(minutes(62), seen(0, 1_000, (400, 100)));
    let [Action::RollBack(event)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(event.what, "rolled_back");
    assert!(event.sentence.contains("so worse by more than 0.1"), "{}", event.sentence);
    let metric = &event.report.metrics[0];
    assert_eq!((metric.canary, metric.control), ((0.4, 1_000), (0.1, 1_000)));
    assert_eq!(rollout.split(), Split::default());
    assert!(rollout.apply(minutes(63), seen(0, 1_000, (0, 500))).is_empty(), "an end is an end");
}

#[test]
fn errors_and_slowness_end_it_at_once_in_the_shadow_too() {
    let mut shadow = begin(CONFIG);
    let failing = ShadowBatch { requests: 4, errors: 4, ..ShadowBatch::default() };
    let actions = shadow.apply(minutes(1), Input::Shadowed(failing));
    assert_eq!(event(&actions).sentence, "100 % of 4 requests fail, and 5 % may");
    assert_eq!(*shadow.phase(), Phase::Ended(End::RolledBack));
    let mut slow = canary(CONFIG);
    let arm = ArmBatch { units: 50, requests: 50, slow: 20, ..ArmBatch::default() };
    let control = ArmBatch { units: 50, requests: 50, ..ArmBatch::default() };
    let actions = slow.apply(minutes(62), Input::Seen(Batch { step: 0, canary: arm, control }));
    assert!(
        event(&actions).sentence.ends_with("requests are too slow, and 1 % may; of the control's it is 0 %"),
        "{}",
        event(&actions).sentence
    );
}

#[test]
fn units_that_do_not_come_as_divided_make_it_invalid() {
    let mut rollout = canary(CONFIG);
    let arm = |units| ArmBatch { units, requests: units, ..ArmBatch::default() };
    let actions =
        rollout.apply(minutes(62), Input::Seen(Batch { step: 0, canary: arm(400), control: arm(600) }));
    assert_eq!(*rollout.phase(), Phase::Ended(End::Invalid));
    assert!(
        event(&actions)
            .sentence
            .contains("400 units came to the canary and 600 to the control, where 50 % were to come")
    );
}

#[test]
fn no_data_is_held_and_cannot_be_moved_on() {
    let mut rollout = canary(CONFIG);
    let actions = rollout.apply(minutes(181), Input::Tick);
    let [Action::Page(event)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(event.sentence.contains("0 units of the canary and 0 of the control"), "{}", event.sentence);
    assert_eq!(rollout.held(), Some(Hold::NoData));
    assert_eq!(rollout.split().canary, 500, "it stays as it is");
    assert!(rollout.apply(minutes(500), Input::Tick).is_empty(), "people were told");
    let actions = rollout.apply(minutes(501), Input::Override { by: "ada".into(), why: "trust me".into() });
    assert_eq!(actions.len(), 1);
    assert_eq!((rollout.phase(), rollout.held()), (&Phase::Canary(0), Some(Hold::NoData)));
}

#[test]
fn what_is_open_when_the_time_is_over_is_held_until_somebody_gives_more() {
    let mut rollout = canary(&CONFIG.replace("margin: 0.1", "margin: 0.02"));
    rollout.apply(minutes(71), seen(0, 150, (20, 20)));
    rollout.apply(minutes(81), seen(1, 150, (20, 20)));
    let actions = rollout.apply(minutes(191), Input::Tick);
    assert!(matches!(actions[0], Action::Page(_)), "{actions:?}");
    assert_eq!((rollout.phase(), rollout.held()), (&Phase::Canary(1), Some(Hold::Inconclusive)));
    assert!(
        rollout.apply(minutes(192), seen(1, 50_000, (5_000, 5_000))).is_empty(),
        "what is held stays held"
    );
    let actions = rollout.apply(minutes(193), Input::Extend { by: "ada".into(), ms: 3_600_000 });
    assert_eq!(event(&actions).sentence, "`ada` gave it 3600 s more");
    assert_eq!(*rollout.phase(), Phase::Canary(2), "and by now it is proven");
    let mut harmful = canary(CONFIG);
    harmful.apply(minutes(181), Input::Tick);
    harmful.apply(minutes(182), seen(0, 1_000, (400, 100)));
    assert_eq!(*harmful.phase(), Phase::Ended(End::RolledBack), "a hold does not hide harm");
}

#[test]
fn what_is_open_can_be_moved_on_by_a_person_who_says_why() {
    let mut rollout = canary(&CONFIG.replace("margin: 0.1", "margin: 0.02"));
    rollout.apply(minutes(71), seen(0, 150, (20, 20)));
    rollout.apply(minutes(81), seen(1, 150, (20, 20)));
    rollout.apply(minutes(191), Input::Tick);
    let actions =
        rollout.apply(minutes(192), Input::Override { by: "ada".into(), why: "known noise".into() });
    assert_eq!(event(&actions).sentence, "`ada` moved it on though nothing was proven: known noise");
    assert_eq!(*rollout.phase(), Phase::Canary(2));
}

#[test]
fn a_shadow_that_disagrees_is_held() {
    let mut rollout = begin(CONFIG);
    rollout.apply(minutes(1), shadowed(50));
    let actions = rollout.apply(minutes(60), Input::Tick);
    assert_eq!(
        event(&actions).sentence,
        "50 % of its answers agree with the champion's, where 90 % are asked for"
    );
    assert_eq!(rollout.held(), Some(Hold::Disagrees));
    rollout.apply(minutes(61), Input::Override { by: "ada".into(), why: "it is right now".into() });
    assert_eq!(*rollout.phase(), Phase::Ready);
}

#[test]
fn people_are_asked_where_it_was_said_and_can_say_no() {
    let text = format!("{CONFIG}approve_before: [canary, champion]\n");
    let mut rollout = begin(&text);
    let actions = rollout.apply(minutes(60), shadowed(98));
    assert_eq!(actions[0], Action::Ask(Point::Canary));
    assert!(rollout.apply(minutes(61), Input::Enter).is_empty(), "not before somebody said yes");
    rollout.apply(minutes(62), Input::Approve { by: "ada".into() });
    rollout.apply(minutes(63), Input::Enter);
    rollout.apply(minutes(73), seen(0, 200, (20, 20)));
    let actions = rollout.apply(minutes(83), seen(1, 2_000, (200, 200)));
    assert_eq!(actions[0], Action::Ask(Point::Champion));
    assert_eq!(rollout.split().canary, 2_500, "traffic stays");
    let mut refused = rollout.clone();
    refused.apply(minutes(84), Input::Reject { by: "bob".into(), why: "not on a Friday".into() });
    assert_eq!(*refused.phase(), Phase::Ended(End::Rejected));
    rollout.apply(minutes(84), Input::Approve { by: "bob".into() });
    assert_eq!(*rollout.phase(), Phase::Canary(2));
}

#[test]
fn somebody_can_take_it_back_or_stop_it_at_any_time() {
    for (input, end, what) in [
        (Input::RollBack { by: "ada".into(), why: "odd".into() }, End::RolledBack, "rolled_back"),
        (Input::Kill { by: "ada".into(), why: "leak".into() }, End::Killed, "killed"),
    ] {
        for mut rollout in [begin(CONFIG), canary(CONFIG)] {
            let actions = rollout.apply(minutes(62), input.clone());
            let [Action::RollBack(event)] = actions.as_slice() else { panic!("{actions:?}") };
            assert_eq!((event.what.as_str(), rollout.phase()), (what, &Phase::Ended(end)));
        }
    }
}

#[test]
fn a_restart_goes_on_with_the_same_traffic_and_the_time_away_counts_for_nothing() {
    let mut rollout = canary(CONFIG);
    rollout.apply(minutes(64), seen(0, 200, (20, 20)));
    let kept = serde_json::to_string(&rollout).unwrap();
    let mut back: Rollout = serde_json::from_str(&kept).unwrap();
    assert_eq!(back, rollout);
    let actions = back.resume(minutes(1_000));
    assert_eq!(actions, [Action::Split(Split { canary: 500, control: 500 }), Action::Shadow(false)]);
    assert!(back.apply(minutes(1_001), Input::Tick).is_empty(), "four of ten minutes are over");
    assert!(!back.apply(minutes(1_007), Input::Tick).is_empty(), "and now all ten");
    assert_eq!(*back.phase(), Phase::Canary(1));
}

#[test]
fn the_next_tick_is_due_when_something_may_be_over() {
    let mut rollout = begin(CONFIG);
    assert_eq!(rollout.due(), Some(minutes(60)));
    rollout.apply(minutes(60), Input::Tick);
    assert_eq!(rollout.due(), Some(minutes(120)), "its deadline: nothing was compared");
    rollout.apply(minutes(120), Input::Tick);
    assert_eq!((rollout.due(), rollout.held()), (None, Some(Hold::NoData)));
}

#[test]
fn what_makes_no_sense_is_told_by_its_place() {
    let text = "
canary: [25, 5]
step: {at_least: 2h, at_most: 1h, samples: 3}
metrics: [{name: a, better: lower, margin: 0}, {name: a, better: lower, margin: 1}]
guardrails: {error_rate: 2}
alpha: 0
shadow_agreement: 3
";
    let found = Settings::new(&config(text)).unwrap_err();
    let pointers: Vec<&str> = found.iter().map(|p| p.pointer.as_str()).collect();
    let expected = [
        "/canary",
        "/canary",
        "/step/at_most",
        "/step/samples",
        "/metrics/0/margin",
        "/metrics/1/name",
        "/guardrails/error_rate",
        "/alpha",
        "/shadow_agreement",
    ];
    assert_eq!(pointers, expected);
    assert_eq!(Settings::new(&config("metrics: []")).unwrap_err()[0].message, "nothing decides");
}
