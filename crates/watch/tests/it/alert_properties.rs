//! Alerts against models, under whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use watch::alarm::Quorum;
use watch::alert::State::{self, Firing, Inactive, Pending};
use watch::alert::{Alert, AlertKey, Alerts, Flapping, Matcher, NoData, Notification, Rule, Silence};

use crate::alert::{MINUTE, at, board, drift, key, minutes, sample, sent};

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
    /// Whatever comes: no message twice, none that resolves what was not said; in the end who reads the messages knows
    /// what fires.
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

    /// After a crash anywhere everything since the last written state is done again, and every message has the id that
    /// it had.
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
