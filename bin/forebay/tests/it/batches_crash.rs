//! `kill -9` at random points of a batch, again and again: every line ends once, in one file.
//! 10 kills unless the environment says otherwise ([`crate::chance`]).

use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::chance::{Chance, patiently};
use crate::on_postgres::{Database, reader, storage};
use crate::server::Server;

const LINES: usize = 200;

fn get(server: &Server, path: &str) -> String {
    let (status, _, body) = server.ask("GET", path, &[], "");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn parse(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
}

fn post(server: &Server, path: &str, kind: &str, body: &str) -> Json {
    let (status, _, text) = server.ask("POST", path, &[("content-type", kind)], body);
    assert_eq!(status, 200, "{path}: {text}");
    parse(&text)
}

/// Every seventh line asks for a model that there is not.
fn lines() -> String {
    let line = |n: usize| {
        let model = if n.is_multiple_of(7) { "nobody" } else { "m" };
        json!({"custom_id": format!("id-{n}"), "method": "POST", "url": "/v1/chat/completions",
               "body": {"model": model, "messages": [{"role": "user", "content": format!("line {n}")}]}})
        .to_string()
            + "\n"
    };
    (0..LINES).map(line).collect()
}

fn custom_ids(server: &Server, batch: &Json, file: &str) -> Vec<String> {
    let Some(id) = batch[file].as_str() else { return Vec::new() };
    let content = get(server, &format!("/v1/files/{id}/content"));
    content.lines().map(|l| parse(l)["custom_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_any_moment_every_line_of_a_batch_ends_once_in_one_file() {
    kills(None, 1, 10).await;
}

/// So many servers, each in a folder of its own, on one database or, one alone, in its folder; one by chance is killed.
pub async fn kills(database: Option<&Database>, servers: u64, kills: u64) {
    let mut chance = Chance::from_env(kills);
    let config = format!("jobs: {{parallel: 4}}\n{}", storage(database));
    let script: Script =
        serde_json::from_value(json!({"tokens": 4, "first_token": 5, "jitter": 0.9})).unwrap();
    let up = FakeUpstream::start(script).await.unwrap();
    let base = up.base_url();
    let (folders, id) = tokio::task::spawn_blocking(move || {
        let mut servers: Vec<Server> = (0..servers).map(|_| Server::start(&base, &config)).collect();
        let server = &servers[0];
        let form = format!(
            "--B\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
             --B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"l.jsonl\"\r\n\r\n{}\r\n--B--\r\n",
            lines()
        );
        let file = post(server, "/v1/files", "multipart/form-data; boundary=B", &form);
        let wanted = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        let batch = post(server, "/v1/batches", "application/json", &wanted.to_string());
        let id = batch["id"].as_str().unwrap().to_owned();
        for _ in 0..chance.kills {
            chance.pause(Duration::from_millis(700));
            let killed = servers.swap_remove(chance.below(servers.len() as u64) as usize);
            servers.push(Server::in_folder(killed.kill()));
        }
        let server = &servers[0];
        let mut batch = Json::Null;
        patiently("the batch ends", || {
            batch = parse(&get(server, &format!("/v1/batches/{id}")));
            batch["status"] == "completed"
        });
        let failed = LINES.div_ceil(7);
        assert_eq!(
            batch["request_counts"],
            json!({"total": LINES, "completed": LINES - failed, "failed": failed})
        );
        let of = |wrong: bool| {
            (0..LINES).filter(|n| n.is_multiple_of(7) == wrong).map(|n| format!("id-{n}")).collect::<Vec<_>>()
        };
        assert_eq!(custom_ids(server, &batch, "output_file_id"), of(false));
        assert_eq!(custom_ids(server, &batch, "error_file_id"), of(true));
        (servers.into_iter().map(Server::kill).collect::<Vec<_>>(), id)
    })
    .await
    .unwrap();
    let reader = reader(folders[0].path(), database).await;
    assert!(reader.batches.open().await.unwrap().is_empty(), "{id} is not begun again");
}
