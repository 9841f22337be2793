//! Slow readers: one that takes an event a second from a stream of 100,000 tokens, and two thousand slow streams at once.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::FakeUpstream;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::client::{chat, idle};
use crate::server::{Server, config, project};
use crate::stats::{Samples, head};

const STREAMS: usize = 2_000;
/// One event, roughly.
const EVENT_BYTES: usize = 190;

async fn quick(server: &Server) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..100 {
        let since = Instant::now();
        let answer = chat(server.address, "", r#","stream":true,"max_tokens":100"#).await.rest().await;
        assert!(answer.contains("[DONE]"));
        samples.add(since.elapsed());
    }
    samples
}

pub(crate) async fn run(binary: &Path) {
    one(binary).await;
    many(binary).await;
}

async fn one(binary: &Path) {
    let up = FakeUpstream::start(serde_json::from_value(json!({"tokens": 100_000})).unwrap()).await.unwrap();
    let server = Server::start(binary, project(&config(&up.base_url(), "")));
    head("A reader that takes one event a second of 100,000 tokens");
    quick(&server).await.row("streams of 100 tokens beside nobody");
    let before = server.resident();
    let no = up.log().last().unwrap().no + 1;
    let mut slow = chat(server.address, "", r#","stream":true"#).await;
    let mut event = vec![0; EVENT_BYTES];
    for _ in 0..10 {
        slow.socket.read_exact(&mut event).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (early, grown) = (up.wait_for_tokens(no, 1).await.unwrap().tokens_sent, server.resident());
    quick(&server).await.row("the same beside the slow reader");
    for _ in 0..10 {
        slow.socket.read_exact(&mut event).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let late = up.wait_for_tokens(no, 1).await.unwrap().tokens_sent;
    println!(
        "\nAfter 10 s of reading the upstream had handed over {early} of 100,000 tokens, after 20 s {late}: the sockets' buffers; the server had grown by {} kB.",
        grown.saturating_sub(before) / 1_000
    );
    drop(slow);
    idle(server.address).await;
}

async fn many(binary: &Path) {
    // A token every half second, for ten seconds.
    let script =
        json!({"first_token": 500, "token_interval": 500, "tokens": 20, "jitter": 0.5, "log": "off"});
    let up = FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap();
    let server = Server::start(binary, project(&config(&up.base_url(), ", max_concurrency: 4000")));
    let before = server.resident();
    let (mut all, mut firsts, since) = (JoinSet::new(), Samples::default(), Instant::now());
    for _ in 0..STREAMS {
        let to = server.address;
        all.spawn(async move {
            let asked = Instant::now();
            let mut answer = chat(to, "", r#","stream":true"#).await;
            let first = answer.until("content\":\"").await.then(|| asked.elapsed());
            (first, answer.rest().await)
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let during = server.resident();
    let mut whole = 0;
    while let Some(ended) = all.join_next().await {
        let (first, answer) = ended.unwrap();
        if let Some(first) = first {
            firsts.add(first);
        }
        whole += usize::from(answer.contains(r#""finish_reason":"stop""#) && answer.contains("[DONE]"));
    }
    head(&format!("{STREAMS} streams of 20 tokens in 10 s at once"));
    firsts.row("first token (the upstream's own: 250 to 750 ms)");
    println!(
        "\n{whole} of {STREAMS} were whole, in {:.1} s; {} kB of the server's memory for each.",
        since.elapsed().as_secs_f64(),
        during.saturating_sub(before) / STREAMS as u64 / 1_000
    );
    idle(server.address).await;
}
