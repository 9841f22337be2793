//! Monitors: what is said of a window once, what a crash may not repeat or lose, and what never starts too often.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::UnixMillis;
use watch::alert::{AlertsSettings, Matcher, NotificationKind, Rule, Silence, State};
use watch::monitor::{Figure, Monitor, MonitorSettings, Sent, Window, text};
use watch::retrain::{Ended, Inputs, RetrainSettings};

use crate::alert::{MINUTE, at, minutes};

fn settings(retrain: Option<RetrainSettings>) -> MonitorSettings {
    let group_by = vec!["monitor".to_owned()];
    let drift = Rule {
        fire: 0.2,
        clear: Some(0.1),
        group_by: group_by.clone(),
        runbook: "look at it".into(),
        ..Rule::default()
    };
    let broken = Rule { fire: 1.0, group_by, ..Rule::default() };
    let rules = [("m".to_owned(), drift), ("m/schema".to_owned(), broken)].into();
    let alerts = AlertsSettings {
        group_wait: Duration::ZERO,
        group_interval: minutes(1),
        ..AlertsSettings::default()
    };
    MonitorSettings { rules, alerts, retrain }
}

fn monitor(retrain: Option<RetrainSettings>) -> Monitor {
    let mut monitor = Monitor::new("m");
    monitor.set(&settings(retrain)).unwrap();
    monitor
}

fn window(end: i64, rule: &str, column: &str, value: f64) -> Window {
    let labels: BTreeMap<String, String> = [("column".to_owned(), column.to_owned())].into();
    let said = format!("psi {value}");
    let figure = Figure { rule: rule.to_owned(), labels, value: Some(value), samples: 100, said };
    Window { end: at(end), rows: 100, figures: vec![figure] }
}

fn again(monitor: &Monitor) -> Monitor {
    let again: Monitor = serde_json::from_str(&serde_json::to_string(monitor).unwrap()).unwrap();
    assert_eq!(&again, monitor);
    again
}

fn to() -> Vec<String> {
    vec!["log".to_owned(), "slack:1".to_owned()]
}

#[test]
fn an_alert_is_told_once_to_each_channel_and_its_end_too() {
    let mut monitor = monitor(None);
    for minute in 1..30 {
        let value = if (10..20).contains(&minute) { 0.5 } else { 0.0 };
        monitor.observe(at(minute), (minute as u64, None), &[window(minute, "m", "temp", value)]);
        // The same window again says nothing.
        monitor.observe(at(minute), (minute as u64, None), &[window(minute, "m", "temp", 0.9)]);
        monitor.tick(at(minute), &to(), None);
        monitor = again(&monitor);
    }
    let waiting = monitor.waiting();
    let kinds: Vec<_> = waiting.iter().map(|p| (p.message.kind, p.to.as_str())).collect();
    let (firing, resolved) = (NotificationKind::Firing, NotificationKind::Resolved);
    assert_eq!(kinds, [(firing, "log"), (firing, "slack:1"), (resolved, "log"), (resolved, "slack:1")]);
    let said = text(&waiting[0].message, &waiting[0].said);
    assert_eq!((said.title.as_str(), said.lines.len()), ("m fires", 2));
    assert!(said.lines[0].contains("temp: psi 0.5") && said.lines[1] == "→ look at it", "{said:?}");
    let mut ids: Vec<String> = waiting.iter().map(watch::monitor::Pending::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_message_is_claimed_by_one_and_tried_again_until_it_is_given_up() {
    let mut monitor = monitor(None);
    monitor.observe(at(1), (1, None), &[window(1, "m", "a", 0.5)]);
    monitor.tick(at(1), &["log".to_owned()], None);
    let claimed = monitor.claim(at(1)).unwrap();
    // Written down and read by another, who is given nothing while the claim holds.
    let mut other = again(&monitor);
    assert!(other.claim(at(1)).is_none());
    // The one who claimed it died: after a minute another is given the same id.
    assert_eq!(other.claim(at(3)).map(|p| p.id()), Some(claimed.id()));
    let (mut minute, mut tries) = (3, 1);
    loop {
        other.sent(at(minute), &claimed.id(), Sent::Later);
        minute += 60 * 24;
        match other.claim(at(minute)) {
            Some(_) => tries += 1,
            None => break,
        }
    }
    assert_eq!((tries, other.lost(), other.waiting().len()), (7, 1, 0));
    monitor.sent(at(2), &claimed.id(), Sent::Taken);
    assert_eq!((monitor.lost(), monitor.waiting().len()), (0, 0));
}

#[test]
fn time_alone_is_not_written_down() {
    let retrain = RetrainSettings { quiet: minutes(60), ..RetrainSettings::default() };
    let mut monitor = monitor(Some(retrain));
    let inputs = Inputs { data: "flights@1".into(), code: "c".into() };
    monitor.observe(at(1), (1, None), &[window(1, "m", "a", 0.5)]);
    monitor.tick(at(1), &to(), Some(&inputs));
    let before = monitor.clone();
    for minute in 2..30 {
        monitor.tick(at(minute), &to(), Some(&inputs));
        assert!(!monitor.differs(&before), "{minute}");
    }
    monitor.tick(at(61), &to(), Some(&inputs));
    assert!(monitor.differs(&before), "a run is to be started");
}

#[test]
fn what_is_silenced_is_not_told_and_goes_on() {
    let mut monitor = monitor(None);
    let matchers = vec![Matcher { label: "column".into(), value: "a".into() }];
    let silence = Silence {
        id: "1".into(),
        matchers,
        starts: at(0),
        ends: at(60),
        by: "ada".into(),
        why: String::new(),
    };
    monitor.silence(&[silence]);
    monitor.observe(at(1), (1, None), &[window(1, "m", "a", 0.5)]);
    monitor.tick(at(1), &to(), None);
    assert_eq!((monitor.waiting().len(), monitor.list()[0].0.state), (0, State::Firing));
    monitor.silence(&[]);
    monitor.tick(at(2), &to(), None);
    assert_eq!(monitor.waiting().len(), 2, "the silence has ended and it still fires");
}

#[test]
fn broken_data_are_no_reason_to_train_and_drift_starts_one_run_that_a_crash_does_not_repeat() {
    let retrain = RetrainSettings { quiet: Duration::ZERO, ..RetrainSettings::default() };
    let inputs = Inputs { data: "flights@1".into(), code: "c".into() };
    let mut monitor = monitor(Some(retrain));
    monitor.observe(at(1), (1, None), &[window(1, "m/schema", "a", 5.0)]);
    assert_eq!(monitor.tick(at(1), &to(), Some(&inputs)), None);
    monitor.observe(at(2), (1, None), &[window(2, "m", "a", 0.5)]);
    let start = monitor.tick(at(2), &to(), Some(&inputs)).unwrap();
    assert!(!start.may_promote, "drift alone never promotes");
    // Killed before anybody knew which run it is: the same key again, and no second decision.
    let mut monitor = again(&monitor);
    assert_eq!(monitor.tick(at(3), &to(), Some(&inputs)).as_ref(), Some(&start));
    monitor.started(&start.key, "run-1");
    assert_eq!(monitor.tick(at(4), &to(), Some(&inputs)), None);
    monitor.ended(at(5), &start.key, Ended::Rejected);
    assert!(monitor.running().is_none());
    assert_eq!(monitor.retraining().unwrap().rejected, 1);
}

#[test]
fn what_goes_on_behind_a_run_is_a_reason_again_when_its_pause_is_over_and_a_window_says_so() {
    let retrain = RetrainSettings {
        quiet: Duration::ZERO,
        cooldown: minutes(10),
        per_day: 99,
        ..RetrainSettings::default()
    };
    let mut monitor = monitor(Some(retrain));
    let mut started = Vec::new();
    let mut pass = |monitor: &mut Monitor, minute: i64, window: Option<Window>| {
        monitor.observe(at(minute), (minute as u64, None), window.as_slice());
        let inputs = Inputs { data: format!("flights@{minute}"), code: "c".into() };
        if let Some(start) = monitor.tick(at(minute), &[], Some(&inputs)) {
            started.push(minute);
            monitor.started(&start.key, "r");
            monitor.ended(at(minute + 1), &start.key, Ended::Promoted);
        }
    };
    // It fires all the time: at first, and again with the first window past each pause.
    for minute in 1..60 {
        pass(&mut monitor, minute, Some(window(minute, "m", "a", 0.5)));
        monitor = again(&monitor);
    }
    // It still fires, but no window says anything new; then one that is between the two thresholds.
    let day = 24 * 60;
    pass(&mut monitor, day, None);
    pass(&mut monitor, day + 1, Some(window(59, "m", "a", 0.5)));
    pass(&mut monitor, day + 2, Some(window(day + 2, "m", "a", 0.15)));
    pass(&mut monitor, day + 3, Some(window(day + 3, "m", "a", 0.5)));
    assert_eq!(monitor.list()[0].0.state, State::Firing);
    assert_eq!(started, [1, 12, 23, 34, 45, 56, day + 3]);
}

proptest::proptest! {
    #[test]
    fn a_column_that_flaps_for_a_week_starts_no_more_runs_than_configured(
        values in proptest::collection::vec(proptest::bool::ANY, 300),
        per_day in 1u32..4,
    ) {
        let retrain = RetrainSettings { quiet: minutes(5), cooldown: minutes(30), per_day, ..RetrainSettings::default() };
        let mut monitor = monitor(Some(RetrainSettings { rejected: 1_000, ..retrain }));
        let (mut runs, mut day) = (BTreeMap::<i64, u32>::new(), 0);
        for (n, high) in (0i64..).zip(values) {
            let minute = 1 + n * 33;
            let value = if high { 0.9 } else { 0.0 };
            monitor.observe(at(minute), (n as u64, None), &[window(minute, "m", "a", value)]);
            let inputs = Inputs { data: format!("flights@{n}"), code: "c".into() };
            if let Some(start) = monitor.tick(at(minute), &[], Some(&inputs)) {
                *runs.entry(UnixMillis(minute * MINUTE).utc_day()).or_default() += 1;
                monitor.started(&start.key, "r");
                monitor.ended(at(minute + 10), &start.key, Ended::Rejected);
                day += 1;
            }
            monitor = again(&monitor);
        }
        proptest::prop_assert!(runs.values().all(|n| *n <= per_day), "{:?}", runs);
        proptest::prop_assert!(day <= 8 * per_day);
    }
}
