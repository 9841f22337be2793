//! Answers of a predictive model as a dataset, and what turned out to be true of them, over a kill.

use std::path::Path;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::models::fixture;
use crate::server::{Server, forebay};
use crate::watching::until;

/// The rows of a dataset; none when it is not there.
fn rows(folder: &Path, dataset: &str) -> Vec<Json> {
    let output = forebay(folder).args(["data", "read", dataset, "--json"]).output().unwrap();
    let read: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    read["rows"].as_array().cloned().unwrap_or_default()
}

/// Asks the model about three flowers; the id of the answer.
fn ask(server: &Server) -> String {
    let body = json!({"inputs": [{"name": "float_input", "shape": [3, 2], "datatype": "FP32",
        "data": [5.1, 3.5, 6.3, 2.5, 6.0, 3.0]}]});
    let (status, head, body) =
        server.ask("POST", "/v2/models/iris/infer", &[("forebay-entity", "ada")], &body.to_string());
    assert_eq!(status, 200, "{body}");
    let id = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case("x-request-id")));
    id.unwrap().1.trim().to_owned()
}

fn tell(server: &Server, id: &str, row: u32, label: &str) {
    let body = json!({"id": id, "row": row, "label": label}).to_string();
    let (status, _, body) = server.ask("POST", "/v1/feedback", &[], &body);
    assert_eq!(status, 202, "{body}");
}

fn project(every: &str) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
    let (library, model) = (fixture("libonnxruntime.so")?, fixture("logreg-iris.onnx")?);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(model, folder.path().join("iris.onnx")).unwrap();
    let config = format!("models: {{iris: {{onnx: iris.onnx}}}}\ncapture: {{iris: {{every: {every}}}}}\n");
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    Some((folder, library))
}

fn ready(server: &Server) {
    until("the model is loaded", || server.ask("GET", "/v2/models/iris/ready", &[], "").0 == 200);
}

#[test]
fn answers_become_rows_and_feedback_is_joined_with_them() {
    let Some((folder, library)) = project("100ms") else { return };
    let server = Server::in_folder_with(folder, &[("ORT_DYLIB_PATH", library.to_str().unwrap())]);
    ready(&server);
    let ids = [ask(&server), ask(&server)];
    tell(&server, &ids[1], 2, "setosa");
    let path = server.folder.path();
    until("both answers are rows", || rows(path, "captured_iris").len() == 6);
    let all = rows(path, "captured_iris");
    let one = all.iter().find(|r| r["id"] == ids[0].as_str() && r["row"] == 1).unwrap();
    assert_eq!((&one["float_input_0"], &one["float_input_1"]), (&6.3.into(), &2.5.into()), "{one}");
    assert_eq!(
        (&one["entity"], &one["arm"], &one["tenant"]),
        (&"ada".into(), &"champion".into(), &"default".into())
    );
    let outputs = one.as_object().unwrap().keys().filter(|name| name.starts_with("output_")).count();
    assert!(outputs > 0, "{one}");
    until("the feedback is a row", || {
        !rows(path, "feedback").is_empty() || {
            // Its own minute is not over: the next server makes it a version.
            path.join(".forebay/capture").read_dir().unwrap().count() > 0
        }
    });
}

#[test]
fn feedback_that_was_acknowledged_and_rows_that_were_written_survive_a_kill_and_become_versions_once() {
    let Some((folder, library)) = project("1h") else { return };
    let library = library.to_str().unwrap();
    let server = Server::in_folder_with(folder, &[("ORT_DYLIB_PATH", library)]);
    ready(&server);
    let id = ask(&server);
    tell(&server, &id, 0, "virginica");
    let spooled = |folder: &Path| {
        let files = folder.join(".forebay/capture").read_dir().into_iter().flatten().flatten();
        files.filter(|f| f.path().extension().is_some_and(|e| e == "part")).count()
    };
    until("the rows are written", || spooled(server.folder.path()) == 2);
    assert!(rows(server.folder.path(), "feedback").is_empty());
    let mut folder = server.kill();
    for _ in 0..2 {
        let server = Server::in_folder_with(folder, &[("ORT_DYLIB_PATH", library)]);
        let path = server.folder.path();
        until("they are versions", || {
            rows(path, "feedback").len() == 1 && rows(path, "captured_iris").len() == 3
        });
        assert_eq!(rows(path, "feedback")[0]["label_text"], "virginica");
        folder = server.kill();
    }
}

#[test]
fn rows_go_when_they_are_as_old_as_they_are_kept_and_small_files_are_put_together() {
    let Some((folder, library)) = project("100ms, keep: 3s") else { return };
    let server = Server::in_folder_with(folder, &[("ORT_DYLIB_PATH", library.to_str().unwrap())]);
    ready(&server);
    let path = server.folder.path();
    let first = ask(&server);
    until("it is a row", || rows(path, "captured_iris").iter().any(|row| row["id"] == first.as_str()));
    until("it is too old, and others are there", || {
        ask(&server);
        let all = rows(path, "captured_iris");
        !all.is_empty() && all.iter().all(|row| row["id"] != first.as_str())
    });
    let log = forebay(path).args(["data", "log", "captured_iris", "--json"]).output().unwrap();
    let log: Json = serde_json::from_slice(&log.stdout).unwrap();
    let expired = log["versions"].as_array().unwrap().iter().find(|v| v["how"] == "expire").unwrap();
    assert_eq!(expired["who"], "capture", "{expired}");
    let compacted = forebay(path).args(["data", "compact", "captured_iris"]).output().unwrap();
    assert!(compacted.status.success(), "{}", String::from_utf8_lossy(&compacted.stderr));
}

/// A question that somebody asks, and an answer in English.
const ASKED: &str = "What is a forebay?";
const SAID: &str =
    "A forebay is the pool of water in front of a turbine, from which the machine behind it is fed.";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_told_by_its_figures_and_kept_in_words_where_that_is_said() {
    let script: Script = serde_json::from_value(json!({"text": SAID})).unwrap();
    let up = FakeUpstream::start(script).await.unwrap();
    let refuses: Script =
        serde_json::from_value(json!({"text": "I'm sorry, but I can't help with that."})).unwrap();
    let refusing = FakeUpstream::start(refuses).await.unwrap();
    let test = move || {
        let model = |url: &str| {
            format!(
                "{{openai: gpt-test, base_url: {url}/v1, api_key: sk-test, price: {{input: 1, output: 2}}}}"
            )
        };
        let config = format!(
            "models:\n  m: {}\n  no: {}\n  both: {{choice: [m, no]}}\n\
             pipelines:\n  shout:\n    stages:\n      - answer: {{generate: {{model: m, prompt_text: 'Shout: {{{{ input }}}}'}}}}\n\
             capture:\n  m: {{every: 100ms, texts: true, redact: [entity]}}\n  no: {{every: 100ms}}\n  both: {{every: 100ms, texts: true}}\n  shout: {{every: 100ms, texts: true, redact: [input]}}\n",
            model(&up.base_url()),
            model(&refusing.base_url()),
        );
        let server = Server::with(&config);
        let chat = |model: &str, stream: bool| {
            let messages =
                json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]);
            let body = json!({"model": model, "user": "ada", "stream": stream, "messages": messages});
            let (status, head, body) = server.ask("POST", "/v1/chat/completions", &[], &body.to_string());
            assert_eq!(status, 200, "{body}");
            head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim().to_owned()
        };
        let (whole, streamed, refused, chosen) =
            (chat("m", false), chat("m", true), chat("no", true), chat("both", false));
        assert_eq!(server.ask("POST", "/v1/pipelines/shout", &[], ASKED).0, 200);
        chat("shout", true);
        let told = json!({"id": whole, "key": "thumbs_up", "score": 1}).to_string();
        assert_eq!(server.ask("POST", "/v1/feedback", &[], &told).0, 202);
        let path = server.folder.path();
        until("all are rows", || {
            rows(path, "captured_m").len() == 2
                && rows(path, "captured_shout").len() == 2
                && ["no", "both"].iter().all(|of| rows(path, &format!("captured_{of}")).len() == 1)
        });
        let all = rows(path, "captured_m");
        for id in [whole, streamed] {
            let one = all.iter().find(|row| row["id"] == id.as_str()).unwrap();
            assert_eq!((&one["input"], &one["output"]), (&ASKED.into(), &SAID.into()), "{one}");
            assert_eq!((&one["model"], &one["language"]), (&"m".into(), &"eng".into()), "{one}");
            assert_eq!((&one["finish"], &one["refused"]), (&"stop".into(), &0.0.into()), "{one}");
            assert_eq!(one["output_chars"].as_f64(), Some(SAID.chars().count() as f64), "{one}");
            assert!(one["cost_usd"].as_f64() > Some(0.0) && one["entity"].is_null(), "{one}");
            assert!(one["error"].is_null() && one["took_ms"].as_f64() > Some(0.0), "{one}");
        }
        let one = &rows(path, "captured_no")[0];
        assert_eq!((&one["id"], &one["refused"]), (&refused.as_str().into(), &1.0.into()), "{one}");
        assert!(one["input"].is_null() && one["output"].is_null() && one["entity"] == "ada", "{one}");
        let one = &rows(path, "captured_both")[0];
        assert_eq!((&one["id"], &one["output"]), (&chosen.as_str().into(), &SAID.into()), "{one}");
        assert_eq!((&one["model"], &one["arm"]), (&"m".into(), &"champion".into()), "{one}");
        for one in rows(path, "captured_shout") {
            assert_eq!(one["output_chars"].as_f64(), Some(SAID.chars().count() as f64), "{one}");
            assert!(one["output"] == SAID && one["input"].is_null(), "{one}");
        }
        let drift = forebay(path).args(["drift", "captured_m", "captured_m", "--json"]).output().unwrap();
        assert!(drift.status.success(), "{}", String::from_utf8_lossy(&drift.stderr));
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}
