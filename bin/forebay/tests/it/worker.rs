//! The local model's worker under a running server: started by the first call, killed, restarted, stopped when idle.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value as Json;

use crate::reload::applied;
use crate::server::{Server, eventually, read_rest, read_until, signal};

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// A server over the small model; `None`, loudly, without the model or the worker.
fn started(more: &str) -> Option<Server> {
    let model = std::env::var_os("FOREBAY_FIXTURES").map(|folder| PathBuf::from(folder).join(MODEL));
    let Some(model) = model.filter(|m| m.is_file()) else {
        eprintln!("SKIPPED: {MODEL} is not in FOREBAY_FIXTURES");
        return None;
    };
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_forebay")).with_file_name("forebay-llama");
    if !worker.is_file() {
        eprintln!("SKIPPED: {} is not built (cargo build -p forebay-llama)", worker.display());
        return None;
    }
    let model = model.display();
    Some(Server::with(&format!(
        "models:\n  m: {{local: {model}, context: 1k, parallel: 2, threads: 1{more}}}\n"
    )))
}

/// The server's worker process, when it runs.
fn worker(server: &Server) -> Option<u32> {
    workers(server).first().copied()
}

/// All of them.
fn workers(server: &Server) -> Vec<u32> {
    let out = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).output().unwrap();
    let parent = server.pid().to_string();
    let own = |line: &str| {
        let mut fields = line.split_whitespace();
        let (pid, ppid, stat) = (fields.next()?, fields.next()?, fields.next()?);
        // A killed one stays a zombie until the server looks at it.
        (ppid == parent && !stat.starts_with('Z')).then(|| pid.parse().unwrap())
    };
    String::from_utf8_lossy(&out.stdout).lines().filter_map(own).collect()
}

const LONG: &str = r#","stream":true,"max_tokens":900,"temperature":0"#;
const SHORT: &str = r#","max_tokens":4,"temperature":0"#;

#[test]
fn a_killed_worker_ends_its_streams_with_what_came_and_an_error_and_the_next_request_succeeds() {
    let Some(server) = started("") else { return };
    assert_eq!(worker(&server), None, "no worker before the first call");
    for round in 0..3 {
        let mut stream = server.open_chat("m", LONG);
        let begun = read_until(&mut stream, "content\":\"");
        signal("KILL", worker(&server).expect("the first call started it"));
        let all = begun + &read_rest(stream);
        assert!(all.contains(r#""code":"worker_crashed""#), "round {round}: {all}");
        assert!(all.contains(r#""finish_reason":"error""#), "round {round}: {all}");
        assert!(!all.contains(r#""finish_reason":"stop""#), "round {round}: {all}");
        let (status, _, body) = server.chat(SHORT);
        assert_eq!(status, 200, "round {round}: {body}");
        let body: Json = serde_json::from_str(&body).unwrap();
        assert!(body["usage"]["completion_tokens"].as_u64() > Some(0), "round {round}: {body}");
    }
}

#[test]
fn an_idle_worker_stops_and_the_next_call_starts_it_again() {
    let Some(server) = started(", idle_stop: 300ms") else { return };
    assert_eq!(server.chat(SHORT).0, 200);
    let first = worker(&server).expect("it runs");
    eventually("the idle worker has stopped", || worker(&server).is_none());
    assert_eq!(server.chat(SHORT).0, 200);
    let second = worker(&server).expect("it runs again");
    assert_ne!(first, second);
    // A stream that takes longer than the idle time keeps its worker.
    let (status, _, body) = server.chat(r#","stream":true,"max_tokens":200,"temperature":0"#);
    assert_eq!(status, 200);
    assert!(body.contains("[DONE]") && !body.contains(r#""finish_reason":"error""#), "{body}");
}

#[test]
fn a_caller_that_leaves_while_the_model_loads_takes_it_from_nobody() {
    let Some(server) = started("") else { return };
    let first = server.open_chat("m", LONG);
    eventually("the first call starts the worker", || worker(&server).is_some());
    let loading = worker(&server).unwrap();
    signal("STOP", loading);
    drop(first);
    let label = r#"surface="openai",ending="cancelled""#;
    eventually("the first caller has left", || server.metric("forebay_requests_total", label) == Some(1.0));
    signal("CONT", loading);
    let (status, _, body) = server.chat(SHORT);
    assert_eq!(status, 200, "{body}");
    assert_eq!(worker(&server), Some(loading), "the same process answers");
}

#[test]
fn a_worker_ends_with_its_model_or_with_its_last_answer_and_stays_while_neither_has_ended() {
    let Some(server) = started("") else { return };
    let file = server.folder.path().join("forebay.yaml");
    let began = std::fs::read_to_string(&file).unwrap();
    assert_eq!(server.chat(SHORT).0, 200);
    let first = workers(&server);
    std::fs::write(&file, format!("{began}tenants: {{gold: {{weight: 2}}}}\n")).unwrap();
    applied(&server);
    assert_eq!(server.chat(SHORT).0, 200);
    assert_eq!(workers(&server), first, "nothing about the model has changed");
    let mut stream = server.open_chat("m", LONG);
    let begun = read_until(&mut stream, "content\":\"");
    // So that its answer lasts.
    signal("STOP", first[0]);
    // Another context is another worker.
    std::fs::write(&file, began.replace("context: 1k", "context: 2k")).unwrap();
    applied(&server);
    assert_eq!(server.chat(SHORT).0, 200);
    assert_eq!(workers(&server).len(), 2, "the first has an answer to end");
    signal("CONT", first[0]);
    let all = begun + &read_rest(stream);
    assert!(all.contains("[DONE]") && !all.contains(r#""finish_reason":"error""#), "{all}");
    eventually("the first worker has ended", || workers(&server).len() == 1);
    assert_ne!(workers(&server), first);
    assert_eq!(server.chat(SHORT).0, 200);
    std::fs::write(&file, "models: {other: {openai: x, base_url: 'http://127.0.0.1:1', api_key: sk-test}}\n")
        .unwrap();
    applied(&server);
    eventually("the second has ended too", || workers(&server).is_empty());
    let sockets = std::fs::read_dir(server.folder.path().join(".forebay/run")).unwrap().count();
    assert_eq!(sockets, 0, "and nothing of them is left");
}
