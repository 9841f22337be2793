//! `kill -9` at random moments under durable runs of twenty stages with effects outside: every run that was asked for succeeds,
//! each effect is had once, and nothing is left behind. 10 kills unless the environment says otherwise ([`crate::chance`]).
//!
//! Of four kills one comes at any moment, one while the server begins, and two right behind something that was done and that
//! nobody may know of yet: a call that came in, a version that was committed, a line that was written.

mod effects;
mod left;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{Clock as _, Deadline, SystemClock};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use self::effects::Effects;
use crate::chance::{Chance, patiently, patiently_for};
use crate::on_postgres::{Database, storage};
use crate::server::{Server, dechunk};

pub const LAYERS: u64 = 4;
/// The stages of a layer: a command that writes a line and leaves a file, one that takes the file and puts a row into a database,
/// a call, a query, and what commits its rows.
pub const STAGES: [&str; 5] = ["line", "row", "call", "table", "put"];

/// Where the servers keep what they share: datasets and the files that stages leave.
struct Places {
    lake: PathBuf,
    artifacts: PathBuf,
}

fn config(effects: &Effects, places: &Places, storage: &str) -> String {
    let (lake, artifacts) = (places.lake.display(), places.artifacts.display());
    let mut text = format!(
        "datasets: {{out: {{mode: append}}}}\nwarehouse: {lake}\nruns: {{artifacts: {artifacts}}}\n\
         jobs: {{parallel: 6, webhook: {{allow_private: true}}}}\n{storage}\
         pipelines:\n  twenty:\n    params: {{n: null}}\n    stages:\n"
    );
    let (lines, row, hook) = (effects.lines(), effects.row(), effects.address());
    for layer in 0..LAYERS {
        let before = match layer {
            0 => String::new(),
            n => format!("call{0}, put{0}", n - 1),
        };
        text.push_str(&format!(
            "      - line{layer}:\n          exec: {{command: 'echo $FOREBAY_EFFECT $FOREBAY_STAGE {{{{ params.n }}}} >> {lines}; sleep 0.01; \
             echo {{{{ params.n }}}} > $FOREBAY_OUTPUT/n.txt', outputs: {{n: n.txt}}}}\n          after: [{before}]\n          cache: false\n      \
             - row{layer}:\n          from: {{given: line{layer}}}\n          exec: {{command: [python3, '{row}'], inputs: {{given: files}}}}\n          cache: false\n      \
             - call{layer}: {{http: {{url: 'http://{hook}/{{{{ params.n }}}}/call{layer}', method: POST, json: false}}, after: [row{layer}]}}\n      \
             - table{layer}: {{sql: {{query: \"select {{{{ params.n }}}} as n, {layer} as layer\"}}, after: [line{layer}]}}\n      \
             - put{layer}: {{commit: {{dataset: out, how: append}}, from: table{layer}}}\n",
            lines = lines.display(),
            row = row.display(),
        ));
    }
    text
}

/// Asks for a run under a key; its id when that was acknowledged.
fn ask(address: SocketAddr, n: u64) -> Option<String> {
    let body = json!({"pipeline": "twenty", "params": {"n": n}}).to_string();
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: run-{n}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 202"), "{answer}");
    // An answer that was cut is no acknowledgement that anybody could use.
    let body = if head.contains("chunked") { dechunk(body) } else { body.to_owned() };
    let run: Json = serde_json::from_str(&body).ok()?;
    Some(run["id"].as_str()?.to_owned())
}

/// What the server takes for temporary files: nothing of it may be left.
fn aside(folder: &Path) -> PathBuf {
    folder.join("aside")
}

fn begin(folder: TempDir) -> Server {
    let aside = aside(folder.path());
    std::fs::create_dir_all(&aside).unwrap();
    Server::in_folder_with(folder, &[("TMPDIR", aside.to_str().unwrap())])
}

#[test]
fn after_kills_at_any_moment_every_run_of_twenty_stages_succeeds_and_each_effect_is_had_once() {
    kills(None, 1, 10);
}

/// Kills without a commit in between, after which one is waited for: on a busy machine a server would live too short for any, and what is
/// always killed before it can end proves nothing.
const PATIENCE: u64 = 20;

/// Longer than a stage rests at most that was under way again and again when a server died: it might be what kills them.
const PAUSE: Duration = Duration::from_secs(420);

/// The run that was asked for under each key.
type Asked = BTreeMap<u64, Option<String>>;

/// So many servers, each in a folder of its own, on one database or, one alone, in its folder; one by chance is killed.
pub fn kills(database: Option<&Database>, servers: u64, kills: u64) {
    let mut chance = Chance::from_env(kills);
    let shared = tempfile::tempdir().unwrap();
    let effects = Effects::new(shared.path());
    let places = Places { lake: shared.path().join("lake"), artifacts: shared.path().join("artifacts") };
    let config = config(&effects, &places, &storage(database));
    let made = || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("forebay.yaml"), &config).unwrap();
        begin(folder)
    };
    let mut servers: Vec<Server> = (0..servers).map(|_| made()).collect();
    let mut asked = Asked::new();
    let (mut done, mut next) = (0, 0);
    // Commits when there was last one more, and after how many kills that was.
    let mut moved = (0, 0);
    while done < chance.kills {
        let commits = effects.commits(&places.lake);
        if commits > moved.0 {
            moved = (commits, done);
        } else if done > moved.1 + PATIENCE {
            patiently("a commit is made when nobody is killed", || effects.commits(&places.lake) > commits);
        }
        // A new one for each third kill; one whose acknowledgement was cut is asked for again, under its key.
        while next * 3 <= done {
            asked.insert(next, None);
            next += 1;
        }
        let open: Vec<u64> = asked.iter().filter(|(_, id)| id.is_none()).map(|(n, _)| *n).collect();
        let address = servers[chance.below(servers.len() as u64) as usize].address;
        let asking =
            std::thread::spawn(move || open.into_iter().map(|n| (n, ask(address, n))).collect::<Vec<_>>());
        match chance.below(4) {
            0 | 1 => chance.pause(Duration::from_millis(2_500)),
            _ => {
                let before = effects.had(&places.lake);
                let clock = SystemClock::default();
                let latest = Deadline::from_now(clock.now(), Duration::from_millis(2_500));
                while effects.had(&places.lake) == before && !latest.passed(clock.now()) {
                    std::thread::park_timeout(Duration::from_micros(300));
                }
                chance.pause(Duration::from_millis(12));
            }
        }
        let killed = chance.below(servers.len() as u64) as usize;
        let folder = servers.swap_remove(killed).kill();
        done += 1;
        asked.extend(asking.join().unwrap().into_iter().filter(|(_, id)| id.is_some()));
        while chance.below(3) == 0 && done < chance.kills {
            let moment = Duration::from_millis(chance.below(900));
            Server::killed_while_it_begins(
                folder.path(),
                &[("TMPDIR", aside(folder.path()).to_str().unwrap())],
                moment,
            );
            done += 1;
        }
        servers.push(begin(folder));
    }
    let server = &servers[0];
    for (n, id) in asked.iter_mut().filter(|(_, id)| id.is_none()) {
        *id = Some(ask(server.address, *n).expect("nobody is killed any more"));
    }
    let asked: BTreeMap<u64, String> = asked.into_iter().map(|(n, id)| (n, id.unwrap())).collect();
    let again = ended(server, &asked);
    effects.check(asked.keys().copied(), server.folder.path());
    left::check(&servers, &places.lake, &places.artifacts);
    if let Some(database) = database {
        assert_eq!(database.sql("postgres", "SELECT COUNT(*) FROM run_shares"), "0");
        assert_eq!(database.sql("postgres", "SELECT COUNT(*) FROM runs WHERE ended_at IS NULL"), "0");
    }
    let known: usize = servers.iter().map(|s| left::found_again(s.folder.path())).sum();
    eprintln!(
        "{done} kills, {} runs of {} stages; attempts made again: {again:?}; {}; {known} commits were found made",
        asked.len(),
        LAYERS * STAGES.len() as u64,
        effects.told(),
    );
}

/// Waits for the end of each run, which is a success, and of no other; how often stages of each sort were tried again.
fn ended(server: &Server, asked: &BTreeMap<u64, String>) -> BTreeMap<String, u64> {
    let mut again = BTreeMap::new();
    for (n, id) in asked {
        let mut last = Json::Null;
        // As long as anything moves.
        while !last["ended_at"].is_i64() {
            let before = std::mem::take(&mut last);
            let what =
                format!("every run that was asked for goes on and ends; the last that was seen: {before}");
            patiently_for(PAUSE, &what, || {
                let (status, _, body) = server.ask("GET", &format!("/v1/runs/{id}"), &[], "");
                assert_eq!(status, 200, "an acknowledged run is gone: {body}");
                last = serde_json::from_str(&body).unwrap();
                last["ended_at"].is_i64() || last["stages"] != before["stages"]
            });
        }
        assert_eq!((&last["status"], &last["params"]["n"]), (&json!("succeeded"), &json!(n)), "{last}");
        let stages = last["stages"].as_array().unwrap();
        assert_eq!(stages.len() as u64, LAYERS * STAGES.len() as u64);
        for stage in stages {
            let sort = stage["name"].as_str().unwrap().trim_end_matches(|c: char| c.is_ascii_digit());
            *again.entry(sort.to_owned()).or_default() += stage["attempts"].as_u64().unwrap() - 1;
        }
    }
    let mut all = BTreeSet::new();
    let mut after = String::new();
    loop {
        let (_, _, body) = server.ask("GET", &format!("/v1/runs?limit=100{after}"), &[], "");
        let page: Json = serde_json::from_str(&body).unwrap();
        all.extend(page["data"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()));
        if page["has_more"] != true {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(all, asked.values().cloned().collect(), "one run for each key, and no other");
    again
}
