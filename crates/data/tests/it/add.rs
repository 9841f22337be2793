use base64::Engine as _;
use data::{At, ColumnType, Format, How, Select, Source};

use proptest::prelude::*;

use crate::support::{Bench, append, how, merge, overwrite, rows, sorted};

#[tokio::test]
async fn a_csv_becomes_a_typed_dataset() {
    let bench = Bench::new();
    let trips = bench.dataset("trips");
    let text = "id,when,fare,paid,note\n1,2026-01-01T08:00:00Z,12.50,true,\"a, b\"\n2,2026-01-02T09:30:00+01:00,NA,false,\n";
    let added = append(&trips, &bench.source("trips.csv", text)).await.unwrap();
    assert_eq!((added.version, added.rows, added.new), (0, 2, true));
    let types: Vec<String> = added.schema.columns.iter().map(|c| c.ty.to_string()).collect();
    assert_eq!(types, ["int", "timestamp", "float", "bool", "text"]);
    let rows = sorted(&trips, &At::Newest).await;
    assert_eq!(
        rows,
        [
            r#"{"id":1,"when":"2026-01-01T08:00:00Z","fare":12.5,"paid":true,"note":"a, b"}"#,
            r#"{"id":2,"when":"2026-01-02T08:30:00Z","fare":null,"paid":false,"note":null}"#,
        ]
    );
}

#[tokio::test]
async fn a_declared_type_corrects_what_was_inferred() {
    let bench = Bench::new();
    let mut source = bench.source("x.csv", "zip,price\n1234,1.10\n");
    source.types =
        [("zip".to_owned(), ColumnType::Text), ("price".to_owned(), "decimal(10, 2)".parse().unwrap())]
            .into();
    let added = append(&bench.dataset("x"), &source).await.unwrap();
    assert_eq!(added.schema.column("zip").unwrap().ty, ColumnType::Text);
    assert_eq!(sorted(&bench.dataset("x"), &At::Newest).await, [r#"{"zip":"1234","price":"1.10"}"#]);
}

#[tokio::test]
async fn csv_json_parquet_and_arrow_give_the_same_name_to_the_same_rows() {
    let bench = Bench::new();
    let text = "id,name,at,day,score\n1,ann,2026-01-01T00:00:00Z,2026-01-01,0.5\n2,bob,2026-01-01T00:00:01.25Z,2026-01-02,\n";
    let first = bench.dataset("csv");
    let name = append(&first, &bench.source("x.csv", text)).await.unwrap().name;
    for (dataset, file, format) in [
        ("a", "x.parquet", "parquet"),
        ("b", "x.arrow", "arrow"),
        ("c", "x.jsonl", "json"),
        ("d", "y.csv", "csv"),
    ] {
        let path = bench.folder.path().join(file);
        let written =
            first.export(&At::Newest, &Select::default(), &path, format.parse().unwrap()).await.unwrap();
        assert_eq!(written, 2);
        let added = append(&bench.dataset(dataset), &data::Source::file(&path)).await.unwrap();
        assert_eq!(added.name, name, "{format}");
    }
    let array = r#"[{"name":"ann","id":1,"at":"2026-01-01T00:00:00Z","day":"2026-01-01","score":0.5},
 {"id":2,"name":"bob","at":"2026-01-01T00:00:01.250Z","day":"2026-01-02"}]"#;
    assert_eq!(append(&bench.dataset("e"), &bench.source("z.json", array)).await.unwrap().name, name);
}

#[tokio::test]
async fn equal_data_makes_no_new_version() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let first = overwrite(&x, &bench.source("a.csv", "a,b\n1,x\n2,y\n")).await.unwrap();
    let again = overwrite(&x, &bench.source("b.csv", "b,a\ny,2\nx,1\n")).await.unwrap();
    assert!(first.new && !again.new);
    assert_eq!((again.version, &again.name), (0, &first.name));
    let nothing = append(&x, &bench.source("c.csv", "a,b\n")).await.unwrap();
    assert!(!nothing.new);
    assert_eq!((nothing.version, bench.data_files("x")), (0, 1), "what was staged is gone");
}

#[tokio::test]
async fn an_append_goes_below_and_an_overwrite_in_the_place_of_what_there_is() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("a.csv", "a\n1\n")).await.unwrap();
    let two = append(&x, &bench.source("b.csv", "a\n1\n2\n")).await.unwrap();
    assert_eq!((two.version, two.rows, two.read), (1, 3, 2));
    let fresh = overwrite(&bench.dataset("y"), &bench.source("c.csv", "a\n2\n1\n1\n")).await.unwrap();
    assert_eq!(fresh.name, two.name, "the sum of parts is the sum of the whole");
    let other = overwrite(&x, &bench.source("d.csv", "b,c\nx,2026-01-01 00:00:00\n")).await.unwrap();
    assert_eq!((other.version, other.rows), (2, 1));
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"b":"x","c":"2026-01-01T00:00:00"}"#]);
    assert_eq!(rows(&x, &At::Version(1)).await.len(), 3);
}

#[tokio::test]
async fn a_merge_replaces_rows_by_key_and_adds_the_rest() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("a.csv", "k,v\na,1\nb,2\nc,3\n")).await.unwrap();
    let merged = x.add(&bench.source("b.csv", "k,v\nb,20\nd,4\n"), &merge(&["k"])).await.unwrap();
    assert_eq!((merged.version, merged.rows, merged.replaced, merged.read), (1, 4, 1, 2));
    let expected = [r#"{"k":"a","v":1}"#, r#"{"k":"b","v":20}"#, r#"{"k":"c","v":3}"#, r#"{"k":"d","v":4}"#];
    assert_eq!(sorted(&x, &At::Newest).await, expected);
    let whole =
        overwrite(&bench.dataset("y"), &bench.source("c.csv", "k,v\nd,4\nc,3\nb,20\na,1\n")).await.unwrap();
    assert_eq!(whole.name, merged.name);
    let again = x.add(&bench.source("b.csv", "k,v\nb,20\n"), &merge(&["k"])).await.unwrap();
    assert!(!again.new);
    assert_eq!(again.version, 1);
}

#[tokio::test]
async fn a_merge_by_a_key_that_is_not_one_is_refused() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("a.csv", "k,v\na,1\n")).await.unwrap();
    for (text, key, says) in [
        ("k,v\nb,1\nb,2\n", "k", "more than once"),
        ("k,v\n,1\n", "k", "lack it"),
        ("k,v\nb,1\n", "id", "the columns are k, v"),
    ] {
        let said = x.add(&bench.source("b.csv", text), &merge(&[key])).await.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    assert_eq!((sorted(&x, &At::Newest).await.len(), bench.data_files("x")), (1, 1));
}

#[tokio::test]
async fn a_folder_is_the_files_in_it() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("months");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("2.csv"), "a,b\n2,1.5\n").unwrap();
    std::fs::write(folder.join("1.csv"), "b,a\n1,1\n").unwrap();
    std::fs::write(folder.join("README.md"), "no data").unwrap();
    let added = append(&bench.dataset("x"), &data::Source::file(&folder)).await.unwrap();
    assert_eq!(added.rows, 2);
    assert_eq!(added.schema.column("b").unwrap().ty, ColumnType::Float, "both files were looked at");
}

#[tokio::test]
async fn a_source_larger_than_a_batch_comes_in_whole() {
    let bench = Bench::new();
    let mut text = String::from("n,text\n");
    for n in 0..20_000 {
        text.push_str(&format!("{n},row {n}\n"));
    }
    let x = bench.dataset("x");
    assert_eq!(append(&x, &bench.source("x.csv", text)).await.unwrap().rows, 20_000);
    let select = Select { columns: vec!["n".into()], filter: Some("n >= 19998".into()), limit: Some(10) };
    let found = x.read(&At::Newest, &select).await.unwrap().all().await.unwrap();
    assert_eq!(found.len(), 2);
    let _ = how(How::Append);
}

#[tokio::test]
async fn an_empty_line_of_one_column_is_a_null_row_and_comes_back_as_it_was_written() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let text = "k\n1\n\n2\n\n";
    let added = overwrite(&x, &bench.source("x.csv", text)).await.unwrap();
    assert_eq!(added.rows, 4);
    assert_eq!(sorted(&x, &At::Newest).await, [r#"{"k":1}"#, r#"{"k":2}"#, r#"{"k":null}"#, r#"{"k":null}"#]);
    let file = bench.folder.path().join("back.csv");
    x.export(&At::Newest, &Select::default(), &file, Format::Csv).await.unwrap();
    let again = overwrite(&x, &Source::file(&file)).await.unwrap();
    assert!(!again.new, "{:?}", std::fs::read_to_string(&file));
    // Of several columns an empty line is nothing.
    let added = overwrite(&x, &bench.source("y.csv", "k,v\n1,2\n\n3,4\n\n")).await.unwrap();
    assert_eq!(added.rows, 2);
}

#[tokio::test]
async fn a_number_of_json_keeps_all_its_digits_or_is_refused() {
    let bench = Bench::new();
    let text = "{\"n\":9007199254740993}\n{\"n\":0.5}\n{\"n\":1234567890123456.789}\n{\"n\":2e2}\n";
    let added = append(&bench.dataset("text"), &bench.source("n.jsonl", text)).await.unwrap();
    assert_eq!(added.schema.columns[0].ty, ColumnType::Text, "no number keeps all of them");
    let expected = [
        r#"{"n":"0.5"}"#,
        r#"{"n":"1234567890123456.789"}"#,
        r#"{"n":"2e2"}"#,
        r#"{"n":"9007199254740993"}"#,
    ];
    assert_eq!(sorted(&bench.dataset("text"), &At::Newest).await, expected);
    let mut source = bench.source("n.jsonl", text);
    source.types = [("n".to_owned(), "decimal(20, 3)".parse().unwrap())].into();
    append(&bench.dataset("exact"), &source).await.unwrap();
    let expected = [
        r#"{"n":"0.500"}"#,
        r#"{"n":"1234567890123456.789"}"#,
        r#"{"n":"200.000"}"#,
        r#"{"n":"9007199254740993.000"}"#,
    ];
    assert_eq!(sorted(&bench.dataset("exact"), &At::Newest).await, expected);
    // Where the dataset is one of floats already.
    let x = bench.dataset("x");
    append(&x, &bench.source("x.jsonl", "{\"n\":0.5}\n")).await.unwrap();
    for (file, text) in [("y.jsonl", "{\"n\":9007199254740993}\n"), ("y.csv", "n\n9007199254740993\n")] {
        let said = append(&x, &bench.source(file, text)).await.unwrap_err().to_string();
        assert!(
            said.contains("`9007199254740993` is not of type float") && said.contains("decimal(p, s)"),
            "{said}"
        );
    }
    assert_eq!(append(&x, &bench.source("z.jsonl", "{\"n\":9007199254740994}\n")).await.unwrap().rows, 2);
}

fn cells() -> impl Strategy<Value = Vec<Vec<Option<String>>>> {
    let float = prop_oneof![
        any::<f64>().prop_map(|x| if x.is_nan() { "NaN".to_owned() } else { format!("{x:?}") }),
        proptest::sample::select(vec!["NaN", "inf", "-inf"]).prop_map(str::to_owned),
    ];
    let binary = proptest::collection::vec(any::<u8>(), 1..9)
        .prop_map(|b| base64::engine::general_purpose::STANDARD.encode(b));
    let micros = -2_000_000_000_000_000i64..4_000_000_000_000_000;
    let time = |zone: &'static str| {
        micros.clone().prop_map(move |us| {
            let at = chrono::DateTime::from_timestamp_micros(us).unwrap();
            format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.6f"))
        })
    };
    let day = micros
        .clone()
        .prop_map(|us| chrono::DateTime::from_timestamp_micros(us).unwrap().format("%Y-%m-%d").to_string());
    let row = (
        proptest::option::of(any::<bool>().prop_map(|b| b.to_string())),
        proptest::option::of(any::<i64>().prop_map(|n| n.to_string())),
        proptest::option::of(float),
        proptest::option::of(
            (-99_999_999i64..99_999_999).prop_map(|n| format!("{}.{:02}", n / 100, (n % 100).abs())),
        ),
        proptest::option::of("[a-zA-Z \"\n\r,;é]{1,8}"),
        proptest::option::of(binary),
        proptest::option::of(day),
        proptest::option::of(time("Z")),
        proptest::option::of(time("")),
    );
    let flat = row.prop_map(|(a, b, c, d, e, f, g, h, i)| vec![a, b, c, d, e, f, g, h, i]);
    proptest::collection::vec(flat, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_written_as_csv_or_json_is_read_back_as_it_was(rows in cells()) {
        let types = ["bool", "int", "float", "decimal(10, 2)", "text", "binary", "date", "timestamp", "datetime"];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let declared = |mut source: Source| {
                source.types = types.iter().map(|ty| (ty[..4.min(ty.len())].to_owned() + &ty.len().to_string(), ty.parse().unwrap())).collect();
                source
            };
            let header: Vec<String> = types.iter().map(|ty| ty[..4.min(ty.len())].to_owned() + &ty.len().to_string()).collect();
            let quoted = |cell: &Option<String>| cell.as_ref().map_or(String::new(), |c| format!("\"{}\"", c.replace('"', "\"\"")));
            let mut text = header.join(",") + "\n";
            for row in &rows {
                text += &(row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n");
            }
            let first = bench.dataset("first");
            let name = append(&first, &declared(bench.source("x.csv", text))).await.unwrap().name;
            for (file, format) in [("back.csv", Format::Csv), ("back.jsonl", Format::Json)] {
                let path = bench.folder.path().join(file);
                first.export(&At::Newest, &Select::default(), &path, format).await.unwrap();
                let back = overwrite(&bench.dataset("back"), &declared(Source::file(&path))).await.unwrap();
                assert_eq!(back.name, name, "{}", std::fs::read_to_string(&path).unwrap());
            }
        });
    }
}
