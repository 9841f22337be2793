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
