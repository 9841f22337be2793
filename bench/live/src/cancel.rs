//! From the caller's leaving, or its `cancel` over a socket, to the moment the upstream notices: a hundred tries in each
//! phase. The upstream is in this process, so both instants are of one clock; its own delay is part of the figure.
//! While queued there is no upstream: the figure is the time until `/metrics` shows the queue empty, polling included.

use std::path::Path;
use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use testkit::{EndedHow, FakeUpstream, Handle};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::{chat, idle, metric};
use crate::server::{Server, config, project};
use crate::stats::{Samples, head};

const TRIES: usize = 100;
const STREAM: &str = r#","stream":true"#;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn upstream(script: serde_json::Value) -> Handle {
    FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap()
}

async fn ended(up: &Handle, no: u64, since: Instant) -> std::time::Duration {
    let end = up.wait_for_end(no).await.unwrap();
    assert_eq!(end.how, EndedHow::ClientLeft);
    end.at.saturating_duration_since(since)
}

async fn talk(server: &Server) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{}/v1/pipelines/shout", server.address)).await.unwrap();
    socket.send(Message::text(r#"{"type":"input","input":"hello there"}"#)).await.unwrap();
    socket
}

async fn say_cancel(socket: &mut Socket) {
    socket.send(Message::text(r#"{"type":"cancel"}"#)).await.unwrap();
}

/// Reads to the end: a socket that is dropped early would be a disconnect.
async fn farewell(mut socket: Socket) {
    while let Some(Ok(_)) = socket.next().await {}
}

pub(crate) async fn run(binary: &Path) {
    head("Cancel: from the caller's word to the upstream's notice");
    let silent = upstream(json!({"first_token": 600_000})).await;
    let server = Server::start(binary, project(&config(&silent.base_url(), "")));
    let mut next = 1;
    for (name, more) in [("disconnect, before the first byte", STREAM), ("disconnect, non-streaming", "")] {
        let mut samples = Samples::default();
        for _ in 0..TRIES {
            let caller = chat(server.address, "", more).await;
            silent.wait_for_arrival(next).await.unwrap();
            let since = Instant::now();
            drop(caller);
            samples.add(ended(&silent, next, since).await);
            next += 1;
        }
        samples.row(name);
    }
    let mut samples = Samples::default();
    for _ in 0..TRIES {
        let mut socket = talk(&server).await;
        silent.wait_for_arrival(next).await.unwrap();
        let since = Instant::now();
        say_cancel(&mut socket).await;
        samples.add(ended(&silent, next, since).await);
        farewell(socket).await;
        next += 1;
    }
    samples.row("socket `cancel`, before the first byte");
    idle(server.address).await;

    let talkative = upstream(json!({"token_interval": 5, "tokens": 100_000})).await;
    let server = Server::start(binary, project(&config(&talkative.base_url(), "")));
    let mut samples = Samples::default();
    for no in 1..=TRIES as u64 {
        let mut caller = chat(server.address, "", STREAM).await;
        assert!(caller.until("content\":\"").await);
        let since = Instant::now();
        drop(caller);
        samples.add(ended(&talkative, no, since).await);
    }
    samples.row("disconnect, mid-stream");
    let mut samples = Samples::default();
    for no in 1..=TRIES as u64 {
        let mut socket = talk(&server).await;
        talkative.wait_for_tokens(TRIES as u64 + no, 3).await.unwrap();
        let since = Instant::now();
        say_cancel(&mut socket).await;
        samples.add(ended(&talkative, TRIES as u64 + no, since).await);
        farewell(socket).await;
    }
    samples.row("socket `cancel`, mid-stream");
    idle(server.address).await;
    queued(binary, &silent).await;
}

async fn queued(binary: &Path, silent: &Handle) {
    let server = Server::start(binary, project(&config(&silent.base_url(), ", max_concurrency: 1")));
    let first = chat(server.address, "", "").await;
    let waits = async |n: f64| {
        while metric(server.address, "forebay_model_queue_requests").await != n {
            tokio::task::yield_now().await;
        }
    };
    while metric(server.address, "forebay_model_slots_in_use").await != 1.0 {}
    for (name, over_socket) in [("disconnect, while queued", false), ("socket `cancel`, while queued", true)]
    {
        let mut samples = Samples::default();
        for _ in 0..TRIES {
            if over_socket {
                let mut socket = talk(&server).await;
                waits(1.0).await;
                let since = Instant::now();
                say_cancel(&mut socket).await;
                waits(0.0).await;
                samples.add(since.elapsed());
                farewell(socket).await;
            } else {
                let caller = chat(server.address, "", STREAM).await;
                waits(1.0).await;
                let since = Instant::now();
                drop(caller);
                waits(0.0).await;
                samples.add(since.elapsed());
            }
        }
        samples.row(name);
    }
    drop(first);
    idle(server.address).await;
}
