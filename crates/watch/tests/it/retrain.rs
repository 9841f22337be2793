//! The decision to train again: each hold, storms, restarts; and what never happens, under whatever comes.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::UnixMillis;
use proptest::prelude::*;
use watch::alert::{Action as AlertAction, AlertKey, Alerts, AlertsSettings, Rule, Sample, State};
use watch::retrain::{Action, Ended, Hold, Inputs, Reason, RetrainSettings, Retraining, Start};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn at(ms: i64) -> UnixMillis {
    // A Monday noon, so that days begin in between.
    UnixMillis(1_767_614_400_000 + ms)
}

fn inputs(data: i64) -> Inputs {
    Inputs { data: format!("d{data}"), code: "c1".into() }
}

fn model() -> Retraining {
    Retraining::new("delay", RetrainSettings::default())
}

fn started(actions: Vec<Action>) -> Option<Start> {
    actions.into_iter().find_map(|action| match action {
        Action::Start(start) => Some(start),
        _ => None,
    })
}

#[test]
fn reasons_that_come_together_are_one_run() {
    let mut m = model();
    m.ask(at(0), Reason::Drift, "alert a");
    m.ask(at(5 * MINUTE), Reason::Volume, "100k rows");
    m.ask(at(6 * MINUTE), Reason::Drift, "alert b");
    assert!(m.tick(at(14 * MINUTE), &inputs(1)).is_empty());
    assert_eq!(m.status().holds, [Hold::Quiet(at(15 * MINUTE))]);
    let start = started(m.tick(at(15 * MINUTE), &inputs(1))).unwrap();
    assert_eq!(start.reasons.keys().copied().collect::<Vec<_>>(), [Reason::Volume, Reason::Drift]);
    assert!(start.may_promote);
    m.ask(at(HOUR), Reason::Drift, "alert c");
    assert!(m.tick(at(2 * HOUR), &inputs(2)).is_empty(), "one at a time");
    m.ended(at(3 * HOUR), &start.key, Ended::Promoted);
    assert_eq!(m.status().holds, [Hold::Cooldown(at(9 * HOUR))]);
    let next = started(m.tick(at(9 * HOUR), &inputs(2))).unwrap();
    assert!(!next.may_promote, "drift alone never promotes");
}

#[test]
fn what_was_trained_is_never_trained_again_and_what_failed_may_be() {
    let mut m = model();
    m.ask(at(0), Reason::Schedule, "");
    let start = started(m.tick(at(HOUR), &inputs(1))).unwrap();
    m.ended(at(2 * HOUR), &start.key, Ended::Failed);
    m.ask(at(3 * HOUR), Reason::Schedule, "");
    let again = started(m.tick(at(9 * HOUR), &inputs(1))).unwrap();
    assert_ne!(again.key, start.key);
    m.ended(at(10 * HOUR), &again.key, Ended::Rejected);
    m.ask(at(20 * HOUR), Reason::Manual, "ada");
    assert!(matches!(m.tick(at(20 * HOUR), &inputs(1))[0], Action::Dropped(..)), "people too");
    m.ask(at(21 * HOUR), Reason::Manual, "ada");
    assert!(started(m.tick(at(21 * HOUR), &inputs(2))).is_some());
}

#[test]
fn a_failed_validation_and_a_rollout_hold_people_too() {
    let mut m = model();
    m.validated(false);
    m.rolling_out(true);
    m.ask(at(0), Reason::Manual, "ada");
    assert!(m.tick(at(HOUR), &inputs(1)).is_empty());
    assert_eq!(m.status().holds, [Hold::Validation, Hold::Rollout]);
    m.validated(true);
    assert!(m.tick(at(HOUR), &inputs(1)).is_empty());
    m.rolling_out(false);
    assert!(started(m.tick(at(HOUR), &inputs(1))).is_some(), "and nothing is lost");
}

#[test]
fn after_some_rejected_challengers_it_stops_until_a_person_resumes() {
    let mut m = model();
    let mut stopped = 0;
    for i in 0..20 {
        let day = i * 24 * HOUR;
        m.ask(at(day), Reason::Drift, "");
        if let Some(start) = started(m.tick(at(day + HOUR), &inputs(i))) {
            stopped += m.ended(at(day + 2 * HOUR), &start.key, Ended::Rejected).len();
        }
    }
    assert_eq!((m.status().rejected, stopped), (3, 1));
    assert_eq!(m.status().holds, [Hold::Stopped]);
    m.resume();
    assert!(started(m.tick(at(500 * HOUR), &inputs(99))).is_some());
}

/// A sensor that goes wrong for a few minutes, again and again, for a week; new data with every minute; challengers
/// that pass.
#[test]
fn a_sensor_that_flaps_for_a_week_causes_at_most_the_configured_runs() {
    for (how, most) in [(Ended::Promoted, 16), (Ended::Rejected, 3), (Ended::Failed, 3)] {
        let mut m = model();
        let mut alerts = Alerts::new(AlertsSettings::default());
        let rule = Rule { fire: 0.2, ..Rule::default() };
        alerts.set_rules([("drift".to_owned(), rule)].into()).unwrap();
        let key = AlertKey { rule: "drift".into(), labels: [].into() };
        let (mut starts, mut asked, mut running) = (Vec::new(), 0, None);
        for minute in 0..7 * 24 * 60 {
            let now = at(minute * MINUTE);
            let value = if minute % 7 < 3 { 0.9 } else { 0.0 };
            for action in alerts.observe(now, &key, Sample { at: now, value: Some(value), samples: 100 }) {
                if matches!(action, AlertAction::Changed(_, t) if t.to == State::Firing) {
                    asked += 1;
                    m.ask(now, Reason::Drift, "drift");
                }
            }
            if let Some(start) = started(m.tick(now, &inputs(minute))) {
                starts.push(minute);
                running = Some((minute + 30, start.key));
            }
            if let Some((_, key)) = running.take_if(|(end, _)| *end == minute) {
                m.ended(now, &key, how);
            }
        }
        // Two a day over seven days, which touch eight days of UTC.
        assert!(
            starts.len() <= most && !starts.is_empty(),
            "{how:?}: {} runs of {asked} alerts",
            starts.len()
        );
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 6 * 60));
        println!("{how:?}: {} runs of {asked} alerts", starts.len());
    }
}

#[derive(Debug, Clone)]
enum Op {
    Ask(u8),
    Wait(i64),
    Data(bool),
    End(u8),
    Validated(bool),
    Rollout(bool),
    Resume,
    Restart,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u8..6).prop_map(Op::Ask),
        1 => Just(Op::Ask(6)),
        6 => (0i64..900).prop_map(Op::Wait),
        3 => any::<bool>().prop_map(Op::Data),
        4 => (0u8..4).prop_map(Op::End),
        1 => any::<bool>().prop_map(Op::Validated),
        1 => any::<bool>().prop_map(Op::Rollout),
        1 => Just(Op::Resume),
        1 => Just(Op::Restart),
    ]
}

const REASONS: [Reason; 7] = [
    Reason::Schedule,
    Reason::Volume,
    Reason::Drift,
    Reason::Performance,
    Reason::Fairness,
    Reason::Code,
    Reason::Manual,
];

/// What is known from outside, of which the promises are made.
#[derive(Default)]
struct Outside {
    running: Option<(String, i64)>,
    trained: BTreeSet<i64>,
    automatic: Vec<i64>,
    ended: Option<i64>,
    rejected: u32,
    failed: u32,
    asked: BTreeSet<Reason>,
    keys: BTreeSet<String>,
}

proptest! {
    #[test]
    fn whatever_comes_the_promises_hold(ops in prop::collection::vec(any_op(), 1..250)) {
        let settings = RetrainSettings { cooldown: Duration::from_secs(3 * 3_600), ..RetrainSettings::default() };
        let mut m = Retraining::new("delay", settings);
        let mut out = Outside::default();
        let (mut now, mut data, mut valid, mut rollout) = (0i64, 0i64, true, false);
        for op in ops {
            match op {
                Op::Ask(r) => {
                    m.ask(at(now), REASONS[r as usize], "");
                    out.asked.insert(REASONS[r as usize]);
                    if r == 6 { (out.rejected, out.failed) = (0, 0); }
                }
                Op::Wait(minutes) => now += minutes * MINUTE,
                Op::Data(new) => data = if new { data + 1 } else { data.saturating_sub(1) },
                Op::End(how) => if let Some((key, of)) = out.running.take() {
                    let how = [Ended::Promoted, Ended::Rejected, Ended::Failed, Ended::Rejected][how as usize];
                    m.ended(at(now), "another", how);
                    m.ended(at(now), &key, how);
                    out.ended = Some(now);
                    match how {
                        Ended::Promoted => (out.rejected, out.failed) = (0, 0),
                        Ended::Rejected => (out.rejected, out.failed) = (out.rejected + 1, 0),
                        Ended::Failed => { out.failed += 1; out.trained.remove(&of); }
                    }
                },
                Op::Validated(passed) => { m.validated(passed); valid = passed; }
                Op::Rollout(active) => { m.rolling_out(active); rollout = active; }
                Op::Resume => { m.resume(); (out.rejected, out.failed) = (0, 0); }
                Op::Restart => m = serde_json::from_str(&serde_json::to_string(&m).unwrap()).unwrap(),
            }
            let before = m.clone();
            let actions = m.tick(at(now), &inputs(data));
            prop_assert_eq!(before.clone().tick(at(now), &inputs(data)), actions.clone(), "decided again, the same");
            prop_assert!(actions.len() <= 1);
            match actions.into_iter().next() {
                Some(Action::Start(start)) => {
                    let manual = out.asked.contains(&Reason::Manual);
                    prop_assert!(out.running.is_none() && valid && !rollout);
                    prop_assert!(out.trained.insert(data), "trained twice");
                    prop_assert!(out.keys.insert(start.key.clone()));
                    prop_assert_eq!(start.reasons.keys().copied().collect::<BTreeSet<_>>(), out.asked.clone());
                    prop_assert_eq!(start.may_promote, out.asked.iter().any(|r| *r != Reason::Drift));
                    if !manual {
                        prop_assert!(out.rejected < 3 && out.failed < 3);
                        prop_assert!(out.ended.is_none_or(|e| now - e >= 3 * HOUR));
                        out.automatic.push(at(now).utc_day());
                        let today = out.automatic.iter().filter(|d| **d == at(now).utc_day()).count();
                        prop_assert!(today <= 2);
                    }
                    out.asked.clear();
                    out.running = Some((start.key, data));
                }
                Some(Action::Dropped(..)) => {
                    prop_assert!(out.trained.contains(&data));
                    out.asked.clear();
                }
                _ => {}
            }
        }
        // Nothing is lost: with everything well and new data, what was asked for comes.
        if let Some((key, _)) = out.running.take() {
            m.ended(at(now), &key, Ended::Promoted);
        }
        m.validated(true);
        m.rolling_out(false);
        m.resume();
        let last = started(m.tick(at(now + 48 * HOUR), &inputs(1_000)));
        prop_assert_eq!(last.is_some(), !out.asked.is_empty());
    }
}
