//! What every [`BatchStore`](store::BatchStore) must do, over the runs that are the batches' lines.

use contract::{RequestId, RunId, TenantId, UnixMillis};
use futures_util::future::join_all;
use store::{
    BatchChange, Change, DeliveryState, NewDelivery, NewRun, Output, Part, Room, StoredBatch, Tried,
};

use super::Subject;

const ROOM: Room = Room { runs: 1_000, of_tenant: 1_000, bytes_of_tenant: 1 << 20 };

fn id(n: u128) -> RunId {
    RunId::of(RequestId::from_parts(UnixMillis(1_000 + i64::try_from(n).unwrap()), n))
}

fn batch(n: u128, tenant: &str) -> StoredBatch {
    StoredBatch {
        id: id(n),
        tenant: TenantId::from(tenant),
        created_at: UnixMillis(5),
        ended_at: None,
        version: 0,
        about: "new".into(),
    }
}

fn line(of: u128, number: u64) -> NewRun {
    NewRun {
        id: id(1_000 * of + u128::from(number)),
        tenant: TenantId::from("gold"),
        kind: "job".into(),
        about: format!("line {number}"),
        target: "m".into(),
        status: "queued".into(),
        lane: 0,
        at: UnixMillis(6),
        due_at: UnixMillis(6),
        as_of: None,
        deadline: None,
        entries: vec!["submitted".into()],
        input: vec![7; 9],
        key: None,
        part: Some(Part { of: id(of), number }),
        outputs: Vec::new(),
    }
}

fn ended(of: u128, number: u64, status: &str) -> Change {
    Change {
        id: line(of, number).id,
        after: 1,
        entries: vec!["ended".into()],
        status: status.into(),
        due_at: None,
        as_of: None,
        ended_at: Some(UnixMillis(50)),
        output: (status == "succeeded").then(|| Output {
            key: format!("{of} {number}"),
            stage: "request".into(),
            value: vec![1, 2],
        }),
        result: None,
        lineage: None,
        outbox: None,
        keeps_input: false,
        synced: true,
    }
}

fn change(n: u128, version: u64, end: Option<i64>) -> BatchChange {
    BatchChange {
        id: id(n),
        version,
        about: format!("after {version}"),
        ended_at: end.map(UnixMillis),
        files: [end.map(|_| "file-1".to_owned()), None],
        outbox: end.map(|at| NewDelivery {
            id: format!("msg_{n}"),
            url: "https://a.example/hook".into(),
            body: b"{}".to_vec(),
            at: UnixMillis(at),
        }),
    }
}

pub async fn a_batch_moves_on_from_the_version_it_was_decided_on_and_is_its_tenants(on: &Subject) {
    let s = on.batches();
    assert!(s.create(&batch(1, "gold"), 2).await.unwrap() && s.create(&batch(2, "gold"), 2).await.unwrap());
    assert!(!s.create(&batch(3, "gold"), 2).await.unwrap(), "two go on already");
    assert!(s.create(&batch(4, "other"), 2).await.unwrap());
    assert!(s.update(&change(1, 0, None)).await.unwrap());
    assert!(!s.update(&change(1, 0, Some(9))).await.unwrap(), "another one was first");
    let stored = s.get(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.about.as_str(), stored.ended_at), (1, "after 0", None));
    assert!(s.update(&change(1, 1, Some(9))).await.unwrap());
    let ids = |all: Vec<StoredBatch>| all.iter().map(|b| b.id).collect::<Vec<_>>();
    assert_eq!(ids(s.open().await.unwrap()), [id(2), id(4)]);
    let gold = TenantId::from("gold");
    assert_eq!(ids(s.list(Some(&gold), None, 9).await.unwrap()), [id(2), id(1)]);
    assert_eq!(ids(s.list(None, Some(id(4)), 1).await.unwrap()), [id(2)]);
    assert!(s.create(&batch(3, "gold"), 2).await.unwrap(), "one has ended");
}

pub async fn the_lines_of_a_batch_are_its_own_until_it_has_ended(on: &Subject) {
    let (s, runs) = (on.batches(), on.runs());
    s.create(&batch(1, "gold"), 9).await.unwrap();
    let new: Vec<NewRun> = (1..=4).map(|n| line(1, n)).collect();
    let alone = NewRun { part: None, lane: 1, ..line(2, 1) };
    runs.submit(&new, &ROOM).await.unwrap();
    runs.submit(&[alone], &ROOM).await.unwrap();
    assert_eq!(runs.list("job", None, None, 9).await.unwrap().len(), 1, "lists leave lines out");
    assert_eq!(runs.due(UnixMillis(9), 9).await.unwrap().len(), 5);
    assert_eq!(runs.due(UnixMillis(9), 1).await.unwrap()[0].lane, 1, "theirs is below");
    for (n, status) in [(3, "succeeded"), (1, "failed"), (2, "succeeded")] {
        assert!(runs.append(&ended(1, n, status)).await.unwrap());
    }
    assert_eq!(
        s.counts(id(1)).await.unwrap(),
        [("failed".to_owned(), 1), ("queued".to_owned(), 1), ("succeeded".to_owned(), 2)]
    );
    assert_eq!(s.open_parts(id(1), 9).await.unwrap(), [line(1, 4).id]);
    let first = s.parts(id(1), None, 2).await.unwrap();
    assert_eq!(
        first.iter().map(|p| (p.number, p.output.is_some())).collect::<Vec<_>>(),
        [(1, false), (2, true)]
    );
    let rest = s.parts(id(1), Some(2), 9).await.unwrap();
    let rest: Vec<_> = rest.iter().map(|p| (p.number, p.head.about.as_str(), p.head.ended_at)).collect();
    assert_eq!(rest, [(3, "line 3", Some(UnixMillis(50))), (4, "line 4", None)]);
    // Neither a caller nor the sweep of runs takes one away under way.
    assert!(!runs.remove(line(1, 1).id).await.unwrap());
    assert_eq!(runs.expire(UnixMillis(99), 9, 1 << 20).await.unwrap(), 0);
    assert_eq!(s.clear(9).await.unwrap(), 0, "it goes on");
    runs.append(&ended(1, 4, "cancelled")).await.unwrap();
    s.update(&change(1, 0, Some(60))).await.unwrap();
    assert_eq!(runs.deliveries_due(UnixMillis(60), 9).await.unwrap().len(), 1);
    assert_eq!((s.clear(3).await.unwrap(), s.clear(3).await.unwrap(), s.clear(3).await.unwrap()), (3, 1, 0));
    assert!(s.counts(id(1)).await.unwrap().is_empty());
    // While somebody is to be told of it, it stays.
    assert_eq!(s.expire(UnixMillis(99), 9).await.unwrap(), 0);
    assert!(s.get(id(1)).await.unwrap().is_some());
}

pub async fn a_line_that_nobody_could_end_goes_with_its_batch_and_gives_its_room_back(on: &Subject) {
    let (s, runs) = (on.batches(), on.runs());
    s.create(&batch(1, "gold"), 9).await.unwrap();
    runs.submit(&[line(1, 1), line(1, 2)], &ROOM).await.unwrap();
    runs.append(&ended(1, 1, "succeeded")).await.unwrap();
    assert_eq!((runs.open().await.unwrap(), s.clear(9).await.unwrap()), (1, 0));
    s.update(&BatchChange { outbox: None, ..change(1, 0, Some(60)) }).await.unwrap();
    assert_eq!(s.clear(9).await.unwrap(), 2);
    assert_eq!((runs.open().await.unwrap(), runs.held(&"gold".into()).await.unwrap()), (0, (0, 0)));
    assert_eq!(
        (s.expire(UnixMillis(60), 9).await.unwrap(), s.expire(UnixMillis(61), 9).await.unwrap()),
        (0, 1)
    );
    assert_eq!(s.get(id(1)).await.unwrap(), None);
}

pub async fn a_message_about_a_batch_is_sent_again_also_to_a_receiver_that_was_gone(on: &Subject) {
    let (s, runs) = (on.batches(), on.runs());
    s.create(&batch(1, "gold"), 9).await.unwrap();
    s.update(&change(1, 0, Some(60))).await.unwrap();
    let state = DeliveryState::Disabled;
    let gone = Tried { at: UnixMillis(61), state, next_at: None, answer: Some(410), problem: None };
    assert!(runs.tried("msg_1", 0, &gone).await.unwrap());
    assert_eq!(runs.deliveries(id(1)).await.unwrap()[0].state, state);
    assert_eq!(runs.redeliver(id(1), UnixMillis(70)).await.unwrap(), 1);
    assert_eq!(runs.deliveries_due(UnixMillis(70), 9).await.unwrap().len(), 1);
    // The next batch is told about as well.
    s.create(&batch(2, "gold"), 9).await.unwrap();
    s.update(&change(2, 0, Some(80))).await.unwrap();
    assert_eq!(runs.deliveries(id(2)).await.unwrap()[0].state, DeliveryState::Waiting);
}

pub async fn batches_made_at_once_are_no_more_than_a_tenant_may_have(on: &Subject) {
    let s = on.batches();
    let all: Vec<StoredBatch> =
        (1..=20).map(|n| batch(n, if n % 2 == 0 { "gold" } else { "other" })).collect();
    let made = join_all(all.iter().map(|b| s.create(b, 3))).await;
    assert_eq!(made.into_iter().filter(|m| *m.as_ref().unwrap()).count(), 6);
    assert_eq!(s.list(Some(&"gold".into()), None, 99).await.unwrap().len(), 3);
}
