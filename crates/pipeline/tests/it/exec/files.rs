//! What commands are given.

use contract::{BoxFuture, Chunk, Document, Media};
use pipeline::exec::{Place, TableFormat};

use super::*;

struct Tables;
impl Place for Tables {
    fn place<'a>(
        &'a self,
        table: &'a str,
        folder: &'a Path,
        format: TableFormat,
    ) -> BoxFuture<'a, Result<PathBuf, Error>> {
        Box::pin(async move {
            let path = folder.join("t.csv");
            fs::write(&path, format!("{table} {format:?}")).unwrap();
            Ok(path)
        })
    }
}

#[tokio::test]
async fn each_input_is_a_file_that_a_variable_names() {
    let mut bench = Bench::new();
    bench.parts.place = Some(Arc::new(Tables));
    let document =
        Document { title: None, media: Media::Plain, text: "the document".into(), sections: vec![] };
    let chunk =
        Chunk { index: 0, text: "c".into(), span: 3..4, heading: "".into(), tokens: 1, hash: [0; 32] };
    let inputs = [
        ("note", Value::text("a\nb")),
        ("doc", Value::Document(document.into())),
        ("config", Value::Json(json!({"a": [1]}).into())),
        (
            "rows",
            Value::List([Some(Value::text("x")), None, Some(Value::Json(json!({"y": 1}).into()))].into()),
        ),
        ("lines", Value::Json(json!([1, {"z": 2}]).into())),
        ("chunks", Value::Chunks([chunk].into())),
        ("flights-2013", Value::Table("flights@abc".into())),
    ];
    let config = json!({
        "command": "for f in $FOREBAY_INPUT_NOTE $FOREBAY_INPUT_DOC $FOREBAY_INPUT_CONFIG $FOREBAY_INPUT_ROWS $FOREBAY_INPUT_LINES $FOREBAY_INPUT_CHUNKS $FOREBAY_INPUT_FLIGHTS_2013; do echo \"${f##*/}: $(cat $f)\"; done",
        "inputs": {"note": "auto", "doc": "auto", "config": "auto", "rows": "auto", "lines": "jsonl", "chunks": "auto", "flights-2013": "csv"}
    });
    let (came, log) = bench.run(config, &inputs).await;
    came.unwrap();
    let text = log.text();
    for wanted in [
        "note.txt: a\nb\n",
        "doc.txt: the document",
        "config.json: {\"a\":[1]}",
        "rows.jsonl: \"x\"\nnull\n{\"y\":1}\n",
        "lines.jsonl: 1\n{\"z\":2}\n",
        "chunks.jsonl: {\"index\":0,\"text\":\"c\"",
        "t.csv: flights@abc Csv",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[tokio::test]
async fn an_input_in_a_form_that_it_does_not_have_is_refused() {
    let bench = Bench::new();
    for (form, value) in
        [("csv", Value::text("a")), ("files", Value::text("a")), ("json", Value::Table("t".into()))]
    {
        let config = json!({"command": "true", "inputs": {"x": form}});
        assert_eq!(code(bench.run(config, &[("x", value)]).await.0), Code::InvalidRequest, "{form}");
    }
}

#[tokio::test]
async fn the_files_of_one_command_are_the_input_of_another_and_nobody_changes_what_is_kept() {
    let bench = Bench::new();
    let config = json!({
        "command": "mkdir deep; echo model > deep/model.bin; echo '{\"auc\": 0.8}' > result.json", "folder": "own",
        "outputs": {"model": "**/*.bin", "all": "**"}
    });
    let came = bench.run(config, &[]).await.0.unwrap();
    assert_eq!(came["result"], json!({"auc": 0.8}));
    assert_eq!(came["outputs"]["all"].as_array().map(Vec::len), Some(2));
    let input = Value::Json(came.clone().into());
    let config = json!({
        "command": "cd $FOREBAY_INPUT_TRAIN; find . -type f | sort; echo changed > model/deep/model.bin; cat all/deep/model.bin",
        "inputs": {"train": "files"}
    });
    let (again, log) = bench.run(config.clone(), &[("train", input.clone())]).await;
    again.unwrap();
    let wanted = "./all/deep/model.bin\n./all/result.json\n./model/deep/model.bin\n./value.json\nmodel";
    assert!(log.text().contains(wanted), "{}", log.text());
    let (_, log) = bench.run(config.clone(), &[("train", input)]).await;
    assert!(log.text().contains(wanted), "{}", log.text());

    // A value that somebody else made leads nowhere.
    let mut wrong = came;
    for (at, is) in [("name", "../../../escaped"), ("name", "/escaped"), ("hash", "../../x")] {
        let mut one = wrong.clone();
        one["outputs"]["model"][0][at] = json!(is);
        let e = bench.run(config.clone(), &[("train", Value::Json(one.into()))]).await.0;
        assert_eq!(code(e), Code::InvalidRequest, "{is}");
    }
    wrong["outputs"]["model"][0]["hash"] = json!("0".repeat(64));
    assert_eq!(code(bench.run(config, &[("train", Value::Json(wrong.into()))]).await.0), Code::NotFound);
}

#[tokio::test]
async fn a_commit_of_the_project_alone_makes_no_other_value() {
    let bench = Bench::new();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=x", "-c", "user.email=x@y"];
        let done =
            std::process::Command::new("git").arg("-C").arg(bench.project()).args(who).args(args).output();
        assert!(done.unwrap().status.success());
    };
    let before = bench.sh("true").await.unwrap();
    git(&["init", "-q"]);
    fs::write(bench.project().join("readme"), "1").unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "x"]);
    assert_eq!(bench.sh("true").await.unwrap(), before);
    fs::write(bench.project().join("readme"), "2").unwrap();
    assert_eq!(bench.sh("true").await.unwrap(), before);
}
