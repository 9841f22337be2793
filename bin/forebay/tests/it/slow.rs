//! Readers that are slow: they cost bounded memory, hold back their own upstream, and harm nobody else.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::{Server, eventually};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

/// How many tokens the upstream of request `no` could hand over until nothing moved any more.
async fn stuck_at(up: &Handle, no: u64) -> u64 {
    let mut sent = 0;
    loop {
        let more = tokio::time::timeout(Duration::from_millis(500), up.wait_for_tokens(no, sent + 1)).await;
        let Ok(record) = more else { return sent };
        sent = record.unwrap().tokens_sent;
    }
}

/// The resident memory of a process in bytes.
fn resident(pid: u32) -> u64 {
    let out = std::process::Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_hold_back_their_upstream_cost_bounded_memory_and_harm_no_other() {
    let up = upstream(json!({"tokens": 1_000_000})).await;
    let server = Server::start(&up.base_url(), "");
    assert_eq!(server.chat(r#","max_tokens":10"#).0, 200);
    let before = resident(server.pid());
    let native = [("content-type", "text/plain"), ("accept", "text/event-stream")];
    let mut slow = vec![server.open_chat("m", r#","stream":true"#)];
    // Its number upstream: two that are opened at once come there in any order.
    up.wait_for_tokens(2, 1).await.unwrap();
    slow.push(server.open("POST", "/v1/pipelines/shout", &native, b"A sentence of a document."));
    for no in 2..4 {
        let sent = stuck_at(&up, no).await;
        assert!(sent < 500_000, "request {no} was read ahead: {sent} tokens");
    }
    // Two answers of a million tokens would be hundreds of megabytes.
    let grown = resident(server.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "two slow readers cost {} MiB", grown >> 20);
    for _ in 0..10 {
        let (status, _, body) = server.chat(r#","max_tokens":50,"stream":true"#);
        assert_eq!((status, body.contains("[DONE]")), (200, true));
    }
    // Reading on, each goes on from where it was.
    let before = up.log()[1].tokens_sent;
    let mut first = slow.into_iter().next().unwrap();
    let mut some = vec![0; 1 << 20];
    for _ in 0..16 {
        first.read_exact(&mut some).unwrap();
    }
    up.wait_for_tokens(2, before + 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_for_the_send_timeout_is_let_go() {
    let up = upstream(json!({"tokens": 1_000_000})).await;
    let server = Server::start(&up.base_url(), "server: {send_timeout: 200ms}\n");
    let _stuck = server.open_chat("m", r#","stream":true"#);
    let end = tokio::time::timeout(Duration::from_secs(20), up.wait_for_end(1)).await;
    assert_eq!(end.expect("the upstream is let go").unwrap().how, testkit::EndedHow::ClientLeft);
    eventually("its request is settled", || {
        server.metric("forebay_requests_total", r#"ending="cancelled""#) == Some(1.0)
    });
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_reader_that_closes_its_window_is_let_go_and_its_connection_lives() {
    let up = upstream(json!({"tokens": 1_000_000})).await;
    let server = Server::start(&up.base_url(), "server: {send_timeout: 300ms}\n");
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}"#;
    // Literal header fields, not indexed and not compressed.
    let mut head = Vec::new();
    for (name, value) in
        [(":method", "POST"), (":scheme", "http"), (":path", "/v1/chat/completions"), (":authority", "x")]
    {
        head.extend([&[0, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat());
        head.extend([&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat());
    }
    let mut socket = std::net::TcpStream::connect(server.address).unwrap();
    let window_of_zero = [0, 4, 0, 0, 0, 0];
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &window_of_zero),
        frame(1, 4, 1, &head),
        frame(0, 1, 1, body),
    ];
    socket.write_all(&hello.concat()).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), up.wait_for_end(1)).await;
    assert_eq!(end.expect("the upstream is let go").unwrap().how, testkit::EndedHow::ClientLeft);
    eventually("its request is settled", || {
        server.metric("forebay_requests_total", r#"ending="cancelled""#) == Some(1.0)
    });
    eventually("nothing is held", || server.held().is_ok());
    // A PING is answered still.
    socket.write_all(&frame(6, 0, 0, b"are you?")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = Vec::new();
    while !said.windows(8).any(|w| w == b"are you?") {
        let mut some = [0; 1024];
        let n = socket.read(&mut some).unwrap();
        assert!(n > 0, "the connection lives");
        said.extend_from_slice(&some[..n]);
    }
}
