//! `kill -9` at random points, again and again: every job that was acknowledged ends exactly once, and whoever is to be told
//! is told, always under one id. 20 kills unless the environment says otherwise ([`crate::chance`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::RunId;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use testkit::{FakeUpstream, Script};

use crate::chance::{Chance, patiently};
use crate::on_postgres::{Database, reader, storage};
use crate::server::Server;

/// 32 bytes, and their base64.
pub const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// HMAC-SHA256 by its definition, apart from the one under test.
pub fn hmac(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks(3).flat_map(|c| {
        let n = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
        (0..4).map(move |i| match i <= c.len() {
            true => char::from(LETTERS[(n >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        })
    });
    letters.collect()
}

/// What receivers were told: id of the message and of the job, with how it ended.
type Told = Arc<Mutex<Vec<(String, String, String)>>>;

/// Takes webhooks and verifies each, for as long as the test runs.
fn receiver() -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told: Told = Arc::default();
    let out = told.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let told = out.clone();
            // One that is cut by a kill is none.
            std::thread::spawn(move || take(socket.unwrap(), &told).unwrap_or_default());
        }
    });
    (address, told)
}

fn take(mut socket: TcpStream, told: &Told) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) => _ = headers.insert(name.to_lowercase(), value.to_owned()),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body)?;
    let (id, at) = (&headers["webhook-id"], &headers["webhook-timestamp"]);
    let signed = [format!("{id}.{at}.").as_bytes(), &body].concat();
    assert_eq!(
        headers["webhook-signature"],
        format!("v1,{}", base64(&hmac(KEY, &signed))),
        "it does not verify"
    );
    let event: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!((&event["specversion"], &event["id"]), (&json!("1.0"), &json!(id)));
    let word = |v: &Json| v.as_str().unwrap().to_owned();
    told.lock().unwrap().push((id.clone(), word(&event["subject"]), word(&event["data"]["status"])));
    socket.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
}

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
                job["status"] == "succeeded" && told.lock().unwrap().iter().any(|(_, job, _)| job == id)
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
            .filter(|(_, job, _)| *job == head.id.to_string())
            .map(|(id, _, _)| id.as_str())
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
