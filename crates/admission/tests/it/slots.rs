//! Slots: nothing is left behind wherever a future is dropped, and nobody idles while somebody waits.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use admission::{Ask, Cause, Gate, ModelSettings, Refusal, Settings, Slot, SlotOutcome, SlotRequest};
use contract::{Code, Deadline, ManualClock, ModelName, RetryHint};
use proptest::prelude::*;

type Got = Option<Result<Slot, Box<Refusal>>>;

pub(crate) fn ask(tokens: u64) -> Ask {
    Ask { priority: None, tokens, deadline: Deadline::NEVER }
}

fn poll(request: &mut SlotRequest, waker: &Waker) -> Got {
    match pin!(request).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(got) => Some(got),
        Poll::Pending => None,
    }
}

pub(crate) fn now(mut request: SlotRequest) -> Got {
    poll(&mut request, Waker::noop())
}

#[derive(Default)]
struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn gate(slots: u32, entries: usize) -> (Gate, Arc<ManualClock>, ModelName) {
    let clock = Arc::new(ManualClock::default());
    let model = ModelSettings {
        max_concurrency: slots,
        adaptive: false,
        queue_entries: entries,
        ..ModelSettings::default()
    };
    (Gate::new(Settings { default_model: model, ..Settings::default() }, clock.clone()), clock, "m".into())
}

proptest! {
    #[test]
    fn wherever_futures_and_slots_are_dropped_nothing_is_left_and_no_slot_idles(
        slots in 1u32..4, entries in 1usize..8,
        ops in prop::collection::vec((0u8..6, 0usize..3, 1u64..50, any::<prop::sample::Index>()), 1..200),
    ) {
        let (gate, _clock, model) = gate(slots, entries);
        let (mut requests, mut held): (Vec<SlotRequest>, Vec<Slot>) = (Vec::new(), Vec::new());
        for (op, tenant, tokens, pick) in ops {
            match op {
                0 | 1 => requests.push(gate.slot(&model, &format!("t{tenant}").into(), ask(tokens))),
                2 if !requests.is_empty() => {
                    let i = pick.index(requests.len());
                    match poll(&mut requests[i], Waker::noop()) {
                        Some(Ok(slot)) => {
                            held.push(slot);
                            drop(requests.swap_remove(i));
                        }
                        Some(Err(_)) => drop(requests.swap_remove(i)),
                        None => prop_assert_eq!(gate.snapshot().models[0].in_flight, slots),
                    }
                }
                3 if !requests.is_empty() => drop(requests.swap_remove(pick.index(requests.len()))),
                4 if !held.is_empty() => {
                    let mut slot = held.swap_remove(pick.index(held.len()));
                    slot.charge_output(tokens);
                    slot.finish(SlotOutcome::Ok { latency: Duration::from_millis(tokens) });
                }
                5 if !held.is_empty() => drop(held.swap_remove(pick.index(held.len()))),
                _ => {}
            }
            if let Some(m) = gate.snapshot().models.first() {
                prop_assert!(m.in_flight <= slots && m.queued_entries <= entries);
                prop_assert!(m.in_flight as usize >= held.len());
                prop_assert!(m.queued_entries == 0 || m.in_flight == slots, "a slot idles while somebody waits");
            }
        }
        drop((requests, held));
        prop_assert!(gate.snapshot().is_empty(), "{:?}", gate.snapshot());
    }
}

#[test]
fn a_slot_granted_and_never_seen_goes_to_the_next_who_is_woken_once() {
    let (gate, _clock, model) = gate(1, 10);
    let first = now(gate.slot(&model, &"a".into(), ask(1))).unwrap().unwrap();
    let mut second = gate.slot(&model, &"a".into(), ask(1));
    let mut third = gate.slot(&model, &"a".into(), ask(1));
    assert_eq!((second.position(), third.position()), (Some(0), Some(1)));
    let woken = Arc::new(Count::default());
    assert!(poll(&mut second, Waker::noop()).is_none());
    assert!(poll(&mut third, &Waker::from(woken.clone())).is_none());
    drop(first);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    drop(second);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(poll(&mut third, Waker::noop()).is_some_and(|got| got.is_ok()));
    assert!(gate.snapshot().is_empty());
}

#[test]
fn a_kept_slot_is_given_at_once_to_whom_it_is_kept_for_although_a_flood_waits() {
    let (gate, _clock, model) = gate(16, 1_000);
    let held = now(gate.slot(&model, &"light".into(), ask(1))).unwrap().unwrap();
    let flood: Vec<SlotRequest> = (0..40).map(|_| gate.slot(&model, &"flood".into(), ask(1))).collect();
    let seen = gate.snapshot().models.remove(0);
    assert!(seen.in_flight < 16 && seen.queued_entries > 0, "{seen:?}");
    assert_eq!(gate.outlook(&model, &"light".into(), ask(1)).ahead, 0);
    assert!(gate.outlook(&model, &"flood".into(), ask(1)).ahead > 0);
    let batch = Ask { priority: Some(admission::Priority::Batch), ..ask(1) };
    assert!(
        now(gate.slot(&model, &"light".into(), batch)).is_none(),
        "not what can wait, before what cannot"
    );
    assert!(now(gate.slot(&model, &"light".into(), ask(1))).is_some_and(|got| got.is_ok()));
    drop((flood, held));
    assert!(gate.snapshot().is_empty());
}

#[test]
fn callers_that_hold_every_slot_they_can_leave_one_to_a_tenant_that_was_served_a_moment_ago() {
    let (gate, clock, model) = gate(256, 1_000);
    drop(now(gate.slot(&model, &"light".into(), ask(1))).unwrap().unwrap());
    clock.advance(Duration::from_millis(300));
    let mut held: Vec<SlotRequest> = (0..400).map(|_| gate.slot(&model, &"flood".into(), ask(1))).collect();
    let light = now(gate.slot(&model, &"light".into(), ask(1)));
    assert!(light.is_some_and(|got| got.is_ok()));
    // Not for ever: whoever stays away gives up what is kept.
    clock.advance(Duration::from_secs(11));
    held.push(gate.slot(&model, &"flood".into(), ask(1)));
    assert_eq!(gate.snapshot().models[0].in_flight, 256);
    drop(held);
    assert!(gate.snapshot().is_empty());
}

#[test]
fn what_would_be_refused_is_refused_without_being_asked_for_a_slot_and_nothing_else_is() {
    let (gate, clock, model) = gate(2, 1_000);
    let refuse = |mark: Option<u64>| gate.refuse(&model, &"a".into(), ask(1), |_| mark);
    let first = now(gate.slot(&model, &"a".into(), ask(1))).unwrap().unwrap();
    clock.advance(Duration::from_secs(1));
    first.finish(SlotOutcome::Ok { latency: Duration::from_secs(1) });
    let mut held = Vec::new();
    let told = loop {
        if let Some(refusal) = refuse(Some(7)) {
            break refusal;
        }
        assert!(held.len() < 100, "never refused");
        let slot = gate.slot_or_turn(&model, &"a".into(), ask(1), held.len() as u64 + 100);
        held.push(slot);
    };
    // Sixteen may wait behind the two that run.
    assert_eq!((held.len(), told.cause), (18, Cause::QueueFull));
    assert!(refuse(None).is_none(), "who has no mark asks for its slot");
    assert!(now(gate.slot_or_turn(&model, &"a".into(), ask(1), 8)).unwrap().is_err());
    // It comes when it was told, and is not refused before it asks.
    let RetryHint::After(after) = told.retry else { panic!("no time to come again") };
    clock.advance(after);
    assert!(refuse(Some(7)).is_none());
    assert!(now(gate.slot_or_turn(&model, &"a".into(), ask(1), 7)).is_none(), "it may wait: it has its turn");
    assert!(refuse(Some(7)).is_some(), "and has had it");
    drop(held);
    assert!(gate.snapshot().is_empty());
}

#[test]
fn refuses_at_once_when_the_first_output_budget_cannot_be_met_and_says_when_to_come_back() {
    let (gate, clock, model) = gate(1, 10);
    for _ in 0..10 {
        let slot = now(gate.slot(&model, &"a".into(), ask(100))).unwrap().unwrap();
        clock.advance(Duration::from_secs(1));
        slot.finish(SlotOutcome::Ok { latency: Duration::from_secs(1) });
    }
    let held = now(gate.slot(&model, &"a".into(), ask(100))).unwrap().unwrap();
    let waiting = gate.slot(&model, &"a".into(), ask(100));
    let deadline = Deadline::from_now(contract::Clock::now(&*clock), Duration::from_secs(1));
    let late = gate.slot(
        &model,
        &"a".into(),
        Ask { deadline, priority: Some(admission::Priority::Batch), ..ask(100) },
    );
    let refusal = now(late).unwrap().unwrap_err();
    assert!(matches!(refusal.cause, Cause::WaitTooLong { .. }));
    let error = contract::Error::from(refusal);
    assert_eq!((error.code, error.limit_source.as_deref()), (Code::Overloaded, Some("model:m")));
    let RetryHint::After(after) = error.retry else { panic!("no hint") };
    assert!((900..=1100).contains(&after.as_millis()), "{after:?}");
    drop((waiting, held));
}

#[test]
fn an_upstream_that_says_429_lowers_the_limit_and_failures_and_cancels_do_not() {
    let clock = Arc::new(ManualClock::default());
    let gate = Gate::new(Settings::default(), clock);
    let model: ModelName = "m".into();
    let end = |outcome: Option<SlotOutcome>| {
        let slot = now(gate.slot(&model, &"a".into(), ask(1))).unwrap().unwrap();
        if let Some(outcome) = outcome {
            slot.finish(outcome);
        }
        gate.snapshot().models[0].limit
    };
    assert_eq!(end(None), 256);
    assert_eq!(end(Some(SlotOutcome::Failed)), 256);
    assert_eq!(end(Some(SlotOutcome::Overloaded)), 179);
}

#[test]
fn threads_that_drop_at_random_leave_no_slot_and_no_ticket_behind() {
    let (gate, _clock, model) = gate(4, 1000);
    std::thread::scope(|scope| {
        for t in 0..100u64 {
            let (gate, model) = (gate.clone(), &model);
            scope.spawn(move || {
                for n in 0..20 {
                    let mut request = gate.slot(model, &format!("t{}", t % 5).into(), ask(1 + n));
                    let mut tries = (t + n) % 7;
                    while tries > 0 {
                        tries -= 1;
                        if let Some(Ok(slot)) = poll(&mut request, Waker::noop()) {
                            assert!(gate.snapshot().models[0].in_flight <= 4);
                            slot.finish(SlotOutcome::Failed);
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert!(gate.snapshot().is_empty());
}

#[test]
fn the_outlook_is_the_place_a_request_would_get_and_takes_none() {
    let (gate, _clock, model) = gate(1, 8);
    let look = |tenant: &str| gate.outlook(&model, &tenant.into(), ask(10));
    assert_eq!((look("a").ahead, look("a").wait), (0, Some(Duration::ZERO)));
    let running = now(gate.slot(&model, &"a".into(), ask(10))).unwrap().unwrap();
    assert_eq!(
        (look("a").ahead, look("a").wait),
        (0, None),
        "it would wait, and nothing is known of how long"
    );
    let queued: Vec<SlotRequest> = (0..3).map(|_| gate.slot(&model, &"a".into(), ask(10))).collect();
    assert_eq!(look("a").ahead, 3);
    assert!(look("b").ahead < 3, "another tenant does not stand behind all of the first one's");
    drop((queued, running));
    assert!(gate.snapshot().is_empty());
}

#[test]
fn a_model_that_the_settings_list_no_more_is_forgotten_with_its_last_request() {
    let (gate, _clock, model) = gate(1, 1_000);
    let listed = |names: &[&ModelName]| Settings {
        models: names.iter().map(|n| ((*n).clone(), ModelSettings::default())).collect(),
        ..Settings::default()
    };
    let (other, idle) = (ModelName::from("other"), ModelName::from("idle"));
    let names = || gate.snapshot().models.into_iter().map(|m| m.model).collect::<Vec<_>>();
    drop(now(gate.slot(&idle, &"a".into(), ask(1))).unwrap().unwrap());
    let running = now(gate.slot(&model, &"a".into(), ask(1))).unwrap().unwrap();
    let waiting = gate.slot(&model, &"a".into(), ask(1));
    gate.reconfigure(listed(&[&other, &idle]));
    assert_eq!(names(), [idle.clone(), model.clone()], "what runs there is not lost, what is listed stays");
    gate.reconfigure(listed(&[&other]));
    assert_eq!(names(), std::slice::from_ref(&model));
    drop(running);
    gate.forget_unlisted();
    assert_eq!(names(), std::slice::from_ref(&model), "somebody waits there");
    drop(waiting);
    gate.forget_unlisted();
    assert_eq!(names(), [] as [ModelName; 0]);
}
