//! Webhooks of the registry: who listens is told what happened, signed, under one id, whatever dies meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::chance::{Chance, patiently};
use crate::receiver::{OF_MLFLOW, answering, receiver};
use crate::server::Server;

const NEAR: &str = "jobs: {webhook: {allow_private: true}}\n";

fn mlflow(server: &Server, method: &str, path: &str, body: &Json) -> (u16, Json) {
    let path = format!("/api/2.0/mlflow/{path}");
    let kind = ("content-type", "application/json");
    let (status, _, said) = server.ask(method, &path, &[kind], &body.to_string());
    (status, serde_json::from_str(&said).unwrap_or_else(|_| panic!("{status}: {said}")))
}

fn done(server: &Server, method: &str, path: &str, body: &Json) -> Json {
    let (status, said) = mlflow(server, method, path, body);
    assert_eq!(status, 200, "{method} {path}: {said}");
    said
}

/// Lets a receiver be told of these events; the webhook's id.
pub fn listen(server: &Server, hook: SocketAddr, events: &[(&str, &str)]) -> String {
    let events: Vec<Json> = events.iter().map(|(of, what)| json!({"entity": of, "action": what})).collect();
    let new =
        json!({"name": "told", "url": format!("http://{hook}/"), "events": events, "secret": OF_MLFLOW});
    let made = done(server, "POST", "webhooks", &new);
    assert!(!made.to_string().contains(OF_MLFLOW), "{made}");
    made["webhook"]["webhook_id"].as_str().unwrap().to_owned()
}

fn with_a_version(server: &Server) {
    done(server, "POST", "registered-models/create", &json!({"name": "m"}));
    done(server, "POST", "model-versions/create", &json!({"name": "m", "source": "s3://x/m"}));
}

/// Whether any file of a project holds that text.
fn holds(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, text),
        path => std::fs::read(path).is_ok_and(|b| b.windows(text.len()).any(|w| w == text.as_bytes())),
    })
}

#[test]
fn who_listens_is_told_signed_and_asked_again_under_one_id_when_it_fails() {
    // The first try fails.
    let (hook, told) = answering(|before| if before == 0 { 500 } else { 200 });
    let server = Server::start("http://127.0.0.1:9", NEAR);
    let id = listen(&server, hook, &[("MODEL_VERSION_ALIAS", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED")]);
    with_a_version(&server);
    done(&server, "POST", "registered-models/alias", &json!({"name": "m", "alias": "best", "version": "1"}));
    patiently("it is told, and told again", || told.lock().unwrap().len() == 2);
    let all = told.lock().unwrap().clone();
    for said in &all {
        assert_eq!((&said["entity"], &said["action"]), (&json!("model_version_alias"), &json!("created")));
        assert_eq!(said["data"], json!({"name": "m", "alias": "best", "version": "1"}));
        assert_eq!(said["id"], all[0]["id"], "under one id");
    }
    patiently("both tries are counted", || {
        let tries =
            |outcome| server.metric("forebay_webhook_deliveries_total", &format!("outcome=\"{outcome}\""));
        (tries("failed_again"), tries("delivered")) == (Some(1.0), Some(1.0))
    });
    // Who is removed is told nothing more.
    done(&server, "DELETE", &format!("webhooks/{id}"), &json!({}));
    done(&server, "DELETE", "registered-models/alias", &json!({"name": "m", "alias": "best"}));
    assert_eq!(mlflow(&server, "GET", &format!("webhooks/{id}"), &json!({})).0, 404);
    let folder = server.kill();
    assert!(!holds(folder.path(), OF_MLFLOW), "the secret is on disk");
    assert_eq!(told.lock().unwrap().len(), 2);
}

#[test]
fn after_kills_at_any_moment_every_acknowledged_change_is_told_and_each_under_one_id() {
    let mut chance = Chance::from_env(6);
    // Some of the tries fail, and are made again by whoever is there then.
    let (hook, told) = answering(|before| if before % 7 == 3 { 503 } else { 204 });
    let mut server = Server::start("http://127.0.0.1:9", NEAR);
    listen(&server, hook, &[("MODEL_VERSION_TAG", "SET")]);
    with_a_version(&server);
    let mut acknowledged = BTreeSet::new();
    for round in 0..chance.kills {
        for n in 0..4 + chance.below(12) {
            let key = format!("k{round}.{n}");
            let tag = json!({"name": "m", "version": "1", "key": key, "value": "v"});
            done(&server, "POST", "model-versions/set-tag", &tag);
            acknowledged.insert(key);
        }
        // Some while it tells, most before.
        chance.pause(Duration::from_millis(30));
        server = Server::in_folder(server.kill());
    }
    let by_key = || {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for said in told.lock().unwrap().iter() {
            let text = |of: &Json| of.as_str().unwrap().to_owned();
            all.entry(text(&said["data"]["key"])).or_default().insert(text(&said["id"]));
        }
        all
    };
    patiently("every change is told", || by_key().len() >= acknowledged.len());
    for (key, ids) in by_key() {
        assert!(acknowledged.remove(&key), "{key} was set");
        assert_eq!(ids.len(), 1, "{key} is told under one id: {ids:?}");
    }
    assert!(acknowledged.is_empty(), "{acknowledged:?}");
}

#[test]
fn a_tenant_is_told_of_its_own_alone_and_sees_no_others_webhooks() {
    let (hook, told) = receiver();
    let config = format!(
        "{NEAR}auth: {{required: true}}\ntenants: {{default: {{weight: 1}}, other: {{weight: 1}}}}\n"
    );
    let server = Server::start("http://127.0.0.1:9", &config);
    let key = |tenant: &str| {
        let mut command = crate::server::forebay(server.folder.path());
        let made = command.args(["--json", "key", "create", "--name", tenant, "--tenant", tenant]).output();
        let made: Json = serde_json::from_slice(&made.unwrap().stdout).unwrap();
        format!("Bearer {}", made["key"].as_str().unwrap())
    };
    let (own, other) = (key("default"), key("other"));
    let ask = |by: &str, method: &str, path: &str, body: &Json| {
        let headers = [("content-type", "application/json"), ("authorization", by)];
        let mut said = (0, Json::Null);
        // A key that was just made is heard of by and by.
        patiently("the key is known", || {
            let (status, _, body) =
                server.ask(method, &format!("/api/2.0/mlflow/{path}"), &headers, &body.to_string());
            said = (status, serde_json::from_str(&body).unwrap());
            status != 401
        });
        said
    };
    let new = |name: &str| {
        let events = json!([{"entity": "REGISTERED_MODEL", "action": "CREATED"}]);
        json!({"name": name, "url": format!("http://{hook}/"), "secret": OF_MLFLOW, "events": events})
    };
    let (status, made) = ask(&own, "POST", "webhooks", &new("own"));
    assert_eq!(status, 200, "{made}");
    let path = format!("webhooks/{}", made["webhook"]["webhook_id"].as_str().unwrap());
    for (method, path) in
        [("GET", path.clone()), ("PATCH", path.clone()), ("DELETE", path.clone()), ("POST", path + "/test")]
    {
        assert_eq!(ask(&other, method, &path, &json!({})).0, 404, "{method}");
    }
    assert_eq!(ask(&other, "GET", "webhooks", &json!({})), (200, json!({})));
    for (by, name) in [(&other, "theirs"), (&own, "ours"), (&other, "theirs too"), (&own, "last")] {
        assert_eq!(ask(by, "POST", "registered-models/create", &json!({"name": name})).0, 200);
    }
    let names = || -> BTreeSet<String> {
        told.lock().unwrap().iter().map(|said| said["data"]["name"].as_str().unwrap().to_owned()).collect()
    };
    patiently("it is told", || names().len() >= 2);
    assert_eq!(names(), BTreeSet::from(["last".to_owned(), "ours".to_owned()]));
}
