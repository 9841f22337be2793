//! The store and its answers as a whole, without a connection: clients that come, are cut off and return in any order,
//! over answers that compete for memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, Waker};
use std::time::Duration;

use contract::{Code, RequestId, TenantId, Tick, UnixMillis};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::answer::{Answer, Head, Phase, Read, Reader};
use super::events::{Messages, Numbers};
use super::journal::PIECE;
use super::store::{Entered, Key, Replay, Replays, Wish};

const KEEP: Duration = Duration::from_secs(600);

fn replays(memory: usize, answer: usize) -> Replays {
    Replays::new(Replay { memory, answer, keep: KEEP, resume: Duration::from_secs(60) })
}

fn key(tenant: &str, word: &str) -> Key {
    Key { tenant: tenant.into(), key: None, word: word.into() }
}

fn wish(tenant: &str, word: &str, asked: u8, last: Option<u64>) -> Wish {
    let window = Duration::from_secs(60);
    Wish { tenant: tenant.into(), key: Some(key(tenant, word)), asked: [asked; 32], last, window }
}

fn stream() -> Head {
    Head { status: StatusCode::OK, headers: HeaderMap::new(), length: None, events: true }
}

/// Everything a reader can have now, and whether it is at the end.
fn rest(reader: &mut Reader) -> (Vec<u8>, bool) {
    let (mut out, mut cx) = (Vec::new(), Poller::from_waker(Waker::noop()));
    loop {
        match reader.poll(&mut cx) {
            Poll::Ready(Some(Ok(Read::Bytes(b)))) => out.extend_from_slice(&b),
            Poll::Ready(Some(Ok(Read::Ping(_)))) => {}
            Poll::Ready(None) => return (out, true),
            Poll::Ready(Some(Err(_))) | Poll::Pending => return (out, false),
        }
    }
}

fn write(replays: &Replays, answer: &Answer, bytes: &[u8]) -> bool {
    while !answer.fits(bytes.len()) && replays.grow(answer) {}
    answer.append(bytes)
}

fn leads(replays: &Replays, wish: Wish, now: Tick) -> Reader {
    match replays.enter(wish, now) {
        Ok(Entered::Leads(reader)) => reader,
        other => panic!("{other:?}"),
    }
}

/// A whole answer of so many bytes, over and kept.
fn kept(replays: &Replays, tenant: &str, word: &str, bytes: usize, now: Tick) {
    let reader = leads(replays, wish(tenant, word, 0, None), now);
    let answer = Arc::clone(reader.answer());
    answer.begin(stream(), Duration::from_secs(60));
    for piece in vec![7; bytes].chunks(PIECE) {
        assert!(write(replays, &answer, piece));
    }
    answer.end(Phase::Ended, now, true);
    replays.over(&tenant.into(), None, &answer, false);
}

fn is_kept(replays: &Replays, tenant: &str, word: &str, now: Tick) -> bool {
    match replays.enter(wish(tenant, word, 0, None), now) {
        Ok(Entered::Joins(_)) => true,
        Ok(Entered::Leads(reader)) => {
            let answer = Arc::clone(reader.answer());
            drop(reader);
            assert!(answer.leave(now));
            replays.over(&tenant.into(), None, &answer, true);
            false
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_flood_of_answers_pushes_out_its_own_the_oldest_first() {
    let r = replays(600_000, 100_000);
    kept(&r, "quiet", "one", 20_000, Tick(0));
    for n in 0..50 {
        kept(&r, "loud", &n.to_string(), 40_000, Tick(n));
        assert!(r.used() <= 600_000);
    }
    assert!(is_kept(&r, "quiet", "one", Tick(60)));
    assert!(is_kept(&r, "loud", "49", Tick(60)));
    assert!(!is_kept(&r, "loud", "0", Tick(60)));
}

#[test]
fn answers_under_way_of_one_tenant_leave_half_of_the_memory_to_others() {
    let r = replays(2_000_000, 500_000);
    let mut loud = Vec::new();
    let refused = loop {
        match r.enter(wish("loud", &loud.len().to_string(), 0, None), Tick(0)) {
            Ok(Entered::Leads(reader)) => loud.push(reader),
            other => break other.unwrap_err(),
        }
    };
    assert!(refused.code == Code::Overloaded && refused.message.contains("tenant"), "{refused}");
    assert!(loud.len() > 10 && r.used() <= 1_000_000);
    // None of them grows at the others' cost either.
    let one = Arc::clone(loud[0].answer());
    while r.grow(&one) {}
    assert!(r.used() <= 1_000_000);
    let quiet = leads(&r, wish("quiet", "one", 0, None), Tick(0));
    assert!(r.grow(quiet.answer()));
    // What is over makes room for another of its tenant, and goes when somebody needs its memory.
    one.end(Phase::Ended, Tick(1), true);
    r.over(&"loud".into(), None, &one, false);
    assert!(matches!(r.enter(wish("loud", "another", 0, None), Tick(1)), Ok(Entered::Leads(_))));
}

#[test]
fn an_answer_is_kept_for_its_time_and_its_memory_is_given_back() {
    let r = replays(600_000, 100_000);
    kept(&r, "t", "one", 20_000, Tick(0));
    let last = Tick(0).after(KEEP - Duration::from_nanos(1));
    r.sweep(last);
    assert!(is_kept(&r, "t", "one", last));
    let late = Tick(0).after(KEEP);
    assert!(!is_kept(&r, "t", "one", late), "also before it is swept");
    r.sweep(late);
    assert_eq!(r.used(), 0);
}

#[test]
fn tenants_and_api_keys_do_not_meet_under_one_word() {
    let r = replays(600_000, 100_000);
    let mine = leads(&r, wish("a", "word", 0, None), Tick(0));
    let _other = leads(&r, wish("b", "word", 1, None), Tick(0));
    let by_key =
        Wish { key: Some(Key { key: Some("k1".into()), ..key("a", "word") }), ..wish("a", "word", 2, None) };
    let _third = leads(&r, by_key, Tick(0));
    let id = RequestId::from_parts(UnixMillis(0), 7);
    r.name(&"a".into(), id, mine.answer());
    assert!(r.find(&"a".into(), id, Tick(0)).is_some());
    assert!(r.find(&"b".into(), id, Tick(0)).is_none());
}

#[test]
fn another_request_under_a_key_is_refused_until_the_key_is_free() {
    let r = replays(600_000, 100_000);
    let code = |asked, now| r.enter(wish("t", "word", asked, None), now).map(|_| ()).map_err(|e| e.code);
    kept(&r, "t", "word", 10, Tick(0));
    assert_eq!(code(1, Tick(0)), Err(Code::IdempotencyKeyReused));
    assert_eq!(code(0, Tick(0)), Ok(()));
    assert_eq!(code(1, Tick(0).after(KEEP)), Ok(()));
}

#[test]
fn what_failed_for_now_is_tried_again_and_its_end_can_still_be_read() {
    let r = replays(600_000, 100_000);
    let reader = leads(&r, wish("t", "word", 0, None), Tick(0));
    let answer = Arc::clone(reader.answer());
    answer.begin(stream(), Duration::from_secs(60));
    assert!(write(&r, &answer, b"id: 5\nevent: delta\ndata: {}\n\nid: 6\nevent: error\ndata: {}\n\n"));
    drop(reader);
    answer.end(Phase::Ended, Tick(0), false);
    r.over(&"t".into(), None, &answer, false);
    let Ok(Entered::Joins(mut back)) = r.enter(wish("t", "word", 0, Some(5)), Tick(0)) else { panic!() };
    assert_eq!(rest(&mut back), (b"id: 6\nevent: error\ndata: {}\n\n".to_vec(), true));
    let _again = leads(&r, wish("t", "word", 0, None), Tick(0));
    // From now on the key stands for the second answer, in which the first one's events are not found.
    let gone = r.enter(wish("t", "word", 0, Some(5)), Tick(0)).unwrap_err();
    assert_eq!(gone.code, Code::NotResumable);
}

#[test]
fn there_are_no_more_answers_under_way_than_there_is_room_for() {
    let r = replays(200_000, 100_000);
    let mut under_way = Vec::new();
    let refused = loop {
        // A tenant's share is not what ends it.
        let (tenant, word) = (format!("t{}", under_way.len()), under_way.len().to_string());
        match r.enter(wish(&tenant, &word, 0, None), Tick(0)) {
            Ok(Entered::Leads(reader)) => under_way.push(reader),
            other => break other.unwrap_err(),
        }
    };
    assert!(under_way.len() >= 3 && r.used() <= 200_000);
    assert_eq!(refused.code, Code::Overloaded);
    // The failed one left nothing behind.
    let answer = Arc::clone(under_way.remove(0).answer());
    assert!(answer.leave(Tick(0)));
    r.over(&"t0".into(), None, &answer, true);
    drop(answer);
    assert!(r.enter(wish("t", "another", 0, None), Tick(0)).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    /// The answer under a key makes an event of so many bytes.
    Make(usize, usize),
    End(usize, bool),
    /// The answer's driver looks whether anybody is left.
    Look(usize),
    Enter(usize),
    Read(usize),
    Cut(usize),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..3, prop_oneof![1usize..400, 1_000usize..30_000]).prop_map(|(k, n)| Step::Make(k, n)),
        1 => (0usize..3, any::<bool>()).prop_map(|(k, well)| Step::End(k, well)),
        1 => (0usize..3).prop_map(Step::Look),
        4 => (0usize..6).prop_map(Step::Enter),
        8 => (0usize..6).prop_map(Step::Read),
        2 => (0usize..6).prop_map(Step::Cut),
        1 => (1u64..400).prop_map(Step::Later),
    ]
}

/// An answer under way, as its driver has it.
struct Making {
    answer: Arc<Answer>,
    numbers: Numbers,
    run: u64,
    made: u64,
    /// Pieces for which there was no room yet.
    waiting: Vec<Vec<u8>>,
}

/// A client, which knows only what was sent to it.
#[derive(Default)]
struct Client {
    reader: Option<Reader>,
    messages: Messages,
    last: Option<u64>,
    run: Option<u64>,
}

/// What an event says: it is of this run, and the n-th of it.
fn says(run: u64, n: u64) -> String {
    format!("{{\"run\":{run},\"n\":{n},")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn whoever_reads_on_gets_one_answer_without_a_gap_or_a_repeat_or_is_refused_and_memory_is_bounded(
        steps in prop::collection::vec(step(), 1..150),
        memory in 160_000usize..500_000,
    ) {
        let r = replays(memory, 120_000);
        let tenant: TenantId = "t".into();
        let mut now = Tick(0);
        let mut making: BTreeMap<usize, Making> = BTreeMap::new();
        let mut clients: Vec<Client> = (0..6).map(|_| Client::default()).collect();
        let mut runs = 0;
        for step in steps {
            match step {
                Step::Make(k, n) => if let Some(m) = making.get_mut(&k) {
                    if m.waiting.is_empty() {
                        let event = format!("event: delta\ndata: {}\"x\":\"{}\"}}\n\n", says(m.run, m.made), "x".repeat(n));
                        m.made += 1;
                        m.waiting = m.numbers.number(event.as_bytes()).chunks(PIECE).map(<[u8]>::to_vec).rev().collect();
                    }
                    while m.waiting.last().is_some_and(|piece| write(&r, &m.answer, piece)) {
                        m.waiting.pop();
                    }
                }
                Step::End(k, well) => if let Some(m) = making.remove(&k) {
                    if m.waiting.is_empty() {
                        m.answer.end(Phase::Ended, now, well);
                        r.over(&tenant, None, &m.answer, false);
                    } else {
                        making.insert(k, m);
                    }
                }
                Step::Look(k) => if let Some(m) = making.get(&k) && m.answer.leave(now) {
                    r.over(&tenant, None, &m.answer, true);
                    making.remove(&k);
                }
                Step::Enter(c) => {
                    let client = &mut clients[c];
                    if client.reader.is_some() { continue; }
                    client.messages = Messages::default();
                    match r.enter(wish("t", &(c % 3).to_string(), 0, client.last), now) {
                        Ok(Entered::Leads(reader)) => {
                            prop_assert_eq!(client.last, None, "nobody who reads on begins a new answer");
                            reader.answer().begin(stream(), Duration::from_secs(60));
                            runs += 1;
                            let (answer, run) = (Arc::clone(reader.answer()), runs);
                            let numbers = Numbers::from(run << 20);
                            let new = Making { answer, numbers, run, made: 0, waiting: Vec::new() };
                            prop_assert!(making.insert(c % 3, new).is_none(), "two answers under way for one key");
                            client.reader = Some(reader);
                        }
                        Ok(Entered::Joins(reader)) => client.reader = Some(reader),
                        Err(e) => {
                            prop_assert!(matches!(e.code, Code::NotResumable | Code::Overloaded), "{e}");
                            // It starts over.
                            if e.code == Code::NotResumable {
                                *client = Client::default();
                            }
                        }
                    }
                }
                Step::Read(c) => {
                    let client = &mut clients[c];
                    let Some(reader) = &mut client.reader else { continue };
                    let mut cx = Poller::from_waker(Waker::noop());
                    if let Poll::Ready(Some(Ok(Read::Bytes(bytes)))) = reader.poll(&mut cx) {
                        client.messages.push(&bytes);
                    }
                    while let Some(m) = client.messages.next() {
                        let (run, n) = (m.id >> 20, m.id & 0xF_FFFF);
                        prop_assert!(m.data.starts_with(&says(run, n)), "an event keeps its number");
                        match client.last {
                            Some(last) => prop_assert_eq!(m.id, last + 1, "no gap, no repeat, no other answer"),
                            None => prop_assert_eq!(n, 0, "it begins at the beginning"),
                        }
                        prop_assert!(client.run.is_none_or(|r| r == run));
                        (client.last, client.run) = (Some(m.id), Some(run));
                    }
                }
                Step::Cut(c) => clients[c].reader = None,
                Step::Later(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    r.sweep(now);
                }
            }
            prop_assert!(r.used() <= memory, "{} of {memory}", r.used());
        }
        clients.clear();
        for m in making.values() {
            prop_assert!(m.answer.leave(now));
            r.over(&tenant, None, &m.answer, true);
        }
        making.clear();
        r.sweep(now.after(KEEP));
        prop_assert_eq!(r.used(), 0, "everything is given back");
    }
}
