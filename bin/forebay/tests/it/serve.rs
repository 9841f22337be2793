//! The running server, end to end: both SDKs' protocols, the native surface, keys, cancellation and the ledger.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::server::{Server, eventually, forebay};

fn script(v: Json) -> Script {
    serde_json::from_value(v).unwrap()
}

fn parse(body: &str) -> Json {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("not JSON ({e}): {body}"))
}

/// The data of the events of a stream, JSON or not.
fn events(body: &str) -> Vec<String> {
    body.lines().filter_map(|l| l.strip_prefix("data: ")).map(str::to_owned).collect()
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_answer_is_complete_priced_and_in_the_ledger() {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let (status, head, body) = server.chat("");
        let body = parse(&body);
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("one two three")));
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert!(head.contains("forebay-cost-nanousd: "), "{head}");
        let id = body["id"].as_str().unwrap().to_owned();
        // The journal answers at once, before the database has it.
        let (status, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
        let record = parse(&record);
        assert_eq!(status, 200, "{record}");
        assert_eq!(record["ending"], "complete");
        assert_eq!(record["usage"]["output_tokens"], body["usage"]["completion_tokens"]);
        let (i, o) = (record["usage"]["input_tokens"].as_i64(), record["usage"]["output_tokens"].as_i64());
        assert_eq!(
            record["cost"].as_i64(),
            Some(i.unwrap() * 1_000 + o.unwrap() * 2_000),
            "$1 and $2 a million"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_usage_only_when_asked_and_always_with_done() {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        for (more, chunks) in [("", 0), (r#","stream_options":{"include_usage":true}"#, 1)] {
            let (status, head, body) = server.chat(&format!(r#","stream":true{more}"#));
            assert_eq!(status, 200);
            assert!(head.contains("content-type: text/event-stream"));
            let events = events(&body);
            assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
            let json: Vec<Json> = events.iter().filter(|e| *e != "[DONE]").map(|e| parse(e)).collect();
            let text: String =
                json.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(text, "one two three");
            assert_eq!(json.iter().filter(|e| e["usage"].is_object()).count(), chunks);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anthropic_surface_answers_from_the_same_model() {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let ask = |more: &str| {
            let body = format!(
                r#"{{"model":"m","max_tokens":50,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#
            );
            server.ask("POST", "/v1/messages", &[], &body)
        };
        let (status, _, body) = ask("");
        assert_eq!((status, &parse(&body)["content"][0]["text"]), (200, &json!("one two three")), "{body}");
        let (_, _, body) = ask(r#","stream":true"#);
        let kinds: Vec<Json> = events(&body).iter().map(|e| parse(e)["type"].clone()).collect();
        assert_eq!(kinds.first(), Some(&json!("message_start")));
        assert_eq!(kinds.last(), Some(&json!("message_stop")));
        let (status, _, body) = ask(r#","temperature":"hot""#);
        assert_eq!((status, &parse(&body)["type"]), (400, &json!("error")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_answers_natively_and_as_a_model() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let document = "First sentence of some length here. Second sentence of some length there.";
        let text = [("content-type", "text/plain")];
        let (status, _, body) = server.ask("POST", "/v1/pipelines/shout", &text, document);
        let body = parse(&body);
        assert_eq!(
            (status, &body["output"], &body["complete"]),
            (200, &json!("LOUD"), &json!(true)),
            "{body}"
        );
        let sse = [("content-type", "text/plain"), ("accept", "text/event-stream")];
        let (_, _, body) = server.ask("POST", "/v1/pipelines/shout", &sse, document);
        let kinds: Vec<Json> = events(&body).iter().map(|e| parse(e)["type"].clone()).collect();
        assert_eq!(kinds.first(), Some(&json!("accepted")));
        assert!(kinds.contains(&json!("delta")), "{kinds:?}");
        assert_eq!(kinds.last(), Some(&json!("done")));
        let ids: Vec<u64> = body.lines().filter_map(|l| l.strip_prefix("id: ")?.parse().ok()).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]), "ids increase");
        let chat = json!({"model": "shout", "messages": [{"role": "user", "content": document}]}).to_string();
        let (status, _, body) = server.ask("POST", "/v1/chat/completions", &[], &chat);
        assert_eq!((status, &parse(&body)["choices"][0]["message"]["content"]), (200, &json!("LOUD")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_model_leaves_the_draft_and_says_why() {
    let server = blocking(|| Server::start("http://127.0.0.1:1", "")).await;
    blocking(move || {
        let document =
            "A first sentence of some length stands here. A second one of some length stands there.";
        let (status, _, body) =
            server.ask("POST", "/v1/pipelines/shout", &[("content-type", "text/plain")], document);
        let body = parse(&body);
        assert_eq!((status, &body["complete"]), (200, &json!(false)), "{body}");
        assert!(body["output"].as_str().is_some_and(|t| document.contains(t.trim())), "the draft: {body}");
        assert_eq!(body["error"]["code"], "upstream_unreachable");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_clear_error_of_the_right_status() {
    let up = FakeUpstream::start(Script::default()).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let chat = |body: &str| server.ask("POST", "/v1/chat/completions", &[], body);
        for (body, status, code) in [
            ("{", 400, "invalid_request"),
            ("[]", 400, "invalid_request"),
            (r#"{"model":"m"}"#, 400, "invalid_request"),
            (r#"{"model":"m","messages":[]}"#, 400, "invalid_request"),
            (r#"{"model":"nobody","messages":[{"role":"user","content":"x"}]}"#, 404, "not_found"),
            (
                r#"{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#,
                400,
                "invalid_request",
            ),
            (
                r#"{"model":"m","temperature":"hot","messages":[{"role":"user","content":"x"}]}"#,
                400,
                "invalid_request",
            ),
        ] {
            let (s, _, answer) = chat(body);
            assert_eq!(
                (s, parse(&answer)["error"]["code"].as_str()),
                (status, Some(code)),
                "{body}: {answer}"
            );
        }
        let deep = format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(chat(&deep).0, 400, "a deeply nested body");
        let pdf = server.ask(
            "POST",
            "/v1/pipelines/shout",
            &[("content-type", "application/pdf")],
            "no PDF at all",
        );
        assert_eq!((pdf.0, &parse(&pdf.2)["error"]["code"]), (400, &json!("invalid_document")));
        assert_eq!(server.ask("POST", "/v1/pipelines/shout", &[("content-type", "text/plain")], "").0, 400);
        assert_eq!(server.ask("POST", "/v1/pipelines/none", &[], "x").0, 404);
        let many: Vec<(String, String)> = (0..300).map(|n| (format!("x-h{n}"), "v".into())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(server.ask("GET", "/healthz", &many, "").0, 431, "a header flood");
        assert_eq!(server.ask("GET", "/healthz", &[], "").0, 200, "the server is unharmed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_stops_the_upstream_and_settles() {
    let slow = script(json!({"first_token": 60_000}));
    let up = FakeUpstream::start(slow).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    let socket = {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        server.open("POST", "/v1/chat/completions", &[], body.as_bytes())
    };
    up.wait_for_arrival(1).await.unwrap();
    drop(socket);
    let end = tokio::time::timeout(Duration::from_secs(5), up.wait_for_end(1)).await;
    let end = end.expect("the upstream notices").unwrap();
    assert_eq!(serde_json::to_value(end.how).unwrap(), json!("client_left"));
    blocking(move || {
        let (_, _, metrics) = server.ask("GET", "/metrics", &[], "");
        assert!(metrics.contains(r#"ending="cancelled""#));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_door_until_it_is_revoked() {
    let up = FakeUpstream::start(Script::default()).await.unwrap();
    let server = Server::start(&up.base_url(), "auth: {required: true}\n");
    blocking(move || {
        assert_eq!(server.chat("").0, 401);
        let key = |args: &[&str]| {
            let out = forebay(server.folder.path()).arg("--json").arg("key").args(args).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            parse(&String::from_utf8_lossy(&out.stdout))
        };
        let created = key(&["create", "--name", "test", "--tenant", "gold"]);
        let (secret, id) = (created["key"].as_str().unwrap(), created["id"].as_str().unwrap());
        let bearer = format!("Bearer {secret}");
        let status = || server.ask("GET", "/v1/models", &[("authorization", &bearer)], "").0;
        eventually("the key is known", || status() == 200);
        key(&["revoke", id]);
        eventually("the key is revoked", || status() == 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_answer_that_was_seen_and_books_the_rest() {
    killed("").await;
}

/// `kill -9` behind twenty answers and under one, with that part of a configuration.
pub async fn killed(storage: &str) {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let server = Server::start(&up.base_url(), storage);
    let (folder, ids) = blocking(move || {
        let ids: Vec<String> =
            (0..20).map(|_| parse(&server.chat("").2)["id"].as_str().unwrap().to_owned()).collect();
        (server.kill(), ids)
    })
    .await;
    up.set_script(script(json!({"first_token": 60_000}))).unwrap();
    let server = blocking(move || Server::in_folder(folder)).await;
    let mut waits = server.open(
        "POST",
        "/v1/chat/completions",
        &[],
        br#"{"model":"m","messages":[{"role":"user","content":"never answered"}]}"#,
    );
    up.wait_for_arrival(21).await.unwrap();
    blocking(move || {
        let folder = server.kill();
        let _ = waits.read(&mut [0; 1]);
        let server = Server::in_folder(folder);
        for id in ids {
            let (status, _, body) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
            assert_eq!((status, &parse(&body)["ending"]), (200, &json!("complete")));
        }
        let costs =
            forebay(server.folder.path()).args(["--json", "costs", "--by", "tenant"]).output().unwrap();
        assert!(costs.status.success(), "{}", String::from_utf8_lossy(&costs.stderr));
        let costs = parse(&String::from_utf8_lossy(&costs.stdout));
        let total = &costs["total"];
        assert_eq!(total["requests"], 21, "20 complete and one lost: {costs}");
        // The lost one is booked at what it held: its prompt and a capped answer, not all a model could ever write.
        let tokens = total["input_tokens"].as_u64().unwrap() + total["output_tokens"].as_u64().unwrap();
        assert!(tokens < 20 * 100 + 1_200, "{costs}");
    })
    .await;
}
