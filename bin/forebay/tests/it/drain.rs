//! SIGTERM: what runs may finish, nothing new comes in, and what cannot finish ends with an error that says so.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::{Server, answer, eventually, read_rest, read_until};
use crate::socket;

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

fn refuses(address: SocketAddr) {
    eventually("new connections are refused", || TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_answers_under_way_and_queued_ones_finish() {
    let up = upstream(json!({"token_interval": 10, "tokens": 60})).await;
    let mut server = Server::with_model(&up.base_url(), ", max_concurrency: 1", "");
    let mut stream = server.open_chat("m", r#","stream":true"#);
    up.wait_for_tokens(1, 5).await.unwrap();
    let queued = server.open_chat("m", "");
    let mut talk = socket::connect(&server, "shout").await;
    socket::say(&mut talk, json!({"type": "input", "input": "A sentence of a document."})).await;
    eventually("both wait", || server.metric("forebay_model_queue_requests", "") == Some(2.0));
    server.terminate();
    refuses(server.address);
    assert!(read_until(&mut stream, "[DONE]").contains(r#""finish_reason":"stop""#));
    let (status, _, body) = tokio::task::spawn_blocking(move || answer(queued)).await.unwrap();
    assert_eq!((status, body.contains(r#""finish_reason":"stop""#)), (200, true), "{body}");
    let events = socket::rest(&mut talk).await;
    assert_eq!(events.last().unwrap()["type"], "done");
    assert!(events.iter().all(|e| e["type"] != "error"), "{events:?}");
    assert!(tokio::task::spawn_blocking(move || server.wait()).await.unwrap().success());
}

/// Everything that can be under way is under way, the server is told to stop by `stop`, and each gets its error.
async fn cut(more: &str, stop: impl FnOnce(&Server)) {
    let up = upstream(
        json!({"tokens": 60, "faults": [{"fault": {"stall": {"after_tokens": 20, "lasting": 60_000}}}]}),
    );
    let up = up.await;
    let mut server = Server::with_model(&up.base_url(), ", max_concurrency: 4", more);
    let mut streamed = server.open_chat("m", r#","stream":true"#);
    let head = read_until(&mut streamed, "content\":\"").to_lowercase();
    let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().to_owned();
    let whole = server.open_chat("m", "");
    up.wait_for_arrival(2).await.unwrap();
    let events = [("content-type", "text/plain"), ("accept", "text/event-stream")];
    let native = server.open("POST", "/v1/pipelines/shout", &events, b"A sentence of a document.");
    up.wait_for_arrival(3).await.unwrap();
    let mut talk = socket::connect(&server, "shout").await;
    socket::say(&mut talk, json!({"type": "input", "input": "A sentence of a document."})).await;
    while socket::next(&mut talk).await["type"] != "delta" {}
    let queued = server.open_chat("m", "");
    eventually("one waits", || server.metric("forebay_model_queue_requests", "") == Some(1.0));
    stop(&server);

    let (streamed, whole, native, queued) = tokio::task::spawn_blocking(move || {
        (read_rest(streamed), answer(whole), answer(native), answer(queued))
    })
    .await
    .unwrap();
    assert!(streamed.contains(r#""code":"draining""#), "{streamed}");
    assert_eq!((whole.0, whole.2.contains(r#""draining""#)), (503, true), "{}", whole.2);
    assert_eq!((queued.0, queued.2.contains(r#""draining""#)), (503, true), "{}", queued.2);
    assert!(whole.1.contains("retry-after: 5") && queued.1.contains("retry-after: 5"), "{}", whole.1);
    let (_, last) = native.2.split_once(r#""code":"draining""#).expect("the error");
    assert!(last.contains(r#""partial":true"#) && last.contains("event: done"), "{}", native.2);
    let events = socket::rest(&mut talk).await;
    let [.., error, done] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (&error["code"], &error["partial"], &done["type"]),
        (&json!("draining"), &json!(true), &json!("done"))
    );

    let (ended, server) = tokio::task::spawn_blocking(move || (server.wait(), server)).await.unwrap();
    assert!(ended.success(), "{ended}");
    // The end of each is in the ledger: nothing is found lost by the next server.
    let server = Server::in_folder(server.kill());
    let (_, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
    let record: Json = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["ending"], &record["error"]["code"]),
        (&json!("partial"), &json!("draining")),
        "{record}"
    );
    let (used, calls) = (&record["usage"]["output_tokens"], record["attempts"].as_array().map(Vec::len));
    assert!(used.as_u64() > Some(0) && calls == Some(1), "what was cut is charged: {record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_cuts_what_is_under_way_with_an_error() {
    cut("", |server| {
        server.terminate();
        refuses(server.address);
        server.terminate();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_limit_cuts_what_is_under_way_with_an_error() {
    cut("server: {drain: 300ms}\n", Server::terminate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_does_not_keep_the_server_from_ending() {
    let up = upstream(json!({"tokens": 1_000_000})).await;
    let mut server = Server::start(&up.base_url(), "server: {drain: 100ms}\n");
    let stream = server.open_chat("m", r#","stream":true"#);
    up.wait_for_tokens(1, 1_000).await.unwrap();
    server.terminate();
    let ended = tokio::task::spawn_blocking(move || server.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
    drop(stream);
}
