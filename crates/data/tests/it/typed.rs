//! Columns of a version as plain vectors.

use data::{At, Cells};

use crate::support::{Bench, append};

#[tokio::test]
async fn columns_come_as_vectors_in_one_order_and_what_is_missing_is_marked() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let text = "n,f,yes,word,at,day\n1,0.5,true,b,2026-01-01T00:00:01Z,2026-01-02\n,,,,,\n3,1.5,false,a,1969-12-31T23:59:59.5Z,1970-01-01\n4,2,true,b,2026-01-01T00:00:02Z,2026-01-03\n";
    append(&x, &bench.source("x.csv", text)).await.unwrap();
    let version = x.resolve(&At::Newest).await.unwrap();
    let typed = x.typed(version).await.unwrap();
    assert_eq!((typed.rows, typed.left_out.as_slice()), (4, &[][..]));
    let column = |name: &str| typed.columns.iter().find(|(own, _)| own == name).unwrap().1.clone();
    let numbers = |name: &str| match column(name) {
        Cells::Numbers(all) => all.iter().map(|x| (!x.is_nan()).then_some(*x)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(numbers("n"), [Some(1.0), None, Some(3.0), Some(4.0)]);
    assert_eq!(numbers("f"), [Some(0.5), None, Some(1.5), Some(2.0)]);
    assert_eq!(numbers("yes"), [Some(1.0), None, Some(0.0), Some(1.0)]);
    let words =
        Cells::Texts { codes: vec![0, Cells::MISSING, 1, 0], words: vec!["b".to_owned(), "a".to_owned()] };
    assert_eq!(column("word"), words);
    assert_eq!(column("at"), Cells::Times(vec![1_767_225_601_000, Cells::NEVER, -500, 1_767_225_602_000]));
    assert_eq!(column("day"), Cells::Times(vec![1_767_312_000_000, Cells::NEVER, 0, 1_767_398_400_000]));

    // Several files: the same order whenever it is read.
    append(&x, &bench.source("y.csv", "n,f,yes,word,at,day\n0,0,false,c,2026-01-01T00:00:00Z,2026-01-01\n"))
        .await
        .unwrap();
    let version = x.resolve(&At::Newest).await.unwrap();
    let (one, other) = (x.typed(version).await.unwrap(), x.typed(version).await.unwrap());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert_eq!(one.rows, 5);
}
