//! Monitors of a running server: a known drift is found and told once, over a kill, until it is over; and starts a run.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use contract::{Clock as _, Deadline, SystemClock};
use serde_json::Value as Json;

use crate::drift::days;
use crate::receiver::{SECRET, Told, receiver};
use crate::server::{Server, forebay};

/// A project with one monitor, whose dataset has eight weeks without drift as version 0.
fn project(hook: SocketAddr, monitor: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "monitors:\n  weather: {{watch: flights, {monitor}, every: 100ms}}\n\
         alerts: {{webhooks: ['http://{hook}/'], interval: 0s, repeat: 0s}}\n\
         jobs: {{webhook: {{secret: {SECRET}, allow_private: true}}}}\n\
         pipelines:\n  learn:\n    stages:\n      - go: {{exec: {{command: 'echo 1 >> $FOREBAY_OUTPUT/n.txt', outputs: {{n: n.txt}}}}, cache: false}}\n"
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    add(folder.path(), days(0..42, 999, 1));
    folder
}

fn add(folder: &Path, rows: String) {
    std::fs::write(folder.join("rows.csv"), rows).unwrap();
    let output =
        forebay(folder).current_dir(folder).args(["data", "add", "flights", "rows.csv"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn json(folder: &Path, args: &[&str]) -> Json {
    let output = forebay(folder).args(args).arg("--json").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks by commands until it holds, for at most a minute.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::default();
    let deadline = Deadline::from_now(clock.now(), Duration::from_secs(60));
    while !holds() {
        assert!(!deadline.passed(clock.now()), "it never came to hold: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the monitor has looked at that version.
fn looked_at(folder: &Path, version: u64) {
    until("the version is looked at", || {
        let output = forebay(folder).args(["alerts", "show", "weather", "--json"]).output().unwrap();
        let shown: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown["version"] == version && shown["waiting"] == 0
    });
}

fn kinds(told: &Told) -> Vec<String> {
    told.lock().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

const DRIFT: &str = "drift: {window: 7d, reference: flights@0, except: [id]}";

#[test]
fn a_drift_is_told_once_over_a_kill_and_its_end_too_and_it_starts_one_run() {
    let (hook, told) = receiver();
    let then = "then: [notify, run: learn], retrain: {quiet: 0s, cooldown: 1h}, alert: {for: 2 windows, runbook: Look outside.}";
    let folder = project(hook, &format!("{DRIFT}, {then}"));
    let server = Server::in_folder(folder);
    looked_at(server.folder.path(), 0);
    assert!(told.lock().unwrap().is_empty(), "weeks without drift raise nothing");

    add(server.folder.path(), days(42..50, 42, 2));
    looked_at(server.folder.path(), 1);
    assert!(told.lock().unwrap().is_empty(), "one window is not two");
    add(server.folder.path(), days(50..57, 42, 3));
    until("somebody is told", || !told.lock().unwrap().is_empty());
    let event = told.lock().unwrap()[0].clone();
    assert_eq!(event["type"], "forebay.alert.firing");
    let lines = event["data"]["lines"].to_string();
    for said in ["temp", "carrier", "unseen", "→ Look outside."] {
        assert!(lines.contains(said), "{lines}");
    }
    assert!(!lines.contains("seats"), "a weekly season is no drift: {lines}");
    looked_at(server.folder.path(), 2);
    let folder = server.folder.path();
    let listed = json(folder, &["alerts", "list"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    let report = json(folder, &["watch", "report", "--html", folder.join("r.html").to_str().unwrap()]);
    assert_eq!(report["level"], "alert");
    assert!(folder.join("r.html").exists());
    let runs = || {
        let runs = json(server.folder.path(), &["runs", "list"]);
        runs["data"].as_array().unwrap().iter().filter(|r| r["status"] == "succeeded").count()
    };
    until("the run has ended", || runs() == 1);

    let server = Server::in_folder(server.kill());
    looked_at(server.folder.path(), 2);
    add(server.folder.path(), days(57..58, 999, 4));
    looked_at(server.folder.path(), 3);
    assert_eq!(kinds(&told), ["forebay.alert.firing"], "the server that came after says nothing again");
    add(server.folder.path(), days(58..80, 999, 5));
    until("its end is told", || told.lock().unwrap().len() == 2);
    assert_eq!(kinds(&told), ["forebay.alert.firing", "forebay.alert.resolved"]);
    let runs = json(server.folder.path(), &["runs", "list"]);
    assert_eq!(runs["data"].as_array().unwrap().len(), 1, "one drift is one run: {runs}");
    assert_eq!(json(server.folder.path(), &["alerts", "list"])["data"], Json::Array(vec![]));
}

#[test]
fn data_that_are_old_are_told_and_their_drift_is_not() {
    let (hook, told) = receiver();
    let folder = project(hook, &format!("{DRIFT}, freshness: 1h"));
    add(folder.path(), days(42..57, 42, 2));
    let server = Server::in_folder(folder);
    until("somebody is told", || !told.lock().unwrap().is_empty());
    looked_at(server.folder.path(), 1);
    let event = told.lock().unwrap()[0].clone();
    let firing = event["data"]["firing"].as_array().unwrap();
    let rules: Vec<&str> = firing.iter().map(|f| f["key"]["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["weather/freshness"], "{event}");
    let listed = json(server.folder.path(), &["alerts", "list"]);
    let inhibited = |row: &&Json| row["inhibited_by"] == "weather/freshness";
    assert_eq!(listed["data"].as_array().unwrap().iter().filter(inhibited).count(), 2, "{listed}");
}

#[test]
fn what_is_silenced_is_not_told_and_a_monitor_that_cannot_look_says_why() {
    let (hook, told) = receiver();
    let folder = project(hook, &DRIFT.replace("except: [id]", "except: [idd]"));
    let server = Server::in_folder(folder);
    let path = server.folder.path().to_owned();
    until("it says why", || {
        let output = forebay(&path).args(["alerts", "show", "weather", "--json"]).output().unwrap();
        let shown: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown["problem"].as_str().is_some_and(|why| why.contains("`idd`") && why.contains("carrier"))
    });
    let silence = json(&path, &["alerts", "silence", "weather", "--for", "1h", "--why", "known"]);
    let config = std::fs::read_to_string(path.join("forebay.yaml")).unwrap().replace("[idd]", "[id]");
    std::fs::write(path.join("forebay.yaml"), config).unwrap();
    add(&path, days(42..57, 42, 2));
    looked_at(&path, 1);
    let listed = json(&path, &["alerts", "list"]);
    assert_eq!(
        listed["data"].as_array().unwrap().iter().filter(|r| r["silenced"] == true).count(),
        2,
        "{listed}"
    );
    assert!(told.lock().unwrap().is_empty());
    let ended =
        forebay(&path).args(["alerts", "unsilence", silence["id"].as_str().unwrap()]).output().unwrap();
    assert!(ended.status.success());
    until("it is told when the silence is over", || told.lock().unwrap().len() == 1);
}

/// Rows of so many days of 2026 with what a model said of each, and labels a day later: from `turns` on the model is wrong as often as right.
fn scored(days: std::ops::Range<u32>, turns: u32) -> (String, String) {
    let (mut rows, mut labels) = ("id,at,carrier,score\n".to_owned(), "of,known,late\n".to_owned());
    let mut state = 7_u64 + u64::from(days.start);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    };
    let day = |n: u32| format!("2026-{:02}-{:02}", 1 + n / 28, 1 + n % 28);
    for n in days {
        for hour in 0..24 {
            let (score, carrier) = (next(), ["AA", "UA"][hour % 2]);
            let chance = if n < turns || carrier == "UA" { score } else { 0.5 };
            let late = next() < chance;
            rows += &format!("{n}-{hour},{}T{hour:02}:00:00Z,{carrier},{score:.4}\n", day(n));
            labels += &format!("{n}-{hour},{}T{hour:02}:00:00Z,{late}\n", day(n + 1));
        }
    }
    (rows, labels)
}

#[test]
fn what_was_true_tells_that_a_model_became_worse_once_it_is_known_and_starts_a_run() {
    let (hook, told) = receiver();
    let monitor = "performance: {window: 7d, wait: 1d, metric: auc, below: 0.75, score: score, slices: [carrier], \
                   labels: {dataset: landed, on: {of: id}, column: late, known_at: known}}, \
                   then: [notify, run: learn], retrain: {quiet: 0s, cooldown: 0s}";
    let folder = project(hook, monitor);
    let put = |folder: &Path, dataset: &str, text: &str| {
        std::fs::write(folder.join("some.csv"), text).unwrap();
        let mut add = forebay(folder);
        let done = add.current_dir(folder).args(["data", "add", dataset, "some.csv"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let written = std::fs::read_to_string(folder.path().join("forebay.yaml")).unwrap();
    std::fs::write(folder.path().join("forebay.yaml"), written.replace("watch: flights", "watch: answers"))
        .unwrap();
    let (rows, labels) = scored(0..28, 28);
    put(folder.path(), "answers", &rows);
    put(folder.path(), "landed", &labels);
    let server = Server::in_folder(folder);
    let path = server.folder.path().to_owned();
    let performed =
        || json(&path, &["alerts", "show", "weather"])["performance"].as_array().cloned().unwrap_or_default();
    let shown =
        || forebay(&path).args(["alerts", "show", "weather", "--json"]).output().unwrap().status.success();
    until("the windows are measured", || {
        shown() && performed().iter().filter(|p| p["maturity"] == "mature").count() >= 3
    });
    for window in performed().iter().filter(|p| p["maturity"] == "mature") {
        let (value, estimate) = (window["value"].as_f64().unwrap(), window["estimate"].as_f64().unwrap());
        assert!(value > 0.75 && (value - estimate).abs() < 0.12, "{window}");
        assert!(window["interval"]["low"].as_f64().unwrap() < value, "{window}");
    }
    assert!(told.lock().unwrap().is_empty(), "a model that is right raises nothing: {told:?}");

    // From then on it is wrong about one carrier. Nobody knows before the labels come.
    let (rows, labels) = scored(28..44, 28);
    put(&path, "answers", &rows);
    until("there is an estimate of what waits", || {
        performed().last().is_some_and(|p| p["maturity"] == "waiting")
    });
    assert!(
        performed().last().unwrap()["estimate"].as_f64().unwrap() > 0.75,
        "the model still believes in itself"
    );
    assert!(told.lock().unwrap().is_empty(), "an estimate raises nothing");
    put(&path, "landed", &labels);
    until("somebody is told", || !told.lock().unwrap().is_empty());
    let event = told.lock().unwrap()[0].to_string();
    assert!(event.contains("weather/performance") && event.contains("carrier=AA"), "{event}");
    assert!(!event.contains("carrier=UA"), "of the other carrier it is as right as ever: {event}");
    until("it is retrained", || {
        let runs = json(&path, &["runs", "list"]);
        runs["data"].as_array().unwrap().iter().any(|r| r["status"] == "succeeded")
    });
    let text = String::from_utf8(forebay(&path).args(["alerts", "show", "weather"]).output().unwrap().stdout)
        .unwrap();
    assert!(text.contains("are in") && text.contains("estimates of"), "{text}");
}
