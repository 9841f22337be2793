//! What every [`LineageStore`](store::LineageStore) must do.

use contract::{TenantId, UnixMillis};
use futures_util::future::join_all;
use store::LineageRole::{Input, Output};
use store::{LineageEnd, LineageFact, LineageQuery, LineageRole, LineageVersion, NewLineage};

use super::Subject;

fn end(role: LineageRole, name: &str, version: &str, number: u64) -> LineageEnd {
    let (kind, name, version) = ("dataset".into(), name.into(), version.into());
    LineageEnd { role, kind, name, version, number: Some(number) }
}

fn new(key: u8, job: &str, at: i64, ends: Vec<LineageEnd>) -> NewLineage {
    let fact = LineageFact {
        key: [key; 32],
        tenant: TenantId::from("gold"),
        run: format!("run {key}"),
        job: job.into(),
        at: UnixMillis(at),
        body: format!("{{\"fact\":{key}}}"),
    };
    NewLineage { fact, ends }
}

fn query(role: LineageRole, name: &str, version: Option<LineageVersion>) -> LineageQuery {
    LineageQuery { tenant: None, role, kind: "dataset".into(), name: name.into(), version, limit: 100 }
}

fn keys(facts: &[LineageFact]) -> Vec<u8> {
    facts.iter().map(|f| f.key[0]).collect()
}

pub async fn a_fact_is_kept_once_and_found_by_each_of_its_ends(on: &Subject) {
    let s = &*on.lineage();
    let twice = end(Input, "raw", "aa", 3);
    let fact = new(1, "p.clean", 5, vec![twice.clone(), twice, end(Output, "clean", "bb", 7)]);
    assert_eq!(s.put(std::slice::from_ref(&fact)).await.unwrap(), 1);
    let other = NewLineage { ends: vec![end(Input, "never", "", 0)], ..new(1, "other", 9, Vec::new()) };
    assert_eq!(s.put(&[other, new(2, "p.load", 6, Vec::new())]).await.unwrap(), 1, "the first stays");
    for (role, name, version) in [
        (Input, "raw", None),
        (Input, "raw", Some(LineageVersion::Name("aa".into()))),
        (Input, "raw", Some(LineageVersion::Number(3))),
        (Output, "clean", None),
        (Output, "clean", Some(LineageVersion::Number(7))),
    ] {
        assert_eq!(s.around(&query(role, name, version)).await.unwrap(), vec![fact.fact.clone()]);
    }
    for (role, name, version) in [
        (Output, "raw", None),
        (Input, "raw", Some(LineageVersion::Number(4))),
        (Input, "raw", Some(LineageVersion::Name("ab".into()))),
        (Input, "never", None),
    ] {
        assert_eq!(s.around(&query(role, name, version)).await.unwrap(), Vec::new());
    }
    assert_eq!(keys(&s.of_run(None, "run 1", None, 9).await.unwrap()), [1]);
    assert!(s.of_run(None, "run 1", Some("p.load"), 9).await.unwrap().is_empty());
    assert_eq!(keys(&s.of_job(None, "p.load", 9).await.unwrap()), [2]);
    let called = |text: &'static str| async move { s.called(None, text, 9).await.unwrap() };
    let raw = || vec![("dataset".to_owned(), "raw".to_owned())];
    assert_eq!((called("raw").await, called("aa").await), (raw(), raw()));
    assert_eq!((called("a").await, called("").await), (Vec::new(), Vec::new()));
    assert_eq!(s.names(None, "dataset", 9).await.unwrap(), ["clean", "raw"]);
    assert_eq!(s.names(None, "dataset", 1).await.unwrap(), ["clean"]);
    let same: Vec<NewLineage> = (0..12).map(|_| new(9, "p.at_once", 8, Vec::new())).collect();
    let put = join_all(same.iter().map(|f| s.put(std::slice::from_ref(f)))).await;
    assert_eq!(put.into_iter().map(Result::unwrap).sum::<u64>(), 1);
}

pub async fn in_any_state_the_newest_fact_of_each_job_is_found(on: &Subject) {
    let s = &*on.lineage();
    let of = |key: u8, job: &str, at| {
        new(key, job, at, vec![end(Output, "t", &format!("v{key}"), u64::from(key))])
    };
    s.put(&[of(1, "a", 5), of(2, "a", 9), of(3, "a", 7), of(4, "b", 6)]).await.unwrap();
    assert_eq!(keys(&s.around(&query(Output, "t", None)).await.unwrap()), [2, 4]);
    let limited = LineageQuery { limit: 1, ..query(Output, "t", None) };
    assert_eq!(keys(&s.around(&limited).await.unwrap()), [2]);
    let old = query(Output, "t", Some(LineageVersion::Number(1)));
    assert_eq!(keys(&s.around(&old).await.unwrap()), [1]);
    assert_eq!(keys(&s.of_job(None, "a", 2).await.unwrap()), [2, 3]);
}

pub async fn a_tenant_finds_its_own_facts(on: &Subject) {
    let s = &*on.lineage();
    let mut other = new(2, "b", 6, vec![end(Output, "t", "x", 1), end(Input, "secret", "y", 1)]);
    other.fact.tenant = TenantId::from("other");
    other.fact.run = "run 1".into();
    s.put(&[new(1, "b", 5, vec![end(Output, "t", "x", 1)]), other]).await.unwrap();
    let (gold, others) = (TenantId::from("gold"), TenantId::from("other"));
    let of = |tenant: &TenantId| LineageQuery { tenant: Some(tenant.clone()), ..query(Output, "t", None) };
    assert_eq!(
        keys(&s.around(&of(&gold)).await.unwrap()),
        [1],
        "another's is newer, and no business of theirs"
    );
    assert_eq!(keys(&s.around(&of(&others)).await.unwrap()), [2]);
    assert_eq!(keys(&s.of_run(Some(&gold), "run 1", None, 9).await.unwrap()), [1]);
    assert_eq!(keys(&s.of_job(Some(&others), "b", 9).await.unwrap()), [2]);
    assert_eq!(s.called(Some(&gold), "secret", 9).await.unwrap(), Vec::new());
    assert_eq!(s.called(Some(&gold), "y", 9).await.unwrap(), Vec::new());
    assert_eq!(s.names(Some(&gold), "dataset", 9).await.unwrap(), ["t"]);
}

pub async fn a_fact_is_there_with_the_change_it_came_with_or_not_at_all(on: &Subject) {
    let (runs, s) = (&*on.runs(), &*on.lineage());
    super::runs::two_open_runs(runs).await;
    let fact = || Some(new(1, "p.clean", 5, vec![end(Output, "t", "x", 1)]));
    let change = super::runs::output_of(1, 1);
    assert!(runs.append(&store::Change { lineage: fact(), ..change.clone() }).await.unwrap());
    assert_eq!(keys(&s.around(&query(Output, "t", None)).await.unwrap()), [1]);
    // The journal went on meanwhile, and an effect that was had already: nothing of the changes is there.
    let late = Some(new(2, "p.late", 5, vec![end(Output, "u", "x", 1)]));
    assert!(!runs.append(&store::Change { lineage: late.clone(), ..change }).await.unwrap());
    let taken = store::Change {
        lineage: late,
        output: super::runs::output_of(1, 1).output,
        ..super::runs::output_of(2, 1)
    };
    assert!(runs.append(&taken).await.is_err());
    assert_eq!(s.around(&query(Output, "u", None)).await.unwrap(), Vec::new());
    // A fact that is there already holds no change up.
    let again = store::Change { lineage: fact(), ..super::runs::output_of(2, 1) };
    assert!(runs.append(&again).await.unwrap());
    assert_eq!(s.of_job(None, "p.clean", 9).await.unwrap().len(), 1);
}

pub async fn old_facts_are_removed_with_their_ends_and_no_others(on: &Subject) {
    let s = &*on.lineage();
    for key in 1..=5 {
        s.put(&[new(key, "a", i64::from(key), vec![end(Output, "t", &key.to_string(), key.into())])])
            .await
            .unwrap();
    }
    assert_eq!(s.expire(UnixMillis(4), 2).await.unwrap(), 2);
    assert_eq!(keys(&s.of_job(None, "a", 9).await.unwrap()), [5, 4, 3]);
    assert_eq!(s.called(None, "2", 9).await.unwrap(), Vec::new());
    assert_eq!(s.expire(UnixMillis(4), 9).await.unwrap(), 1);
    assert_eq!(s.expire(UnixMillis(4), 9).await.unwrap(), 0);
    assert_eq!(keys(&s.around(&query(Output, "t", Some(LineageVersion::Number(4)))).await.unwrap()), [4]);
}

pub async fn names_as_long_as_allowed_are_kept_and_hostile_ones_are_names(on: &Subject) {
    let s = &*on.lineage();
    // What does not compress, as an index would do.
    let long = |n: usize| -> String {
        (0..n)
            .map(|i| char::from(b'a' + u8::try_from((i * i * 7 + i * 13 + (i >> 3)) % 26).unwrap()))
            .collect()
    };
    let name = long(LineageEnd::NAME);
    let mut fact = new(1, &name, 1, vec![end(Input, &name, &long(LineageEnd::VERSION), u64::MAX)]);
    fact.fact.run.clone_from(&name);
    s.put(&[fact]).await.unwrap();
    assert_eq!(keys(&s.around(&query(Input, &name, None)).await.unwrap()), [1]);
    for (key, name) in (2..).zip(["'; DROP TABLE lineage_facts; --", "%", "_", "\u{202e}x", "a\0b", "\n"]) {
        s.put(&[new(key, "j", 1, vec![end(Input, name, name, 0)])]).await.unwrap();
        assert_eq!(keys(&s.around(&query(Input, name, None)).await.unwrap()), [key], "{name:?}");
        assert_eq!(s.called(None, name, 9).await.unwrap().len(), 1, "{name:?}");
    }
}
