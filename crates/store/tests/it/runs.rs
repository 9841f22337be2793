//! What every store of runs must do. Each function takes a fresh one.

use contract::{RequestId, RunId, TenantId, UnixMillis};
use store::{
    Change, DeliveryState, NewDelivery, NewRun, Output, RunStore, SqliteRuns, SubmitKey, Submitted, Tried,
};

use crate::fixtures::database;

fn id(n: u128) -> RunId {
    RunId::of(RequestId::from_parts(UnixMillis(1_000 + i64::try_from(n).unwrap()), n))
}

fn new(n: u128) -> NewRun {
    NewRun {
        id: id(n),
        tenant: TenantId::from("gold"),
        kind: "job".into(),
        about: format!("about {n}"),
        status: "queued".into(),
        lane: 1,
        at: UnixMillis(i64::try_from(n).unwrap()),
        due_at: UnixMillis(i64::try_from(n).unwrap()),
        entries: vec!["submitted".into()],
        input: vec![7; 9],
        key: None,
    }
}

fn change(n: u128, after: u64) -> Change {
    Change {
        id: id(n),
        after,
        entries: vec!["leased".into()],
        status: "running".into(),
        due_at: Some(UnixMillis(90)),
        ended_at: None,
        output: None,
        outbox: None,
    }
}

fn end(n: u128, after: u64) -> Change {
    Change {
        entries: vec!["done".into(), "ended".into()],
        status: "succeeded".into(),
        due_at: None,
        ended_at: Some(UnixMillis(50)),
        output: Some(Output { key: format!("key {n}"), stage: "request".into(), value: vec![1, 2] }),
        outbox: Some(NewDelivery {
            id: format!("msg_{n}"),
            url: "https://a.example/hook".into(),
            body: b"{}".to_vec(),
            at: UnixMillis(50),
        }),
        ..change(n, after)
    }
}

fn tried(state: DeliveryState, next_at: Option<i64>) -> Tried {
    Tried {
        at: UnixMillis(60),
        state,
        next_at: next_at.map(UnixMillis),
        answer: Some(500),
        problem: Some("no".into()),
    }
}

async fn a_change_is_applied_to_the_journal_it_was_decided_on_and_to_no_other(s: &dyn RunStore) {
    assert_eq!(s.submit(&[new(1)]).await.unwrap(), vec![Submitted::New]);
    assert!(s.append(&change(1, 1)).await.unwrap());
    assert!(!s.append(&change(1, 1)).await.unwrap(), "another one was first");
    assert!(!s.append(&change(2, 1)).await.unwrap(), "there is no such run");
    let stored = s.get(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.entries, stored.head.entries), (vec!["submitted".into(), "leased".to_owned()], 2));
    assert_eq!(s.in_state("running").await.unwrap().len(), 1);
    assert_eq!(s.input(id(1)).await.unwrap(), Some(vec![7; 9]));
    assert_eq!(s.get(id(2)).await.unwrap(), None);
}

async fn an_end_keeps_its_output_and_its_message_or_nothing(s: &dyn RunStore) {
    s.submit(&[new(1), new(2)]).await.unwrap();
    assert!(s.append(&end(1, 1)).await.unwrap());
    assert_eq!(s.outputs(id(1)).await.unwrap()[0].value, vec![1, 2]);
    assert_eq!((s.deliveries(id(1)).await.unwrap().len(), s.open().await.unwrap()), (1, 1));
    // An effect that was had already: nothing of the change is there.
    let again = Change { output: end(1, 1).output, ..end(2, 1) };
    assert!(s.append(&again).await.is_err());
    let stored = s.get(id(2)).await.unwrap().unwrap();
    assert_eq!((stored.head.status.as_str(), stored.entries.len()), ("queued", 1));
    assert!(s.deliveries(id(2)).await.unwrap().is_empty());
}

async fn the_highest_lane_goes_first_and_in_it_the_oldest(s: &dyn RunStore) {
    let high = NewRun { lane: 2, ..new(3) };
    let later = NewRun { due_at: UnixMillis(70), ..new(4) };
    s.submit(&[new(2), new(1), high, later]).await.unwrap();
    let due = s.due(UnixMillis(10), 9).await.unwrap();
    assert_eq!(due.iter().map(|h| h.id).collect::<Vec<_>>(), vec![id(3), id(1), id(2)]);
    assert_eq!(s.due(UnixMillis(10), 1).await.unwrap().len(), 1);
    assert_eq!(s.next_due(UnixMillis(10)).await.unwrap(), Some(UnixMillis(70)));
    s.append(&end(3, 1)).await.unwrap();
    assert_eq!(s.due(UnixMillis(99), 9).await.unwrap().len(), 3);
}

async fn in_a_lane_the_tenants_take_turns(s: &dyn RunStore) {
    let of = |tenant: &str, n| NewRun { tenant: TenantId::from(tenant), ..new(n) };
    s.submit(&[new(1), new(2), new(3), new(4), of("free", 5), of("free", 6)]).await.unwrap();
    let order = async || s.due(UnixMillis(10), 9).await.unwrap().iter().map(|h| h.id).collect::<Vec<_>>();
    assert_eq!(order().await, [1, 5, 2, 6, 3, 4].map(id), "a flood waits behind itself");
    // Two of one tenant are under way: the other's go first until it has as many.
    s.append(&change(1, 1)).await.unwrap();
    s.append(&change(2, 1)).await.unwrap();
    assert_eq!(order().await, [5, 6, 3, 4].map(id));
    assert_eq!(s.held(&TenantId::from("gold")).await.unwrap(), (4, 36));
    s.append(&end(1, 2)).await.unwrap();
    assert_eq!(s.input(id(1)).await.unwrap(), Some(Vec::new()), "what was asked goes with the end");
    assert_eq!(s.held(&TenantId::from("gold")).await.unwrap().0, 3);
    assert_eq!(s.held(&TenantId::from("nobody")).await.unwrap(), (0, 0));
}

async fn the_same_submission_under_a_key_is_the_same_run(s: &dyn RunStore) {
    let keyed = |n: u128, hash: u8, tenant: &str| NewRun {
        key: Some(SubmitKey { key: "k".into(), hash: [hash; 32] }),
        tenant: tenant.into(),
        ..new(n)
    };
    let made = s
        .submit(&[keyed(1, 1, "gold"), keyed(2, 1, "gold"), keyed(3, 2, "gold"), keyed(4, 2, "other")])
        .await;
    assert_eq!(
        made.unwrap(),
        vec![Submitted::New, Submitted::Known(id(1)), Submitted::Other, Submitted::New]
    );
    assert_eq!(s.open().await.unwrap(), 2);
}

async fn lists_show_the_newest_first_page_by_page(s: &dyn RunStore) {
    let other = NewRun { tenant: "other".into(), ..new(9) };
    s.submit(&[new(1), new(2), new(3), other]).await.unwrap();
    let gold = TenantId::from("gold");
    let ids = |heads: Vec<store::RunHead>| heads.into_iter().map(|h| h.id).collect::<Vec<_>>();
    assert_eq!(ids(s.list(Some(&gold), None, 2).await.unwrap()), vec![id(3), id(2)]);
    assert_eq!(ids(s.list(Some(&gold), Some(id(2)), 2).await.unwrap()), vec![id(1)]);
    assert_eq!(ids(s.list(None, None, 9).await.unwrap()).len(), 4);
}

async fn what_ended_long_ago_is_removed_but_not_while_somebody_is_to_be_told(s: &dyn RunStore) {
    s.submit(&[new(1), new(2), new(3)]).await.unwrap();
    s.append(&end(1, 1)).await.unwrap();
    s.append(&Change { outbox: None, ..end(2, 1) }).await.unwrap();
    assert_eq!(s.expire(UnixMillis(50), 9).await.unwrap(), 0);
    assert_eq!(s.expire(UnixMillis(51), 9).await.unwrap(), 1);
    assert!(s.get(id(2)).await.unwrap().is_none() && s.outputs(id(2)).await.unwrap().is_empty());
    assert!(s.tried("msg_1", 0, &tried(DeliveryState::Delivered, None)).await.unwrap());
    assert_eq!(s.expire(UnixMillis(51), 9).await.unwrap(), 1);
    assert!(s.deliveries(id(1)).await.unwrap().is_empty());
    assert!(!s.remove(id(3)).await.unwrap(), "it goes on");
    s.append(&end(3, 1)).await.unwrap();
    assert!(s.remove(id(3)).await.unwrap() && s.get(id(3)).await.unwrap().is_none());
}

async fn a_message_is_tried_until_it_is_taken_and_can_be_sent_again(s: &dyn RunStore) {
    s.submit(&[new(1)]).await.unwrap();
    s.append(&end(1, 1)).await.unwrap();
    assert!(s.deliveries_due(UnixMillis(49), 9).await.unwrap().is_empty());
    assert_eq!(s.next_delivery().await.unwrap(), Some(UnixMillis(50)));
    let due = s.deliveries_due(UnixMillis(50), 9).await.unwrap();
    assert_eq!((due.len(), due[0].id.as_str(), due[0].tries), (1, "msg_1", 0));
    assert!(s.tried("msg_1", 0, &tried(DeliveryState::Waiting, Some(70))).await.unwrap());
    assert!(!s.tried("msg_1", 0, &tried(DeliveryState::Failed, None)).await.unwrap(), "noted already");
    assert!(s.deliveries_due(UnixMillis(69), 9).await.unwrap().is_empty());
    assert!(s.tried("msg_1", 1, &tried(DeliveryState::Delivered, None)).await.unwrap());
    let of = s.deliveries(id(1)).await.unwrap();
    assert_eq!((of[0].state, of[0].tries, of[0].answer), (DeliveryState::Delivered, 2, Some(500)));
    assert_eq!(s.redeliver(id(1), UnixMillis(80)).await.unwrap(), 1);
    assert_eq!(s.deliveries_due(UnixMillis(80), 9).await.unwrap()[0].id, "msg_1", "under its own id");
}

async fn a_receiver_that_is_gone_gets_nothing_more_until_it_is_sent_again(s: &dyn RunStore) {
    s.submit(&[new(1), new(2), new(3), NewRun { tenant: "other".into(), ..new(4) }]).await.unwrap();
    s.append(&end(1, 1)).await.unwrap();
    s.append(&end(2, 1)).await.unwrap();
    assert!(s.tried("msg_1", 0, &tried(DeliveryState::Disabled, None)).await.unwrap());
    assert_eq!(s.deliveries(id(2)).await.unwrap()[0].state, DeliveryState::Disabled);
    s.append(&end(3, 1)).await.unwrap();
    assert_eq!(s.deliveries(id(3)).await.unwrap()[0].state, DeliveryState::Disabled);
    s.append(&end(4, 1)).await.unwrap();
    assert_eq!(s.deliveries(id(4)).await.unwrap()[0].state, DeliveryState::Waiting, "of another tenant");
    s.redeliver(id(3), UnixMillis(80)).await.unwrap();
    assert_eq!(s.deliveries_due(UnixMillis(99), 9).await.unwrap().len(), 2);
}

macro_rules! conforms {
    ($($test:ident),* $(,)?) => {mod sqlite {$(
        #[tokio::test]
        async fn $test() {
            let folder = tempfile::tempdir().unwrap();
            let runs = super::SqliteRuns::new(super::database(folder.path()).await);
            super::$test(&runs).await;
        }
    )*}};
}

conforms! {
    a_change_is_applied_to_the_journal_it_was_decided_on_and_to_no_other,
    an_end_keeps_its_output_and_its_message_or_nothing,
    the_highest_lane_goes_first_and_in_it_the_oldest,
    in_a_lane_the_tenants_take_turns,
    the_same_submission_under_a_key_is_the_same_run,
    lists_show_the_newest_first_page_by_page,
    what_ended_long_ago_is_removed_but_not_while_somebody_is_to_be_told,
    a_message_is_tried_until_it_is_taken_and_can_be_sent_again,
    a_receiver_that_is_gone_gets_nothing_more_until_it_is_sent_again,
}
