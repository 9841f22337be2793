//! A client that leaves is noticed at once, in every phase.

use std::time::Duration;

use testkit::{Address, EndedHow, FakeUpstream, Script};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::raw::{chat, message, open, request, start};

fn slow() -> Script {
    Script { first_token: Duration::from_secs(600), ..Script::default() }
}

fn post(stream: bool) -> String {
    request("POST /v1/chat/completions", "", &chat(stream).to_string())
}

#[expect(clippy::disallowed_methods, reason = "the instant of leaving is what is measured")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The median of several tries, so that a busy machine does not decide the test.
async fn noticed_within(script: Script, request: &str, read_first: bool) -> Duration {
    let fake = start(script).await;
    let mut delays = Vec::new();
    for no in 1..=21 {
        let mut socket = open(&fake, request).await;
        if read_first {
            assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        } else {
            fake.wait_for_arrival(no).await.unwrap();
        }
        let left = now();
        drop(socket);
        let end = fake.wait_for_end(no).await.unwrap();
        assert_eq!(end.how, EndedHow::ClientLeft);
        delays.push(end.at.saturating_duration_since(left));
    }
    delays.sort();
    println!("median {:?}, worst {:?}", delays[10], delays[20]);
    delays[10]
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_token_is_noticed_within_a_millisecond() {
    assert!(noticed_within(slow(), &post(true), false).await < Duration::from_millis(1));
}

#[tokio::test]
async fn a_client_that_leaves_without_streaming_is_noticed_within_a_millisecond() {
    assert!(noticed_within(slow(), &post(false), false).await < Duration::from_millis(1));
    let anthropic = request("POST /v1/messages", "", &message(false).to_string());
    assert!(noticed_within(slow(), &anthropic, false).await < Duration::from_millis(1));
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_is_noticed_within_a_millisecond() {
    let script = Script { token_interval: Duration::from_secs(600), ..Script::default() };
    assert!(noticed_within(script, &post(true), true).await < Duration::from_millis(1));
}

#[tokio::test]
async fn a_client_that_leaves_before_an_early_head_has_a_body_is_noticed_within_a_millisecond() {
    let script = Script { early_headers: true, ..slow() };
    assert!(noticed_within(script, &post(true), true).await < Duration::from_millis(1));
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_fault_is_noticed_within_a_millisecond() {
    let script = Script { scenario: Some(testkit::Scenario::S06), ..Script::default() };
    assert!(noticed_within(script, &post(true), false).await < Duration::from_millis(1));
}

#[tokio::test]
async fn a_unix_socket_serves_and_notices_the_same() {
    let dir = std::env::temp_dir().join(format!("forebay-testkit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("fake.sock");
    // A file left by a dead listener is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let fake = FakeUpstream::start_on(Address::Unix(path.clone()), slow()).await.unwrap();
    let mut socket = UnixStream::connect(&path).await.unwrap();
    socket.write_all(post(true).as_bytes()).await.unwrap();
    fake.wait_for_arrival(1).await.unwrap();
    drop(socket);
    assert_eq!(fake.wait_for_end(1).await.unwrap().how, EndedHow::ClientLeft);

    fake.set_script(Script::default()).unwrap();
    let mut socket = UnixStream::connect(&path).await.unwrap();
    let quick = post(true).replace("host: fake", "host: fake\r\nconnection: close");
    socket.write_all(quick.as_bytes()).await.unwrap();
    assert!(crate::raw::read(&mut socket).await.done());
    drop(fake);
    tokio::task::yield_now().await;
    assert!(!path.exists());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_dropped_handle_closes_its_connections() {
    let fake = start(slow()).await;
    let mut socket = open(&fake, &post(true)).await;
    fake.wait_for_arrival(1).await.unwrap();
    drop(fake);
    assert!(matches!(socket.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_served_fake_ends_with_its_shutdown() {
    let address: Address = "127.0.0.1:0".parse().unwrap();
    testkit::serve(address, Script::default(), tokio::task::yield_now()).await.unwrap();
}
