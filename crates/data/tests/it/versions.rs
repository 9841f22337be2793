use std::time::Duration;

use contract::UnixMillis;
use data::{At, Change, Error, Gc, How, Select};
use proptest::prelude::*;

use crate::support::{Bench, START, append, merge, overwrite, rows, sorted};

#[tokio::test]
async fn every_version_can_be_read_by_number_time_tag_and_name() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let mut names = Vec::new();
    for n in 1..=3 {
        let text: String =
            std::iter::once("n\n".to_owned()).chain((0..n).map(|i| format!("{i}\n"))).collect();
        names.push(overwrite(&x, &bench.source("x.csv", text)).await.unwrap().name);
        bench.clock.advance(Duration::from_secs(60));
    }
    x.tag("good", &At::Version(1), Some("ann")).await.unwrap();
    for (at, expected) in [
        ("0", 1),
        ("@1", 2),
        ("newest", 3),
        ("good", 2),
        ("2026-01-01T00:00:59Z", 1),
        ("2026-01-01T00:01:00Z", 2),
        ("2026-02-01", 3),
        (names[1].short(), 2),
    ] {
        assert_eq!(rows(&x, &at.parse().unwrap()).await.len(), expected, "{at}");
    }
    for (at, says) in [("7", "the newest is 2"), ("bad", "there are good"), ("2025-01-01", "the first is of")]
    {
        let said = x.resolve(&at.parse().unwrap()).await.unwrap_err();
        assert!(matches!(said, Error::NoVersion { .. }), "{said}");
        assert!(said.to_string().contains(says), "{said}");
    }
}

#[tokio::test]
async fn the_log_says_who_did_what_when_and_why() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let (who, message) = (Some("ann".into()), Some("january".into()));
    let change = Change { how: How::Append, who, message, ..Change::default() };
    x.add(&bench.source("jan.csv", "a\n1\n2\n"), &change).await.unwrap();
    bench.clock.advance(Duration::from_secs(5));
    x.add(&bench.source("feb.csv", "a\n2\n3\n"), &merge(&["a"])).await.unwrap();
    x.tag("v1", &At::Version(0), None).await.unwrap();
    let log = x.log(None).await.unwrap();
    assert_eq!(log.len(), 2);
    let (second, first) = (&log[0], &log[1]);
    assert_eq!((first.who.as_deref(), first.message.as_deref()), (Some("ann"), Some("january")));
    assert_eq!(
        (first.source.as_deref(), first.rows, first.how.as_str()),
        (Some("jan.csv"), Some(2), "append")
    );
    assert_eq!((first.at, second.at), (Some(UnixMillis(START)), Some(UnixMillis(START + 5000))));
    assert_eq!(
        (second.how.as_str(), second.rows, first.tags.clone()),
        ("merge", Some(3), vec!["v1".to_owned()])
    );
    assert_eq!(x.log(Some(1)).await.unwrap().len(), 1);
    let shown = x.show(&At::Newest).await.unwrap();
    assert_eq!((shown.rows, Some(&shown.name)), (3, second.name.as_ref()));
    assert!(shown.files > 0 && shown.bytes > 0);
}

#[tokio::test]
async fn a_diff_counts_rows_and_names_columns() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    overwrite(&x, &bench.source("a.csv", "k,v,old\n1,a,x\n2,b,x\n3,c,x\n3,c,x\n")).await.unwrap();
    overwrite(&x, &bench.source("b.csv", "k,v,new\n2,b,1\n3,c,1\n4,d,1\n")).await.unwrap();
    let diff = x.diff(&At::Version(0), &At::Newest, &[]).await.unwrap();
    assert_eq!((diff.rows, diff.added, diff.removed), ((4, 3), 1, 2));
    assert_eq!((diff.columns_added[0].name.as_str(), diff.columns_removed[0].name.as_str()), ("new", "old"));
    let key = ["k".to_owned()];
    let said = x.diff(&At::Version(0), &At::Newest, &key).await.unwrap_err().to_string();
    assert!(said.contains("more than once"), "{said}");
}

#[tokio::test]
async fn a_diff_by_key_tells_changed_rows_from_new_ones() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    overwrite(&x, &bench.source("a.csv", "K,v\n1,a\n2,b\n3,\n")).await.unwrap();
    overwrite(&x, &bench.source("b.csv", "K,v\n2,B\n3,\n4,d\n")).await.unwrap();
    let diff = x.diff(&At::Version(0), &At::Newest, &["K".to_owned()]).await.unwrap();
    assert_eq!((diff.added, diff.removed, diff.changed), (1, 1, 1));
    let examples: Vec<String> =
        diff.examples.into_iter().map(|e| serde_json::Value::Object(e).to_string()).collect();
    let expected = [
        r#"{"K":1,"__change":"removed"}"#,
        r#"{"K":2,"__change":"changed"}"#,
        r#"{"K":4,"__change":"added"}"#,
    ];
    assert_eq!(examples, expected);
    let same = x.diff(&At::Newest, &At::Newest, &[]).await.unwrap();
    assert_eq!((same.added, same.removed), (0, 0));
}

#[tokio::test]
async fn gc_keeps_what_is_newest_or_tagged() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    for n in 0..3 {
        overwrite(&x, &bench.source("x.csv", format!("n\n{n}\n"))).await.unwrap();
    }
    x.tag("keep", &At::Version(0), None).await.unwrap();
    let gc = Gc { older_than: Duration::ZERO, dry_run: true };
    assert_eq!(x.gc(&gc).await.unwrap().files.len(), 1);
    assert_eq!(bench.data_files("x"), 3);
    assert_eq!(x.gc(&Gc { dry_run: false, ..gc }).await.unwrap().files.len(), 1);
    assert_eq!(bench.data_files("x"), 2);
    assert_eq!(sorted(&x, &"keep".parse().unwrap()).await, [r#"{"n":0}"#]);
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"n":2}"#]);
    assert!(x.untag("keep").await.unwrap() && !x.untag("keep").await.unwrap());
    let shown = x.show(&At::Newest).await.unwrap();
    let name = shown.name.clone();
    assert_eq!(x.log(None).await.unwrap()[0].name, Some(name), "a version after gc has the name of its rows");
}

#[tokio::test]
async fn a_dataset_that_is_not_there_is_answered_with_those_that_are() {
    let bench = Bench::new();
    append(&bench.dataset("flights"), &bench.source("x.csv", "a\n1\n")).await.unwrap();
    assert_eq!(bench.warehouse.datasets().await.unwrap(), ["flights"]);
    let said = bench.dataset("flight").show(&At::Newest).await.unwrap_err().to_string();
    assert!(said.contains("there are flights"), "{said}");
    assert!(bench.warehouse.dataset("../x").is_err());
}

#[tokio::test]
async fn a_version_whose_files_gc_removed_says_so_and_which_can_be_read() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    for n in 0..6 {
        overwrite(&x, &bench.source("x.csv", format!("n\n{n}\n"))).await.unwrap();
    }
    x.tag("keep", &At::Version(2), None).await.unwrap();
    x.gc(&Gc { older_than: Duration::ZERO, dry_run: false }).await.unwrap();
    let says = ["version 0 of `x`", "`forebay data gc` removed", "can be read: 5-7, 2"];
    let read = async || x.read(&At::Version(0), &Select::default()).await?.all().await.map(|_| ());
    let limited = Select { columns: vec!["n".into()], filter: Some("n >= 0".into()), limit: Some(1) };
    let part = async || x.read(&At::Version(0), &limited).await?.all().await.map(|_| ());
    let suite = crate::expect::suite(serde_json::json!([{"not_null": {"column": "n"}}]));
    let errors = [
        read().await.unwrap_err(),
        part().await.unwrap_err(),
        x.diff(&At::Version(0), &At::Newest, &[]).await.unwrap_err(),
        x.validate(&At::Version(0), &suite).await.unwrap_err(),
        x.profile(&At::Version(0)).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Gone { .. }), "{error}");
        let said = error.to_string();
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
    }
    for version in [5, 7, 2] {
        assert_eq!(rows(&x, &At::Version(version)).await.len(), 1);
    }
    // Somebody else removed a file.
    let folder = bench.folder.path().join("warehouse").join("x");
    for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|ending| ending == "parquet") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let said = x.read(&At::Newest, &Select::default()).await.unwrap().all().await.unwrap_err().to_string();
    assert!(said.contains("1 of its 1 files") && said.contains("none of the newest"), "{said}");
}

#[tokio::test]
async fn what_changes_no_rows_is_no_change() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    assert_eq!(x.newest_change().await.unwrap(), None);
    for n in 0..3 {
        overwrite(&x, &bench.source("x.csv", format!("n\n{n}\n"))).await.unwrap();
    }
    x.gc(&Gc { older_than: Duration::ZERO, dry_run: false }).await.unwrap();
    let newest = x.resolve(&At::Newest).await.unwrap();
    assert!(newest > 2, "gc makes versions: {newest}");
    assert_eq!(x.newest_change().await.unwrap(), Some(2));
    let log = x.log(Some(1)).await.unwrap();
    assert_eq!((log[0].changes, log[0].name.is_some(), log[0].rows), (false, true, Some(1)));
    // Nor is it part of the history that a volume is compared with.
    let suite =
        crate::expect::suite(serde_json::json!([{"volume": {"history": {"versions": 2, "within": 0.5}}}]));
    let report = x.validate(&At::Newest, &suite).await.unwrap();
    let before: Vec<u64> = report.history.iter().map(|c| c.version).collect();
    assert_eq!(before, [0, 1, 2, newest]);
    overwrite(&x, &bench.source("x.csv", "n\n7\n")).await.unwrap();
    assert_eq!(x.newest_change().await.unwrap(), Some(newest + 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_version_is_found_by_its_time_as_the_log_tells_it_also_when_the_clock_jumps(
        times in proptest::collection::vec(0i64..20, 1..9), asked in proptest::collection::vec(-1i64..21, 6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let x = bench.dataset("x");
            let mut latest = i64::MIN;
            let mut expected = Vec::new();
            for (n, time) in times.iter().enumerate() {
                bench.clock.jump_wall(UnixMillis(START + time * 1000));
                overwrite(&x, &bench.source("x.csv", format!("n\n{n}\n"))).await.unwrap();
                latest = latest.max(START + time * 1000);
                expected.push(UnixMillis(latest));
            }
            let mut log = x.log(None).await.unwrap();
            log.reverse();
            assert_eq!(log.iter().map(|v| v.at.unwrap()).collect::<Vec<_>>(), expected);
            for time in asked {
                let time = UnixMillis(START + time * 1000);
                let newest = log.iter().rev().find(|v| v.at.unwrap() <= time).map(|v| v.version);
                assert_eq!(x.resolve(&At::Time(time)).await.ok(), newest, "{times:?} at {time:?}");
            }
        });
    }
}
