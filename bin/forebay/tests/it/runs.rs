//! Durable runs as those who ask for them see them: what stages made, retry, approval, keys, the commands beside the routes.

use serde_json::{Value as Json, json};

use crate::server::{Server, eventually, forebay};

const CONFIG: &str = r#"
pipelines:
  report:
    params: {word: draft}
    stages:
      - draft: {extractive: {sentences: 1}}
      - check: {exec: {command: "test -e allowed", folder: project}, after: [draft], cache: false}
      - again: {extractive: {sentences: 1}, from: input, after: [check]}
      - release: {exec: {command: "echo '{\"word\": \"{{ params.word }}\"}' > $FOREBAY_OUTPUT/result.json"}, after: [again], approval: "Release it?"}
"#;

const TEXT: &str =
    "The dam holds forty million litres of water. It was built in 1931 by people from the valley.";

fn asked(server: &Server, path: &str, headers: &[(&str, &str)], body: &Json) -> (u16, Json) {
    let (status, _, answer) = server.ask("POST", path, headers, &body.to_string());
    (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

fn got(server: &Server, path: &str) -> (u16, Json) {
    let (status, _, answer) = server.ask("GET", path, &[], "");
    (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

fn state(run: &Json, stage: &str) -> String {
    let of = run["stages"].as_array().unwrap().iter().find(|s| s["name"] == stage).unwrap();
    of["state"].as_str().unwrap().to_owned()
}

/// The run when that holds of it.
fn when(server: &Server, id: &str, what: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let mut run = Json::Null;
    eventually(what, || {
        run = got(server, &format!("/v1/runs/{id}")).1;
        holds(&run)
    });
    run
}

#[test]
fn a_run_that_failed_goes_on_with_its_input_waits_for_approval_and_shows_what_it_made() {
    let server = Server::with(CONFIG);
    let (status, run) = asked(&server, "/v1/runs", &[], &json!({"pipeline": "report", "input": TEXT}));
    assert_eq!(status, 202, "{run}");
    let first = run["id"].as_str().unwrap().to_owned();
    let run = when(&server, &first, "the check fails", |r| r["ended_at"].is_i64());
    assert_eq!(
        (state(&run, "draft"), state(&run, "check"), state(&run, "again")),
        ("done".into(), "failed".into(), "skipped".into())
    );
    let output = |id: &str, more: &str| got(&server, &format!("/v1/runs/{id}/output{more}"));
    let (status, draft) = output(&first, "?stage=draft");
    assert_eq!((status, draft["kind"].as_str()), (200, Some("text")));
    assert!(TEXT.starts_with(draft["value"].as_str().unwrap()) && draft["value"] != "", "{draft}");
    let (status, none) = output(&first, "");
    assert_eq!(status, 404);
    assert!(none["error"]["message"].as_str().unwrap().contains("`release` has made nothing"), "{none}");
    assert_eq!(output(&first, "?stage=nobody").0, 404);

    std::fs::write(server.folder.path().join("allowed"), "").unwrap();
    let (status, run) = asked(&server, &format!("/v1/runs/{first}/retry"), &[], &json!({}));
    assert_eq!(status, 202, "{run}");
    let second = run["id"].as_str().unwrap().to_owned();
    let run = when(&server, &second, "somebody is asked", |r| state(r, "release") == "waiting");
    assert_eq!(run["resumes"], first.as_str());
    assert_eq!(output(&second, "?stage=again").1["value"], draft["value"], "the retry has the run's input");

    // The commands see the same in the folder.
    let show = |args: &[&str]| {
        let out = forebay(server.folder.path()).arg("runs").args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(show(&["output", &second, "again"]).trim(), draft["value"].as_str().unwrap());
    assert!(show(&["list"]).contains(&first));
    let yes = json!({"stage": "release", "reason": "read it"});
    assert_eq!(asked(&server, &format!("/v1/runs/{second}/approve"), &[], &yes).0, 200);
    let run = when(&server, &second, "it is released", |r| r["ended_at"].is_i64());
    assert_eq!(run["status"], "succeeded", "{run}");
    let (_, released) = output(&second, "");
    assert_eq!(
        (&released["kind"], &released["value"]["result"]),
        (&json!("json"), &json!({"word": "draft"}))
    );
}

#[test]
fn a_key_is_of_one_request_its_input_included() {
    let server = Server::with(CONFIG);
    let key = [("idempotency-key", "k1")];
    let body = |text: &str| json!({"pipeline": "report", "input": text});
    let (status, first) = asked(&server, "/v1/runs", &key, &body(TEXT));
    assert_eq!(status, 202, "{first}");
    let (status, again) = asked(&server, "/v1/runs", &key, &body(TEXT));
    assert_eq!((status, &again["id"]), (202, &first["id"]));
    let (status, other) = asked(&server, "/v1/runs", &key, &body("Another text. It says something else."));
    assert_eq!((status, &other["error"]["code"]), (422, &json!("idempotency_key_reused")), "{other}");
}

const MONTHS: &str = r#"
jobs: {parallel: 2}
pipelines:
  month:
    stages:
      - work: {exec: {command: "echo begin $MONTH >> ../months.txt; sleep 0.4; echo end $MONTH >> ../months.txt", env: {MONTH: "{{ partition.key }}"}, folder: project}, cache: false}
  order:
    on: {event: {type: order}}
    stages:
      - note: {exec: {command: "echo order >> ../months.txt; nice > ../nice.txt", folder: project}, cache: false}
"#;

#[test]
fn a_backfill_of_twelve_months_keeps_to_its_limit_and_what_an_event_starts_goes_before_it() {
    let outer = tempfile::tempdir().unwrap();
    let said = outer.path().join("months.txt");
    let folder = tempfile::tempdir_in(outer.path()).unwrap();
    std::fs::write(folder.path().join("forebay.yaml"), MONTHS).unwrap();
    let server = Server::in_folder(folder);
    let text = || std::fs::read_to_string(&said).unwrap_or_default();
    let mut backfill = forebay(server.folder.path())
        .args(["--server", &format!("http://{}", server.address), "runs", "backfill", "month"])
        .args(["--from", "2025-01-01", "--to", "2026-01-01", "--by", "month", "--parallel", "2"])
        .spawn()
        .unwrap();
    eventually("it begins", || text().contains("begin 2025-01"));
    let event = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order"});
    let head = [("content-type", "application/cloudevents+json")];
    assert_eq!(asked(&server, "/v1/events", &head, &event).0, 202);
    assert!(backfill.wait().unwrap().success());

    let text = text();
    let (mut open, mut ended, mut ordered) = (0_i32, 0, None);
    for line in text.lines() {
        match line.split(' ').next() {
            Some("begin") => open += 1,
            Some("end") => (open, ended) = (open - 1, ended + 1),
            _ => ordered = Some(ended),
        }
        assert!(open <= 2, "more than two months at a time:\n{text}");
    }
    assert_eq!((open, ended), (0, 12), "{text}");
    for month in 1..=12 {
        assert!(text.contains(&format!("end 2025-{month:02}\n")), "{text}");
    }
    // Both places are the backfill's when the event comes, and the next that is free is the event's.
    let ordered = ordered.expect("the event started its pipeline");
    assert!(ordered <= 6, "the event waited for {ordered} months:\n{text}");
    // What runs start yields to whoever waits for an answer.
    let number = |text: &[u8]| String::from_utf8_lossy(text).trim().parse::<i32>().unwrap();
    let own = number(&std::process::Command::new("nice").output().unwrap().stdout);
    let nice = number(&std::fs::read(outer.path().join("nice.txt")).unwrap());
    assert_eq!(nice, (own + 15).min(19));
}

#[test]
fn an_address_that_is_down_for_a_moment_is_asked_again_and_one_that_is_wrong_is_not() {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", web.local_addr().unwrap());
    let asked_for = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = asked_for.clone();
    std::thread::spawn(move || {
        for socket in web.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 4096];
            let n = socket.read(&mut head).unwrap();
            let status = match (counted.fetch_add(1, Ordering::SeqCst), head[..n].starts_with(b"GET /gone")) {
                (_, true) => "404 Not Found",
                (0, false) => "503 Service Unavailable",
                _ => "200 OK",
            };
            let _ = write!(
                socket,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 8\r\n\r\na,b\n1,2\n"
            );
        }
    });
    let dataset = |name: &str, path: &str| {
        format!("  {name}: {{url: {{get: \"{url}/{path}.csv\", allow_private: true}}}}\n")
    };
    let pipeline = |name: &str| {
        format!("  {name}:\n    stages:\n      - rows: {{ingest: {{dataset: {name}}}, retries: 2}}\n")
    };
    let config = format!(
        "datasets:\n{}{}pipelines:\n{}{}",
        dataset("web", "rows"),
        dataset("gone", "gone"),
        pipeline("web"),
        pipeline("gone")
    );
    let server = Server::with(&config);
    let ended = |name: &str| {
        let (status, run) = asked(&server, "/v1/runs", &[], &json!({"pipeline": name}));
        assert_eq!(status, 202, "{run}");
        when(&server, run["id"].as_str().unwrap(), "the run ends", |r| r["ended_at"].is_i64())
    };
    let run = ended("web");
    assert_eq!((state(&run, "rows").as_str(), asked_for.load(Ordering::SeqCst)), ("done", 2), "{run}");
    let run = ended("gone");
    assert_eq!((state(&run, "rows").as_str(), asked_for.load(Ordering::SeqCst)), ("failed", 3), "{run}");
}
