//! Entering: against a naive reference, and from many threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use admission::{
    Amount, Caller, Cause, Demand, Entry, Gate, Limits, Period, Scope, Settings, TenantSettings,
};
use contract::{Code, ManualClock, Money, RetryHint, SystemClock, UnixMillis, Usage};
use proptest::prelude::*;

const DAY: i64 = 86_400_000;

fn with(limits: Limits, clock: &Arc<ManualClock>) -> Gate {
    let tenant = TenantSettings { limits, ..TenantSettings::default() };
    let settings = Settings { default_tenant: tenant, lease_seconds: 1_000_000, ..Settings::default() };
    Gate::new(settings, clock.clone())
}

fn usage(tokens: u64) -> Usage {
    Usage { input_tokens: tokens, ..Usage::default() }
}

fn demand(tokens: u64) -> Demand {
    Demand { input_tokens: tokens, max_output_tokens: Some(0), ..Demand::default() }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, money: Money::ZERO }
}

proptest! {
    #[test]
    fn budgets_and_streams_agree_with_a_naive_reference(
        day_limit in 1u64..300, month_limit in 1u64..900, stream_limit in 1u32..5,
        ops in prop::collection::vec((0u8..8, 0usize..2, 0u64..60, any::<bool>()), 1..200),
    ) {
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(100 * DAY)));
        let limits = Limits {
            tokens_per_day: Some(day_limit), tokens_per_month: Some(month_limit),
            concurrent_streams: Some(stream_limit), ..Limits::default()
        };
        let gate = with(limits, &clock);
        let callers = [Caller::tenant("a"), Caller::tenant("b")];
        // Everything that ever entered: (tenant, day, held or settled tokens, stream, living).
        struct Past { tenant: usize, day: i64, tokens: u64, said: u64, stream: bool, entry: Option<Entry> }
        let (mut past, mut day): (Vec<Past>, i64) = (Vec::new(), 100);
        for (op, t, n, stream) in ops {
            let living: Vec<usize> = past.iter().enumerate().filter(|(_, p)| p.entry.is_some()).map(|(i, _)| i).collect();
            let pick = living.get(n as usize % living.len().max(1)).copied();
            match (op, pick) {
                (0..=2, _) => {
                    let mine = || past.iter().filter(|p| p.tenant == t);
                    let today: u64 = mine().filter(|p| p.day == day).map(|p| p.tokens).sum();
                    let month: u64 = mine().map(|p| p.tokens).sum();
                    let open = mine().filter(|p| p.stream && p.entry.is_some()).count() as u32;
                    let fits = n == 0 || (today + n <= day_limit && month + n <= month_limit);
                    let fits = fits && !(stream && open >= stream_limit);
                    let got = gate.enter(&callers[t], &Demand { stream, ..demand(n) });
                    prop_assert_eq!(got.is_ok(), fits);
                    if let Ok(entry) = got {
                        past.push(Past { tenant: t, day, tokens: n, said: 0, stream, entry: Some(entry) });
                    }
                }
                (3, Some(i)) => {
                    past[i].entry.take().unwrap().settle(&usage(n), Money::ZERO);
                    past[i].tokens = n;
                }
                (4, Some(i)) => {
                    past[i].entry.as_ref().unwrap().used(&usage(n), Money::ZERO);
                    past[i].said = n;
                    past[i].tokens = past[i].tokens.max(n);
                }
                (5, Some(i)) => {
                    past[i].entry = None;
                    past[i].tokens = past[i].said;
                }
                // The month (April 1970) does not end within these few days.
                (6, _) if n < 6 && day < 115 => {
                    day += 1;
                    clock.advance(Duration::from_secs(86_400));
                }
                (7, _) => {
                    // A clock set back and forth again changes nothing.
                    clock.jump_wall(UnixMillis((day - 1) * DAY));
                    let before = gate.spent(&Scope::Tenant("a".into()), Period::Day);
                    clock.jump_wall(UnixMillis(day * DAY));
                    prop_assert_eq!(before, gate.spent(&Scope::Tenant("a".into()), Period::Day));
                }
                _ => {}
            }
            for (t, name) in ["a", "b"].iter().enumerate() {
                let (settled, held) = gate.spent(&Scope::Tenant((*name).into()), Period::Day);
                let sum = |living: bool| past.iter()
                    .filter(|p| p.tenant == t && p.day == day && p.entry.is_some() == living).map(|p| p.tokens).sum::<u64>();
                prop_assert_eq!((settled.tokens, held.tokens), (sum(false), sum(true)));
            }
        }
        for p in &mut past {
            p.entry = None;
        }
        prop_assert!(gate.snapshot().is_empty(), "{:?}", gate.snapshot());
    }
}

#[test]
fn five_hundred_concurrent_requests_never_hold_more_than_the_limit() {
    let limits = Limits {
        tokens_per_day: Some(1_000),
        concurrent_streams: Some(40),
        requests_per_minute: Some(300),
        ..Limits::default()
    };
    let clock = Arc::new(ManualClock::starting_at(UnixMillis(DAY)));
    let gate = with(limits, &clock);
    let (inside, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..500u64 {
            let (gate, inside, admitted) = (gate.clone(), &inside, &admitted);
            scope.spawn(move || {
                let ask = Demand { stream: true, ..demand(10) };
                let Ok(entry) = gate.enter(&Caller::tenant("a"), &ask) else { return };
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 40);
                admitted.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                match thread % 3 {
                    0 => entry.settle(&usage(10), Money::ZERO),
                    1 => drop(entry),
                    _ => {
                        entry.used(&usage(7), Money::ZERO);
                        drop(entry);
                    }
                }
            });
        }
    });
    assert!((1..=300).contains(&admitted.load(Ordering::SeqCst)));
    assert!(gate.spent(&Scope::Tenant("a".into()), Period::Day).0.tokens <= 1_000);
    assert!(gate.snapshot().is_empty());
}

#[test]
fn a_small_budget_admits_exactly_what_it_pays_for_from_five_hundred_threads() {
    let gate =
        with(Limits { tokens_per_day: Some(1_000), ..Limits::default() }, &Arc::new(ManualClock::default()));
    let entries: Vec<Option<Entry>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..500).map(|_| scope.spawn(|| gate.enter(&Caller::tenant("a"), &demand(10)).ok())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(entries.iter().flatten().count(), 100);
    drop(entries);
    assert!(gate.snapshot().is_empty());
}

#[test]
fn a_scope_that_refuses_leaves_the_others_untouched() {
    let clock = Arc::new(ManualClock::starting_at(UnixMillis(DAY)));
    let mut settings = Settings::default();
    settings.keys.insert(
        "k".into(),
        Limits { requests_per_minute: Some(10), tokens_per_minute: Some(100), ..Limits::default() },
    );
    settings.default_tenant.limits.tokens_per_day = Some(5);
    let gate = Gate::new(settings, clock);
    let caller = Caller { key: Some("k".into()), ..Caller::tenant("gold") };
    let refusal = gate.enter(&caller, &demand(6)).unwrap_err();
    assert_eq!(refusal.headers.requests.unwrap().remaining, 10);
    assert_eq!(refusal.headers.tokens.unwrap().remaining, 100);
    let error = contract::Error::from(refusal);
    assert_eq!((error.code, error.limit_source.as_deref()), (Code::BudgetExhausted, Some("tenant:gold")));
    assert_eq!(error.retry, RetryHint::After(Duration::from_secs(86_400)));
    let entry = gate.enter(&caller, &demand(4)).unwrap();
    assert_eq!(entry.rate_headers().requests.unwrap().remaining, 9);
    let refusal = gate.enter(&caller, &demand(4)).unwrap_err();
    assert!(matches!(refusal.cause, Cause::TokenBudget { in_flight: true, spent: 0, .. }));
}

#[test]
fn a_silent_holders_lease_is_taken_back_and_its_late_word_still_counts_once() {
    let clock = Arc::new(ManualClock::starting_at(UnixMillis(DAY)));
    let settings = Settings { lease_seconds: 60, ..Settings::default() };
    let gate = Gate::new(settings, clock.clone());
    let entry = gate.enter(&Caller::tenant("a"), &Demand { stream: true, ..demand(50) }).unwrap();
    entry.used(&usage(20), Money::ZERO);
    clock.advance(Duration::from_secs(61));
    assert_eq!((gate.expire(), gate.snapshot().leases), (1, 0));
    let tenant = Scope::Tenant("a".into());
    assert_eq!(gate.spent(&tenant, Period::Day), (tokens(20), Amount::ZERO));
    entry.settle(&usage(35), Money::ZERO);
    assert_eq!(gate.spent(&tenant, Period::Day), (tokens(35), Amount::ZERO));
    assert!(gate.snapshot().is_empty());
}

#[test]
fn new_settings_keep_the_counters_and_restored_sums_count() {
    let clock = Arc::new(ManualClock::starting_at(UnixMillis(DAY)));
    let gate = with(Limits { tokens_per_day: Some(100), ..Limits::default() }, &clock);
    gate.restore(Scope::Tenant("a".into()), Period::Day, tokens(90));
    assert!(gate.enter(&Caller::tenant("a"), &demand(11)).is_err());
    let mut settings = Settings::default();
    settings.default_tenant.limits.tokens_per_day = Some(95);
    gate.reconfigure(settings);
    assert!(gate.enter(&Caller::tenant("a"), &demand(6)).is_err());
    assert!(gate.enter(&Caller::tenant("a"), &demand(5)).is_ok());
}

/// `cargo test -p forebay-admission --release -- --ignored --nocapture costs`
#[test]
#[ignore = "a measurement"]
fn what_a_request_costs() {
    let limits = Limits {
        requests_per_minute: Some(u64::MAX >> 20),
        tokens_per_day: Some(u64::MAX >> 1),
        ..Limits::default()
    };
    let mut settings = Settings::default();
    settings.default_tenant.limits = limits;
    settings.keys.insert("k".into(), limits);
    let clock = Arc::new(SystemClock::default());
    let gate = Gate::new(settings, clock.clone());
    let caller = Caller { key: Some("k".into()), pipeline: Some("p".into()), ..Caller::tenant("a") };
    let n = 200_000u32;
    let from = contract::Clock::now(&*clock);
    for _ in 0..n {
        let entry = gate.enter(&caller, &demand(10)).unwrap();
        let slot = crate::slots::now(gate.slot(&"m".into(), &caller.tenant, crate::slots::ask(10)))
            .unwrap()
            .unwrap();
        slot.finish(admission::SlotOutcome::Ok { latency: Duration::from_millis(1) });
        entry.settle(&usage(10), Money::ZERO);
    }
    let each = contract::Clock::now(&*clock).since(from) / n;
    println!("enter + slot + finish + settle: {each:?}");
}

#[test]
fn a_pipelines_own_budget_is_reserved_as_it_is_and_known_to_its_entry() {
    let clock = Arc::new(ManualClock::default());
    let gate = Gate::new(Settings::default(), clock);
    let own = Amount { tokens: 20_000, money: Money::from_nanos(7) };
    let demand = Demand { input_tokens: 60_000, budget: Some(own), ..Demand::default() };
    let entry = gate.enter(&Caller::tenant("a"), &demand).unwrap();
    assert_eq!(entry.reserved(), own);
    assert_eq!(gate.snapshot().reserved, own);
    let plain = gate.enter(&Caller::tenant("a"), &Demand { input_tokens: 10, ..Demand::default() }).unwrap();
    assert_eq!(plain.reserved().tokens, 10 + Settings::default().reserved_output_tokens);
}

#[test]
fn a_hold_grows_in_every_budget_or_in_none() {
    let clock = Arc::new(ManualClock::default());
    let gate = with(Limits { tokens_per_day: Some(100), ..Limits::default() }, &clock);
    let (a, b) = (Caller::tenant("a"), Caller::tenant("a"));
    let first = gate.enter(&a, &demand(50)).unwrap();
    let second = gate.enter(&b, &demand(40)).unwrap();
    let to = |entry: &Entry, tokens| entry.growing().to(Amount { tokens, money: Money::ZERO });
    assert!(matches!(to(&first, 70).unwrap_err().cause, Cause::TokenBudget { .. }));
    assert_eq!(gate.snapshot().reserved.tokens, 90, "a refused growth takes nothing");
    to(&first, 60).unwrap();
    to(&first, 10).unwrap();
    assert_eq!(gate.snapshot().reserved.tokens, 100, "and a hold never shrinks before it settles");
    let late = first.growing();
    first.settle(&usage(5), Money::ZERO);
    to(&second, 95).unwrap();
    late.to(Amount { tokens: 1_000, money: Money::ZERO }).unwrap();
    drop(second);
    assert!(gate.snapshot().is_empty());
}
