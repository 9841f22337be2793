//! `forebay run`: in the folder and on a server, complete and not, stopped in the middle.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::server::{Server, forebay};

const DOCUMENT: &str =
    "A first sentence of some length stands here. A second one of some length stands over there.";

pub fn script(v: Json) -> Script {
    serde_json::from_value(v).unwrap()
}

/// A folder with one model `m` at the upstream, a pipeline `shout` with a draft and `bare` without, and a document.
pub fn project(upstream: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "models:\n  m: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, price: {{input: 1, output: 2}}}}\n\
         pipelines:\n  shout:\n    input: document\n    output: text\n    stages:\n      \
         - draft: {{extractive: {{sentences: 1}}}}\n      \
         - answer: {{generate: {{model: m, prompt_text: 'Shout: {{{{ input }}}}'}}, on_failure: {{fallback: draft}}}}\n  \
         bare:\n    input: text\n    output: text\n    stages:\n      \
         - answer: {{generate: {{model: m, prompt_text: '{{{{ input }}}}'}}}}\n"
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    std::fs::write(folder.path().join("doc.md"), DOCUMENT).unwrap();
    folder
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = forebay(folder);
    command.env_remove("FOREBAY_URL").env_remove("FOREBAY_API_KEY").args(args);
    command
}

pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)))
}

fn document(folder: &tempfile::TempDir) -> String {
    folder.path().join("doc.md").to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_folder_and_one_on_a_server_give_the_same() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let folder = project(&up.base_url());
    let doc = document(&folder);
    let here = output(command(folder.path(), &["--json", "run", "shout", &doc])).await;
    assert_eq!(here.status.code(), Some(0), "{}", text(&here.stderr));
    let here = parse(&here);
    let id = here["id"].as_str().unwrap().to_owned();
    let explained = parse(&output(command(folder.path(), &["--json", "explain", &id])).await);
    assert_eq!((&explained["surface"], &explained["ending"]), (&json!("cli"), &json!("complete")));
    assert_eq!(explained["cost"], here["cost_nanousd"]);
    let costs = parse(&output(command(folder.path(), &["--json", "costs", "--by", "pipeline"])).await);
    assert_eq!((&costs["total"]["requests"], &costs["rows"][0]["name"]), (&json!(1), &json!("shout")));

    let server = tokio::task::spawn_blocking(move || Server::in_folder(folder)).await.unwrap();
    let url = format!("http://{}", server.address);
    let there = output(command(Path::new("/"), &["--json", "--server", &url, "run", "shout", &doc])).await;
    assert_eq!(there.status.code(), Some(0), "{}", text(&there.stderr));
    let there = parse(&there);
    for field in ["output", "complete", "usage", "cost_nanousd", "model_version"] {
        assert_eq!(here[field], there[field], "{field}");
    }
    assert_eq!(here["output"], "LOUD");
    let locked = output(command(server.folder.path(), &["run", "shout", &doc])).await;
    assert_eq!(locked.status.code(), Some(1));
    assert!(text(&locked.stderr).contains("--server"), "{}", text(&locked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_goes_to_standard_output_and_all_else_to_standard_error() {
    let up = FakeUpstream::start(script(json!({"text": "one two three", "first_token": 300}))).await.unwrap();
    let folder = project(&up.base_url());
    let ended = output(command(folder.path(), &["run", "shout", &document(&folder)])).await;
    let told = text(&ended.stderr);
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(0), "one two three\n"), "{told}");
    for part in [
        "draft:\n",
        "answer: started",
        "answer: done in",
        "cost $0.",
        "tokens ",
        "explain it by: forebay explain req_",
    ] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let events = output(command(folder.path(), &["run", "--events", "shout", &document(&folder)])).await;
    let kinds: Vec<Json> = text(&events.stdout)
        .lines()
        .map(|l| serde_json::from_str::<Json>(l).unwrap()["type"].clone())
        .collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&json!("accepted")), Some(&json!("done"))));
    assert!(kinds.contains(&json!("delta")), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_how_a_run_ended() {
    let folder = project("http://127.0.0.1:1");
    let doc = document(&folder);
    let partial = output(command(folder.path(), &["run", "shout", &doc])).await;
    assert_eq!(partial.status.code(), Some(3), "{}", text(&partial.stderr));
    assert!(DOCUMENT.contains(text(&partial.stdout).trim()) && !partial.stdout.is_empty(), "the draft stays");
    assert!(
        text(&partial.stderr).contains("not complete: upstream_unreachable"),
        "{}",
        text(&partial.stderr)
    );
    let partial = output(command(folder.path(), &["--json", "run", "shout", &doc])).await;
    assert_eq!((partial.status.code(), &parse(&partial)["complete"]), (Some(3), &json!(false)));

    for args in [
        &["run", "bare", &doc][..],
        &["--json", "run", "bare", &doc],
        &["run", "nobody", &doc],
        &["run", "shout", "no-such-file"],
        &["run", "shout"],
        &["run", "shout", &doc, "--param", "x=1"],
    ] {
        let failed = output(command(folder.path(), args)).await;
        let told = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("help: ") || told.contains(r#""help":"#), "{args:?}: {told}");
    }
    let wrong = output(command(folder.path(), &["run", "shout", &doc, "--param", "x"])).await;
    assert_eq!(wrong.status.code(), Some(2), "a wrong command line");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_the_upstream_and_settles() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000}))).await.unwrap();
    let folder = project(&up.base_url());
    let mut run = command(folder.path(), &["run", "bare", &document(&folder)]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    up.wait_for_arrival(1).await.unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let end = tokio::time::timeout(Duration::from_secs(10), up.wait_for_end(1)).await;
    assert_eq!(
        serde_json::to_value(end.expect("the upstream notices").unwrap().how).unwrap(),
        json!("client_left")
    );
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    let costs = parse(&output(command(folder.path(), &["--json", "costs", "--by", "pipeline"])).await);
    assert_eq!(costs["total"]["requests"], 1, "it is in the ledger: {costs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_documents_and_standard_input_are_run() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let folder = project(&up.base_url());
    let doc = document(&folder);
    let two =
        parse(&output(command(folder.path(), &["--json", "run", "shout", &doc, "--input", &doc])).await);
    assert_eq!(two["runs"].as_array().map(Vec::len), Some(2), "{two}");
    assert_eq!(two["runs"][1]["input"], json!(doc));
    let mut run = command(folder.path(), &["--json", "run", "bare", "-"]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello from a pipe").unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((ended.status.code(), &parse(&ended)["output"]), (Some(0), &json!("LOUD")));
}
