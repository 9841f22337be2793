//! Changes behind a gate: what comes in, what goes to quarantine, and that nothing is half visible.

use data::{At, Change, Gate, How, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::expect::suite;
use crate::support::{Bench, append, how, sorted};

fn gate(expectations: Value, policy: Policy) -> Gate {
    Gate { suite: suite(expectations), policy }
}

const SOME: Policy = Policy::Quarantine { max_share: 0.5 };

#[tokio::test]
async fn bad_rows_go_to_quarantine_with_reasons_and_lines_and_the_others_come_in() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let checks = gate(
        json!([
            {"name": "delay is plausible", "range": {"column": "delay", "min": 0}},
            {"name": "carrier is there", "not_null": {"column": "carrier"}},
            {"name": "carrier is short", "length": {"column": "carrier", "max": 2}, "severity": "warn"},
        ]),
        SOME,
    );
    let source = bench.source("may.csv", "delay,carrier\n1,AA\n-5,\n\"2\",\"A\nBC\"\n-7,UA\n");
    let change = Change { who: Some("ann".into()), ..Change::default() };
    let gated = x.add_checked(&source, &change, &checks).await.unwrap();
    assert_eq!((gated.added.as_ref().unwrap().rows, gated.quarantined), (2, 2));
    assert_eq!(sorted(&x, &At::Newest).await.len(), 2);
    let held = x.quarantine(None, 10).await.unwrap();
    let told: Vec<_> = held.iter().map(|q| (q.line.unwrap(), q.reasons.join(" + "))).collect();
    let expected = [(3, "delay is plausible + carrier is there"), (6, "delay is plausible")];
    assert_eq!(told, expected.map(|(line, why)| (line, why.to_owned())));
    assert_eq!(Value::Object(held[0].row.clone().unwrap()), json!({"delay": -5, "carrier": null}));
    assert_eq!((held[0].source.as_deref(), held[0].who.as_deref()), (Some("may.csv"), Some("ann")));
    assert_eq!(held[0].at, crate::support::START);
    assert_eq!(x.log(None).await.unwrap()[0].checked.as_ref(), Some(&gated.attempt));
    assert_eq!(x.quarantine(Some(&gated.attempt), 1).await.unwrap().len(), 1);
    assert!(x.quarantine(Some("another"), 10).await.unwrap().is_empty());
    assert_eq!(bench.warehouse.datasets().await.unwrap(), ["x"], "the quarantine is no dataset");
}

#[tokio::test]
async fn floats_that_json_has_no_number_for_are_in_quarantine_what_they_were_and_come_out_so() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let checks = gate(json!([{"range": {"column": "v", "min": 0, "max": 10}}]), SOME);
    let text = "v,t\n1,a\n2,b\n3,c\nNaN,d\ninf,e\n-inf,f\n";
    let gated = x.add_checked(&bench.source("x.csv", text), &Change::default(), &checks).await.unwrap();
    let held = x.quarantine(None, 10).await.unwrap();
    let shown: Vec<_> = held.iter().map(|q| q.row.as_ref().unwrap()["v"].clone()).collect();
    assert_eq!(shown, ["NaN", "inf", "-inf"]);
    let examples = &gated.report.outcomes[0].examples;
    assert_eq!(examples[0]["v"], "NaN", "{examples:?}");
    x.release(&gated.attempt, &Change::default(), None).await.unwrap();
    let whole = append(&bench.dataset("whole"), &bench.source("x.csv", text)).await.unwrap();
    let released = x.show(&At::Newest).await.unwrap();
    assert_eq!(released.name, whole.name, "released rows are the rows that were held back");
    // The same when nothing is there that says the types.
    let y = bench.dataset("y");
    let refuse = Gate { policy: Policy::Fail, ..checks };
    let text = "v,t\n-1,a\nNaN,b\n-inf,c\n";
    let gated = y.add_checked(&bench.source("y.csv", text), &Change::default(), &refuse).await.unwrap();
    y.release(&gated.attempt, &Change::default(), None).await.unwrap();
    let whole = append(&bench.dataset("all"), &bench.source("y.csv", text)).await.unwrap();
    assert_eq!(y.show(&At::Newest).await.unwrap().name, whole.name);
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_the_version_and_tells_why() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let first = append(&x, &bench.source("a.csv", "a\n1\n2\n")).await.unwrap();
    let range = json!([{"range": {"column": "a", "min": 0}}]);
    for (checks, text, held, reasons) in [
        (gate(range.clone(), Policy::Fail), "a\n3\n-1\n", 1, "range of a"),
        (gate(range.clone(), SOME), "a\n3\n-1\n-2\n", 2, "range of a"),
        (gate(range, Policy::Quarantine { max_share: 1.0 }), "a\n-1\n", 1, "range of a"),
        (gate(json!([{"volume": {"min": 3}}]), SOME), "a\n3\n4\n", 0, "volume"),
        (gate(json!([{"unique": {"columns": ["a"]}}]), SOME), "a\n2\n3\n", 0, "unique of a"),
        (
            gate(json!([{"sql": {"condition": "1 / (a - a) > 0"}}]), SOME),
            "a\n3\n",
            0,
            "sql of 1 / (a - a) > 0",
        ),
    ] {
        for change in [Change::default(), how(How::Merge { key: vec!["a".into()] })] {
            if reasons.starts_with("unique") && change.how != How::Append {
                continue;
            }
            let gated = x.add_checked(&bench.source("b.csv", text), &change, &checks).await.unwrap();
            assert!(gated.added.is_none() && !gated.report.passed, "{reasons}");
            assert_eq!(gated.quarantined, held, "{reasons}");
            let told = x.quarantine(Some(&gated.attempt), 10).await.unwrap();
            assert_eq!(told.len() as u64, held.max(1), "{reasons}");
            assert!(told.iter().all(|q| q.reasons == [reasons] && q.row.is_some() == (held > 0)), "{told:?}");
            let shown = x.show(&At::Newest).await.unwrap();
            assert_eq!((shown.version.version, &shown.name), (0, &first.name));
            assert_eq!(bench.data_files("x"), 1, "what was staged is gone");
        }
    }
}

#[tokio::test]
async fn a_merge_is_refused_when_what_stays_and_what_comes_are_not_unique_together() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("a.csv", "a,b\n1,x\n2,y\n")).await.unwrap();
    let checks = gate(json!([{"unique": {"columns": ["b"]}}]), SOME);
    let merge = how(How::Merge { key: vec!["a".into()] });
    let gated = x.add_checked(&bench.source("b.csv", "a,b\n1,y\n"), &merge, &checks).await.unwrap();
    assert!(gated.added.is_none() && !gated.report.passed);
    let gated = x.add_checked(&bench.source("b.csv", "a,b\n2,z\n"), &merge, &checks).await.unwrap();
    assert_eq!(gated.added.unwrap().replaced, 1);
}

#[tokio::test]
async fn a_first_change_that_is_refused_makes_no_dataset() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let checks = gate(json!([{"not_null": {"column": "b"}}]), Policy::Fail);
    let gated =
        x.add_checked(&bench.source("a.csv", "a,b\n1,\n2,x\n"), &Change::default(), &checks).await.unwrap();
    assert!(gated.added.is_none());
    assert!(!x.exists().await.unwrap());
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_counted_over_rows_together_is_counted_over_those_that_come_in() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let checks = gate(
        json!([{"range": {"column": "a", "min": 0}}, {"volume": {"min": 2, "max": 2}}, {"unique": {"columns": ["a"]}}]),
        SOME,
    );
    let gated = x
        .add_checked(&bench.source("a.csv", "a\n-1\n-1\n1\n2\n"), &Change::default(), &checks)
        .await
        .unwrap();
    assert_eq!(gated.added.unwrap().rows, 2, "{:?}", gated.report);
    assert_eq!((gated.report.rows, gated.quarantined), (4, 2));
}

#[tokio::test]
async fn a_source_that_is_wrong_somewhere_leaves_nothing_behind() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("a.csv", "a\n1\n")).await.unwrap();
    let checks = gate(json!([{"range": {"column": "a", "min": 0}}]), SOME);
    let error = x.add_checked(&bench.source("b.csv", "a\n2\n-1\nx\n"), &Change::default(), &checks).await;
    assert!(matches!(error, Err(data::Error::Source { .. })));
    let none = gate(json!([]), Policy::Quarantine { max_share: f64::NAN });
    let error = x.add_checked(&bench.source("b.csv", "a\n2\n"), &Change::default(), &none).await;
    assert!(matches!(error, Err(data::Error::Invalid { .. })));
    assert_eq!((bench.data_files("x"), bench.data_files("_quarantine.x")), (1, 0));
    assert!(x.quarantine(None, 10).await.unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_row_comes_in_or_is_in_quarantine_with_all_of_its_reasons(rows in proptest::collection::vec((any::<Option<i8>>(), "[ab]{1,2}"), 1..30)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let x = bench.dataset("x");
            let checks = gate(
                json!([
                    {"name": "there", "not_null": {"column": "n"}},
                    {"name": "positive", "range": {"column": "n", "min": 0}},
                    {"name": "short", "length": {"column": "s", "max": 1}},
                ]),
                Policy::Quarantine { max_share: 1.0 },
            );
            let lines = rows.iter().map(|(n, s)| format!("{},{s}\n", n.map(|n| n.to_string()).unwrap_or_default()));
            let mut source = bench.source("x.csv", format!("n,s\n{}", lines.collect::<String>()));
            source.types = [("n".to_owned(), "int".parse().unwrap())].into();
            let gated = x.add_checked(&source, &Change::default(), &checks).await.unwrap();
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for (at, (n, s)) in rows.iter().enumerate() {
                let broken = [("there", n.is_none()), ("positive", n.is_some_and(|n| n < 0)), ("short", s.len() > 1)];
                let reasons: Vec<String> =
                    broken.iter().filter(|(_, broken)| *broken).map(|(name, _)| (*name).to_owned()).collect();
                let row = json!({"n": n, "s": s});
                if reasons.is_empty() { good.push(row.to_string()) } else { bad.push((at as u64 + 2, reasons, row)) }
            }
            let held = x.quarantine(Some(&gated.attempt), 100).await.unwrap();
            let held: Vec<_> =
                held.into_iter().map(|q| (q.line.unwrap(), q.reasons, Value::Object(q.row.unwrap()))).collect();
            assert_eq!(held, bad);
            good.sort();
            let came_in = if gated.added.is_some() { sorted(&x, &At::Newest).await } else { Vec::new() };
            assert_eq!(came_in, good);
        });
    }
}

#[tokio::test]
async fn the_same_rows_are_in_quarantine_once_however_often_they_come_or_are_refused() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let checks = gate(json!([{"range": {"column": "a", "min": 0}}, {"volume": {"min": 1}}]), SOME);
    // Two rows that are the same are two.
    let source = bench.source("a.csv", "a\n1\n-1\n-1\n2\n3\n");
    let first = x.add_checked(&source, &how(How::Overwrite), &checks).await.unwrap();
    let again = x.add_checked(&source, &how(How::Overwrite), &checks).await.unwrap();
    assert_eq!((&again.attempt, again.quarantined), (&first.attempt, 2));
    let refuse = Gate { policy: Policy::Fail, ..checks.clone() };
    for _ in 0..2 {
        let refused = x.add_checked(&source, &how(How::Append), &refuse).await.unwrap();
        assert_eq!((refused.added.is_none(), &refused.attempt), (true, &first.attempt));
    }
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 2);
    // Refused again, they stay as they are.
    let released = x.release(&first.attempt, &Change::default(), Some(&refuse)).await.unwrap();
    assert!(released.added.is_none());
    assert_eq!(released.gated.unwrap().attempt, first.attempt);
    let held = x.quarantine(None, 10).await.unwrap();
    let told: Vec<_> = held.iter().map(|q| (q.attempt.as_str(), q.source.as_deref(), q.line)).collect();
    let own = |line| (first.attempt.as_str(), Some("a.csv"), Some(line));
    assert_eq!(told, [own(3), own(4)]);
    // Others are others, and what was released may come again.
    let more = bench.source("a.csv", "a\n1\n-1\n-2\n2\n3\n");
    x.add_checked(&more, &how(How::Overwrite), &checks).await.unwrap();
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 4);
    x.release(&first.attempt, &Change::default(), None).await.unwrap();
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 2);
    let source = bench.source("a.csv", "a\n1\n-1\n-1\n2\n3\n");
    let back = x.add_checked(&source, &how(How::Overwrite), &checks).await.unwrap();
    assert_ne!(back.attempt, first.attempt);
    assert_eq!(x.quarantine(None, 10).await.unwrap().len(), 4);
    // Of two attempts, what stayed after a release, and the one that came again.
    assert_eq!(bench.data_files("_quarantine.x"), 4, "what was not needed was taken back");
}
