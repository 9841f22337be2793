//! What commands leave.

use std::io::Read as _;

use super::*;

fn leaves(line: &str) -> Json {
    json!({"command": line, "folder": "own", "outputs": {"model": "model*"}, "output_at_most": "1mb", "files_at_most": 3})
}

#[tokio::test]
async fn outputs_are_kept_by_their_content_and_named_by_it() {
    let bench = Bench::new();
    let came =
        bench.run(leaves("echo a > model.b; echo a > model.a; : > model.c; echo x > other"), &[]).await;
    let (came, log) = (came.0.unwrap(), came.1);
    let outputs = came["outputs"]["model"].as_array().unwrap();
    let names: Vec<_> =
        outputs.iter().map(|o| (o["name"].as_str().unwrap(), o["bytes"].as_u64().unwrap())).collect();
    assert_eq!(names, [("model.a", 2), ("model.b", 2), ("model.c", 0)]);
    assert_eq!(outputs[0]["hash"], outputs[1]["hash"]);
    let mut text = String::new();
    let hash = outputs[0]["hash"].as_str().unwrap();
    bench.artifacts().open(hash).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "a\n");
    assert!(
        log.text().contains("kept 3 files, 2 different, 4 bytes; 1 more are no outputs"),
        "{}",
        log.text()
    );
    assert_eq!(came["result"], Json::Null);
    // The same work has the same value.
    let again =
        bench.run(leaves("echo a > model.b; echo a > model.a; : > model.c; echo x > other"), &[]).await.0;
    assert_eq!(again.unwrap(), came);
}

#[tokio::test]
async fn a_declared_output_that_is_not_written_is_a_clear_error() {
    let bench = Bench::new();
    let e = bench.run(leaves("true"), &[]).await.0.unwrap_err();
    assert_eq!(e.code, Code::CommandFailed);
    assert_eq!(
        e.message,
        "the command left no output `model`: nothing below the folder FOREBAY_OUTPUT is `model*`"
    );
}

#[tokio::test]
async fn outputs_that_are_too_large_or_too_many_are_refused_before_they_are_read() {
    let bench = Bench::new();
    for line in [
        "truncate -s 200G model.big",
        "truncate -s 600K model.1 model.2",
        "touch model.1 model.2 model.3 model.4",
    ] {
        let e = bench.run(leaves(line), &[]).await.0.unwrap_err();
        assert_eq!(e.code, Code::TooLarge, "{line}: {e}");
    }
    assert!(!bench.folder.path().join("artifacts").exists());
}

#[tokio::test]
async fn no_output_leads_out_of_the_folder() {
    let bench = Bench::new();
    fs::write(bench.project().join("model.secret"), "secret").unwrap();
    let project = bench.project();
    let project = project.display();
    for line in [
        format!("ln -s {project}/model.secret model.x"),
        "ln -s ../../../project/model.secret model.x".to_owned(),
        "ln -s /etc/passwd model.x".to_owned(),
        "ln -s nowhere model.x".to_owned(),
        "ln -s model.x model.x".to_owned(),
        "mkfifo model.x".to_owned(),
        "mkdir d; ln -s d model.x".to_owned(),
    ] {
        let e = bench.run(leaves(&line), &[]).await.0.unwrap_err();
        assert!(e.code == Code::CommandFailed && e.message.contains("model.x"), "{line}: {e}");
    }
    // A linked folder is not entered: behind it nothing is found.
    let config =
        json!({"command": format!("ln -s {project} d"), "folder": "own", "outputs": {"model": "d/*"}});
    assert!(bench.run(config, &[]).await.0.unwrap_err().message.contains("left no output"));
    // A link within the folder is the file.
    let came = bench.run(leaves("echo a > real; ln -s real model.x"), &[]).await.0.unwrap();
    assert_eq!(came["outputs"]["model"][0]["bytes"], 2);
    let result = "ln -s /etc/hostname result.json; echo a > model";
    assert_eq!(code(bench.run(leaves(result), &[]).await.0), Code::CommandFailed);
}

#[tokio::test]
async fn a_result_that_is_no_json_or_too_long_fails_the_stage() {
    let bench = Bench::new();
    let config = |line: &str| json!({"command": line, "folder": "own"});
    for line in ["echo '{\"a\": secret' > result.json", "truncate -s 5M result.json", "mkfifo result.json"] {
        let e = bench.run(config(line), &[]).await.0.unwrap_err();
        assert!(e.code == Code::CommandFailed && !e.message.contains("secret"), "{line}: {e}");
    }
    let came = bench.run(config("echo '[1, \"ä\"]' > result.json"), &[]).await.0.unwrap();
    assert_eq!((&came["result"], &came["outputs"]), (&json!([1, "ä"]), &json!({})));
}
