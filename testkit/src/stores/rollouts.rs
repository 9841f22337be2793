//! What must hold of rollouts on every database.

use contract::TenantId;
use store::tracking::{
    AliasMove, NewModelVersion, RolloutChange, RolloutEvent, SavedRollouts, TenantTracking,
};

use super::Subject;

async fn version(t: TenantTracking<'_>, now: i64) -> i64 {
    let new = NewModelVersion {
        name: "m".into(),
        description: None,
        source: "s".into(),
        location: "mlflow-artifacts:/0/r/artifacts/model".into(),
        run: None,
        run_link: None,
        model: None,
        tags: Vec::new(),
    };
    t.create_version(&new, now).await.unwrap().version
}

fn event(what: &str, at: i64) -> RolloutEvent {
    RolloutEvent { version: 2, at, what: what.into(), event: format!("{{\"at\":{at}}}") }
}

fn moving(alias: &str, from: Option<i64>, to: Option<i64>) -> AliasMove {
    AliasMove { alias: alias.into(), from, to }
}

pub async fn a_rollout_is_saved_with_what_it_does_or_not_at_all(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (TenantId::from("gold"), TenantId::from("other"));
    let t = all.of(&gold);
    t.register("m", None, &[], 1).await.unwrap();
    assert_eq!([version(t, 1).await, version(t, 2).await], [1, 2]);
    t.set_alias("m", "champion", 1, (3, 3)).await.unwrap();
    assert_eq!(t.rollouts("m").await.unwrap(), None);
    let save = |revision, state: &'static str, events: Vec<RolloutEvent>, moves: Vec<AliasMove>| async move {
        let change = RolloutChange { revision, state, events: &events, moves: &moves };
        t.save_rollouts("m", change, 10).await
    };
    let begins = vec![moving("challenger", None, Some(2))];
    assert!(save(0, "one", vec![event("began", 10)], begins.clone()).await.unwrap());
    assert!(!save(0, "late", vec![event("began", 11)], begins).await.unwrap(), "somebody was first");
    let saved = |revision, state: &str| SavedRollouts { name: "m".into(), revision, state: state.into() };
    assert_eq!(t.rollouts("m").await.unwrap(), Some(saved(1, "one")));
    // Another champion than was thought: nothing of it is there.
    let wrong = vec![moving("champion", Some(2), Some(1)), moving("challenger", Some(2), None)];
    assert!(!save(1, "two", vec![event("promoted", 12)], wrong).await.unwrap());
    // A version that there is not.
    assert!(save(1, "two", Vec::new(), vec![moving("champion", Some(1), Some(9))]).await.is_err());
    assert_eq!(t.rollouts("m").await.unwrap(), Some(saved(1, "one")));
    assert_eq!(t.rollout_events("m", None, 9).await.unwrap(), [event("began", 10)]);
    let right = vec![moving("champion", Some(1), Some(2)), moving("challenger", Some(2), None)];
    assert!(save(1, "two", vec![event("step", 12), event("promoted", 13)], right).await.unwrap());
    assert_eq!(t.registered("m").await.unwrap().aliases, [("champion".to_owned(), 2)]);
    assert_eq!(t.alias_at("m", "challenger", 10, 10).await.unwrap(), None, "it is logged that it is gone");
    assert_eq!(t.rollout_events("m", Some(2), 2).await.unwrap(), [event("step", 12), event("promoted", 13)]);
    assert_eq!(t.rollout_events("m", Some(1), 9).await.unwrap(), []);
    assert_eq!(t.all_rollouts().await.unwrap(), [saved(2, "two")]);
    let o = all.of(&other);
    assert_eq!((o.rollouts("m").await.unwrap(), o.all_rollouts().await.unwrap()), (None, Vec::new()));
    assert_eq!(o.rollout_events("m", None, 9).await.unwrap(), []);
}

pub async fn of_those_who_save_rollouts_at_once_one_wins(on: &Subject) {
    let all = on.tracking();
    let gold = TenantId::from("gold");
    let t = all.of(&gold);
    t.register("m", None, &[], 1).await.unwrap();
    for revision in 0..5 {
        let one = |n: i64| async move {
            let state = n.to_string();
            let change = RolloutChange { revision, state: &state, events: &[event("step", n)], moves: &[] };
            t.save_rollouts("m", change, n).await.unwrap()
        };
        let won = [one(1), one(2), one(3), one(4)];
        let [a, b, c, d] = won;
        let won = tokio::join!(a, b, c, d);
        assert_eq!([won.0, won.1, won.2, won.3].into_iter().filter(|w| *w).count(), 1);
    }
    assert_eq!(t.rollouts("m").await.unwrap().unwrap().revision, 5);
    assert_eq!(t.rollout_events("m", None, 99).await.unwrap().len(), 5);
}
