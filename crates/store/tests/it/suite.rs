//! The conformance suite: what every implementation of the storage traits must do. Each function takes a fresh one.

use contract::{Money, RequestRecord, UnixMillis};
use store::journal::Position;
use store::{
    CacheKey, CacheStore, CostBy, Entry, Error, FileInfo, FilePage, FileStore, Filter, KeyRing, KeyStore,
    LedgerStore, NewKey, Refusal, Role, Scope, Settled,
};

use crate::fixtures::{DAY, admitted, id, range, record};

fn ended(r: &RequestRecord) -> Entry {
    Entry::Settled(Settled::new(r).unwrap())
}

fn settled(n: u128) -> Entry {
    ended(&record(n))
}

const P: Position = Position { segment: 3, offset: 44 };

pub(crate) async fn entries_and_position_are_applied_together_and_once(s: &dyn LedgerStore) {
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

pub(crate) async fn the_newest_come_first_and_filters_hold(s: &dyn LedgerStore) {
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

pub(crate) async fn every_bill_adds_up_to_the_same_sum(s: &dyn LedgerStore) {
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

pub(crate) async fn hostile_figures_do_not_break_the_sums(s: &dyn LedgerStore) {
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

pub(crate) async fn a_key_opens_until_it_is_revoked_or_expires(s: &dyn KeyStore) {
    let new = |name: &str, expires_at| NewKey {
        name: name.to_owned(),
        tenant: "gold".into(),
        role: Role::User,
        expires_at,
    };
    let fill = |b: u8| {
        move |bytes: &mut [u8]| -> Result<(), store::Error> {
            bytes.fill(b);
            Ok(())
        }
    };
    let ring = KeyRing::load(s).await.unwrap();
    assert!(ring.is_empty());
    let (a, secret) = store::create_key(s, new("a", None), UnixMillis(5), fill(1)).await.unwrap();
    let (_, brief) =
        store::create_key(s, new("b", Some(UnixMillis(9))), UnixMillis(6), fill(2)).await.unwrap();
    let text = secret.expose();
    assert!(text.starts_with(&format!("fbk_{}_", a.id)) && text.len() == 4 + 12 + 1 + 43);
    assert_eq!(ring.check(text, UnixMillis(7)), Err(Refusal::Unknown), "not yet seen");
    assert!(ring.refresh(s).await.unwrap());
    assert!(!ring.refresh(s).await.unwrap(), "nothing changed");
    assert_eq!(ring.check(text, UnixMillis(7)).unwrap().tenant, "gold".into());
    assert!(ring.check(brief.expose(), UnixMillis(8)).is_ok());
    assert_eq!(ring.check(brief.expose(), UnixMillis(9)), Err(Refusal::Expired));
    let mut wrong = text.to_owned();
    wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('A') { "B" } else { "A" });
    assert_eq!(ring.check(&wrong, UnixMillis(7)), Err(Refusal::Unknown));
    for odd in ["", "fbk_", "sk-123", "fbk_é_", &text[..text.len() - 1]] {
        assert_eq!(ring.check(odd, UnixMillis(7)), Err(Refusal::Malformed));
    }
    assert_eq!(s.revoke(&a.id, UnixMillis(20)).await.unwrap().revoked_at, Some(UnixMillis(20)));
    assert_eq!(s.revoke(&a.id, UnixMillis(30)).await.unwrap().revoked_at, Some(UnixMillis(20)));
    assert!(matches!(s.revoke(&"nobody".into(), UnixMillis(1)).await, Err(store::Error::UnknownKey(_))));
    ring.refresh(s).await.unwrap();
    assert_eq!(ring.check(text, UnixMillis(7)), Err(Refusal::Revoked));
    assert_eq!(s.list().await.unwrap().iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

/// `s` holds at most 100 bytes.
pub(crate) async fn the_least_recently_used_part_goes_first(s: &dyn CacheStore) {
    let key = |n: u32| CacheKey::derive(&"gold".into(), [n.to_le_bytes()]);
    for n in 0..3 {
        s.put(&key(n), &[0; 30], UnixMillis(0)).await.unwrap();
    }
    assert!(s.get(&key(0)).await.unwrap().is_some());
    s.put(&key(3), &[1; 40], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(1)).await.unwrap(), None, "the oldest that nobody used");
    assert_eq!(s.get(&key(3)).await.unwrap(), Some(vec![1; 40]));
    s.put(&key(3), &[2; 10], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(3)).await.unwrap(), Some(vec![2; 10]));
    s.put(&key(4), &[0; 101], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(4)).await.unwrap(), None, "too large to keep");
    let stats = s.stats().await.unwrap();
    assert_eq!((stats.hits, stats.misses, stats.evicted, stats.bytes), (3, 2, 1, 70));
}

fn file(n: i64, bytes: u64) -> FileInfo {
    FileInfo {
        id: format!("file-{n}"),
        name: "a.jsonl".to_owned(),
        purpose: if n % 2 == 0 { "batch" } else { "user_data" }.to_owned(),
        bytes,
        created_at: UnixMillis(n),
        expires_at: None,
    }
}

const PLENTY: u64 = 1 << 30;

pub(crate) async fn a_file_is_its_tenants_until_it_is_deleted_or_expires(s: &dyn FileStore) {
    let (gold, other, now) = ("gold".into(), "other".into(), UnixMillis(50));
    let mut brief = file(3, 5);
    brief.expires_at = Some(UnixMillis(40));
    for (tenant, f, content) in [
        (&gold, &file(1, 5), "first"),
        (&gold, &file(2, 5), "first"),
        (&other, &file(9, 5), "first"),
        (&gold, &brief, "brief"),
    ] {
        s.put(tenant, f, content.into(), PLENTY).await.unwrap();
    }
    assert_eq!(s.get(&gold, "file-3", UnixMillis(39)).await.unwrap(), Some(brief));
    assert_eq!(s.get(&gold, "file-3", now).await.unwrap(), None, "it has expired");
    assert_eq!(s.get(&gold, "file-9", now).await.unwrap(), None, "it is another's");
    assert!(!s.delete(&gold, "file-9", now).await.unwrap());
    assert!(s.delete(&gold, "file-1", now).await.unwrap());
    assert!(!s.delete(&gold, "file-1", now).await.unwrap());
    // Equal contents are kept once, and stay for those that have them.
    for (tenant, n) in [(&gold, 2), (&other, 9)] {
        let (info, content) = s.read(tenant, &format!("file-{n}"), now).await.unwrap().unwrap();
        assert_eq!((info, &content[..]), (file(n, 5), b"first".as_slice()));
    }
}

pub(crate) async fn files_are_listed_by_pages_in_their_order(s: &dyn FileStore) {
    let (gold, now) = ("gold".into(), UnixMillis(50));
    for n in 1..=5 {
        s.put(&gold, &file(n, 1), format!("{n}").into(), PLENTY).await.unwrap();
    }
    s.put(&"other".into(), &file(7, 1), "7".into(), PLENTY).await.unwrap();
    let all = FilePage { purpose: None, after: None, limit: 2, ascending: false };
    let of = async |page: &FilePage| {
        let (files, more) = s.list(&gold, page, now).await.unwrap();
        (files.into_iter().map(|f| f.created_at.0).collect::<Vec<_>>(), more)
    };
    assert_eq!(of(&all).await, (vec![5, 4], true));
    assert_eq!(of(&FilePage { after: Some("file-4".into()), ..all.clone() }).await, (vec![3, 2], true));
    assert_eq!(of(&FilePage { after: Some("file-2".into()), ..all.clone() }).await, (vec![1], false));
    assert_eq!(
        of(&FilePage { ascending: true, limit: 5, ..all.clone() }).await,
        (vec![1, 2, 3, 4, 5], false)
    );
    let batch = FilePage { purpose: Some("batch".into()), ..all.clone() };
    assert_eq!(of(&batch).await, (vec![4, 2], false));
    assert_eq!(of(&FilePage { after: Some("file-7".into()), ..all }).await, (vec![], false));
}

pub(crate) async fn a_tenant_never_holds_more_than_its_limit(s: &dyn FileStore) {
    let (gold, other) = ("gold".into(), "other".into());
    let put = async |tenant, n: i64, bytes: usize| {
        s.put(tenant, &file(n, bytes as u64), vec![n as u8; bytes].into(), 20_000).await
    };
    put(&gold, 1, 12_000).await.unwrap();
    let full = put(&gold, 2, 12_000).await.unwrap_err();
    assert!(matches!(full, Error::FilesFull { limit: 20_000 }), "{full}");
    put(&other, 3, 12_000).await.unwrap();
    // A small file counts as a page, so that the number of files is bounded too.
    put(&gold, 4, 1).await.unwrap();
    assert!(put(&gold, 5, 4_000).await.is_err());
    s.delete(&gold, "file-1", UnixMillis(50)).await.unwrap();
    put(&gold, 6, 12_000).await.unwrap();
}

pub(crate) async fn a_file_that_is_written_piece_by_piece_is_there_when_it_is_whole(s: &dyn FileStore) {
    let (gold, now) = ("gold".into(), UnixMillis(50));
    let mut writer = s.create(&gold).await.unwrap();
    for piece in ["one ", "two ", "three"] {
        writer.write(piece.into()).await.unwrap();
    }
    assert!(
        s.list(&gold, &FilePage { purpose: None, after: None, limit: 9, ascending: true }, now)
            .await
            .unwrap()
            .0
            .is_empty()
    );
    writer.finish(file(1, 0)).await.unwrap();
    let (info, content) = s.read(&gold, "file-1", now).await.unwrap().unwrap();
    assert_eq!((info.bytes, &*content), (13, &b"one two three"[..]));
    for (from, most, piece) in [(0, 5, "one t"), (5, 5, "wo th"), (10, 99, "ree"), (13, 9, ""), (99, 9, "")] {
        let read = s.read_at(&gold, "file-1", from, most, now).await.unwrap();
        assert_eq!(read.as_deref(), Some(piece.as_bytes()), "{from}");
    }
    assert_eq!(s.read_at(&"other".into(), "file-1", 0, 9, now).await.unwrap(), None);
    // One of the same id takes its place; one that is dropped leaves nothing.
    let mut again = s.create(&gold).await.unwrap();
    again.write("four".into()).await.unwrap();
    again.finish(file(1, 0)).await.unwrap();
    s.create(&gold).await.unwrap().write("five".into()).await.unwrap();
    assert_eq!(&*s.read(&gold, "file-1", now).await.unwrap().unwrap().1, b"four");
    assert_eq!(s.held(&gold, now).await.unwrap(), 4096);
}
