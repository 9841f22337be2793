//! A command of a stage notes what it tries in MLflow's words: by the variables that it is given, as long as it runs.

use serde_json::{Value as Json, json};

use crate::models::asked;
use crate::server::{Server, forebay};

/// Speaks the protocol by itself: begins a run with the tags that clients add, logs, and ends without ending it.
const SCRIPT: &str = r#"
import json, os, sys, urllib.error, urllib.request
uri, token = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_TRACKING_TOKEN"]
def ask(path, body=None, token=token):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(uri + path, data, {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)
A = "/api/2.0/mlflow/"
assert ask(A + "experiments/search", {"max_results": 1}, token="0" * 64)[0] == 401
assert ask("/v1/models")[0] == 404, "nothing but tracking is there"
assert ask(A + "experiments/get-by-name?experiment_name=" + os.environ["MLFLOW_EXPERIMENT_NAME"])[0] == 404
status, made = ask(A + "experiments/create", {"name": os.environ["MLFLOW_EXPERIMENT_NAME"]})
assert status == 200, made
tags = [{"key": k, "value": v} for k, v in json.loads(os.environ["MLFLOW_RUN_CONTEXT"]).items()]
status, made = ask(A + "runs/create", {"experiment_id": made["experiment_id"], "start_time": 1, "tags": tags})
assert status == 200, made
run = made["run"]["info"]["run_id"]
assert ask(A + "runs/log-metric", {"run_id": run, "key": "auc", "value": 0.75, "timestamp": 1, "step": 0}) == (200, {})
body = urllib.request.Request(uri + "/api/2.0/mlflow-artifacts/artifacts/1/x/big", b"x" * 3_000_000, {"Authorization": "Bearer " + token}, method="PUT")
with urllib.request.urlopen(body) as answer:
    assert answer.status == 200
print("noted by", token, uri)
if "fail" in sys.argv:
    sys.exit("it does not work")
"#;

fn all_runs(server: &Server) -> Vec<Json> {
    let (status, found) = asked(server, "/api/2.0/mlflow/experiments/search", &json!({"max_results": 10}));
    assert_eq!(status, 200, "{found}");
    let ids: Vec<&Json> =
        found["experiments"].as_array().unwrap().iter().map(|e| &e["experiment_id"]).collect();
    let (status, found) = asked(server, "/api/2.0/mlflow/runs/search", &json!({"experiment_ids": ids}));
    assert_eq!(status, 200, "{found}");
    found["runs"].as_array().cloned().unwrap_or_default()
}

fn tag<'a>(run: &'a Json, key: &str) -> Option<&'a str> {
    run["data"]["tags"].as_array()?.iter().find(|t| t["key"] == key)?["value"].as_str()
}

#[test]
fn what_a_command_logs_is_found_beside_its_stage_and_its_token_is_good_while_it_runs_and_in_no_log() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.py"), SCRIPT).unwrap();
    let stage = |word: &str| format!("[{{try: {{exec: {{command: [python3, note.py, {word}]}}}}}}]");
    let config =
        format!("pipelines:\n  good: {{stages: {}}}\n  bad: {{stages: {}}}\n", stage("well"), stage("fail"));
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    // No server: the command finds tracking all the same.
    let out = forebay(folder.path()).args(["run", "good"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let out = forebay(folder.path()).args(["run", "bad"]).output().unwrap();
    assert!(!out.status.success());
    let list = forebay(folder.path()).args(["runs", "list", "--json"]).output().unwrap();
    let list: Json = serde_json::from_slice(&list.stdout).unwrap();
    let runs = list["data"].as_array().unwrap_or_else(|| list.as_array().unwrap());
    for run in runs {
        let id = run["id"].as_str().unwrap();
        let log = forebay(folder.path()).args(["runs", "logs", id]).output().unwrap();
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        assert!(log.contains("noted by *** http://127.0.0.1:"), "{log}");
    }
    let server = Server::in_folder(folder);
    let noted = all_runs(&server);
    let status = |pipeline: &str| {
        let mut of = noted.iter().filter(|r| tag(r, "forebay.pipeline") == Some(pipeline));
        let first = of.next().unwrap_or_else(|| panic!("{pipeline}: {noted:?}"));
        assert_eq!(tag(first, "forebay.stage"), Some("try"));
        assert!(tag(first, "forebay.run").is_some_and(|id| runs.iter().any(|run| run["id"] == id)));
        assert_eq!(first["data"]["metrics"][0]["value"], 0.75);
        first["info"]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!((status("good"), status("bad")), ("FINISHED".to_owned(), "FAILED".to_owned()));
}
