//! Alerts: each arrow, what is sent and what is not, restarts; and against models under whatever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::UnixMillis;
use proptest::prelude::*;
use watch::alarm::Quorum;
use watch::alert::{
    Action, Alert, AlertKey, Alerts, AlertsSettings, Direction, Flapping, Inhibition, Matcher, NoData,
    Notification, NotificationKind, Rule, Sample, Silence, State,
};

const MINUTE: i64 = 60_000;

fn at(minutes: i64) -> UnixMillis {
    UnixMillis(minutes * MINUTE)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

fn drift() -> Rule {
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

fn sample(minute: i64, value: f64) -> Sample {
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

fn key(rule: &str, labels: &[(&str, &str)]) -> AlertKey {
    let pairs = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    AlertKey { rule: rule.to_owned(), labels: pairs.collect() }
}

fn board() -> Alerts {
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

fn sent(actions: Vec<Action>) -> Vec<Notification> {
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
    for minute in [243, 249] {
        for feature in ["a", "b", "c"] {
            let key = key("drift", &[("model", "m"), ("feature", feature)]);
            alerts.observe(at(minute), &key, sample(minute, 0.0));
        }
    }
    let last = sent(alerts.tick(at(250)));
    assert_eq!((last[0].kind, last[0].resolved.len()), (NotificationKind::Resolved, 3));
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

/// The machine said otherwise: from the whole past, by what the rule means.
struct Model {
    rule: Rule,
    past: Vec<(i64, f64)>,
    state: State,
    bad_since: i64,
    good_since: Option<i64>,
}

impl Model {
    fn bad(&self) -> bool {
        let limit = if self.state == Firing { self.rule.clear.unwrap() } else { self.rule.fire };
        self.past.iter().rev().take(self.rule.quorum.n).filter(|(_, v)| *v >= limit).count()
            >= self.rule.quorum.m
    }

    fn step(&mut self, now: i64, value: Option<f64>) -> State {
        if let Some(value) = value {
            self.past.push((now, value));
        }
        let seen = self.past.last().map_or(0, |p| p.0);
        let stale = now - seen >= self.rule.stale_after.as_millis() as i64;
        if stale && self.rule.no_data == NoData::Keep {
            return self.state;
        }
        if stale && self.rule.no_data == NoData::Ok {
            let last = self.past.last().copied();
            self.past.clear();
            // Nothing of before counts, but when it was.
            self.past.extend(last.map(|(t, _)| (t, f64::MIN)));
        }
        let bad = if stale { self.rule.no_data == NoData::Alert } else { self.bad() };
        let began = if stale { seen + self.rule.stale_after.as_millis() as i64 } else { seen };
        if self.state == Inactive && bad {
            (self.state, self.bad_since) = (Pending, began);
        }
        if self.state == Pending {
            match bad {
                false => self.state = Inactive,
                true if now - self.bad_since >= self.rule.wait.as_millis() as i64 => {
                    (self.state, self.good_since) = (Firing, None);
                }
                true => {}
            }
        }
        // Just now firing: held against the other threshold, which is passed too.
        if self.state == Firing {
            let bad = if stale { bad } else { self.bad() };
            self.good_since = if bad { None } else { Some(self.good_since.unwrap_or(now)) };
            if self.good_since.is_some_and(|since| now - since >= self.rule.keep.as_millis() as i64) {
                (self.state, self.good_since) = (Inactive, None);
            }
        }
        self.state
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let policy = prop_oneof![Just(NoData::Ok), Just(NoData::Keep), Just(NoData::Alert)];
    (1usize..4, 0usize..3, 0u64..20, 0u64..20, policy).prop_map(|(m, more, wait, keep, no_data)| Rule {
        quorum: Quorum { m, n: m + more },
        wait: minutes(wait),
        keep: minutes(keep),
        no_data,
        // Never flaps: that has a test of its own.
        flapping: Flapping { times: u32::MAX, ..Flapping::default() },
        ..drift()
    })
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_says_and_survives_a_restart_anywhere(
        rule in any_rule(),
        ops in prop::collection::vec((0i64..40, prop::option::of(0u8..5), any::<bool>()), 1..120),
    ) {
        let mut alert = Alert::new(at(0));
        let mut model =
            Model { rule: rule.clone(), past: Vec::new(), state: Inactive, bad_since: 0, good_since: None };
        let mut now = 0;
        for (gap, value, restart) in ops {
            now += gap + i64::from(value.is_some());
            let value = value.map(|v| f64::from(v) * 0.075);
            match value {
                Some(value) => alert.observe(&rule, at(now), sample(now, value)),
                None => alert.tick(&rule, at(now)),
            };
            if restart {
                alert = serde_json::from_str(&serde_json::to_string(&alert).unwrap()).unwrap();
            }
            prop_assert_eq!(alert.state(), model.step(now * MINUTE, value), "at minute {}", now);
        }
    }
}

/// What happens to a board.
#[derive(Debug, Clone)]
enum Op {
    Sample(usize, u8),
    Wait(i64),
    Silence(usize, i64),
    EndSilence,
    Back,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0usize..6, 0u8..5).prop_map(|(s, v)| Op::Sample(s, v)),
        4 => (0i64..30).prop_map(Op::Wait),
        1 => (0usize..6, 1i64..60).prop_map(|(s, d)| Op::Silence(s, d)),
        1 => Just(Op::EndSilence),
        1 => Just(Op::Back),
    ]
}

fn series() -> Vec<AlertKey> {
    let drift = |model: &str, feature: &str| key("drift", &[("model", model), ("feature", feature)]);
    vec![
        drift("m", "a"),
        drift("m", "b"),
        drift("n", "a"),
        key("stale", &[("model", "m")]),
        key("auc", &[("model", "m")]),
        key("auc", &[("model", "n")]),
    ]
}

fn run(alerts: &mut Alerts, now: &mut i64, op: &Op) -> Vec<Notification> {
    let series = series();
    match op {
        Op::Sample(s, v) => {
            *now += 1;
            let value = if *s == 3 { f64::from(*v) / 4.0 } else { f64::from(*v) * 0.2 };
            alerts.observe(at(*now), &series[*s], sample(*now, value));
        }
        Op::Wait(gap) => *now += gap,
        Op::Silence(s, length) => alerts.silence(Silence {
            id: "s".into(),
            matchers: vec![Matcher { label: "rule".into(), value: series[*s].rule.clone() }],
            starts: at(*now),
            ends: at(*now + length),
            by: "ada".into(),
            why: String::new(),
        }),
        Op::EndSilence => drop(alerts.end_silence("s")),
        // The clock goes back an hour for a moment.
        Op::Back => drop(alerts.tick(at(*now - 60))),
    }
    sent(alerts.tick(at(*now)))
}

proptest! {
    /// Whatever comes: no message twice, none that resolves what was not said; in the end who reads the messages knows what fires.
    #[test]
    fn who_reads_the_messages_knows_what_fires(ops in prop::collection::vec(any_op(), 1..150)) {
        let (mut alerts, mut now) = (board(), 0);
        let (mut ids, mut known) = (BTreeSet::new(), BTreeMap::new());
        // In the end no silence, and time for all to be said; nothing fires by a window that is not.
        let calm = [Op::EndSilence, Op::Wait(6), Op::Wait(6), Op::Wait(6)];
        for op in ops.iter().chain(&calm) {
            for message in run(&mut alerts, &mut now, op) {
                prop_assert!(ids.insert(message.id.clone()), "sent twice: {:?}", message);
                for said in &message.resolved {
                    prop_assert_eq!(known.remove(&said.key), Some(said.episode), "resolved what was not said");
                }
                for said in &message.firing {
                    let before = known.insert(said.key.clone(), said.episode);
                    prop_assert!(before.is_none_or(|e| e == said.episode), "an episode was not resolved");
                }
                prop_assert!(!(message.firing.is_empty() && message.resolved.is_empty()));
            }
            // What ended under a silence is forgotten by both.
            known.retain(|key, _| alerts.told().contains(key));
        }
        for listed in alerts.list() {
            let audible = listed.state == Firing && listed.inhibited_by.is_none();
            if audible {
                prop_assert_eq!(known.get(&listed.key).copied(), listed.episode, "not told: {:?}", listed);
            } else if listed.state != Firing {
                prop_assert!(!known.contains_key(&listed.key), "not resolved: {:?}", listed);
            }
        }
    }

    /// After a crash anywhere everything since the last written state is done again, and every message has the id that it had.
    #[test]
    fn a_replay_after_a_crash_gives_the_same_messages(
        ops in prop::collection::vec(any_op(), 1..100),
        written in 0usize..100,
    ) {
        let (mut alerts, mut now) = (board(), 0);
        let written = written.min(ops.len());
        for op in &ops[..written] {
            run(&mut alerts, &mut now, op);
        }
        let text = serde_json::to_string(&alerts).unwrap();
        let (mut again, mut then) = (serde_json::from_str::<Alerts>(&text).unwrap(), now);
        prop_assert_eq!(&again, &alerts);
        for op in &ops[written..] {
            prop_assert_eq!(run(&mut alerts, &mut now, op), run(&mut again, &mut then, op));
        }
        prop_assert_eq!(again, alerts);
    }
}
