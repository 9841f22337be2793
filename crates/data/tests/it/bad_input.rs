//! Bad files: each a clear error with its place and a remedy, and nothing of them visible.

use data::{At, Error, Source};

use crate::support::{Bench, append, sorted};

/// The source is refused, and what the dataset held stays as it is.
async fn refused(bench: &Bench, source: &Source, says: &[&str]) {
    let x = bench.dataset("x");
    if !x.exists().await.unwrap() {
        append(&x, &bench.source("first.csv", "a,b\n1,x\n")).await.unwrap();
    }
    for dataset in [x.clone(), bench.dataset("fresh")] {
        let error = append(&dataset, source).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Source { .. }), "{said}");
        for part in says {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"a":1,"b":"x"}"#]);
    assert_eq!(bench.data_files("x"), 1, "nothing is left behind");
    assert!(!bench.dataset("fresh").exists().await.unwrap());
    assert_eq!(bench.data_files("fresh"), 0);
}

#[tokio::test]
async fn a_ragged_row_is_named_by_its_line() {
    let bench = Bench::new();
    refused(
        &bench,
        &bench.source("r.csv", "a,b\n1,x\n2,\"y\nz\"\n3\n"),
        &["r.csv`, line 5", "1 field", "header 2"],
    )
    .await;
    refused(&bench, &bench.source("r.csv", "a,b\n1,x,y\n"), &["line 2", "3 fields"]).await;
}

#[tokio::test]
async fn a_value_of_another_type_is_named_with_its_line_and_column() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("first.csv", "a,b\n1,x\n")).await.unwrap();
    let said = append(&x, &bench.source("m.csv", "a,b\n2,y\ntwelve,z\n")).await.unwrap_err().to_string();
    assert!(said.contains("m.csv`, line 3, column `a`: `twelve` is not of type int"), "{said}");
    let said =
        append(&x, &bench.source("m.jsonl", "{\"a\":1}\n{\"a\":\"1\"}\n")).await.unwrap_err().to_string();
    assert!(said.contains("m.jsonl`, line 2, column `a`"), "{said}");
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"a":1,"b":"x"}"#]);
}

#[tokio::test]
async fn duplicate_and_missing_columns_are_named() {
    let bench = Bench::new();
    refused(&bench, &bench.source("d.csv", "a,b,a\n1,x,2\n"), &["line 1", "1 and 3", "`a`"]).await;
    refused(&bench, &bench.source("d.csv", "a,\n1,x\n"), &["number 2 has no name"]).await;
    refused(&bench, &bench.source("d.jsonl", "{\"a\":1,\"a\":2}\n"), &["line 1", "`a` comes twice"]).await;
    let x = bench.dataset("x");
    for (text, says) in [
        ("a\n1\n", "lacks the column `b`"),
        ("a,b,c\n1,x,2\n", "`c`"),
        ("a,c\n1,2\n", "lacks the column `b` and has `c`"),
    ] {
        let said = append(&x, &bench.source("c.csv", text)).await.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn an_empty_file_and_one_that_is_not_there_are_said() {
    let bench = Bench::new();
    refused(&bench, &bench.source("e.csv", ""), &["e.csv", "empty"]).await;
    refused(&bench, &Source::file(bench.folder.path().join("none.csv")), &["none.csv", "check the path"])
        .await;
    refused(&bench, &bench.source("e.xyz", "a\n"), &["e.xyz", "name its format"]).await;
}

#[tokio::test]
async fn a_wrong_encoding_is_an_error_and_a_declared_one_is_read() {
    let bench = Bench::new();
    refused(&bench, &bench.source("l.csv", b"a,b\n1,caf\xe9\n"), &["line 2", "column `b`", "0xe9", "latin1"])
        .await;
    let utf16: Vec<u8> = "a,b\n1,caf\u{e9}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(&bench, &bench.source("u.csv", &utf16), &["UTF-16"]).await;
    let mut latin = bench.source("l.csv", b"a,b\n1,caf\xe9\n");
    latin.encoding = Some("latin1".parse().unwrap());
    let marked = [b"\xff\xfe".as_slice(), &utf16].concat();
    let bom = "\u{feff}a,b\n1,café\n";
    let sources = [latin, bench.source("m.csv", marked), bench.source("b.csv", bom)];
    for (i, source) in sources.iter().enumerate() {
        let dataset = bench.dataset(&format!("ok{i}"));
        append(&dataset, source).await.unwrap();
        assert_eq!(sorted(&dataset, &At::Newest).await, [r#"{"a":1,"b":"café"}"#]);
    }
}

#[tokio::test]
async fn an_unclosed_quote_ends_in_an_error_and_not_in_memory() {
    let bench = Bench::new();
    let mut text = String::from("a,b\n1,\"x\n");
    text.push_str(&"2,y\n".repeat(6_000_000));
    refused(&bench, &bench.source("q.csv", text), &["line 2", "16 MiB", "quote"]).await;
}

#[tokio::test]
async fn a_quote_that_swallows_rows_is_refused_with_the_line_it_was_opened_on() {
    let bench = Bench::new();
    let says = ["line 3", "quote that is opened here is not closed"];
    refused(&bench, &bench.source("q.csv", "a,b\n1,x\n2,\"y\n3,z\n4,w\n"), &says).await;
    refused(&bench, &bench.source("q.csv", "a,b\r\n\r\n1,\"x\r\n2,y\r\n3,\"z\r\n4,w\r\n"), &says).await;
    refused(&bench, &bench.source("q.csv", "a,b\n1,x\n\"2,y\n3,z\n4,w\n"), &says).await;
    let x = bench.dataset("one");
    let said = append(&x, &bench.source("one.csv", "a\n\n\"1\n2\n")).await.unwrap_err().to_string();
    assert!(said.contains("line 3"), "{said}");
}

#[tokio::test]
async fn lines_are_counted_where_lines_are_empty_too() {
    let bench = Bench::new();
    refused(&bench, &bench.source("r.csv", "\na,b\n\n\n1,x\n\n2\n"), &["line 7", "1 field"]).await;
    refused(&bench, &bench.source("r.csv", "a,b\r\n1,x\r\n\r\n2\r\n"), &["line 4", "1 field"]).await;
    refused(&bench, &bench.source("r.csv", "\n\na,a\n"), &["line 3", "both named"]).await;
}

#[tokio::test]
async fn broken_json_is_named_by_its_line() {
    let bench = Bench::new();
    refused(&bench, &bench.source("j.jsonl", "{\"a\":1,\"b\":\"x\"}\n{\"a\":,}\n"), &["line 2"]).await;
    refused(&bench, &bench.source("j.jsonl", "{\"a\":1,\"b\":\"x\"}\n[1]\n"), &["line 2", "not an object"])
        .await;
    refused(&bench, &bench.source("j.json", "[{\"a\":1,\"b\":\"x\"},\n{\"a\":2,"), &["line 2", "truncated"])
        .await;
    refused(&bench, &bench.source("j.json", "[{\"a\":1,\"b\":\"x\"}\n"), &["truncated"]).await;
}

#[tokio::test]
async fn a_truncated_parquet_file_is_refused_wherever_it_is_cut() {
    let bench = Bench::new();
    let whole = bench.folder.path().join("whole.parquet");
    let text: String =
        std::iter::once("a,b\n".to_owned()).chain((0..3000).map(|n| format!("{n},t{n}\n"))).collect();
    let seed = bench.dataset("seed");
    append(&seed, &bench.source("seed.csv", text)).await.unwrap();
    seed.export(&At::Newest, &data::Select::default(), &whole, data::Format::Parquet).await.unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        refused(&bench, &bench.source("t.parquet", &bytes[..cut]), &["t.parquet", "truncated"]).await;
    }
    // A damaged page header before an intact footer: found while it is read, and still nothing is visible.
    let mut damaged = bytes.clone();
    for byte in &mut damaged[4..24] {
        *byte = !*byte;
    }
    refused(&bench, &bench.source("t.parquet", &damaged), &["t.parquet", "damaged"]).await;
}
