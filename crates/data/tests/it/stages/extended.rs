//! Columns that somebody works out row by row, in parts that outlive attempts.

use std::sync::{Arc, Mutex};

use contract::lineage::{Thing, ThingKind};
use contract::{Code, Error, Value};
use data::stages::{Extension, extend};
use data::{Adds, At, Cells, Column, ColumnType, Typed, Values};

use super::Hand;
use crate::support::append;

/// Doubles `k`, and notes what it was asked about; fails when it is asked for the time after that.
struct Doubling {
    asked: Arc<Mutex<Vec<f64>>>,
    left: usize,
    name: &'static str,
}

impl Adds for Doubling {
    fn needs(&self) -> Option<Vec<String>> {
        Some(vec!["k".to_owned()])
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column { name: self.name.to_owned(), ty: ColumnType::Float }]
    }

    fn add(&mut self, rows: Typed) -> Result<Vec<Values>, Error> {
        let fails = || Error::new(Code::InvalidRequest, "it does not like these rows");
        self.left = self.left.checked_sub(1).ok_or_else(fails)?;
        assert_eq!(rows.columns.len(), 1, "it is given what it looks at: {rows:?}");
        let Cells::Numbers(all) = &rows.columns[0].1 else { panic!("{rows:?}") };
        self.asked.lock().unwrap().extend(all);
        Ok(vec![Values::Numbers(all.iter().map(|k| k * 2.0).collect())])
    }
}

/// What an attempt that dies when it has worked out so many pieces gives, and about how many rows it was asked.
async fn attempt(
    hand: &Hand,
    table: &str,
    (effect, stamp): (&str, &str),
    pieces: usize,
) -> (Result<Value, Error>, usize) {
    let asked: Arc<Mutex<Vec<f64>>> = Arc::default();
    let adds = Box::new(Doubling { asked: asked.clone(), left: pieces, name: "twice" });
    let extension = Extension {
        keep: Some(vec!["k".to_owned(), "t".to_owned()]),
        stamp: stamp.to_owned(),
        made_of: vec![Thing::new(ThingKind::Model, "m").at("1")],
        part: 10,
        adds,
    };
    let done = extend(&*hand.project, &hand.context("s", effect), table, extension).await;
    let rows = asked.lock().unwrap().len();
    (done, rows)
}

/// Falls over at its second piece of rows.
struct Crashing(usize);

impl Adds for Crashing {
    fn needs(&self) -> Option<Vec<String>> {
        None
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column { name: "one".to_owned(), ty: ColumnType::Int }]
    }

    fn add(&mut self, rows: Typed) -> Result<Vec<Values>, Error> {
        self.0 += 1;
        assert!(self.0 < 2, "a defect");
        Ok(vec![Values::Wholes(vec![1; usize::try_from(rows.rows).unwrap()])])
    }
}

const ROWS: usize = 40;

/// A table of four files of ten rows.
async fn table(hand: &Hand) -> String {
    let x = hand.bench.dataset("x");
    for from in (0..ROWS).step_by(10) {
        let rows: String = (from..from + 10).map(|k| format!("{k},t{k},{}\n", k * 7)).collect();
        append(&x, &hand.bench.source("x.csv", format!("k,t,other\n{rows}"))).await.unwrap();
    }
    let newest = x.log(Some(1)).await.unwrap();
    format!("x@{}", newest[0].name.as_ref().unwrap())
}

fn doubled() -> Vec<String> {
    let mut rows: Vec<String> =
        (0..ROWS).map(|k| format!(r#"{{"k":{k},"t":"t{k}","twice":{:?}}}"#, k as f64 * 2.0)).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn an_attempt_goes_on_behind_the_parts_of_one_that_died() {
    let hand = Hand::new();
    let table = table(&hand).await;
    for dies in 0..4 {
        let effect = format!("e{dies}");
        let (failed, rows) = attempt(&hand, &table, (&effect, "m1"), dies).await;
        assert_eq!(failed.unwrap_err().message, "it does not like these rows");
        assert_eq!(rows, dies * 10);
        let staged = hand.bench.warehouse.dataset("staging.p.s").unwrap();
        let nothing = dies == 0 && !staged.exists().await.unwrap();
        assert!(nothing || staged.log(None).await.unwrap().len() == 1, "nothing of it is visible");
        let (made, rows) = attempt(&hand, &table, (&effect, "m1"), 9).await;
        let made = made.unwrap();
        assert_eq!(rows, ROWS - dies * 10, "what was done is not done again");
        assert_eq!(hand.rows(&made).await, doubled());
        // Who comes again does nothing; the later ones made the same rows, and so no version.
        if dies == 0 {
            let (again, rows) = attempt(&hand, &table, (&effect, "m1"), 0).await;
            assert_eq!((again.unwrap(), rows), (made, 0));
        }
    }
    let lineage = hand.made();
    let names: Vec<&str> = lineage.inputs.iter().map(|thing| thing.name.as_str()).collect();
    assert_eq!(names, ["x", "m"]);
}

#[tokio::test]
async fn parts_of_something_else_or_that_are_damaged_are_made_again() {
    let hand = Hand::new();
    let table = table(&hand).await;
    let parts = hand.bench.folder.path().join("warehouse/staging.p.s");
    let record = || {
        let mut all = std::fs::read_dir(parts.join("_forebay/parts")).unwrap();
        all.next().unwrap().unwrap().path()
    };
    let (_, rows) = attempt(&hand, &table, ("e1", "m1"), 2).await;
    assert_eq!(rows, 20);
    let (_, rows) = attempt(&hand, &table, ("e1", "m2"), 3).await;
    assert_eq!(rows, 30, "of another model nothing is taken");
    // The second of three files is gone, the third is behind it.
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(record()).unwrap()).unwrap();
    let file = kept["parts"][1]["files"][0]["path"].as_str().unwrap().to_owned();
    std::fs::remove_file(parts.join(file)).unwrap();
    let (_, rows) = attempt(&hand, &table, ("e1", "m2"), 1).await;
    assert_eq!(rows, 10);
    let torn = std::fs::read(record()).unwrap();
    std::fs::write(record(), &torn[..torn.len() / 2]).unwrap();
    let (made, rows) = attempt(&hand, &table, ("e1", "m2"), 9).await;
    assert_eq!(rows, ROWS, "a record that is torn is none");
    assert_eq!(hand.rows(&made.unwrap()).await, doubled());
    assert!(std::fs::read_dir(parts.join("_forebay/parts")).unwrap().next().is_none(), "the record is gone");
}

#[tokio::test]
async fn attempts_at_once_at_one_effect_make_one_table_and_take_nothing_from_each_other() {
    let hand = Hand::new();
    let table = table(&hand).await;
    let (_, rows) = attempt(&hand, &table, ("e", "m"), 2).await;
    assert_eq!(rows, 20);
    let all = (0..4).map(|_| attempt(&hand, &table, ("e", "m"), 9));
    let made: Vec<Value> =
        futures_util::future::join_all(all).await.into_iter().map(|(made, _)| made.unwrap()).collect();
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    assert_eq!(hand.rows(&made[0]).await, doubled());
    assert_eq!(hand.versions("staging.p.s").await, 1);
}

#[tokio::test]
async fn what_a_crash_leaves_is_not_taken_for_the_whole() {
    let hand = Hand::new();
    let table = table(&hand).await;
    let adds = Box::new(Crashing(0));
    let extension = Extension { keep: None, stamp: String::new(), made_of: Vec::new(), part: 10, adds };
    let failed = extend(&*hand.project, &hand.context("s", "e"), &table, extension).await.unwrap_err();
    assert!(failed.message.contains("work out the columns"), "{failed:?}");
    assert!(!hand.bench.warehouse.dataset("staging.p.s").unwrap().exists().await.unwrap());
}

#[tokio::test]
async fn columns_that_are_not_there_or_are_there_twice_are_named() {
    let hand = Hand::new();
    let table = table(&hand).await;
    for (keep, name, said) in [
        (Some(vec!["k".to_owned(), "no".to_owned()]), "twice", "the column `no`"),
        (None, "other", "the column `other`"),
    ] {
        let adds = Box::new(Doubling { asked: Arc::default(), left: 9, name });
        let extension = Extension { keep, stamp: String::new(), made_of: Vec::new(), part: 10, adds };
        let refused = extend(&*hand.project, &hand.context("s", "e"), &table, extension).await.unwrap_err();
        assert!(refused.message.contains(said), "{refused:?}");
        assert_eq!(refused.code, Code::InvalidRequest);
    }
    // Nothing stays, and the column is not lost from what is added.
    let adds = Box::new(Doubling { asked: Arc::default(), left: 9, name: "other" });
    let extension =
        Extension { keep: Some(Vec::new()), stamp: String::new(), made_of: Vec::new(), part: 10, adds };
    let made = extend(&*hand.project, &hand.context("s", "e"), &table, extension).await.unwrap();
    assert_eq!(hand.rows(&made).await.len(), ROWS);
    let Value::Table(text) = &made else { panic!("{made:?}") };
    let at = At::Name(text.rsplit_once('@').unwrap().1.into());
    let one = hand.bench.dataset("staging.p.s").read(&at, &data::Select::default()).await.unwrap();
    assert_eq!(one.schema().names().collect::<Vec<_>>(), ["other"]);
}
