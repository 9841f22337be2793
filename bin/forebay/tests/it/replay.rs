//! Requests that are sent twice: one call, one charge, one answer.

use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{EndedHow, FakeUpstream, Handle, Script};

use crate::server::{Server, answer, eventually, forebay, read_until};

pub async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

pub fn script(script: Json) -> Script {
    serde_json::from_value(script).unwrap()
}

pub const CHAT: &str = "/v1/chat/completions";

pub fn chat(stream: bool) -> String {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello there"}]})
        .to_string()
}

/// The value of a header in a head in lower case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

pub async fn left(up: &Handle, no: u64) {
    let end = tokio::time::timeout(Duration::from_secs(10), up.wait_for_end(no)).await;
    assert_eq!(end.expect("the upstream learns that nobody reads").unwrap().how, EndedHow::ClientLeft);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_requests_at_once_are_one_call_and_one_charge() {
    let up = upstream(json!({"first_token": 300, "token_interval": 2, "tokens": 50})).await;
    let server = Server::start(&up.base_url(), "");
    for (n, stream) in [(1, false), (2, true)] {
        let name = format!("order {n}");
        let asking = || {
            let headers = [("idempotency-key", name.as_str())];
            server.ask("POST", CHAT, &headers, &chat(stream))
        };
        let answers: Vec<_> = std::thread::scope(|s| {
            let all: Vec<_> = (0..100).map(|_| s.spawn(asking)).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (_, first, body) = &answers[0];
        let id = header(first, "x-request-id").unwrap();
        assert!(answers.iter().all(|(status, head, b)| {
            (*status, b, header(head, "x-request-id")) == (200, body, Some(id))
        }));
        let joined =
            answers.iter().filter(|(_, head, _)| header(head, "idempotent-replayed") == Some("true"));
        assert_eq!(joined.count(), 99);
        assert_eq!(up.log().len(), n, "one call");
        eventually("one request", || server.metric("forebay_requests_total", "") == Some(n as f64));
        let (_, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
        let record: Json = serde_json::from_str(&record).unwrap();
        assert_eq!(record["attempts"].as_array().unwrap().len(), 1);
        // A repeat of what is over is no charge either.
        let (status, head, again) = asking();
        assert_eq!((status, &again, header(&head, "idempotent-replayed")), (200, body, Some("true")));
        assert_eq!(up.log().len(), n);
    }
    let costs = forebay(server.folder.path()).args(["--json", "costs", "--by", "tenant"]).output().unwrap();
    let costs: Json = serde_json::from_slice(&costs.stdout).unwrap();
    let used = up.log().iter().map(|r| r.tokens_sent).sum::<u64>();
    assert_eq!(costs["total"]["output_tokens"], json!(used), "the ledger has what two calls used: {costs}");
    assert_eq!(server.metric("forebay_replays_total", r#"outcome="joined""#), Some(198.0));
    assert_eq!(server.metric("forebay_replays_total", r#"outcome="replayed""#), Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_answered_once_and_another_request_under_its_key_is_refused() {
    let up = upstream(json!({"tokens": 5})).await;
    let server = Server::start(&up.base_url(), "");
    let message =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let input = json!({"input": "A sentence of a document."}).to_string();
    let jsons = ("content-type", "application/json");
    for (n, (path, body)) in [(CHAT, chat(true)), ("/v1/messages", message), ("/v1/pipelines/shout", input)]
        .into_iter()
        .enumerate()
    {
        let name = format!("key of {path}");
        let ask =
            |path: &str, body: &str| server.ask("POST", path, &[jsons, ("idempotency-key", &name)], body);
        let (status, head, first) = ask(path, &body);
        assert_eq!((status, header(&head, "idempotent-replayed")), (200, None), "{first}");
        let (status, head, again) = ask(path, &body);
        assert_eq!((status, header(&head, "idempotent-replayed"), &again), (200, Some("true"), &first));
        assert_eq!(up.log().len(), n + 1, "{path}");
        for (path, body) in
            [(path, body.replace("hi", "ho").replace("e", "ee")), ("/v1/chat/completions?x", body)]
        {
            let (status, _, refusal) = ask(path, &body);
            assert_eq!((status, refusal.contains("idempotency_key_reused")), (422, true), "{refusal}");
        }
        assert_eq!(up.log().len(), n + 1, "nothing of it was begun");
    }
    let long = "k".repeat(256);
    for wrong in ["", long.as_str()] {
        let (status, _, body) = server.ask("POST", CHAT, &[("idempotency-key", wrong)], &chat(false));
        assert_eq!((status, body.contains("idempotency-key")), (400, true), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_tried_again_and_one_that_may_not_is_kept() {
    let up = upstream(json!({"scenario": "S04"})).await;
    let server = Server::with_model(&up.base_url(), ", limits: {requests_per_minute: 3}", "");
    let ask = |name: &str, stream| server.ask("POST", CHAT, &[("idempotency-key", name)], &chat(stream));
    assert_eq!(ask("a", false).0, 503);
    up.set_script(script(json!({"tokens": 5}))).unwrap();
    let (status, head, _) = ask("a", false);
    assert_eq!((status, header(&head, "idempotent-replayed")), (200, None), "it is tried again");
    up.set_script(script(json!({"scenario": "S12"}))).unwrap();
    let calls = up.log().len();
    let (status, _, first) = ask("b", true);
    assert_eq!((status, first.contains("context_length_exceeded")), (400, true), "{first}");
    let (status, head, again) = ask("b", true);
    assert_eq!((status, header(&head, "idempotent-replayed"), again), (400, Some("true"), first));
    assert_eq!(up.log().len(), calls + 1, "what is wrong stays wrong");
    // Refused at the door: the fourth of this minute. Of that nothing is kept.
    up.set_script(script(json!({"tokens": 5}))).unwrap();
    for _ in 0..2 {
        let (status, head, body) = ask("c", false);
        assert_eq!((status, header(&head, "idempotent-replayed")), (429, None), "{body}");
    }
    assert_eq!(ask("a", false).0, 200, "what is kept needs no admission");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_reader_that_leaves_stops_the_upstream_and_not_the_first() {
    let up = upstream(json!({"token_interval": 10, "tokens": 6_000})).await;
    let server = Server::start(&up.base_url(), "");
    let open = || server.open("POST", CHAT, &[("idempotency-key", "k")], chat(true).as_bytes());
    let (mut first, mut second) = (open(), open());
    read_until(&mut first, "content\":\"");
    read_until(&mut second, "content\":\"");
    drop(first);
    let sent = up.wait_for_arrival(1).await.unwrap().tokens_sent;
    let on = tokio::time::timeout(Duration::from_secs(10), up.wait_for_tokens(1, sent + 20)).await;
    assert!(on.unwrap().unwrap().end.is_none(), "one of two left");
    drop(second);
    left(&up, 1).await;
    eventually("it is settled", || {
        server.metric("forebay_requests_total", r#"ending="cancelled""#) == Some(1.0)
    });
    // The key is free again.
    up.set_script(script(json!({"tokens": 5}))).unwrap();
    let (status, head, _) = server.ask("POST", CHAT, &[("idempotency-key", "k")], &chat(true));
    assert_eq!((status, header(&head, "idempotent-replayed")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_keys_do_not_see_each_others_answers() {
    let up = upstream(json!({"tokens": 5})).await;
    let server = Server::start(&up.base_url(), "auth: {required: true}\ntenants: {gold: {}, iron: {}}\n");
    let create = |tenant: &str| {
        let made = forebay(server.folder.path())
            .args(["key", "create", "--name", "k", "--tenant", tenant])
            .output()
            .unwrap();
        format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    };
    let keys = [create("gold"), create("gold"), create("iron")];
    for key in &keys {
        let known = || server.ask("GET", "/v1/models", &[("authorization", key)], "").0 == 200;
        eventually("the server knows the key", known);
    }
    let mut ids = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let headers =
            [("authorization", key.as_str()), ("idempotency-key", "the same"), ("forebay-resume", "30s")];
        let (status, head, body) = server.ask("POST", CHAT, &headers, &chat(true));
        assert_eq!((status, header(&head, "idempotent-replayed")), (200, None), "{body}");
        assert_eq!(up.log().len(), n + 1, "each is a request of its own");
        ids.push(header(&head, "x-request-id").unwrap().to_owned());
    }
    let read = |key: &str, id: &str| {
        server.ask("GET", &format!("/v1/requests/{id}/events"), &[("authorization", key)], "").0
    };
    // A request's events are its tenant's, as its record is.
    assert_eq!((read(&keys[0], &ids[0]), read(&keys[1], &ids[0])), (200, 200));
    assert_eq!(read(&keys[2], &ids[0]), 410, "as if there were none");
    assert_eq!(read("Bearer fb_none", &ids[0]), 401);
    // And nobody comes in without a valid key.
    let (status, _, _) = server.ask("POST", CHAT, &[("idempotency-key", "the same")], &chat(true));
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_kept_within_their_memory_and_the_oldest_are_forgotten() {
    let up = upstream(json!({"tokens": 6_000})).await;
    let server = Server::start(&up.base_url(), "server: {replay: {memory: 1mb, answer: 200kb}}\n");
    let ask = |n: usize| server.ask("POST", CHAT, &[("idempotency-key", &n.to_string())], &chat(false));
    for n in 0..40 {
        assert_eq!(ask(n).0, 200);
        let held = server.metric("forebay_replay_memory_bytes", "").unwrap();
        assert!(held > 0.0 && held <= 1e6, "{held}");
    }
    assert_eq!(header(&ask(39).1, "idempotent-replayed"), Some("true"));
    assert_eq!((header(&ask(0).1, "idempotent-replayed"), up.log().len()), (None, 41), "a new request");
    // Longer than an answer may be: its reader gets all of it, and a repeat is a new request.
    up.set_script(script(json!({"tokens": 20_000}))).unwrap();
    let long = || server.ask("POST", CHAT, &[("idempotency-key", "long")], &chat(true));
    for calls in [42, 43] {
        let (status, head, body) = long();
        assert_eq!((status, header(&head, "idempotent-replayed"), up.log().len()), (200, None, calls));
        assert!(body.matches("\"content\":").count() >= 20_000, "all of it");
        assert!(body.ends_with("data: [DONE]\n\n"));
        assert!(server.metric("forebay_replay_memory_bytes", "").unwrap() <= 1e6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_does_not_hold_back_another_of_the_same_answer() {
    let up = upstream(json!({"tokens": 20_000})).await;
    let server = Server::start(&up.base_url(), "");
    let headers = [("idempotency-key", "k")];
    // It reads nothing.
    let stalled = server.open("POST", CHAT, &headers, chat(true).as_bytes());
    let (_, _, body) = server.ask("POST", CHAT, &headers, &chat(true));
    assert!(body.ends_with("data: [DONE]\n\n"));
    let (_, _, late) = tokio::task::spawn_blocking(move || answer(stalled)).await.unwrap();
    assert_eq!(late, body, "and has missed nothing");
    assert_eq!(up.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_all_its_readers_have_stopped_to_read_is_given_up() {
    let up = upstream(json!({"tokens": 1_000_000})).await;
    let server = Server::start(&up.base_url(), "server: {send_timeout: 500ms}\n");
    let headers = [("idempotency-key", "k"), ("forebay-resume", "100ms")];
    let open = || server.open("POST", CHAT, &headers, chat(true).as_bytes());
    let stalled = [open(), open()];
    left(&up, 1).await;
    eventually("it is settled", || {
        server.metric("forebay_requests_total", r#"ending="cancelled""#) == Some(1.0)
    });
    drop(stalled);
}
