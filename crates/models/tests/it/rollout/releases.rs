//! Several versions of one name at a time.

use std::collections::BTreeMap;

use models::rollout::{
    Action, Arm, ArmBatch, Batch, BeginError, Input, Moments, Phase, Releases, Rollout, Settings,
    ShadowBatch, Subject, SubjectKind, Todo,
};

use super::{config, minutes};

const CONFIG: &str = "
shadow: 10m
canary: [50, 100]
step: {samples: 100}
metrics: [{name: late, kind: proportion, better: lower, margin: 0.1}]
";

fn rollout(version: &str, champion: &str, at: i64) -> Rollout {
    let subject = Subject { kind: SubjectKind::Model, name: "delay".into() };
    Rollout::begin(subject, (version, champion), Settings::new(&config(CONFIG)).unwrap(), minutes(at)).0
}

fn compared() -> Input {
    Input::Shadowed(ShadowBatch { compared: 100, agreed: 99, requests: 100, ..ShadowBatch::default() })
}

fn sound(step: usize) -> Input {
    let arm = || ArmBatch {
        units: 2_000,
        requests: 2_000,
        metrics: BTreeMap::from([("late".to_owned(), Moments::hits(200, 2_000))]),
        ..ArmBatch::default()
    };
    Input::Seen(Batch { step, canary: arm(), control: arm() })
}

fn phases(releases: &Releases) -> Vec<(&str, Phase)> {
    releases.rollouts().iter().map(|r| (r.challenger(), r.phase().clone())).collect()
}

#[test]
fn several_answer_unheard_and_one_at_a_time_answers_some() {
    let mut all = Releases::new("v1");
    for version in ["v2", "v3", "v4"] {
        all.add(rollout(version, "v1", 0), minutes(0)).unwrap();
    }
    let route = all.route("ada");
    assert_eq!(
        (route.version, route.arm, route.shadows.as_slice()),
        ("v1", Arm::Champion, ["v2", "v3", "v4"].as_slice())
    );
    all.apply("v3", minutes(10), compared());
    all.apply("v2", minutes(11), compared());
    assert_eq!(
        phases(&all),
        [("v2", Phase::Ready), ("v3", Phase::Canary(0)), ("v4", Phase::Shadow)],
        "the first that was ready"
    );
    let arms: std::collections::BTreeSet<_> = (0..100)
        .map(|n| {
            let user = format!("user-{n}");
            let route = all.route(&user);
            assert_eq!(route.shadows, ["v2", "v4"]);
            (route.arm, route.version.to_owned())
        })
        .collect();
    assert_eq!(
        arms.into_iter().collect::<Vec<_>>(),
        [(Arm::Canary, "v3".into()), (Arm::Control, "v1".into())]
    );
    // One is stopped, the next comes up by itself.
    let todo = all.apply("v3", minutes(12), Input::Kill { by: "ada".into(), why: "no".into() });
    assert!(matches!(&todo[0], Todo { challenger, action: Action::RollBack(_) } if challenger == "v3"));
    assert_eq!(phases(&all), [("v2", Phase::Canary(0)), ("v4", Phase::Shadow)]);
}

#[test]
fn a_promotion_makes_the_others_begin_anew_beside_the_new_champion() {
    let mut all = Releases::new("v1");
    all.add(rollout("v2", "v1", 0), minutes(0)).unwrap();
    all.add(rollout("v3", "v1", 0), minutes(0)).unwrap();
    all.apply("v2", minutes(10), compared());
    all.apply("v3", minutes(10), compared());
    all.apply("v2", minutes(20), sound(0));
    let todo = all.apply("v2", minutes(30), sound(1));
    assert!(matches!(&todo[0].action, Action::Promote(_)), "{todo:?}");
    assert_eq!(all.champion(), "v2");
    assert_eq!(phases(&all), [("v3", Phase::Shadow)]);
    assert_eq!(all.rollouts()[0].champion(), "v2");
    assert_eq!(all.route("ada").version, "v2");
}

#[test]
fn a_canary_whose_champion_was_replaced_from_outside_is_over() {
    let mut all = Releases::new("v1");
    all.add(rollout("v2", "v1", 0), minutes(0)).unwrap();
    all.apply("v2", minutes(10), compared());
    let todo = all.champion_changed("v0", minutes(11));
    assert!(matches!(&todo[0].action, Action::RollBack(event) if event.what == "superseded"));
    assert_eq!((all.champion(), all.rollouts().len()), ("v0", 0));
}

#[test]
fn what_cannot_begin_says_why() {
    let mut all = Releases::new("v1");
    all.add(rollout("v2", "v1", 0), minutes(0)).unwrap();
    assert_eq!(all.add(rollout("v2", "v1", 0), minutes(0)), Err(BeginError::UnderWay));
    assert_eq!(all.add(rollout("v3", "v0", 0), minutes(0)), Err(BeginError::OtherChampion));
    assert_eq!(all.add(rollout("v1", "v1", 0), minutes(0)), Err(BeginError::IsChampion));
}

#[test]
fn a_restart_divides_traffic_as_it_was() {
    let mut all = Releases::new("v1");
    all.add(rollout("v2", "v1", 0), minutes(0)).unwrap();
    all.apply("v2", minutes(10), compared());
    let kept = serde_json::to_string(&all).unwrap();
    let mut back: Releases = serde_json::from_str(&kept).unwrap();
    back.resume(minutes(99));
    for user in 0..200 {
        let user = user.to_string();
        assert_eq!(back.route(&user), all.route(&user));
    }
}
