//! Alerts: each arrow, what is sent and what is not, restarts; and against models under whatever comes.

use std::time::Duration;

use contract::UnixMillis;
use watch::alarm::Quorum;
use watch::alert::{
    Action, Alert, AlertKey, Alerts, AlertsSettings, Direction, Flapping, Inhibition, Matcher, NoData,
    Notification, NotificationKind, Rule, Sample, Silence, State,
};

pub(crate) const MINUTE: i64 = 60_000;

pub(crate) fn at(minutes: i64) -> UnixMillis {
    UnixMillis(minutes * MINUTE)
}

pub(crate) fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

pub(crate) fn drift() -> Rule {
    Rule {
        fire: 0.2,
        clear: Some(0.1),
        wait: minutes(10),
        keep: minutes(5),
        stale_after: minutes(60),
        flapping: Flapping { times: 3, within: minutes(600), hold: minutes(60) },
        ..Rule::default()
    }
}

pub(crate) fn sample(minute: i64, value: f64) -> Sample {
    Sample { at: at(minute), value: Some(value), samples: 100 }
}

/// States after values at minutes.
fn states(rule: &Rule, values: &[(i64, f64)]) -> Vec<State> {
    let mut alert = Alert::new(at(0));
    values
        .iter()
        .map(|&(minute, value)| {
            alert.observe(rule, at(minute), sample(minute, value));
            alert.state()
        })
        .collect()
}

use State::{Firing, Inactive, Pending};

#[test]
fn an_alert_waits_fires_and_clears_with_hysteresis() {
    let values = [(1, 0.05), (2, 0.2), (11, 0.3), (12, 0.3), (20, 0.15), (21, 0.09), (25, 0.09), (26, 0.0)];
    let expected = [Inactive, Pending, Pending, Firing, Firing, Firing, Firing, Inactive];
    assert_eq!(states(&drift(), &values), expected);
    assert_eq!(
        states(&drift(), &[(1, 0.3), (5, 0.1), (6, 0.3), (14, 0.3)]),
        [Pending, Inactive, Pending, Pending]
    );
    let low = Rule { direction: Direction::Below, fire: 0.7, clear: Some(0.75), ..Rule::default() };
    assert_eq!(
        states(&low, &[(1, 0.71), (2, 0.7), (3, 0.74), (4, 0.76)]),
        [Inactive, Firing, Firing, Inactive]
    );
}

#[test]
fn one_odd_window_of_three_is_no_alarm() {
    let rule = Rule { quorum: Quorum { m: 2, n: 3 }, wait: Duration::ZERO, keep: Duration::ZERO, ..drift() };
    let values = [(1, 0.9), (2, 0.0), (3, 0.0), (4, 0.9), (5, 0.0), (6, 0.9), (7, 0.0), (8, 0.0)];
    let expected = [Inactive, Inactive, Inactive, Inactive, Inactive, Firing, Inactive, Inactive];
    assert_eq!(states(&rule, &values), expected);
}

#[test]
fn a_window_with_too_few_samples_is_none() {
    let rule = Rule { min_samples: 30, wait: Duration::ZERO, ..drift() };
    let mut alert = Alert::new(at(0));
    let few = Sample { at: at(1), value: Some(9.0), samples: 29 };
    assert!(alert.observe(&rule, at(1), few).is_empty());
    assert_eq!((alert.state(), alert.value()), (Inactive, None));
    alert.observe(&rule, at(2), Sample { samples: 30, at: at(2), ..few });
    assert_eq!(alert.state(), Firing);
}

#[test]
fn what_no_data_means_is_the_rules_to_say() {
    let after_silence = |no_data, first: f64| {
        let rule = Rule { no_data, wait: Duration::ZERO, ..drift() };
        let mut alert = Alert::new(at(0));
        alert.observe(&rule, at(1), sample(1, first));
        let fresh = alert.state();
        alert.tick(&rule, at(60));
        assert_eq!(alert.state(), fresh, "not yet");
        alert.tick(&rule, at(61));
        alert.tick(&rule, at(70));
        alert.state()
    };
    assert_eq!(after_silence(NoData::Ok, 0.9), Inactive);
    assert_eq!(after_silence(NoData::Keep, 0.9), Firing);
    assert_eq!(after_silence(NoData::Keep, 0.0), Inactive);
    assert_eq!(after_silence(NoData::Alert, 0.0), Firing);
}

#[test]
fn an_alert_that_flaps_is_held_until_it_is_calm() {
    let rule = Rule { wait: Duration::ZERO, keep: Duration::ZERO, ..drift() };
    let values: Vec<(i64, f64)> = (1..=40).map(|i| (i, if i % 2 == 0 { 0.0 } else { 0.9 })).collect();
    let seen = states(&rule, &values);
    let resolved = seen.windows(2).filter(|w| w[0] == Firing && w[1] == Inactive).count();
    assert_eq!(resolved, 2, "the third time it is held");
    let mut calm = values;
    calm.extend((41..=140).map(|i| (i, 0.0)));
    assert_eq!(states(&rule, &calm)[98], Firing);
    assert_eq!(states(&rule, &calm)[99], Inactive, "an hour after it was last beyond");
}

pub(crate) fn key(rule: &str, labels: &[(&str, &str)]) -> AlertKey {
    let pairs = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    AlertKey { rule: rule.to_owned(), labels: pairs.collect() }
}

pub(crate) fn board() -> Alerts {
    let mut alerts = Alerts::new(AlertsSettings {
        group_wait: minutes(1),
        group_interval: minutes(5),
        repeat: minutes(240),
        max_series: 50,
    });
    let by_model = |rule: Rule| Rule { group_by: vec!["model".into()], wait: Duration::ZERO, ..rule };
    let inhibition = Inhibition { rule: "stale".into(), equal: vec!["model".into()] };
    let rules = [
        ("drift", by_model(Rule { inhibited_by: vec![inhibition], ..drift() })),
        ("stale", by_model(Rule { fire: 1.0, keep: Duration::ZERO, ..drift() })),
        ("auc", Rule { direction: Direction::Below, fire: 0.7, clear: Some(0.72), ..drift() }),
    ];
    alerts.set_rules(rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect()).unwrap();
    alerts
}

pub(crate) fn sent(actions: Vec<Action>) -> Vec<Notification> {
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(message) => Some(message),
            Action::Changed(..) => None,
        })
        .collect()
}

#[test]
fn what_breaks_together_is_told_together_once_and_again_after_hours() {
    let mut alerts = board();
    for (i, feature) in ["a", "b", "c"].into_iter().enumerate() {
        let key = key("drift", &[("model", "m"), ("feature", feature)]);
        alerts.observe(at(i as i64), &key, sample(i as i64, 0.5));
        assert!(i > 0 || sent(alerts.tick(at(0))).is_empty(), "the first waits for the others");
    }
    let first = sent(alerts.tick(at(2)));
    assert_eq!((first.len(), first[0].firing.len(), first[0].kind), (1, 3, NotificationKind::Firing));
    for minute in 3..=50 {
        for feature in ["a", "b", "c"] {
            let key = key("drift", &[("model", "m"), ("feature", feature)]);
            alerts.observe(at(minute), &key, sample(minute, 0.5));
        }
        assert!(sent(alerts.tick(at(minute))).is_empty());
    }
    let again = sent(alerts.tick(at(242)));
    assert_eq!((again.len(), again[0].kind), (1, NotificationKind::Repeat));
    // What is resolved while others fire is told, and the whole is not called resolved.
    for minute in [243, 249] {
        for (feature, value) in [("a", 0.0), ("b", 0.5), ("c", 0.5)] {
            let key = key("drift", &[("model", "m"), ("feature", feature)]);
            alerts.observe(at(minute), &key, sample(minute, value));
        }
    }
    let part = sent(alerts.tick(at(250)));
    assert_eq!(
        (part[0].kind, part[0].firing.len(), part[0].resolved.len()),
        (NotificationKind::Repeat, 2, 1)
    );
    for minute in [251, 257] {
        for feature in ["b", "c"] {
            let key = key("drift", &[("model", "m"), ("feature", feature)]);
            alerts.observe(at(minute), &key, sample(minute, 0.0));
        }
    }
    let last = sent(alerts.tick(at(490)));
    assert_eq!((last[0].kind, last[0].resolved.len()), (NotificationKind::Resolved, 2));
    assert!(sent(alerts.tick(at(2_000))).is_empty());
    assert!(alerts.told().is_empty());
}

#[test]
fn an_alert_is_not_sent_while_its_data_are_stale() {
    let mut alerts = board();
    alerts.observe(at(0), &key("stale", &[("model", "m")]), sample(0, 1.0));
    alerts.observe(at(0), &key("drift", &[("model", "m"), ("feature", "a")]), sample(0, 0.9));
    alerts.observe(at(0), &key("drift", &[("model", "other"), ("feature", "a")]), sample(0, 0.9));
    alerts.tick(at(0));
    let messages = sent(alerts.tick(at(1)));
    let said: Vec<String> = messages.iter().flat_map(|m| &m.firing).map(|s| s.key.to_string()).collect();
    assert_eq!(said, [r#"stale{model="m"}"#, r#"drift{feature="a",model="other"}"#]);
    assert_eq!(alerts.list()[0].inhibited_by.as_deref(), Some("stale"));
    // Fresh again, and still drifted: now it is said.
    alerts.observe(at(10), &key("stale", &[("model", "m")]), sample(10, 0.0));
    let messages = sent(alerts.tick(at(10)));
    assert_eq!((messages[0].firing.len(), messages[0].resolved.len()), (1, 1));
    assert_eq!(messages[0].firing[0].key.rule, "drift");
}

#[test]
fn a_silence_mutes_from_then_to_then() {
    let mut alerts = board();
    let silence = |starts, ends| Silence {
        id: "s".into(),
        matchers: vec![Matcher { label: "rule".into(), value: "drift".into() }],
        starts: at(starts),
        ends: at(ends),
        by: "ada".into(),
        why: "a known change".into(),
    };
    alerts.silence(silence(0, 30));
    let drift = key("drift", &[("model", "m")]);
    alerts.observe(at(1), &drift, sample(1, 0.9));
    alerts.tick(at(1));
    assert!(sent(alerts.tick(at(20))).is_empty());
    assert!(alerts.list()[0].silenced);
    alerts.tick(at(30));
    assert_eq!(sent(alerts.tick(at(31))).len(), 1, "it still fires when the silence ends");
    // Resolved while silenced: nobody is told, then or later.
    alerts.silence(silence(32, 90));
    alerts.observe(at(40), &drift, sample(40, 0.0));
    alerts.observe(at(50), &drift, sample(50, 0.0));
    assert!(sent(alerts.tick(at(60))).is_empty() && sent(alerts.tick(at(200))).is_empty());
}

#[test]
fn series_beyond_the_most_are_refused_and_counted() {
    let mut alerts = board();
    for i in 0..60 {
        alerts.observe(at(0), &key("drift", &[("feature", &i.to_string())]), sample(0, 0.9));
    }
    alerts.observe(at(0), &key("unknown", &[]), sample(0, 0.9));
    assert_eq!((alerts.list().len(), alerts.refused()), (50, 11));
}

#[test]
fn a_rule_that_contradicts_itself_is_refused() {
    let bad = [
        Rule { fire: 0.2, clear: Some(0.3), ..Rule::default() },
        Rule { direction: Direction::Below, fire: 0.2, clear: Some(0.1), ..Rule::default() },
        Rule { fire: f64::NAN, ..Rule::default() },
        Rule { quorum: Quorum { m: 3, n: 2 }, ..Rule::default() },
        Rule { stale_after: Duration::ZERO, ..Rule::default() },
    ];
    assert!(bad.iter().all(|rule| rule.check().is_err()) && drift().check().is_ok());
}
