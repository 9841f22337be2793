//! Sketches of columns: of files and of versions alike, of all rows and of those of a time.

use data::{At, Sketched, Span, Watching};
use watch::drift::ColumnSketch;

use crate::support::{Bench, append};

const ROWS: &str = "at,delay,carrier,late,month\n\
    2026-01-01T00:00:00Z,1.5,AA,true,1\n2026-01-02T00:00:00Z,,UA,false,1\n\
    2026-01-03T00:00:00Z,-4,,true,2\n2026-01-04T00:00:00Z,8,UA,true,2\n";

fn numbers(sketched: &Sketched, column: &str) -> (u64, u64, Option<f64>) {
    match sketched.profile.column_named(column) {
        Some(ColumnSketch::Numeric(sketch)) => (sketch.count(), sketch.missing(), sketch.max()),
        other => panic!("{column}: {other:?}"),
    }
}

fn categories(sketched: &Sketched, column: &str) -> (Vec<(String, u64)>, u64) {
    match sketched.profile.column_named(column) {
        Some(ColumnSketch::Category(sketch)) => {
            (sketch.top().into_iter().map(|(name, n)| (name.to_owned(), n)).collect(), sketch.missing())
        }
        other => panic!("{column}: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_and_a_version_of_its_rows_are_summed_up_alike() {
    let bench = Bench::new();
    let source = bench.source("rows.csv", ROWS);
    let dataset = bench.dataset("flights");
    append(&dataset, &source).await.unwrap();
    let what = Watching { categories: vec!["month".into()], ..Watching::default() };
    let of_file = source.sketched(&what, &[]).await.unwrap().remove(0);
    let of_version = dataset.sketched(&At::Newest, &what, &[]).await.unwrap().remove(0);
    assert_eq!(of_file, of_version);
    assert_eq!((of_file.rows, &of_file.left_out), (4, &vec!["at".to_owned()]));
    assert_eq!(numbers(&of_file, "delay"), (3, 1, Some(8.0)));
    assert_eq!(categories(&of_file, "carrier"), (vec![("UA".into(), 2), ("AA".into(), 1)], 1));
    assert_eq!(categories(&of_file, "late").0, [("true".to_owned(), 3), ("false".to_owned(), 1)]);
    assert_eq!(categories(&of_file, "month").0, [("1".to_owned(), 2), ("2".to_owned(), 2)]);

    let filter = Some("month = 2".to_owned());
    let some = Watching { columns: vec!["delay".into()], filter, ..Watching::default() };
    let of_some = dataset.sketched(&At::Newest, &some, &[]).await.unwrap().remove(0);
    assert_eq!((of_some.rows, of_some.profile.columns().count()), (2, 1));
    assert!(source.sketched(&some, &[]).await.is_err(), "files have no condition");
    let wrong = Watching { except: vec!["nope".into()], ..Watching::default() };
    let said = source.sketched(&wrong, &[]).await.unwrap_err().to_string();
    assert!(said.contains("nope") && said.contains("delay"), "{said}");
}

#[tokio::test]
async fn the_rows_of_a_time_are_summed_up_apart_in_one_pass() {
    let bench = Bench::new();
    let source = bench.source("rows.csv", ROWS);
    let newest = source.newest("at").await.unwrap().unwrap();
    assert_eq!(source.times().await.unwrap(), ["at"]);
    let cut = newest - 86_400_000 + 1;
    let span = |from, to| Span { column: "at".into(), from, to };
    let spans = [span(None, Some(cut)), span(Some(cut), None)];
    let parts = source.sketched(&Watching::default(), &spans).await.unwrap();
    assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(numbers(&parts[1], "delay"), (1, 0, Some(8.0)));
    assert!(source.newest("delay").await.is_err(), "numbers are no times");
}
