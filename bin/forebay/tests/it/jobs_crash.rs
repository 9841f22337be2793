//! `kill -9` at random points, again and again: every job that was acknowledged ends exactly once, and whoever is to be told
//! is told, always under one id. 20 kills unless the environment says otherwise ([`crate::chance`]).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use contract::RunId;
use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::chance::{Chance, patiently};
use crate::on_postgres::{Database, reader, storage};
use crate::receiver::{SECRET, receiver};
use crate::server::Server;

/// Submits a job; its id when that was acknowledged.
fn submit(address: SocketAddr, n: u64) -> Option<String> {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"job {n}"}}]}}"#);
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nprefer: respond-async\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 202"), "{answer}");
    // An answer that was cut is no acknowledgement that anybody could use.
    let job: Json = serde_json::from_str(body).ok()?;
    Some(job["id"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_any_moment_every_acknowledged_job_ends_once_and_is_told_under_one_id() {
    kills(None, 1, 20).await;
}

/// So many servers, each in a folder of its own, on one database or, one alone, in its folder; one by chance is killed.
pub async fn kills(database: Option<&Database>, servers: u64, kills: u64) {
    let mut chance = Chance::from_env(kills);
    let storage = storage(database);
    let kills = chance.kills;
    let script: Script =
        serde_json::from_value(json!({"tokens": 8, "first_token": 40, "jitter": 0.9})).unwrap();
    let up = FakeUpstream::start(script).await.unwrap();
    let base = up.base_url();
    let (folders, acknowledged, told) = tokio::task::spawn_blocking(move || {
        let (hook, told) = receiver();
        let config = format!(
            "jobs: {{parallel: 3, webhook: {{url: 'http://{hook}/', secret: {SECRET}, allow_private: true}}}}\n{storage}"
        );
        let mut servers: Vec<Server> = (0..servers).map(|_| Server::start(&base, &config)).collect();
        let mut acknowledged = BTreeSet::new();
        let mut n = 0;
        for _ in 0..kills {
            let addresses: Vec<_> = servers.iter().map(|s| s.address).collect();
            let more = 4 + chance.below(24);
            let first = n;
            n += more;
            // Four callers at a time.
            let submitting: Vec<_> = (0..4)
                .map(|who| {
                    let own = (first..first + more).filter(move |n| n % 4 == who);
                    let address = addresses[who as usize % addresses.len()];
                    std::thread::spawn(move || own.filter_map(|n| submit(address, n)).collect::<Vec<_>>())
                })
                .collect();
            // The moment is by chance: some while it is asked, some while it works, some while it tells.
            chance.pause(Duration::from_millis(400));
            let folder = servers.swap_remove(chance.below(servers.len() as u64) as usize).kill();
            acknowledged.extend(submitting.into_iter().flat_map(|s| s.join().unwrap()));
            servers.push(Server::in_folder(folder));
        }
        let server = &servers[0];
        let open = |server: &Server| {
            let (status, _, body) = server.ask("GET", "/v1/jobs?limit=100", &[], "");
            // The database may be busy with what the dead left.
            if status == 503 {
                return true;
            }
            let list: Json = serde_json::from_str(&body).unwrap();
            list["data"].as_array().unwrap_or_else(|| panic!("{status}: {body}")).iter().any(|j| !j["ended_at"].is_i64())
        };
        patiently("every job ends", || !open(server));
        for id in &acknowledged {
            patiently("it ends and somebody is told", || {
                let (status, _, body) = server.ask("GET", &format!("/v1/jobs/{id}"), &[], "");
                assert_eq!(status, 200, "an acknowledged job is gone: {body}");
                let job: Json = serde_json::from_str(&body).unwrap();
                job["status"] == "succeeded" && told.lock().unwrap().iter().any(|event| event["subject"] == *id)
            });
        }
        let told = told.lock().unwrap().clone();
        let folders: Vec<_> = servers.into_iter().map(Server::kill).collect();
        (folders, acknowledged, told)
    })
    .await
    .unwrap();

    let reader = reader(folders[0].path(), database).await;
    let mut attempts = 0;
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = reader.runs.list("job", None, after, 100).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        all.extend(page);
    }
    assert!(all.len() >= acknowledged.len());
    for head in &all {
        let journal = reader.runs.get(head.id).await.unwrap().unwrap().entries;
        let count =
            |what: &str| journal.iter().filter(|e| e.contains(&format!(r#""entry":"{what}""#))).count();
        assert_eq!(
            (head.status.as_str(), count("ended"), count("done")),
            ("succeeded", 1, 1),
            "{}: {journal:#?}",
            head.id
        );
        assert_eq!(reader.runs.outputs(head.id).await.unwrap().len(), 1);
        attempts += count("leased");
        let messages: BTreeSet<&str> = told
            .iter()
            .filter(|event| event["subject"] == head.id.to_string())
            .inspect(|event| assert!(event["data"]["status"].is_string(), "{event}"))
            .map(|event| event["id"].as_str().unwrap())
            .collect();
        assert_eq!(messages.len(), 1, "told under one id: {messages:?}");
    }
    for id in &acknowledged {
        assert!(all.iter().any(|h| h.id == id.parse::<RunId>().unwrap()));
    }
    assert!(up.log().len() <= attempts, "no call but those of an attempt: {} of {attempts}", up.log().len());
    eprintln!(
        "{kills} kills: {} acknowledged, {} stored, {attempts} attempts, {} calls, {} webhooks",
        acknowledged.len(),
        all.len(),
        up.log().len(),
        told.len()
    );
}
