//! A caller that leaves or says stop, in every phase of a request. What it held is given back, whatever the phase: that
//! is what the drop of a [`Server`] asserts. How fast is measured by `bench/live`.

use std::net::TcpStream;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use testkit::{EndedHow, FakeUpstream, Handle, Script};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{Server, answer, eventually, read_until};
use crate::socket::{self, Socket};

/// An upstream whose first token takes a minute.
async fn silent() -> Handle {
    let script = json!({"first_token": 60_000});
    FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap()
}

/// An upstream that answers for a minute.
async fn talkative() -> Handle {
    let script = json!({"token_interval": 10, "tokens": 6_000});
    FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap()
}

/// The upstream saw request `no` go.
async fn left(up: &Handle, no: u64) {
    let end = tokio::time::timeout(Duration::from_secs(10), up.wait_for_end(no)).await;
    let end = end.expect("the upstream learns that the caller left").unwrap();
    assert_eq!(end.how, EndedHow::ClientLeft);
}

/// The only cancelled request is in the ledger.
fn recorded(server: &Server, surface: &str) {
    let label = format!(r#"surface="{surface}",ending="cancelled""#);
    eventually("it is recorded as cancelled", || {
        server.metric("forebay_requests_total", &label) == Some(1.0)
    });
}

/// It is, and what it used is counted.
fn settled(server: &Server, surface: &str, used: bool) {
    recorded(server, surface);
    let tokens = server.metric("forebay_tokens_total", "");
    assert_eq!(tokens.is_some_and(|n| n > 0.0), used, "what the upstream took is paid for: {tokens:?}");
}

fn queued(server: &Server, n: f64) {
    eventually("it is in the queue", || server.metric("forebay_model_queue_requests", "") == Some(n));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_the_queue_gives_the_place_to_the_next() {
    let up = silent().await;
    let server = Server::with_model(&up.base_url(), ", max_concurrency: 1", "");
    let first = server.open_chat("m", r#","stream":true"#);
    up.wait_for_arrival(1).await.unwrap();
    let second = server.open_chat("m", "");
    queued(&server, 1.0);
    drop(second);
    queued(&server, 0.0);
    // Who came behind the one that left is served as soon as the slot is free.
    let third = server.open_chat("m", "");
    queued(&server, 1.0);
    up.set_script(Script { text: Some("served".into()), ..Script::default() }).unwrap();
    drop(first);
    left(&up, 1).await;
    let (status, _, body) = tokio::task::spawn_blocking(move || answer(third)).await.unwrap();
    assert_eq!((status, body.contains("served")), (200, true), "{body}");
    assert_eq!(up.log().len(), 2, "the upstream never saw the one that left the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_before_the_first_byte_stops_the_upstream() {
    for stream in [r#","stream":true"#, ""] {
        let up = silent().await;
        let server = Server::start(&up.base_url(), "");
        let socket = server.open_chat("m", stream);
        up.wait_for_arrival(1).await.unwrap();
        drop(socket);
        left(&up, 1).await;
        settled(&server, "openai", false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_in_mid_stream_stops_the_upstream_and_pays_for_what_came() {
    let up = talkative().await;
    let server = Server::start(&up.base_url(), "");
    let mut socket = server.open_chat("m", r#","stream":true"#);
    let head = read_until(&mut socket, "content\":\"").to_lowercase();
    let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().to_owned();
    drop(socket);
    left(&up, 1).await;
    settled(&server, "openai", true);
    let (_, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
    let record: Json = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["ending"], &record["usage"]["estimated"]), (&json!("cancelled"), &json!(true)));
    assert!(record["usage"]["input_tokens"].as_u64() > Some(0), "{record}");
    assert!(record["usage"]["output_tokens"].as_u64() > Some(0), "{record}");
    assert!(record["cost"].as_i64() > Some(0), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_while_a_whole_answer_is_made_stops_the_upstream() {
    // The upstream has sent its head and half of the answer, and the caller has nothing yet.
    let up = FakeUpstream::start(
        serde_json::from_value(
            json!({"tokens": 40, "faults": [{"fault": {"stall": {"after_tokens": 20, "lasting": 60_000}}}]}),
        )
        .unwrap(),
    )
    .await
    .unwrap();
    let server = Server::start(&up.base_url(), "");
    let socket = server.open_chat("m", "");
    up.wait_for_tokens(1, 1).await.unwrap();
    drop(socket);
    left(&up, 1).await;
    // Whether the answer's head had arrived, and with it that the upstream took the request, is not known here.
    recorded(&server, "openai");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_a_pipeline_stops_its_models_as_json_and_as_events() {
    for accept in ["application/json", "text/event-stream"] {
        let up = talkative().await;
        let server = Server::start(&up.base_url(), "");
        let headers = [("content-type", "text/plain"), ("accept", accept)];
        let socket = server.open("POST", "/v1/pipelines/shout", &headers, b"One sentence of a document.");
        up.wait_for_tokens(1, 3).await.unwrap();
        drop(socket);
        left(&up, 1).await;
        settled(&server, "native", true);
    }
}

/// A socket whose run has come as far as its model.
async fn asking(server: &Server, up: &Handle) -> Socket {
    let mut socket = socket::connect(server, "shout").await;
    socket::say(&mut socket, json!({"type": "input", "input": "One sentence of a document."})).await;
    up.wait_for_arrival(1).await.unwrap();
    socket
}

/// Says stop, and checks the end that follows: an error of code `cancelled`, `done`, and the close.
async fn cancel(mut socket: Socket) {
    socket::say(&mut socket, json!({"type": "cancel"})).await;
    let events = socket::rest(&mut socket).await;
    let [.., error, done] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("cancelled")));
    assert_eq!((&done["type"], &done["done"]), (&json!("done"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_over_the_socket_leaves_the_queue() {
    let up = silent().await;
    let server = Server::with_model(&up.base_url(), ", max_concurrency: 1", "");
    let _first = server.open_chat("m", "");
    up.wait_for_arrival(1).await.unwrap();
    let mut socket = socket::connect(&server, "shout").await;
    socket::say(&mut socket, json!({"type": "input", "input": "One sentence of a document."})).await;
    queued(&server, 1.0);
    cancel(socket).await;
    queued(&server, 0.0);
    settled(&server, "native", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_over_the_socket_stops_the_upstream_before_its_first_byte() {
    let up = silent().await;
    let server = Server::start(&up.base_url(), "");
    let socket = asking(&server, &up).await;
    cancel(socket).await;
    left(&up, 1).await;
    settled(&server, "native", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_over_the_socket_stops_the_upstream_in_mid_stream() {
    let up = talkative().await;
    let server = Server::start(&up.base_url(), "");
    let mut socket = asking(&server, &up).await;
    while socket::next(&mut socket).await["type"] != "delta" {}
    cancel(socket).await;
    left(&up, 1).await;
    settled(&server, "native", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_heard_although_the_caller_does_not_read() {
    // As fast as it is read: the socket is full long before the cancel.
    let script = json!({"tokens": 1_000_000});
    let up = FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    let mut socket = asking(&server, &up).await;
    // Nothing moves any more when the upstream cannot hand over another token.
    let mut sent = 0;
    loop {
        let more = tokio::time::timeout(Duration::from_millis(500), up.wait_for_tokens(1, sent + 1)).await;
        let Ok(record) = more else { break };
        sent = record.unwrap().tokens_sent;
    }
    assert!(sent < 1_000_000, "a reader that stops stops its upstream");
    socket.send(Message::text(json!({"type": "cancel"}).to_string())).await.unwrap();
    left(&up, 1).await;
    settled(&server, "native", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_socket_or_losing_it_is_leaving() {
    for politely in [true, false] {
        let up = talkative().await;
        let server = Server::start(&up.base_url(), "");
        let mut socket = asking(&server, &up).await;
        while socket::next(&mut socket).await["type"] != "delta" {}
        if politely {
            socket.close(None).await.unwrap();
            while socket.next().await.is_some_and(|m| m.is_ok()) {}
        } else {
            drop(socket);
        }
        left(&up, 1).await;
        settled(&server, "native", true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_reset_by_the_caller_is_leaving() {
    let up = talkative().await;
    let server = Server::start(&up.base_url(), "");
    let mut socket: TcpStream = server.open_chat("m", r#","stream":true"#);
    // Closed with unread bytes in its buffer, a socket is reset rather than closed.
    read_until(&mut socket, "HTTP/1.1 200");
    up.wait_for_tokens(1, 20).await.unwrap();
    drop(socket);
    left(&up, 1).await;
    settled(&server, "openai", true);
}
