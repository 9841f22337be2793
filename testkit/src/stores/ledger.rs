//! What every [`LedgerStore`](store::LedgerStore) must do.

use contract::{Money, RequestRecord, UnixMillis};
use store::journal::Position;
use store::{CostBy, Entry, Filter, Scope, Settled};

use super::Subject;
use super::fixtures::{DAY, admitted, id, range, record};

fn ended(r: &RequestRecord) -> Entry {
    Entry::Settled(Settled::new(r).unwrap())
}

fn settled(n: u128) -> Entry {
    ended(&record(n))
}

const P: Position = Position { segment: 3, offset: 44 };

pub async fn entries_and_position_are_applied_together_and_once(on: &Subject) {
    let s = &*on.ledger();
    assert_eq!(s.position().await.unwrap(), Position::default());
    let batch =
        [Entry::Admitted(admitted(1)), settled(1), Entry::Admitted(admitted(2)), settled(3), settled(3)];
    for _ in 0..2 {
        s.apply(&batch, P).await.unwrap();
        assert_eq!(s.position().await.unwrap(), P);
        assert_eq!(s.get(id(1)).await.unwrap(), Some(record(1)));
        assert_eq!(s.get(id(2)).await.unwrap(), None);
        assert_eq!(s.open_requests().await.unwrap(), vec![admitted(2)]);
        let bill = s.costs(CostBy::Tenant, range().0, range().1).await.unwrap();
        assert_eq!((bill[0].requests, bill[0].cost), (2, Money::from_nanos(28)), "charged once");
    }
    s.apply(&[settled(2)], P).await.unwrap();
    s.apply(&[Entry::Admitted(admitted(2))], P).await.unwrap();
    assert!(s.open_requests().await.unwrap().is_empty(), "a settled request does not open again");
}

pub async fn the_newest_come_first_and_filters_hold(on: &Subject) {
    let s = &*on.ledger();
    let mut other = record(9);
    other.tenant = "other".into();
    other.at = UnixMillis(3 * DAY);
    let batch: Vec<Entry> = (0..5).map(settled).chain([ended(&other)]).collect();
    s.apply(&batch, P).await.unwrap();
    let newest = s.recent(2, &Filter::default()).await.unwrap();
    assert_eq!(newest.iter().map(|r| r.id).collect::<Vec<_>>(), vec![id(9), id(4)]);
    let gold = Filter { tenant: Some("gold".into()), ..Filter::default() };
    assert_eq!(s.recent(100, &gold).await.unwrap().len(), 5);
    let late = Filter { since: Some(UnixMillis(2 * DAY)), ..Filter::default() };
    assert_eq!(s.recent(100, &late).await.unwrap(), vec![other]);
    let none = Filter { model: Some("gpt".into()), ..Filter::default() };
    assert!(s.recent(100, &none).await.unwrap().is_empty());
}

pub async fn every_bill_adds_up_to_the_same_sum(on: &Subject) {
    let s = &*on.ledger();
    let mut other = record(9);
    other.tenant = "other".into();
    other.pipeline = None;
    other.at = UnixMillis(2 * DAY);
    let lost = admitted(7).lost();
    let batch = [settled(1), settled(2), ended(&other), ended(&lost)];
    s.apply(&batch, P).await.unwrap();
    let (from, to) = range();
    for by in [CostBy::Tenant, CostBy::Model, CostBy::Pipeline, CostBy::Key, CostBy::User, CostBy::Day] {
        let rows = s.costs(by, from, to).await.unwrap();
        assert_eq!(rows.iter().map(|r| r.cost).sum::<Money>(), Money::from_nanos(3 * 14 + 70), "{by:?}");
        assert_eq!(rows.iter().map(|r| r.input_tokens + r.output_tokens).sum::<u64>(), 3 * 30 + 1000);
    }
    let days = s.costs(CostBy::Day, from, to).await.unwrap();
    assert_eq!(days.iter().map(|r| r.name.as_deref()).collect::<Vec<_>>(), vec![Some("1"), Some("2")]);
    let users = s.costs(CostBy::User, from, to).await.unwrap();
    assert_eq!(users.len(), 2, "users of two tenants are two lines");
    let day = s.costs(CostBy::Tenant, UnixMillis(2 * DAY), UnixMillis(3 * DAY)).await.unwrap();
    assert_eq!((day.len(), day[0].requests), (1, 1));
    let spent = s.spent_by_scope(from, to).await.unwrap();
    let of = |scope: Scope| spent.iter().find(|x| x.scope == scope).map(|x| (x.tokens, x.cost.nanos()));
    assert_eq!(of(Scope::Tenant("gold".into())), Some((1060, 98)));
    assert_eq!(of(Scope::Pipeline("summarize".into())), Some((1060, 98)));
    assert_eq!(of(Scope::Key("k1".into())), Some((1090, 112)));
    assert_eq!(of(Scope::User("other".into(), "ann".into())), Some((30, 14)));
}

pub async fn hostile_figures_do_not_break_the_sums(on: &Subject) {
    let s = &*on.ledger();
    let batch: Vec<Entry> = (0..100)
        .map(|n| {
            let mut r = record(n);
            r.usage.input_tokens = u64::MAX;
            r.cost = Money::MAX;
            ended(&r)
        })
        .collect();
    s.apply(&batch, P).await.unwrap();
    assert_eq!(s.costs(CostBy::Tenant, range().0, range().1).await.unwrap()[0].requests, 100);
}

pub async fn sums_are_exact_to_the_nanodollar(on: &Subject) {
    let s = &*on.ledger();
    let cost = |n: u128| Money::from_nanos([1, 3, (1 << 52) - 1, -5, 999_999_999][n as usize % 5]);
    let records: Vec<RequestRecord> = (0..1_000)
        .map(|n| {
            let mut r = record(n);
            (r.cost, r.model, r.attempts) = (cost(n), Some("m".into()), Vec::new());
            r
        })
        .collect();
    for (some, n) in records.chunks(300).zip(0..) {
        let entries: Vec<Entry> = some.iter().map(ended).collect();
        s.apply(&entries, Position { segment: 1, offset: n }).await.unwrap();
    }
    let sum: i64 = (0..1_000).map(|n| cost(n).nanos()).sum();
    for by in [CostBy::Tenant, CostBy::Model, CostBy::Key, CostBy::Day] {
        let rows = s.costs(by, range().0, range().1).await.unwrap();
        assert_eq!((rows.len(), rows[0].cost.nanos(), rows[0].requests), (1, sum, 1_000), "{by:?}");
    }
}

pub async fn names_that_a_column_cannot_hold_are_billed_and_found(on: &Subject) {
    let s = &*on.ledger();
    let mut odd = record(1);
    (odd.tenant, odd.user, odd.pipeline) = ("a\0b".into(), Some("\0".into()), Some("p\0".into()));
    odd.attempts[0].endpoint = "e\0".into();
    odd.facts.insert("said".to_owned(), "\0 \u{10FFFF} '\\".into());
    s.apply(&[ended(&odd), settled(2)], P).await.unwrap();
    assert_eq!(s.get(id(1)).await.unwrap(), Some(odd.clone()), "the record is as it was");
    let of = Filter { tenant: Some(odd.tenant.clone()), pipeline: odd.pipeline.clone(), ..Filter::default() };
    assert_eq!(s.recent(9, &of).await.unwrap(), [odd]);
    assert_eq!(s.costs(CostBy::User, range().0, range().1).await.unwrap().len(), 2);
}
