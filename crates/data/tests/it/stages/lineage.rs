//! What stages say that they made of what: versions and columns, the same from an attempt that comes after one that died.

use contract::Value;
use contract::lineage::{Lineage, ThingKind, Via};
use data::How;
use serde_json::json;

use super::{Hand, configured};
use crate::support::append;

/// `column=input.column:via`, in order.
fn columns(lineage: &Lineage, output: usize) -> Vec<String> {
    let from = |f: &contract::lineage::FromColumn| {
        format!("{}.{}:{}", lineage.inputs[f.input].name, f.column, f.via.as_str())
    };
    let one = |c: &contract::lineage::ColumnMade| {
        format!("{}={}", c.name, c.from.iter().map(from).collect::<Vec<_>>().join(","))
    };
    lineage.outputs[output].columns.iter().map(one).collect()
}

fn content(table: &Value) -> &str {
    let Value::Table(text) = table else { panic!("{table:?}") };
    text.rsplit_once('@').unwrap().1
}

#[tokio::test]
async fn every_kind_says_what_it_made_of_what_column_by_column() {
    let hand = Hand::new();
    hand.bench.file("a.csv", "k,v\n1,2\n2,3\n");
    let rows = hand.run(("ingest", json!({"files": ["a.csv"]})), ("in", "e1"), &[]).await;
    let said = hand.made();
    let file = &said.inputs[0];
    assert_eq!((file.kind, file.name.as_str()), (ThingKind::File, "a.csv"));
    assert_eq!(file.version.as_deref(), Some(blake3::hash(b"k,v\n1,2\n2,3\n").to_hex().as_str()));
    let made = &said.outputs[0].thing;
    assert_eq!((made.name.as_str(), made.number), ("staging.p.in", Some(0)));
    assert_eq!(made.version.as_deref(), Some(content(&rows)));
    assert_eq!(columns(&said, 0), ["k=a.csv.k:identity", "v=a.csv.v:identity"]);
    assert_eq!(said.outputs[0].columns[0].ty, "int");

    let x = hand.bench.dataset("x");
    hand.configure("x", configured(How::Append), data::Source::default());
    append(&x, &hand.bench.source("x.csv", "k,w\n1,7\n")).await.unwrap();
    let query =
        json!({"query": "select t.k, sum(x.w) as s from t join x on x.k = t.k where t.v > 1 group by t.k"});
    let sums = hand.run(("sql", query), ("q", "e2"), &[("t", &rows)]).await;
    let said = hand.made();
    let inputs: Vec<(&str, Option<u64>)> = said.inputs.iter().map(|t| (t.name.as_str(), t.number)).collect();
    assert_eq!(inputs, [("staging.p.in", Some(0)), ("x", Some(0))]);
    assert_eq!(columns(&said, 0), ["k=staging.p.in.k:identity", "s=x.w:aggregation"]);
    let rows_by: Vec<Via> = said.outputs[0].rows.iter().map(|f| f.via).collect();
    assert!(
        rows_by.contains(&Via::Join) && rows_by.contains(&Via::GroupBy) && rows_by.contains(&Via::Filter)
    );

    let commit = ("commit", json!({"dataset": "y", "how": "append"}));
    hand.run(commit.clone(), ("c", "e3"), &[("table", &sums)]).await;
    let said = hand.made();
    assert_eq!((said.inputs.len(), said.outputs[0].thing.name.as_str()), (1, "y"));
    hand.run(commit, ("c", "e4"), &[("table", &sums)]).await;
    let said = hand.made();
    assert_eq!(columns(&said, 0)[0], "k=staging.p.q.k:identity,y.k:identity", "and of the version before");
    assert_eq!((said.inputs[1].number, said.outputs[0].thing.number), (Some(0), Some(1)));

    hand.bench.file("expect.yaml", "expectations:\n  - range: {column: k, min: 2, max: 9}\n");
    let gate = json!({"expect": "expect.yaml", "bad_rows": "quarantine", "max_bad_share": 0.9});
    let good = hand.run(("validate", gate), ("v", "e5"), &[("table", &rows)]).await;
    let said = hand.made();
    assert_eq!(said.outputs[0].thing.version.as_deref(), Some(content(&good)));
    assert_eq!(columns(&said, 0)[0], "k=staging.p.in.k:identity");
}

#[tokio::test]
async fn features_come_from_their_views_and_labels_from_when_they_were_known() {
    let hand = Hand::new();
    let x = hand.bench.dataset("x");
    append(&x, &hand.bench.source("x.csv", "id,at,temp\n1,2026-01-01T00:00:00Z,7\n")).await.unwrap();
    hand.view("v", json!({"dataset": "x", "keys": ["id"], "event_time": "at", "features": ["temp"]}));
    hand.bench.file("e.csv", "id,when,y\n1,2026-01-02T00:00:00Z,1\n");
    let rows = hand.run(("ingest", json!({"files": ["e.csv"]})), ("in", "e1"), &[]).await;
    hand.made();
    let features = json!({"views": {"v": {}}, "as_of": "when"});
    hand.run(("features", features), ("f", "e2"), &[("entities", &rows)]).await;
    let said = hand.made();
    assert_eq!(
        columns(&said, 0)[2..],
        [
            "y=staging.p.in.y:identity",
            "temp=x.temp:identity,staging.p.in.id:join,staging.p.in.when:join,x.at:join,x.id:join"
        ]
    );
}

#[tokio::test]
async fn an_attempt_after_one_that_died_says_the_same_of_what_is_there() {
    let hand = Hand::new();
    hand.bench.file("a.csv", "k\n1\n");
    let rows = hand.run(("ingest", json!({"files": ["a.csv"]})), ("in", "e1"), &[]).await;
    let first = hand.made();
    // The file is another by now; what was committed was made of the first one.
    hand.bench.file("a.csv", "k\n2\n");
    hand.run(("ingest", json!({"files": ["a.csv"]})), ("in", "e1"), &[]).await;
    assert_eq!(hand.made(), first);
    let sql = ("sql", json!({"query": "select k + 1 as k from t"}));
    hand.run(sql.clone(), ("q", "e2"), &[("t", &rows)]).await;
    let first = hand.made();
    assert_eq!(columns(&first, 0), ["k=staging.p.in.k:transformation"]);
    hand.run(sql, ("q", "e2"), &[("t", &rows)]).await;
    assert_eq!(hand.made(), first);
    let commit = ("commit", json!({"dataset": "y", "how": "append"}));
    for effect in ["e3", "e4"] {
        hand.run(commit.clone(), ("c", effect), &[("table", &rows)]).await;
        let first = hand.made();
        append(
            &hand.bench.dataset("y"),
            &hand.bench.source("b.csv", format!("k\n{effect}7\n").replace('e', "")),
        )
        .await
        .unwrap();
        hand.run(commit.clone(), ("c", effect), &[("table", &rows)]).await;
        assert_eq!(hand.made(), first, "{effect}");
    }
}
