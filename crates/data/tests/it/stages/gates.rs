//! What a dataset with expectations takes when they are about its rows together with those that come.

use contract::{Code, Outcome, Value};
use data::stages::Configured;
use data::{At, How, Policy, Source};
use futures_util::future::join_all;
use serde_json::json;

use super::{Hand, configured};
use crate::support::sorted;

const CHECKS: &str = r#"{"expectations": [
    {"name": "k is unique", "unique": {"columns": ["k"]}},
    {"name": "v is positive", "range": {"column": "v", "min": 0}}
]}"#;

/// A project with a dataset `x` whose `k` is unique.
fn hand() -> Hand {
    let hand = Hand::new();
    hand.bench.file("checks.json", CHECKS);
    let policy = Policy::Quarantine { max_share: 0.5 };
    let with = Configured { expectations: Some("checks.json".into()), policy, ..configured(How::Append) };
    hand.configure("x", with, Source::default());
    hand
}

async fn table(hand: &Hand, text: &str, effect: &str) -> Value {
    let name = format!("{effect}.csv");
    hand.bench.file(&name, text);
    hand.run(("ingest", json!({"files": [name]})), (effect, effect), &[]).await
}

#[tokio::test]
async fn rows_that_are_there_already_do_not_come_in_again_where_they_have_to_be_unique() {
    let hand = hand();
    let x = hand.bench.dataset("x");
    let may = table(&hand, "k,v\n1,1\n2,2\n", "may").await;
    let some = table(&hand, "k,v\n2,9\n3,3\n4,-4\n", "some").await;
    let june = table(&hand, "k,v\n3,3\n4,-4\n", "june").await;
    let commit = |how, key| ("commit", json!({"dataset": "x", "how": how, "key": key}));
    let append = || commit("append", json!([]));
    hand.run(append(), ("c", "e1"), &[("table", &may)]).await;
    // With bad rows among them, and without.
    for (effect, rows) in [("e2", &may), ("e3", &some)] {
        let error = hand.fail(append(), ("c", effect), &[("table", rows)]).await;
        assert_eq!(error.code, Code::ExpectationsFailed);
        assert!(error.message.contains("`k is unique`"), "{error}");
        let held = x.quarantine(None, 10).await.unwrap();
        assert!(held.iter().any(|q| q.row.is_none() && q.reasons == ["k is unique"]), "{held:?}");
    }
    assert_eq!(hand.versions("x").await, 1);
    assert_eq!(hand.rows(&hand.run(append(), ("c", "e4"), &[("table", &june)]).await).await.len(), 3);
    // What takes another's place is not there twice.
    let merged = hand.run(commit("merge", json!(["k"])), ("c", "e5"), &[("table", &some)]).await;
    assert_eq!(hand.rows(&merged).await, [r#"{"k":1,"v":1}"#, r#"{"k":2,"v":9}"#, r#"{"k":3,"v":3}"#]);
    // By another key it may be.
    let error = hand.fail(commit("merge", json!(["v"])), ("c", "e6"), &[("table", &may)]).await;
    assert_eq!(error.code, Code::ExpectationsFailed, "{error}");
    let error = hand.fail(commit("merge", json!(["z"])), ("c", "e7"), &[("table", &may)]).await;
    assert!(error.message.contains("the key `z`"), "{error}");
    let replaced = hand.run(commit("overwrite", json!([])), ("c", "e8"), &[("table", &may)]).await;
    assert_eq!(hand.rows(&replaced).await.len(), 2);
    let gate = data::expect::Suite::new(&serde_json::from_str(CHECKS).unwrap()).unwrap();
    assert!(x.validate(&At::Newest, &gate).await.unwrap().passed);
    // A table is looked at by itself until somebody says how it comes in.
    let alone = ("validate", json!({"dataset": "x"}));
    assert_eq!(hand.run(alone, ("v", "e9"), &[("table", &may)]).await, may);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_runs_that_publish_equal_rows_at_once_one_is_let_in_and_of_others_all() {
    let hand = hand();
    let append = ("commit", json!({"dataset": "x"}));
    let same = table(&hand, "k,v\n100,1\n", "same").await;
    let mut tables = Vec::new();
    for i in 0..3 {
        tables.push(table(&hand, &format!("k,v\n{i},1\n"), &format!("t{i}")).await);
    }
    let tries = [&same, &same, &same].into_iter().chain(&tables).enumerate();
    let each = tries.map(|(at, rows)| {
        let (hand, append) = (&hand, append.clone());
        async move { hand.attempt(append, ("c", &format!("e{at}")), &[("table", rows)]).await }
    });
    let outcomes = join_all(each).await;
    let (first, others) = outcomes.split_at(3);
    let let_in = |o: &&Outcome<Value>| matches!(o, Outcome::Complete(_));
    assert_eq!((first.iter().filter(let_in).count(), others.iter().filter(let_in).count()), (1, 3));
    let x = hand.bench.dataset("x");
    assert_eq!((hand.versions("x").await, sorted(&x, &At::Newest).await.len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_once_at_one_effect_do_not_take_each_others_rows_for_duplicates() {
    let hand = hand();
    let rows = table(&hand, "k,v\n1,1\n2,-2\n", "rows").await;
    let inputs = [("table", &rows)];
    let config = json!({"dataset": "x"});
    let each = (0..6).map(|_| hand.run(("commit", config.clone()), ("c", "e"), &inputs));
    let values = join_all(each).await;
    assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
    assert_eq!((hand.versions("x").await, hand.rows(&values[0]).await.len()), (1, 1));
    assert_eq!(hand.bench.dataset("x").quarantine(None, 10).await.unwrap().len(), 1);
}
