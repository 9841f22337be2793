//! Lineage as the built binary shows it: what runs and commands made of what, in the folder and on a server, after kills, and what
//! other programs are told and tell.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::chance::{Chance, patiently};
use crate::server::Server;

const CONFIG: &str = "\
lineage: {namespace: shop, file: events.ndjson}
datasets: {raw: {mode: append}, out: {mode: append}}
pipelines:
  sums:
    params: {least: 0}
    stages:
      - big: {sql: {query: 'select k, v * 2 as twice from raw where v >= {{ params.least }}'}}
      - out: {commit: {dataset: out}, from: big}
      - said: {exec: {command: 'wc -l < $FOREBAY_INPUT_TABLE > $FOREBAY_OUTPUT/count.txt', outputs: {count: count.txt}, inputs: {table: csv}}, from: {table: big}, cache: false}
";

fn cli(server: &Server, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(args)
        .current_dir(server.folder.path())
        .env_remove("FOREBAY_URL")
        .env("USER", "ada")
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn lineage(server: &Server, args: &[&str]) -> Json {
    let (done, text) = cli(server, &[&["lineage", "--json"], args].concat());
    assert!(done, "{args:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Adds rows, and runs the pipeline on the server to its end; the run's id.
fn ran(server: &Server, rows: &str) -> String {
    std::fs::write(server.folder.path().join("raw.csv"), rows).unwrap();
    let (done, text) = cli(server, &["data", "add", "raw", "raw.csv"]);
    assert!(done, "{text}");
    let (status, _, body) =
        server.ask("POST", "/v1/runs", &[("content-type", "application/json")], r#"{"pipeline": "sums"}"#);
    assert_eq!(status, 202, "{body}");
    let id = serde_json::from_str::<Json>(&body).unwrap()["id"].as_str().unwrap().to_owned();
    patiently("the run ends", || {
        let (_, _, body) = server.ask("GET", &format!("/v1/runs/{id}"), &[], "");
        let run: Json = serde_json::from_str(&body).unwrap();
        assert!(!["failed", "cancelled"].contains(&run["status"].as_str().unwrap()), "{run}");
        run["status"] == "succeeded"
    });
    id
}

fn names(graph: &Json, of: &str) -> Vec<String> {
    let nodes = graph["nodes"].as_array().unwrap();
    nodes.iter().filter(|n| n["type"] == of).map(|n| n["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_result_is_traced_to_the_file_that_its_rows_came_from_in_the_folder_and_on_a_server() {
    let server = Server::with(CONFIG);
    let run = ran(&server, "k,v\n1,2\n2,3\n");
    let up = lineage(&server, &["out", "--up"]);
    assert_eq!(names(&up, "file"), ["raw.csv"]);
    assert_eq!(names(&up, "job"), ["sums.out", "sums.big", "data add raw"]);
    let file = up["nodes"].as_array().unwrap().iter().find(|n| n["name"] == "data add raw").unwrap();
    assert_eq!(file["who"], "ada");
    let column = lineage(&server, &["out@0.twice", "--up"]);
    let told: Vec<String> = column["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|n| Some(format!("{}.{}", n["name"].as_str()?, n["column"].as_str()?)))
        .collect();
    assert!(told.contains(&"raw.v".to_owned()) && !told.contains(&"raw.k".to_owned()), "{told:?}");
    let down = lineage(&server, &["raw", "--down", "--columns"]);
    assert_eq!(names(&down, "artifact"), ["count.txt"]);
    assert!(down["links"].to_string().contains("transformation"), "{down}");
    assert_eq!(names(&lineage(&server, &[&run]), "job").len(), 4);
    let (done, tree) = cli(&server, &["lineage", "out@0", "--columns"]);
    assert!(done && tree.contains("made of") && tree.contains("twice ← raw.v (transformation)"), "{tree}");
    let url = format!("http://{}", server.address);
    let (done, there) = cli(&server, &["--server", &url, "lineage", "out@0", "--columns"]);
    assert!(done && there == tree, "{there}\n{tree}");
    for wrong in ["nothing", "out@77", "out.nothing", "run_00000000000000000000000000000000"] {
        let (done, text) = cli(&server, &["lineage", wrong]);
        assert!(!done && text.contains("error: ") && text.contains("help: "), "{wrong}: {text}");
        let (status, _, body) = server.ask("GET", &format!("/v1/lineage?of={wrong}"), &[], "");
        assert_eq!(status, 404, "{body}");
    }
    assert_eq!(server.ask("GET", "/v1/lineage", &[], "").0, 400);

    // What others are told, line by line.
    let mut events = Vec::new();
    patiently("the events are written", || {
        let text = std::fs::read_to_string(server.folder.path().join("events.ndjson")).unwrap_or_default();
        events = text.lines().map(|l| serde_json::from_str::<Json>(l).unwrap()).collect();
        events.iter().filter(|e| e["eventType"] == "COMPLETE").count() == 3
    });
    assert_eq!(events.iter().filter(|e| e["eventType"] == "START").count(), 3);
    let out = events.iter().find(|e| e["eventType"] == "COMPLETE" && e["job"]["name"] == "sums.out").unwrap();
    assert_eq!(
        (&out["outputs"][0]["namespace"], &out["outputs"][0]["name"]),
        (&json!("shop"), &json!("out"))
    );

    // What others tell.
    let told = json!({
        "eventType": "COMPLETE", "eventTime": "2026-01-31T08:00:00Z", "producer": "https://dbt.example",
        "run": {"runId": "0197"}, "job": {"namespace": "dbt", "name": "mart"},
        "inputs": [{"namespace": "shop", "name": "out"}], "outputs": [{"namespace": "pg://db", "name": "public.mart"}],
    })
    .to_string();
    for (path, new) in [("/api/v1/lineage", true), ("/v1/lineage", false)] {
        let (status, _, body) = server.ask("POST", path, &[("content-type", "application/json")], &told);
        assert_eq!(status, 201, "{body}");
        assert_eq!(serde_json::from_str::<Json>(&body).unwrap()["new"], json!(new));
    }
    assert_eq!(server.ask("POST", "/v1/lineage", &[("content-type", "application/json")], "{}").0, 400);
    let down = lineage(&server, &["raw", "--down"]);
    assert_eq!(names(&down, "foreign"), ["pg://db/public.mart"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answered_is_an_input_by_the_version_that_it_gave_itself() {
    let up = FakeUpstream::start(Script::default()).await.unwrap();
    let server = Server::with(&format!(
        "models:\n  m: {{openai: gpt-test, base_url: {}/v1, api_key: sk-test}}\n\
         pipelines:\n  word:\n    input: json\n    stages:\n      \
         - said: {{generate: {{model: m, prompt_text: 'Say something of {{{{ input }}}}'}}}}\n  \
         sums:\n    stages:\n      \
         - of: {{exec: {{command: 'echo 1 > $FOREBAY_OUTPUT/of.txt', outputs: {{of: of.txt}}}}}}\n      \
         - word: {{pipeline: {{name: word}}, from: of}}\n",
        up.base_url()
    ));
    let run = ran(&server, "a,b\n1,2\n");
    for graph in [lineage(&server, &["model:m", "--down"]), lineage(&server, &[&run])] {
        assert!(names(&graph, "job").contains(&"sums.word".to_owned()), "{graph}");
        let nodes = graph["nodes"].as_array().unwrap();
        let models: Vec<_> = nodes.iter().filter(|n| n["type"] == "model").collect();
        assert_eq!((models.len(), &models[0]["name"]), (1, &json!("m")), "{graph}");
    }
    let exactly = lineage(&server, &[&run]).to_string();
    assert!(exactly.contains("gpt-test"), "{exactly}");
}

#[test]
fn after_kills_at_any_moment_what_a_run_made_is_known_once() {
    let mut chance = Chance::from_env(6);
    let config = CONFIG.replace("wc -l", "sleep 0.05; wc -l");
    let mut server = Server::with(&config);
    std::fs::write(server.folder.path().join("raw.csv"), "k,v\n1,2\n").unwrap();
    assert!(cli(&server, &["data", "add", "raw", "raw.csv"]).0);
    let mut runs = Vec::new();
    for _ in 0..chance.kills {
        let (status, _, body) = server.ask(
            "POST",
            "/v1/runs",
            &[("content-type", "application/json")],
            r#"{"pipeline": "sums"}"#,
        );
        assert_eq!(status, 202, "{body}");
        runs.push(serde_json::from_str::<Json>(&body).unwrap()["id"].as_str().unwrap().to_owned());
        chance.pause(Duration::from_millis(700));
        server = Server::in_folder(server.kill());
    }
    for id in &runs {
        patiently("every acknowledged run ends", || {
            let (_, _, body) = server.ask("GET", &format!("/v1/runs/{id}"), &[], "");
            serde_json::from_str::<Json>(&body).unwrap()["status"] == "succeeded"
        });
        let graph = lineage(&server, &[id, "--depth", "1"]);
        let mut own: Vec<String> = names(&graph, "job");
        own.sort();
        assert_eq!(own, ["sums.big", "sums.out", "sums.said"], "{graph}");
        let links = graph["links"].as_array().unwrap();
        for (n, node) in
            graph["nodes"].as_array().unwrap().iter().enumerate().filter(|(_, n)| n["type"] == "job")
        {
            assert!(
                links.iter().any(|l| l["to"] == n) && links.iter().any(|l| l["from"] == n),
                "{node}: {graph}"
            );
        }
    }
    // Each appended once, and each version leads back to the one before.
    let newest = runs.len() - 1;
    let chain = lineage(&server, &[&format!("out@{newest}"), "--up", "--depth", "100"]);
    let versions = chain["nodes"].as_array().unwrap().iter().filter(|n| n["name"] == "out").count();
    assert_eq!(versions, runs.len(), "{chain}");
}
