//! What every [`RunStore`](store::RunStore) must do.

use contract::{RequestId, RunId, TenantId, UnixMillis};
use futures_util::future::join_all;
use store::{
    Change, DeliveryState, Error, LaneCount, NewDelivery, NewRun, Output, Part, Room, SubmitKey, Submitted,
    Tried,
};

use super::Subject;

const ROOM: Room = Room { runs: 1_000, of_tenant: 1_000, bytes_of_tenant: 1 << 30 };

fn id(n: u128) -> RunId {
    RunId::of(RequestId::from_parts(UnixMillis(1_000 + i64::try_from(n).unwrap()), n))
}

fn new(n: u128) -> NewRun {
    NewRun {
        id: id(n),
        tenant: TenantId::from("gold"),
        kind: "job".into(),
        about: format!("about {n}"),
        target: "m".into(),
        status: "queued".into(),
        lane: 1,
        at: UnixMillis(i64::try_from(n).unwrap()),
        due_at: UnixMillis(i64::try_from(n).unwrap()),
        as_of: None,
        deadline: None,
        entries: vec!["submitted".into()],
        input: vec![7; 9],
        key: None,
        part: None,
        outputs: Vec::new(),
    }
}

fn change(n: u128, after: u64) -> Change {
    Change {
        id: id(n),
        after,
        entries: vec!["leased".into()],
        status: "running".into(),
        due_at: Some(UnixMillis(90)),
        as_of: None,
        ended_at: None,
        output: None,
        result: None,
        lineage: None,
        outbox: None,
        keeps_input: false,
        synced: true,
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

/// Two runs that somebody is at, for other sentences.
pub(super) async fn two_open_runs(runs: &dyn store::RunStore) {
    runs.submit(&[new(1), new(2)], &ROOM).await.unwrap();
}

/// A change of one of them that keeps the output of a stage.
pub(super) fn output_of(n: u128, after: u64) -> Change {
    Change { output: end(n, after).output, ..change(n, after) }
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

pub async fn a_change_is_applied_to_the_journal_it_was_decided_on_and_to_no_other(on: &Subject) {
    let s = &*on.runs();
    assert_eq!(s.submit(&[new(1)], &ROOM).await.unwrap(), vec![Submitted::New]);
    assert!(s.append(&change(1, 1)).await.unwrap());
    assert!(!s.append(&change(1, 1)).await.unwrap(), "another one was first");
    assert!(!s.append(&change(2, 1)).await.unwrap(), "there is no such run");
    let stored = s.get(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.entries, stored.head.entries), (vec!["submitted".into(), "leased".to_owned()], 2));
    assert_eq!(s.in_state("running").await.unwrap().len(), 1);
    assert_eq!(s.input(id(1)).await.unwrap(), Some(vec![7; 9]));
    assert_eq!(s.get(id(2)).await.unwrap(), None);
}

pub async fn an_end_keeps_its_output_and_its_message_or_nothing(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1), new(2)], &ROOM).await.unwrap();
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

pub async fn the_highest_lane_goes_first_and_in_it_the_oldest(on: &Subject) {
    let s = &*on.runs();
    let high = NewRun { lane: 2, ..new(3) };
    let later = NewRun { due_at: UnixMillis(70), ..new(4) };
    s.submit(&[new(2), new(1), high, later], &ROOM).await.unwrap();
    assert_eq!(ids(&s.due(UnixMillis(10), 9).await.unwrap()), vec![id(3), id(1), id(2)]);
    assert_eq!(s.due(UnixMillis(10), 1).await.unwrap().len(), 1);
    assert_eq!(s.next_due(UnixMillis(10)).await.unwrap(), Some(UnixMillis(70)));
    s.append(&end(3, 1)).await.unwrap();
    assert_eq!(s.due(UnixMillis(99), 9).await.unwrap().len(), 3);
}

fn ids(heads: &[store::RunHead]) -> Vec<RunId> {
    heads.iter().map(|h| h.id).collect()
}

pub async fn a_flood_hides_nothing_of_other_tenants_and_other_targets(on: &Subject) {
    let s = &*on.runs();
    let of =
        |target: &str, tenant: &str, n| NewRun { target: target.into(), tenant: tenant.into(), ..new(n) };
    let mut flood: Vec<NewRun> = (1..100).map(new).collect();
    flood.extend([of("m", "free", 200), of("m", "free", 201), of("other", "gold", 202)]);
    s.submit(&flood, &ROOM).await.unwrap();
    let due = s.due(UnixMillis(900), 2).await.unwrap();
    assert_eq!(ids(&due), [1, 2, 200, 201, 202].map(id));
    assert_eq!((due[4].target.as_str(), due[4].lane), ("other", 1));
    assert_eq!(s.held(&TenantId::from("gold")).await.unwrap(), (100, 900));
    s.append(&end(1, 1)).await.unwrap();
    assert!(!s.append(&end(1, 1)).await.unwrap(), "ended before");
    assert_eq!(s.input(id(1)).await.unwrap(), Some(Vec::new()), "what was asked goes with the end");
    s.append(&Change { keeps_input: true, ..end(2, 1) }).await.unwrap();
    assert_eq!(s.input(id(2)).await.unwrap(), Some(vec![7; 9]), "somebody may go on with it");
    assert_eq!(s.held(&TenantId::from("gold")).await.unwrap(), (98, 882));
    assert_eq!(s.held(&TenantId::from("nobody")).await.unwrap(), (0, 0));
    assert_eq!(s.open().await.unwrap(), 100);
    let lane = LaneCount { lane: 1, running: false, runs: 100, oldest: UnixMillis(3) };
    assert_eq!(s.lanes().await.unwrap(), vec![lane]);
}

pub async fn a_pause_that_was_decided_in_the_future_is_over(on: &Subject) {
    let s = &*on.runs();
    let paused =
        |n, as_of: Option<i64>| NewRun { due_at: UnixMillis(5_000), as_of: as_of.map(UnixMillis), ..new(n) };
    s.submit(&[paused(1, Some(4_000)), paused(2, None)], &ROOM).await.unwrap();
    assert_eq!(ids(&s.due(UnixMillis(4_000), 9).await.unwrap()), []);
    assert_eq!(ids(&s.due(UnixMillis(3_999), 9).await.unwrap()), [id(1)], "the clock went back behind it");
    assert_eq!(ids(&s.due(UnixMillis(5_000), 9).await.unwrap()), [1, 2].map(id));
}

pub async fn what_is_over_its_deadline_is_found_though_it_waits(on: &Subject) {
    let s = &*on.runs();
    let until = |n, at| NewRun { deadline: Some(UnixMillis(at)), ..new(n) };
    s.submit(&[until(1, 300), until(2, 200), new(3)], &ROOM).await.unwrap();
    assert_eq!(s.next_due(UnixMillis(100)).await.unwrap(), Some(UnixMillis(200)));
    assert_eq!(s.overdue(UnixMillis(199), 9).await.unwrap(), []);
    assert_eq!(s.overdue(UnixMillis(300), 9).await.unwrap(), [2, 1].map(id));
    s.append(&end(2, 1)).await.unwrap();
    assert_eq!(s.overdue(UnixMillis(300), 9).await.unwrap(), [id(1)]);
    assert_eq!(s.next_due(UnixMillis(300)).await.unwrap(), None);
}

pub async fn when_it_is_full_what_is_known_is_known_and_what_is_new_is_refused(on: &Subject) {
    let s = &*on.runs();
    let keyed =
        |n: u128, key: &str| NewRun { key: Some(SubmitKey { key: key.into(), hash: [1; 32] }), ..new(n) };
    let full = |e: Error| match e {
        Error::RunsFull { tenant, runs, bytes } => (tenant, runs, bytes),
        e => panic!("{e}"),
    };
    s.submit(&[keyed(1, "a"), keyed(2, "b")], &ROOM).await.unwrap();
    let gold = || Some(TenantId::from("gold"));
    for (room, who) in [
        (Room { runs: 2, ..ROOM }, None),
        (Room { of_tenant: 2, ..ROOM }, gold()),
        (Room { bytes_of_tenant: 18, ..ROOM }, gold()),
    ] {
        let again = s.submit(&[keyed(3, "a")], &room).await.unwrap();
        assert_eq!(again, vec![Submitted::Known(id(1))]);
        let new = s.submit(&[keyed(4, "b"), keyed(5, "c")], &room).await.unwrap_err();
        assert_eq!(full(new), (who, 2, 18));
    }
    let other = NewRun { tenant: "other".into(), ..new(6) };
    assert!(s.submit(&[other], &Room { of_tenant: 2, ..ROOM }).await.is_ok(), "another tenant's");
    assert_eq!(s.open().await.unwrap(), 3);
}

pub async fn the_same_submission_under_a_key_is_the_same_run(on: &Subject) {
    let s = &*on.runs();
    let keyed = |n: u128, hash: u8, tenant: &str| NewRun {
        key: Some(SubmitKey { key: "k".into(), hash: [hash; 32] }),
        tenant: tenant.into(),
        ..new(n)
    };
    let made = s
        .submit(&[keyed(1, 1, "gold"), keyed(2, 1, "gold"), keyed(3, 2, "gold"), keyed(4, 2, "other")], &ROOM)
        .await;
    assert_eq!(
        made.unwrap(),
        vec![Submitted::New, Submitted::Known(id(1)), Submitted::Other, Submitted::New]
    );
    assert_eq!(s.open().await.unwrap(), 2);
}

pub async fn lists_show_the_newest_first_page_by_page(on: &Subject) {
    let s = &*on.runs();
    let other = NewRun { tenant: "other".into(), ..new(9) };
    s.submit(&[new(1), new(2), new(3), other], &ROOM).await.unwrap();
    let gold = TenantId::from("gold");
    let ids = |heads: Vec<store::RunHead>| heads.into_iter().map(|h| h.id).collect::<Vec<_>>();
    assert_eq!(ids(s.list("job", Some(&gold), None, 2).await.unwrap()), vec![id(3), id(2)]);
    assert_eq!(ids(s.list("job", Some(&gold), Some(id(2)), 2).await.unwrap()), vec![id(1)]);
    assert_eq!(ids(s.list("job", None, None, 9).await.unwrap()).len(), 4);
}

pub async fn what_ended_long_ago_is_removed_but_not_while_somebody_is_to_be_told(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1), new(2), new(3)], &ROOM).await.unwrap();
    s.append(&end(1, 1)).await.unwrap();
    s.append(&Change { outbox: None, ..end(2, 1) }).await.unwrap();
    assert_eq!(s.expire(UnixMillis(50), 9, 99).await.unwrap(), 0);
    assert_eq!(s.expire(UnixMillis(51), 9, 99).await.unwrap(), 1);
    assert!(s.get(id(2)).await.unwrap().is_none() && s.outputs(id(2)).await.unwrap().is_empty());
    assert!(s.tried("msg_1", 0, &tried(DeliveryState::Delivered, None)).await.unwrap());
    assert_eq!(s.expire(UnixMillis(51), 9, 99).await.unwrap(), 1);
    assert!(s.deliveries(id(1)).await.unwrap().is_empty());
    assert!(!s.remove(id(3)).await.unwrap(), "it goes on");
    s.append(&end(3, 1)).await.unwrap();
    assert!(s.remove(id(3)).await.unwrap() && s.get(id(3)).await.unwrap().is_none());
}

pub async fn a_message_is_tried_until_it_is_taken_and_can_be_sent_again(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1)], &ROOM).await.unwrap();
    s.append(&end(1, 1)).await.unwrap();
    assert_eq!(s.deliveries_due(UnixMillis(49), 9).await.unwrap().len(), 1, "the clock went back behind it");
    assert_eq!(s.next_delivery(UnixMillis(49)).await.unwrap(), Some(UnixMillis(50)));
    assert_eq!(s.next_delivery(UnixMillis(50)).await.unwrap(), None);
    let due = s.deliveries_due(UnixMillis(50), 9).await.unwrap();
    assert_eq!((due.len(), due[0].id.as_str(), due[0].next_at), (1, "msg_1", UnixMillis(50)));
    assert!(s.tried("msg_1", 0, &tried(DeliveryState::Waiting, Some(70))).await.unwrap());
    assert!(!s.tried("msg_1", 0, &tried(DeliveryState::Failed, None)).await.unwrap(), "noted already");
    assert!(s.deliveries_due(UnixMillis(69), 9).await.unwrap().is_empty());
    assert!(s.tried("msg_1", 1, &tried(DeliveryState::Delivered, None)).await.unwrap());
    let of = s.deliveries(id(1)).await.unwrap();
    assert_eq!((of[0].state, of[0].tries, of[0].answer), (DeliveryState::Delivered, 2, Some(500)));
    assert_eq!(s.redeliver(id(1), UnixMillis(80)).await.unwrap(), 1);
    assert_eq!(s.deliveries_due(UnixMillis(80), 9).await.unwrap()[0].id, "msg_1", "under its own id");
}

pub async fn a_receiver_that_is_gone_gets_nothing_more_until_it_is_sent_again(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1), new(2), new(3), NewRun { tenant: "other".into(), ..new(4) }], &ROOM).await.unwrap();
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

pub async fn large_runs_expire_a_few_at_a_time(on: &Subject) {
    let s = &*on.runs();
    for n in 1..=5 {
        s.submit(&[new(n)], &ROOM).await.unwrap();
        let output = Output { key: format!("key {n}"), stage: "request".into(), value: vec![0; 1_000] };
        s.append(&Change { output: Some(output), outbox: None, ..end(n, 1) }).await.unwrap();
    }
    assert_eq!(s.expire(UnixMillis(99), 9, 1).await.unwrap(), 1, "one goes however large it is");
    assert_eq!(s.expire(UnixMillis(99), 9, 1_500).await.unwrap(), 2);
    assert_eq!(s.expire(UnixMillis(99), 1, 1 << 20).await.unwrap(), 1);
    assert_eq!(s.expire(UnixMillis(99), 9, 1 << 20).await.unwrap(), 1);
}

pub async fn a_flood_to_one_receiver_hides_nothing_for_another(on: &Subject) {
    let s = &*on.runs();
    let hook = |n: u128, tenant: &str, url: &str| {
        let message = NewDelivery { url: url.into(), ..end(n, 1).outbox.unwrap() };
        (NewRun { tenant: tenant.into(), ..new(n) }, Change { outbox: Some(message), ..end(n, 1) })
    };
    let flood = (1..50).map(|n| hook(n, "gold", &format!("https://hole.example/{n}")));
    let rest = [
        hook(60, "gold", "https://good.example/a?b"),
        hook(61, "free", "https://HOLE.example"),
        hook(62, "free", "https://hole.example:8443/x"),
    ];
    for (run, change) in flood.chain(rest) {
        s.submit(&[run], &ROOM).await.unwrap();
        assert!(s.append(&change).await.unwrap());
    }
    let due = s.deliveries_due(UnixMillis(50), 2).await.unwrap();
    let of = |tenant: &str, receiver: &str| {
        due.iter().filter(|d| d.tenant.as_str() == tenant && d.receiver == receiver).count()
    };
    assert_eq!(
        [
            of("gold", "https://hole.example"),
            of("gold", "https://good.example"),
            of("free", "https://hole.example"),
            of("free", "https://hole.example:8443")
        ],
        [2, 1, 1, 1]
    );
    assert_eq!(due.len(), 5);
    let one = s.delivery("msg_60").await.unwrap().unwrap();
    assert_eq!((one.url.as_str(), one.tries), ("https://good.example/a?b", 0));
    assert_eq!(s.delivery("msg_99").await.unwrap(), None);
}

pub async fn a_tenant_has_its_own_secrets_one_after_the_other(on: &Subject) {
    let s = &*on.runs();
    let (gold, free) = (TenantId::from("gold"), TenantId::from("free"));
    assert_eq!(s.secret(&gold).await.unwrap(), store::SecretNumber::default());
    let first = s.next_secret(&gold, UnixMillis(5)).await.unwrap();
    assert_eq!((first.number, first.since), (1, Some(UnixMillis(5))));
    assert_eq!(s.next_secret(&gold, UnixMillis(9)).await.unwrap().number, 2);
    assert_eq!(s.secret(&gold).await.unwrap().since, Some(UnixMillis(9)));
    assert_eq!(s.secret(&free).await.unwrap().number, 0);
}

pub async fn of_those_who_decide_at_once_one_wins(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1)], &ROOM).await.unwrap();
    for after in 1..5 {
        let changes: Vec<Change> =
            (0..12).map(|who| Change { entries: vec![format!("by {who}")], ..change(1, after) }).collect();
        let won = join_all(changes.iter().map(|c| s.append(c))).await;
        assert_eq!(won.into_iter().filter(|w| *w.as_ref().unwrap()).count(), 1);
        let stored = s.get(id(1)).await.unwrap().unwrap();
        assert_eq!((stored.head.entries, stored.entries.len() as u64), (after + 1, after + 1));
    }
}

pub async fn an_effect_is_had_once_whoever_comes_at_the_same_time(on: &Subject) {
    let s = &*on.runs();
    s.submit(&(1..=8).map(new).collect::<Vec<_>>(), &ROOM).await.unwrap();
    let same = Output { key: "the effect".into(), stage: "request".into(), value: vec![1] };
    let ends: Vec<Change> = (1..=8).map(|n| Change { output: Some(same.clone()), ..end(n, 1) }).collect();
    let had = join_all(ends.iter().map(|c| s.append(c))).await;
    assert_eq!(had.iter().filter(|h| matches!(h, Ok(true))).count(), 1);
    assert_eq!(s.open().await.unwrap(), 7, "of the others nothing is there");
    assert_eq!(s.held(&TenantId::from("gold")).await.unwrap(), (7, 63));
}

pub async fn submissions_at_once_are_one_run_under_a_key_and_no_more_than_there_is_room_for(on: &Subject) {
    let s = &*on.runs();
    let keyed = |n| NewRun { key: Some(SubmitKey { key: "k".into(), hash: [1; 32] }), ..new(n) };
    let same: Vec<[NewRun; 1]> = (1..=12).map(|n| [keyed(n)]).collect();
    let made = join_all(same.iter().map(|r| s.submit(r, &ROOM))).await;
    let made: Vec<Submitted> = made.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|m| **m == Submitted::New).count(), 1);
    let Some(Submitted::Known(first)) = made.iter().find(|m| **m != Submitted::New) else {
        panic!("{made:?}")
    };
    assert!(made.iter().all(|m| *m == Submitted::New || *m == Submitted::Known(*first)));
    let room = Room { runs: 10, ..ROOM };
    let more: Vec<[NewRun; 1]> = (20..50).map(|n| [new(n)]).collect();
    let made = join_all(more.iter().map(|r| s.submit(r, &room))).await;
    let refused =
        made.iter().filter(|m| matches!(m, Err(Error::RunsFull { tenant: None, runs: 10, .. }))).count();
    assert_eq!((refused, s.open().await.unwrap()), (21, 10));
}

pub async fn a_change_that_nobody_waits_for_is_there_whole_or_not_at_all(on: &Subject) {
    let s = &*on.runs();
    s.submit(&(1..=30).map(new).collect::<Vec<_>>(), &ROOM).await.unwrap();
    for n in 1..=30 {
        let ended = end(n, 1);
        // Left a little later each time, somewhere on its way.
        let way = tokio::time::timeout(std::time::Duration::from_micros(100 * n as u64), s.append(&ended));
        let _ = way.await;
    }
    let mut open = 0;
    for n in 1..=30 {
        // Whoever was left in the middle may still be at it: the next one waits for him.
        s.append(&change(n, 1)).await.unwrap();
        let stored = s.get(id(n)).await.unwrap().unwrap();
        let left = (
            stored.entries.len(),
            s.outputs(id(n)).await.unwrap().len(),
            s.deliveries(id(n)).await.unwrap().len(),
        );
        match stored.head.ended_at {
            Some(_) => assert_eq!(left, (3, 1, 1)),
            None => assert_eq!(left, (2, 0, 0)),
        }
        open += u64::from(stored.head.ended_at.is_none());
    }
    assert_eq!(
        (s.open().await.unwrap(), s.held(&TenantId::from("gold")).await.unwrap()),
        (open, (open, 9 * open))
    );
}

pub async fn what_another_run_had_made_is_read_by_its_key(on: &Subject) {
    let s = &*on.runs();
    let output = |n: u8| Output { key: format!("of {n}"), stage: format!("s{n}"), value: vec![n, 0] };
    let given = NewRun { outputs: vec![output(1), output(2)], ..new(1) };
    s.submit(&[given.clone(), new(2)], &ROOM).await.unwrap();
    assert_eq!(s.outputs(id(1)).await.unwrap(), [output(1), output(2)]);
    assert_eq!(s.output(id(1), "of 2").await.unwrap(), Some(vec![2, 0]));
    assert_eq!(s.output(id(2), "of 2").await.unwrap(), None, "it is another run's");
    let made = Change { output: Some(output(3)), ..change(1, 1) };
    assert!(s.append(&made).await.unwrap());
    assert_eq!(s.output(id(1), "of 3").await.unwrap(), Some(vec![3, 0]));
    // A submission that is known makes nothing again; one that is refused leaves nothing.
    let keyed =
        |n, outputs| NewRun { key: Some(SubmitKey { key: "k".into(), hash: [1; 32] }), outputs, ..new(n) };
    assert_eq!(s.submit(&[keyed(4, vec![output(4)])], &ROOM).await.unwrap(), [Submitted::New]);
    assert_eq!(s.submit(&[keyed(5, vec![output(5)])], &ROOM).await.unwrap(), [Submitted::Known(id(4))]);
    assert_eq!(s.outputs(id(5)).await.unwrap(), []);
    let full = NewRun { outputs: vec![output(6)], ..new(6) };
    assert!(s.submit(&[full], &Room { runs: 3, ..ROOM }).await.is_err());
    assert_eq!(s.outputs(id(6)).await.unwrap(), []);
    assert!(s.append(&Change { output: None, outbox: None, ..end(1, 2) }).await.unwrap());
    assert!(s.remove(id(1)).await.unwrap());
    assert_eq!(s.output(id(1), "of 1").await.unwrap(), None, "it goes with its run");
}

pub async fn lists_show_one_sort(on: &Subject) {
    let s = &*on.runs();
    let other = |n| NewRun { kind: "pipeline".into(), ..new(n) };
    s.submit(&[new(1), other(2), new(3), other(4)], &ROOM).await.unwrap();
    let ids = |heads: Vec<store::RunHead>| heads.into_iter().map(|h| h.id).collect::<Vec<_>>();
    let gold = TenantId::from("gold");
    assert_eq!(ids(s.list("job", None, None, 9).await.unwrap()), [3, 1].map(id));
    assert_eq!(ids(s.list("pipeline", Some(&gold), None, 9).await.unwrap()), [4, 2].map(id));
    assert_eq!(ids(s.list("pipeline", Some(&gold), Some(id(4)), 9).await.unwrap()), [id(2)]);
    assert_eq!(ids(s.list("nothing", None, None, 9).await.unwrap()), []);
}

pub async fn what_ended_since_is_found_in_the_order_of_the_ends(on: &Subject) {
    let s = &*on.runs();
    let part = NewRun { part: Some(Part { of: id(99), number: 1 }), ..new(6) };
    let other = NewRun { kind: "pipeline".into(), ..new(5) };
    s.submit(&[new(1), new(2), new(3), new(4), other, part], &ROOM).await.unwrap();
    let bare = |n, at| Change { output: None, outbox: None, ended_at: Some(UnixMillis(at)), ..end(n, 1) };
    for (n, at) in [(3, 10), (1, 20), (4, 20), (5, 20), (6, 20)] {
        assert!(s.append(&bare(n, at)).await.unwrap());
    }
    let ids = |heads: Vec<store::RunHead>| heads.into_iter().map(|h| h.id).collect::<Vec<_>>();
    let since = |at, run: Option<u128>, limit| {
        let after = (UnixMillis(at), run.map(id));
        async move { ids(s.ended("job", after, limit).await.unwrap()) }
    };
    assert_eq!(since(0, None, 9).await, [3, 1, 4].map(id));
    assert_eq!(since(10, None, 2).await, [3, 1].map(id));
    assert_eq!(since(10, Some(3), 9).await, [1, 4].map(id));
    assert_eq!(since(20, Some(1), 9).await, [id(4)]);
    assert_eq!(since(20, Some(4), 9).await, []);
    assert_eq!(since(21, None, 9).await, []);
}

pub async fn a_change_that_is_not_synced_is_seen_at_once_and_decided_like_any_other(on: &Subject) {
    let s = &*on.runs();
    s.submit(&[new(1)], &ROOM).await.unwrap();
    for after in 1..20 {
        let entries = vec![format!("entry {after}")];
        // Every third waits for the disk, as an end does behind stages that did not.
        let change = Change { entries, synced: after % 3 == 0, ..change(1, after) };
        let late = Change { synced: !change.synced, ..change.clone() };
        let both = tokio::join!(s.append(&change), s.append(&late));
        assert!(both.0.unwrap() != both.1.unwrap(), "one of them wins");
        let stored = s.get(id(1)).await.unwrap().unwrap();
        assert_eq!(stored.entries.len() as u64, after + 1);
        assert_eq!(stored.entries.last().unwrap(), &format!("entry {after}"));
    }
}
