//! An effect is had once, whoever dies, comes again or comes at the same time.

use contract::{UnixMillis, Value};
use data::{At, Effect};
use futures_util::future::join_all;
use proptest::prelude::*;
use serde_json::json;

use super::Hand;
use crate::support::{START, append, sorted};

async fn table(hand: &Hand, text: &str, effect: &str) -> Value {
    hand.bench.file("t.csv", text);
    hand.run(("ingest", json!({"files": ["t.csv"]})), ("t", effect), &[]).await
}

#[tokio::test]
async fn an_attempt_that_died_after_its_commit_is_made_again_without_another() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    append(&x, &hand.bench.source("a.csv", "k\n0\n")).await.unwrap();
    let rows = table(&hand, "k\n1\n", "e1").await;
    let commit = ("commit", json!({"dataset": "x", "tag": "last"}));
    let first = hand.run(commit.clone(), ("c", "e2"), &[("table", &rows)]).await;
    // The process died before it could tell. Others came meanwhile.
    append(&x, &hand.bench.source("b.csv", "k\n2\n")).await.unwrap();
    let again = hand.run(commit.clone(), ("c", "e2"), &[("table", &rows)]).await;
    assert_eq!(first, again);
    assert_eq!((hand.versions("x").await, sorted(&x, &At::Newest).await.len()), (3, 3));
    assert_eq!(x.tags().await.unwrap()[0].version, 1);
    // Another run's effect on the same rows is another.
    hand.run(commit, ("c", "e3"), &[("table", &rows)]).await;
    assert_eq!(sorted(&x, &At::Newest).await.len(), 4);
    // A query into a dataset, and one that merges.
    for how in [json!({"how": "append"}), json!({"how": "merge", "key": ["k"]})] {
        let mut query = json!({"query": "select k from t", "into": "y"});
        query.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        let effect = format!("q{how}");
        for _ in 0..2 {
            hand.run(("sql", query.clone()), ("q", &effect), &[("t", &rows)]).await;
        }
    }
    assert_eq!(sorted(&hand.bench.dataset("y"), &At::Newest).await, [r#"{"k":1}"#]);
}

#[tokio::test]
async fn a_tag_does_not_go_back_when_an_older_run_is_tried_again_after_a_newer_one() {
    let hand = Hand::new();
    let rows = table(&hand, "k\n1\n", "e1").await;
    let commit = ("commit", json!({"dataset": "x", "tag": "last"}));
    let tagged = async || hand.bench.dataset("x").tags().await.unwrap()[0].version;
    for (effect, expected) in [("old", 0), ("new", 1), ("old", 1), ("new", 1)] {
        hand.run(commit.clone(), ("c", effect), &[("table", &rows)]).await;
        assert_eq!(tagged().await, expected, "{effect}");
    }
    assert!(hand.lines().contains("last stays at version 1"), "{}", hand.lines());
    // Of an attempt that died before it set the tag the next one does.
    hand.bench.dataset("x").untag("last").await.unwrap();
    hand.run(commit, ("c", "new"), &[("table", &rows)]).await;
    assert_eq!(tagged().await, 1);
}

#[tokio::test]
async fn a_tag_is_put_on_the_version_that_was_made_and_not_on_a_later_one_of_equal_rows() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    let (one, two) = (table(&hand, "k\n1\n", "e1").await, table(&hand, "k\n2\n", "e2").await);
    let tagging = ("commit", json!({"dataset": "x", "how": "overwrite", "tag": "good"}));
    let plain = ("commit", json!({"dataset": "x", "how": "overwrite"}));
    hand.run(tagging.clone(), ("c", "first"), &[("table", &one)]).await;
    hand.run(plain.clone(), ("c", "second"), &[("table", &two)]).await;
    hand.run(plain, ("c", "third"), &[("table", &one)]).await;
    assert_eq!(hand.versions("x").await, 3);
    // Tried again after it died before it could tell.
    hand.run(tagging, ("c", "first"), &[("table", &one)]).await;
    assert_eq!(x.tags().await.unwrap()[0].version, 0);
}

#[tokio::test]
async fn an_ingest_that_died_gives_what_it_read_and_not_what_is_there_now() {
    let hand = Hand::new();
    let first = table(&hand, "k\n1\n", "e1").await;
    assert_eq!(first, table(&hand, "k\n2\n", "e1").await);
    assert_ne!(first, table(&hand, "k\n2\n", "e2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_once_at_one_effect_make_one_version() {
    let hand = Hand::new();
    let rows = table(&hand, "k\n1\n2\n", "e0").await;
    for (how, key) in [("append", json!([])), ("overwrite", json!([])), ("merge", json!(["k"]))] {
        let config = json!({"dataset": how, "how": how, "key": key});
        let inputs = [("table", &rows)];
        let each = (0..6).map(|_| hand.run(("commit", config.clone()), ("c", how), &inputs));
        let values = join_all(each).await;
        assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
        assert_eq!((hand.versions(how).await, hand.rows(&values[0]).await.len()), (1, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_commit_at_once_are_all_kept_in_some_order() {
    let hand = Hand::new();
    let mut tables = Vec::new();
    for i in 0..5 {
        tables.push(table(&hand, &format!("k,v\n{i},a\n99,{i}b\n"), &format!("t{i}")).await);
    }
    for (how, key, rows) in
        [("append", json!([]), 10), ("merge", json!(["k"]), 6), ("overwrite", json!([]), 2)]
    {
        let config = json!({"dataset": how, "how": how, "key": key});
        let effects: Vec<String> = (0..5).map(|i| format!("{how}{i}")).collect();
        let inputs: Vec<_> = tables.iter().map(|t| [("table", t)]).collect();
        let each = effects
            .iter()
            .zip(&inputs)
            .map(|(effect, inputs)| hand.run(("commit", config.clone()), ("c", effect), inputs));
        join_all(each).await;
        assert_eq!(hand.versions(how).await, 5, "{how}");
        let x = hand.bench.dataset(how);
        assert_eq!(sorted(&x, &At::Newest).await.len(), rows, "{how}");
        let mut made: Vec<_> = x.log(None).await.unwrap().into_iter().filter_map(|v| v.effect).collect();
        made.sort();
        assert_eq!(made, effects);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_share_a_name_at_once_have_each_its_own_table() {
    let hand = Hand::new();
    let each = (0..6).map(|i| {
        let (hand, effect) = (&hand, format!("e{i}"));
        async move {
            let query = json!({"query": "select $i as i", "values": {"i": i}});
            hand.run(("sql", query), ("q", &effect), &[]).await
        }
    });
    for (i, value) in join_all(each).await.iter().enumerate() {
        assert_eq!(hand.rows(value).await, [format!(r#"{{"i":{i}}}"#)]);
    }
}

#[tokio::test]
async fn an_effect_is_found_whatever_the_clock_did_since() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    let effect = |key: &str| Effect { key: key.into() };
    let rows = table(&hand, "k\n1\n", "e1").await;
    hand.run(("commit", json!({"dataset": "x"})), ("c", "e2"), &[("table", &rows)]).await;
    // Days before the run, by the clock that others have from now on.
    hand.bench.clock.jump_wall(UnixMillis(START - 7 * 86_400_000));
    append(&x, &hand.bench.source("a.csv", "k\n2\n")).await.unwrap();
    hand.run(("commit", json!({"dataset": "x"})), ("c", "e2"), &[("table", &rows)]).await;
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"k":1}"#, r#"{"k":2}"#]);
    assert_eq!(x.made_by(&effect("e2")).await.unwrap().unwrap().version, 0);
    assert!(x.made_by(&effect("e3")).await.unwrap().is_none());
    assert!(hand.bench.dataset("none").made_by(&effect("e2")).await.unwrap().is_none());
}

#[tokio::test]
async fn an_effect_is_found_behind_a_checkpoint_and_a_commit_that_another_writer_made_long_ago() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    let rows = table(&hand, "k\n0\n", "e1").await;
    let commit = ("commit", json!({"dataset": "x"}));
    let first = hand.run(commit.clone(), ("c", "e2"), &[("table", &rows)]).await;
    for version in 1..=101 {
        append(&x, &hand.bench.source("a.csv", format!("k\n{version}\n"))).await.unwrap();
    }
    let log = hand.bench.folder.path().join("warehouse/x/_delta_log");
    assert!(log.join(format!("{:020}.checkpoint.parquet", 99)).exists());
    let foreign = r#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE","operationParameters":{}}}"#;
    std::fs::write(log.join(format!("{:020}.json", 102)), foreign).unwrap();
    assert_eq!(hand.run(commit.clone(), ("c", "e2"), &[("table", &rows)]).await, first);
    assert_eq!(hand.versions("x").await, 103);
    // Nobody can say any more what it made: it is not made again.
    std::fs::remove_file(log.join(format!("{:020}.json", 0))).unwrap();
    let error = hand.fail(commit, ("c", "e2"), &[("table", &rows)]).await;
    assert!(error.message.contains("it was done by version 0"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn however_often_and_in_whatever_order_effects_are_tried_each_is_had_once(
        tries in proptest::collection::vec((0_usize..4, 0_usize..3), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hand = Hand::new();
            let mut tables = Vec::new();
            for i in 0..3 {
                tables.push(table(&hand, &format!("k\n{i}\n"), &format!("t{i}")).await);
            }
            let mut seen = std::collections::BTreeMap::new();
            for (effect, rows) in tries {
                // An effect has one input: the first that it was tried with.
                let rows = *seen.entry(effect).or_insert(rows);
                let key = format!("e{effect}");
                hand.run(("commit", json!({"dataset": "x"})), ("c", &key), &[("table", &tables[rows])]).await;
            }
            let mut expected: Vec<String> = seen.values().map(|k| format!(r#"{{"k":{k}}}"#)).collect();
            expected.sort();
            assert_eq!(sorted(&hand.bench.dataset("x"), &At::Newest).await, expected);
            assert_eq!(hand.versions("x").await, seen.len());
        });
    }
}
