//! A folder of documents summarised by one run: `examples/folder`, as a user tries it, before a rehearsal upstream. What each
//! document costs is paid once, whenever the process is killed; what is edited is summarised again and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::chance::patiently;
use crate::server::{Server, forebay};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The example in a folder of its own, its model at that upstream.
fn example(upstream: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/folder"), folder.path());
    std::fs::write(folder.path().join(".env"), format!("WRITER_URL={upstream}/v1\n")).unwrap();
    folder
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn command(folder: &Path, args: &[&str]) -> Output {
    forebay(folder).env_remove("FOREBAY_URL").args(args).output().unwrap()
}

fn json_of(folder: &Path, args: &[&str]) -> Json {
    let output = command(folder, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&output)))
}

/// The same of what ends with something missing.
fn part_of(folder: &Path, args: &[&str]) -> Json {
    let output = command(folder, args);
    assert_eq!(output.status.code(), Some(3), "{args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&output)))
}

/// The rows of a dataset, by path.
fn rows(folder: &Path, dataset: &str) -> Vec<Json> {
    let output = command(folder, &["data", "read", dataset, "--format", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |l: &str| serde_json::from_str(l.trim().trim_end_matches(',').trim_matches(['[', ']'])).ok();
    let mut rows: Vec<Json> = text.lines().filter_map(row).collect();
    rows.sort_by_key(|r| r["path"].as_str().map(str::to_owned));
    rows
}

fn note(run: &Json, stage: &str) -> String {
    let stages = run["stages"].as_array().unwrap();
    let stage = stages.iter().find(|s| s["name"] == stage).unwrap_or_else(|| panic!("{run}"));
    stage["note"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_becomes_a_dataset_of_summaries_and_an_edit_one_summary() {
    let up = upstream(json!({"tokens": 5})).await;
    let folder = example(&up.base_url());
    let path = folder.path();
    std::fs::write(path.join("documents/empty.bin"), [0, 159, 146, 150]).unwrap();
    let run = part_of(path, &["--json", "run", "folder"]);
    assert_eq!((&run["status"], &run["partial"]), (&json!("succeeded"), &json!(true)), "{run}");
    assert_eq!(run["stages"][1]["state"], "partial", "{run}");
    let all = rows(path, "summaries");
    let paths: Vec<&str> = all.iter().map(|r| r["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["empty.bin", "minutes/april.md", "minutes/march.md", "note.txt", "pump.html"]);
    // What is no document is a row that says why, and the others are there.
    assert_eq!((&all[0]["status"], &all[0]["summary"]), (&json!("failed"), &Json::Null), "{}", all[0]);
    assert!(all[0]["error"].as_str().unwrap().contains("invalid_document"), "{}", all[0]);
    assert_eq!(up.log().len(), 4);
    for row in &all[1..] {
        assert_eq!(row["status"], "done", "{row}");
        assert!(
            row["cost_usd"].as_f64().unwrap() > 0.0 && row["output_tokens"].as_u64().unwrap() > 0,
            "{row}"
        );
        // Each is a request of the ledger, which explains itself.
        let id = row["request_id"].as_str().unwrap();
        let explained = command(path, &["explain", id]);
        assert!(explained.status.success() && said(&explained).contains("summarize"), "{}", said(&explained));
    }
    let costs = json_of(path, &["--json", "costs", "--by", "pipeline"]);
    let paid: f64 = all.iter().filter_map(|r| r["cost_usd"].as_f64()).sum();
    let booked = costs["total"]["cost_nanodollars"].as_f64().unwrap() / 1e9;
    assert!((paid - booked).abs() < 1e-9, "{paid} {booked}");
    // Nothing changed: nothing is asked. The one that failed is tried again.
    let again = part_of(path, &["--json", "run", "folder"]);
    assert!(note(&again, "summaries").contains("4 kept"), "{again}");
    // Another time on a file is none of its content.
    let march = path.join("documents/minutes/march.md");
    let text = std::fs::read_to_string(&march).unwrap();
    std::fs::remove_file(path.join("documents/empty.bin")).unwrap();
    std::fs::write(&march, &text).unwrap();
    json_of(path, &["--json", "run", "folder"]);
    assert_eq!(up.log().len(), 4);
    std::fs::write(&march, text + "\nDuran leaves the council.\n").unwrap();
    let edited = json_of(path, &["--json", "run", "folder"]);
    assert!(note(&edited, "summaries").contains("4 elements: 1 made, 3 kept"), "{edited}");
    assert_eq!(up.log().len(), 5);
    // Whoever starts a run reads nothing that lies elsewhere.
    let out = command(path, &["--json", "run", "folder", "--param", "documents=../"]);
    assert!(!out.status.success() && said(&out).contains("no folder below"), "{}", said(&out));
    // Another prompt is another pipeline: all of them, and it says why.
    let prompt = path.join("prompts/summary.md");
    let text = std::fs::read_to_string(&prompt).unwrap();
    std::fs::write(&prompt, text + "\nIn French.\n").unwrap();
    let rewritten = json_of(path, &["--json", "run", "folder"]);
    let why = note(&rewritten, "summaries");
    assert!(why.contains("file prompts/summary.md") && why.contains("4 elements: 4 made"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_over_a_folder_goes_on_and_pays_for_nothing_twice_that_was_kept() {
    let up = upstream(json!({"tokens": 3, "first_token": 150})).await;
    let folder = example(&up.base_url());
    for n in 0..40 {
        let text = format!("Report {n}. The pump of hall {n} was repaired on day {n} by Brandt.");
        std::fs::write(folder.path().join(format!("documents/report-{n:02}.txt")), text).unwrap();
    }
    let mut server = Server::in_folder(folder);
    let body = json!({"pipeline": "folder"}).to_string();
    let (status, _, answer) = server.ask("POST", "/v1/runs", &[], &body);
    assert_eq!(status, 202, "{answer}");
    let id = serde_json::from_str::<Json>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
    let mut kills = 0;
    for at in [6, 17, 30] {
        patiently("some are answered", || up.log().len() >= at);
        server = Server::in_folder(server.kill());
        kills += 1;
    }
    let mut last = Json::Null;
    patiently("the run ends", || {
        let (_, _, body) = server.ask("GET", &format!("/v1/runs/{id}"), &[], "");
        last = serde_json::from_str(&body).unwrap();
        last["ended_at"].is_i64()
    });
    assert_eq!(last["status"], "succeeded", "{last}");
    let all = rows(server.folder.path(), "summaries");
    assert_eq!(all.len(), 44);
    assert!(all.iter().all(|r| r["status"] == "done"), "{all:?}");
    let ids: BTreeSet<&str> = all.iter().map(|r| r["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 44);
    // Four at a time were under way at each kill, and no more than those are asked again.
    let asked = up.log().len();
    assert!((44..=44 + 4 * kills).contains(&asked), "{asked} calls for 44 documents and {kills} kills");
    eprintln!("{asked} calls for 44 documents and {kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_what_it_called() {
    let up = upstream(json!({"tokens": 3, "first_token": 60_000})).await;
    let server = Server::in_folder(example(&up.base_url()));
    let (_, _, answer) = server.ask("POST", "/v1/runs", &[], &json!({"pipeline": "folder"}).to_string());
    let id = serde_json::from_str::<Json>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
    patiently("all four are asked", || up.log().len() == 4);
    assert_eq!(server.metric("forebay_requests_in_flight", ""), Some(4.0));
    let (status, _, _) = server.ask("POST", &format!("/v1/runs/{id}/cancel"), &[], "");
    assert_eq!(status, 200);
    // Dropped, the server proves that nothing is held: no request, no slot, no reservation.
}

#[test]
fn what_is_wrong_with_a_call_is_told_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let config = "\
models:
  writer: {openai: m, base_url: 'http://127.0.0.1:9/v1', api_key: k}
pipelines:
  shout:
    input: document
    stages:
      - answer: {generate: {model: writer, prompt_text: 'Shout: {{ input }}'}}
  month:
    params: {day: null, rate: 3}
    stages:
      - rows: {sql: {query: \"select {{ params.day }} as day\"}}
  folder:
    stages:
      - files: {ingest: {documents: docs}}
      - loud:
          pipeline: {name: shout, file: path, folder: ../docs}
          each: files
  types:
    stages:
      - files: {ingest: {documents: docs}}
      - whole: {pipeline: {name: shout}, from: files}
      - rows: {pipeline: {name: shout, file: path}, each: files, collect: {keep: [status]}}
  names:
    stages:
      - once: {pipeline: {name: shuot}}
      - child: {pipeline: {name: month, params: {rate: 4, dya: 1}}}
  live:
    input: document
    stages:
      - parts: {chunk: {tokens: 100}}
      - short: {extractive: {sentences: 1}, each: parts, collect: {keep: [path]}}
  night: {stages: [{all: {pipeline: {name: morning}}}]}
  morning: {stages: [{again: {pipeline: {name: night}}}]}
";
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let checked = command(folder.path(), &["check"]);
    let text = said(&checked);
    for (line, column, message) in [
        (16, 55, "`../docs` is no folder below that of the configuration"),
        (21, 48, "stage `whole` takes document as `input`, but stage `files` gives table"),
        (25, 33, "there is no pipeline `shuot`"),
        (26, 64, "the pipeline `month` has no parameter `dya`"),
        (26, 17, "the pipeline `month` needs the parameter `day`"),
        (31, 58, "`collect` means something in durable runs alone"),
        (32, 44, "the pipelines call each other without end: morning → night → morning"),
        (33, 48, "the pipelines call each other without end: night → morning → night"),
    ] {
        let place = format!("forebay.yaml:{line}:{column}");
        let told = text.lines().any(|l| l.contains(message));
        assert!(told && text.contains(&place), "{place} {message}\n---\n{text}");
    }
    assert!(!checked.status.success());
}
