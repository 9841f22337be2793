//! A pipeline over a WebSocket: a client for tests, and what the protocol promises.

use serde_json::{Value as Json, json};

use futures_util::{SinkExt as _, StreamExt as _};
use testkit::{FakeUpstream, Script};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub async fn connect(server: &Server, pipeline: &str) -> Socket {
    let url = format!("ws://{}/v1/pipelines/{pipeline}", server.address);
    connect_async(url).await.unwrap().0
}

pub async fn say(socket: &mut Socket, message: Json) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The next event; pings are answered by the library.
pub async fn next(socket: &mut Socket) -> Json {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(t))) => return serde_json::from_str(&t).unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("no event: {other:?}"),
        }
    }
}

/// All events until the server closes.
pub async fn rest(socket: &mut Socket) -> Vec<Json> {
    let mut events = Vec::new();
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(t))) => events.push(serde_json::from_str(&t).unwrap()),
            Some(Ok(Message::Close(_))) | None => return events,
            Some(Ok(_)) => {}
            Some(Err(e)) => panic!("the server closes properly, not so: {e}"),
        }
    }
}

async fn started(script: Json) -> (testkit::Handle, Server) {
    let up = FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    (up, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_the_socket_shows_the_events_in_order_and_closes() {
    let (_up, server) = started(json!({"text": "LOUD"})).await;
    for message in [
        Message::text(json!({"type": "input", "input": "A sentence of a document."}).to_string()),
        Message::text("A sentence of a document."),
        Message::binary("A sentence of a document."),
    ] {
        let mut socket = connect(&server, "shout").await;
        socket.send(message).await.unwrap();
        let events = rest(&mut socket).await;
        let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&"accepted"), Some(&"done")), "{kinds:?}");
        let text: String =
            events.iter().filter(|e| e["type"] == "delta").filter_map(|e| e["text"].as_str()).collect();
        assert_eq!(text, "LOUD");
        let ids: Vec<u64> = events.iter().map(|e| e["event_id"].as_u64().unwrap()).collect();
        assert_eq!(ids, (0..events.len() as u64).collect::<Vec<_>>(), "every event has an increasing id");
        let id = events[0]["id"].as_str().unwrap();
        let (status, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
        assert_eq!((status, record.contains(r#""ending":"complete""#)), (200, true), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_cannot_be_read_is_an_error_event_and_a_close() {
    let (up, server) = started(json!({})).await;
    for (message, code) in [
        (Message::text("{"), "invalid_request"),
        (Message::text(json!({"type": "input"}).to_string()), "invalid_request"),
        (Message::text(json!({"type": "input", "input": ""}).to_string()), "invalid_request"),
        (Message::text(json!({"type": "cancel"}).to_string()), "cancelled"),
        (Message::text(""), "invalid_request"),
        (Message::binary("%PDF-1.4 and no more"), "invalid_document"),
    ] {
        let mut socket = connect(&server, "shout").await;
        socket.send(message.clone()).await.unwrap();
        let events = rest(&mut socket).await;
        assert_eq!(events.len(), 1, "{message}: {events:?}");
        let found = (&events[0]["type"], &events[0]["code"], &events[0]["event_id"]);
        assert_eq!(found, (&json!("error"), &json!(code), &json!(0)), "{message}: {events:?}");
    }
    assert!(up.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_refused_like_any_request() {
    let (_up, server) = started(json!({})).await;
    let refused = |url: String| async move {
        match connect_async(url).await {
            Err(Error::Http(r)) => r.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(format!("ws://{}/v1/pipelines/none", server.address)).await, 404);
    let locked = Server::start("http://127.0.0.1:1", "auth: {required: true}\n");
    assert_eq!(refused(format!("ws://{}/v1/pipelines/shout", locked.address)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_meanwhile_does_not_disturb_the_run() {
    let (up, server) = started(json!({"token_interval": 1, "tokens": 50})).await;
    let mut socket = connect(&server, "shout").await;
    socket.send(Message::Ping("are you there".into())).await.unwrap();
    say(&mut socket, json!({"type": "pong"})).await;
    say(&mut socket, json!({"type": "input", "input": "A sentence of a document."})).await;
    up.wait_for_arrival(1).await.unwrap();
    say(&mut socket, json!({"type": "pong"})).await;
    socket.send(Message::Pong("unasked".into())).await.unwrap();
    say(&mut socket, json!({"type": "nonsense"})).await;
    let mut ponged = false;
    let mut last = Json::Null;
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            Message::Pong(p) => ponged |= p == "are you there",
            Message::Text(t) => last = serde_json::from_str(&t).unwrap(),
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert!(ponged, "a ping is answered");
    assert_eq!(last["type"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_over_the_socket_is_an_error_that_says_what_is_usable() {
    let (_up, server) = started(json!({"tokens": 60, "scenario": "S08"})).await;
    let mut socket = connect(&server, "shout").await;
    say(&mut socket, json!({"type": "input", "input": "A sentence of a document."})).await;
    let events = rest(&mut socket).await;
    let error = events.iter().find(|e| e["type"] == "error").unwrap();
    assert_eq!(
        (&error["code"], &error["partial"]),
        (&json!("upstream_truncated"), &json!(true)),
        "{events:?}"
    );
    assert_eq!(events.last().unwrap()["type"], "done");
}
