//! `kill -9` at random points under durable runs of twenty stages with effects: every run that was acknowledged succeeds, each
//! effect is had once, and nothing is left behind. 10 kills unless the environment says otherwise ([`crate::chance`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::chance::{Chance, patiently};
use crate::server::Server;

/// Sixteen commands in four layers, each writing a line outside of the run, and four appends to a dataset.
fn config() -> String {
    let mut text = String::from(
        "datasets: {out: {mode: append}}\njobs: {parallel: 6}\npipelines:\n  twenty:\n    params: {n: null}\n    stages:\n",
    );
    for layer in 0..4 {
        for n in 0..4 {
            let after: Vec<String> =
                (0..4).filter(|_| layer > 0).map(|m| format!("e{}{m}", layer - 1)).collect();
            // An effect outside can only be keyed: what is written names its key.
            text.push_str(&format!(
                "      - e{layer}{n}:\n          exec: {{command: 'echo $FOREBAY_EFFECT $FOREBAY_STAGE {{{{ params.n }}}} >> effects.txt; sleep 0.01', \
                 folder: project}}\n          after: [{}]\n          cache: false\n",
                after.join(", ")
            ));
        }
        text.push_str(&format!(
            "      - row{layer}: {{sql: {{query: \"select {{{{ params.n }}}} as n, {layer} as layer\"}}, after: [e{layer}0]}}\n      \
             - c{layer}: {{commit: {{dataset: out, how: append}}, from: row{layer}}}\n"
        ));
    }
    text
}

/// Asks for a run; its id when that was acknowledged.
fn ask(address: SocketAddr, n: u64) -> Option<String> {
    let body = json!({"pipeline": "twenty", "params": {"n": n}}).to_string();
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 202"), "{answer}");
    let run: Json = serde_json::from_str(body).ok()?;
    Some(run["id"].as_str()?.to_owned())
}

#[test]
fn after_kills_at_any_moment_every_run_of_twenty_stages_succeeds_and_each_effect_is_had_once() {
    let mut chance = Chance::from_env(10);
    let mut server = Server::with(&config());
    let mut acknowledged = BTreeMap::new();
    for n in 0..chance.kills {
        if n % 3 == 0
            && let Some(id) = ask(server.address, n)
        {
            acknowledged.insert(n, id);
        }
        // A busy machine takes a second to begin; many kills leave each run some time.
        chance.pause(Duration::from_millis(if chance.kills > 20 { 3_000 } else { 1_500 }));
        server = Server::in_folder(server.kill());
    }
    let mut attempts = 0;
    for id in acknowledged.values() {
        let mut last = Json::Null;
        patiently("every acknowledged run ends", || {
            let (status, _, body) = server.ask("GET", &format!("/v1/runs/{id}"), &[], "");
            assert_eq!(status, 200, "an acknowledged run is gone: {body}");
            last = serde_json::from_str(&body).unwrap();
            last["ended_at"].is_i64()
        });
        assert_eq!(last["status"], "succeeded", "{last}");
        let stages = last["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 24);
        attempts += stages.iter().map(|s| s["attempts"].as_u64().unwrap()).sum::<u64>();
    }
    let text = std::fs::read_to_string(server.folder.path().join("effects.txt")).unwrap();
    let mut keys: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        keys.entry((words[1].to_owned(), words[2].to_owned())).or_default().insert(words[0].to_owned());
    }
    for n in acknowledged.keys() {
        for (layer, stage) in (0..4).flat_map(|l| (0..4).map(move |s| (l, s))) {
            let of = (format!("e{layer}{stage}"), n.to_string());
            assert_eq!(keys[&of].len(), 1, "the effect of {of:?} has one key, however often it was tried");
        }
    }
    let rows = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["data", "read", "out", "--format", "json"])
        .current_dir(server.folder.path())
        .env_remove("FOREBAY_URL")
        .output()
        .unwrap();
    assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
    let rows = String::from_utf8(rows.stdout).unwrap();
    let mut had: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for line in rows.lines().filter(|l| l.contains("layer")) {
        let row: Json =
            serde_json::from_str(line.trim().trim_end_matches(',').trim_matches(['[', ']'])).unwrap();
        *had.entry((row["n"].as_u64().unwrap(), row["layer"].as_u64().unwrap())).or_default() += 1;
    }
    for n in acknowledged.keys() {
        for layer in 0..4 {
            assert_eq!(had.get(&(*n, layer)), Some(&1), "run {n} appended its row of layer {layer} once");
        }
    }
    // A run that was not acknowledged may be there, and is whole then.
    assert!(had.values().all(|times| *times == 1), "{had:?}");
    let runs = server.folder.path().join(".forebay/runs");
    let left =
        std::fs::read_dir(runs).unwrap().flat_map(|run| std::fs::read_dir(run.unwrap().path()).unwrap());
    let folders: Vec<_> = left.map(|f| f.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert_eq!(folders, Vec::<std::path::PathBuf>::new(), "no folder of an attempt is left");
    eprintln!("{} runs, {attempts} attempts, {} lines", acknowledged.len(), text.lines().count());
}
