//! What every [`ResultStore`](store::ResultStore) must do.

use contract::{RequestId, RunId, TenantId, UnixMillis};
use futures_util::future::join_all;
use store::StageResult;

use super::Subject;

fn made(key: u8, stage: &str, at: i64) -> StageResult {
    StageResult {
        key: [key; 32],
        tenant: TenantId::from("gold"),
        pipeline: "p".into(),
        stage: stage.into(),
        run: RunId::of(RequestId::from_parts(UnixMillis(at), u128::from(key))),
        of: format!("{{\"input\":{key}}}"),
        value: vec![key, 0, 255],
        at: UnixMillis(at),
    }
}

pub async fn the_first_result_of_a_key_stays(on: &Subject) {
    let s = &*on.results();
    assert_eq!(s.get(&[1; 32]).await.unwrap(), None);
    s.put(&made(1, "clean", 5)).await.unwrap();
    assert_eq!(s.get(&[1; 32]).await.unwrap(), Some(made(1, "clean", 5)));
    s.put(&StageResult { value: vec![9], of: "{}".into(), ..made(1, "clean", 7) }).await.unwrap();
    let kept = s.get(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((kept.value, kept.of, kept.run), (vec![1, 0, 255], made(1, "", 0).of, made(1, "", 5).run));
    let all: Vec<StageResult> = (0..12).map(|n| StageResult { value: vec![n], ..made(2, "x", 8) }).collect();
    for put in join_all(all.iter().map(|r| s.put(r))).await {
        put.unwrap();
    }
    let first = s.get(&[2; 32]).await.unwrap().unwrap().value;
    s.put(&StageResult { value: vec![99], ..made(2, "x", 9) }).await.unwrap();
    assert_eq!(s.get(&[2; 32]).await.unwrap().unwrap().value, first);
}

pub async fn the_newest_result_of_a_stage_is_found_and_is_its_tenants(on: &Subject) {
    let s = &*on.results();
    for result in [made(1, "clean", 5), made(2, "clean", 9), made(3, "clean", 7), made(4, "load", 99)] {
        s.put(&result).await.unwrap();
    }
    let (gold, other, new) = (TenantId::from("gold"), TenantId::from("other"), [9; 32]);
    let newest = s.look(&new, (&gold, "p", "clean")).await.unwrap();
    assert_eq!(newest, Some(StageResult { value: Vec::new(), ..made(2, "clean", 9) }));
    assert_eq!(s.look(&new, (&gold, "q", "clean")).await.unwrap(), None);
    assert_eq!(s.look(&new, (&other, "p", "clean")).await.unwrap(), None);
    // One of the key itself goes first, with its value, whatever is newer.
    assert_eq!(s.look(&[3; 32], (&gold, "p", "clean")).await.unwrap(), Some(made(3, "clean", 7)));
    assert_eq!(s.look(&[3; 32], (&gold, "q", "none")).await.unwrap(), Some(made(3, "clean", 7)));
    s.put(&made(1, "clean", 11)).await.unwrap();
    let newest = s.look(&new, (&gold, "p", "clean")).await.unwrap().unwrap();
    assert_eq!(newest.key, [1; 32], "it was used again");
}

pub async fn all_results_are_read_page_by_page(on: &Subject) {
    let s = &*on.results();
    assert_eq!(s.page(None, 5).await.unwrap(), []);
    for n in [4, 1, 5, 3, 2] {
        s.put(&made(n, "a", 5)).await.unwrap();
    }
    let of = |n: u8| ([n; 32], made(n, "a", 5).value);
    assert_eq!(s.page(None, 2).await.unwrap(), [of(1), of(2)]);
    assert_eq!(s.page(Some(&[2; 32]), 2).await.unwrap(), [of(3), of(4)]);
    assert_eq!(s.page(Some(&[4; 32]), 2).await.unwrap(), [of(5)]);
    assert_eq!(s.page(Some(&[5; 32]), 2).await.unwrap(), []);
}

pub async fn results_that_nobody_used_for_long_are_removed(on: &Subject) {
    let s = &*on.results();
    for result in [made(1, "a", 5), made(2, "b", 6), made(3, "c", 7)] {
        s.put(&result).await.unwrap();
    }
    s.put(&made(1, "a", 8)).await.unwrap();
    assert_eq!(s.expire(UnixMillis(7)).await.unwrap(), 1);
    assert_eq!(s.get(&[2; 32]).await.unwrap(), None);
    assert!(s.get(&[1; 32]).await.unwrap().is_some() && s.get(&[3; 32]).await.unwrap().is_some());
    assert_eq!(s.expire(UnixMillis(7)).await.unwrap(), 0);
    for _ in 0..2 {
        s.forget(&[1; 32]).await.unwrap();
        assert_eq!(s.get(&[1; 32]).await.unwrap(), None);
    }
    s.put(&StageResult { value: vec![9], ..made(1, "a", 9) }).await.unwrap();
    assert_eq!(s.get(&[1; 32]).await.unwrap().unwrap().value, [9], "what is forgotten is made anew");
}

pub async fn a_result_is_there_with_the_change_it_came_with_or_not_at_all(on: &Subject) {
    let (runs, s) = (&*on.runs(), &*on.results());
    super::runs::two_open_runs(runs).await;
    let change = super::runs::output_of(1, 1);
    let with = |key| Some(made(key, "clean", 5));
    assert!(runs.append(&store::Change { result: with(1), ..change.clone() }).await.unwrap());
    assert_eq!(s.get(&[1; 32]).await.unwrap(), with(1));
    // The journal went on meanwhile, and an effect that was had already: nothing of the changes is there.
    assert!(!runs.append(&store::Change { result: with(2), ..change.clone() }).await.unwrap());
    let taken = store::Change { result: with(2), output: change.output, ..super::runs::output_of(2, 1) };
    assert!(runs.append(&taken).await.is_err());
    assert_eq!(s.get(&[2; 32]).await.unwrap(), None);
    // One of the key that is there already holds no change up, and stays.
    let again = Some(StageResult { value: vec![9], ..made(1, "clean", 7) });
    assert!(runs.append(&store::Change { result: again, ..super::runs::output_of(2, 1) }).await.unwrap());
    let kept = s.get(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((kept.value, kept.at), (made(1, "clean", 5).value, UnixMillis(7)));
}
