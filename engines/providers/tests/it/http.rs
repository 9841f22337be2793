//! Endpoints against a server that answers with bytes as given, one connection at a time or several.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{Code, Deadline, Message, RequestId, RetryHint, Role, Secret, TenantId, UnixMillis};
use futures_util::StreamExt;
use llm::{Answer, Attempt, ChatModel, ChatRequest, FinishReason};
use pipeline::task;
use providers::{AnthropicEndpoint, Client, EndpointSettings, OpenAiEndpoint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Reads one request and gives its text.
async fn request(io: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = io.read(&mut piece).await.ok()?;
        if n == 0 {
            return None;
        }
        text.extend_from_slice(&piece[..n]);
        let seen = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                return Some(seen);
            }
        }
    }
}

/// Answers every request of a connection with `answer`; tells of the requests and of the connection's end.
async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, answer: String, told: mpsc::Sender<String>) {
    while let Some(r) = request(&mut io).await {
        told.send(r).await.unwrap();
        io.write_all(answer.as_bytes()).await.unwrap();
    }
    told.send("closed".into()).await.unwrap();
}

struct Upstream {
    url: String,
    told: mpsc::Receiver<String>,
    connections: Arc<AtomicUsize>,
    _task: task::Task<()>,
}

async fn upstream(answer: String) -> Upstream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel(16);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let task = task::spawn("upstream", async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            task::spawn("connection", serve(io, answer.clone(), tell.clone())).detach();
        }
    });
    Upstream { url, told, connections, _task: task }
}

fn settings(url: &str) -> EndpointSettings {
    EndpointSettings {
        base_url: url.to_owned(),
        unix_socket: None,
        api_key: Some(Secret::new("sk-test")),
        model: "upstream-model".into(),
        headers: vec![],
    }
}

fn openai(url: &str) -> OpenAiEndpoint {
    OpenAiEndpoint::new(Client::new(Duration::from_secs(1)), &settings(url), Default::default()).unwrap()
}

fn attempt() -> Attempt {
    Attempt {
        request: RequestId::from_parts(UnixMillis(0), 1),
        number: 1,
        tenant: TenantId::from("t"),
        user: None,
        stage: None,
        trace: None,
        deadline: Deadline::NEVER,
        connect: Duration::from_secs(1),
    }
}

fn chat() -> ChatRequest {
    ChatRequest { messages: vec![Message::text(Role::User, "hello")], stream: true, ..ChatRequest::default() }
}

async fn ask(model: &dyn ChatModel) -> Result<Answer, contract::Error> {
    let mut answer = Answer::default();
    let (request, attempt) = (chat(), attempt());
    let mut stream = model.start(&request, &attempt).await?;
    while let Some(d) = stream.next().await {
        answer.push(d?);
    }
    Ok(answer)
}

fn sized(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const EVENTS: &str = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

#[tokio::test]
async fn a_streamed_answer_is_decoded_and_its_connection_used_again() {
    let mut up = upstream(sized("200 OK\r\ncontent-type: text/event-stream", EVENTS)).await;
    let endpoint = openai(&up.url);
    for _ in 0..3 {
        let answer = ask(&endpoint).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("hi", Some(FinishReason::Stop)));
        let sent = up.told.recv().await.unwrap();
        assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("authorization: Bearer sk-test") && sent.contains("\"include_usage\":true"));
        assert!(sent.contains("\"model\":\"upstream-model\""));
    }
    assert_eq!(up.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_upstream_is_told_the_attempts_span_when_there_is_one() {
    let mut up = upstream(sized("200 OK\r\ncontent-type: text/event-stream", EVENTS)).await;
    let endpoint = openai(&up.url);
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for trace in [None, contract::TraceContext::parse(text)] {
        let attempt = Attempt { trace, ..attempt() };
        endpoint.start(&chat(), &attempt).await.unwrap().collect::<Vec<_>>().await;
        let sent = up.told.recv().await.unwrap();
        assert_eq!(sent.contains(&format!("traceparent: {text}\r\n")), trace.is_some(), "{sent}");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_not_used_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = openai(&format!("http://{}/v1", listener.local_addr().unwrap()));
    let (tell, mut told) = mpsc::channel(16);
    let _server = task::spawn("upstream", async move {
        let answer = sized("200 OK\r\ncontent-type: text/event-stream", EVENTS);
        while let Ok((mut io, _)) = listener.accept().await {
            request(&mut io).await.unwrap();
            io.write_all(answer.as_bytes()).await.unwrap();
            drop(io);
            tell.send(()).await.unwrap();
        }
    });
    for _ in 0..3 {
        assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
        told.recv().await.unwrap();
        // Lets the runtime hear of the close.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_anthropic_endpoint_sends_its_own_headers_and_path() {
    let body =
        r#"{"type":"message","model":"c","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    let mut up = upstream(sized("200 OK\r\ncontent-type: application/json", body)).await;
    let endpoint = AnthropicEndpoint::new(Client::new(Duration::from_secs(1)), &settings(&up.url)).unwrap();
    assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
    let sent = up.told.recv().await.unwrap();
    assert!(sent.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("x-api-key: sk-test") && sent.contains("anthropic-version: 2023-06-01"));
}

#[tokio::test]
async fn an_error_status_keeps_its_meaning() {
    let up =
        upstream(sized("429 Too Many Requests\r\nretry-after: 2", r#"{"error":{"message":"slow down"}}"#))
            .await;
    let e = ask(&openai(&up.url)).await.unwrap_err();
    assert_eq!((e.code, e.upstream_status), (Code::RateLimited, Some(429)));
    assert_eq!(e.retry, RetryHint::After(Duration::from_secs(2)));
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(ask(&openai(&url)).await.unwrap_err().code, Code::UpstreamUnreachable);
}

/// A head that promises more than comes.
fn endless(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n{events}")
}

#[tokio::test]
async fn dropping_the_stream_or_the_wait_closes_the_connection() {
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let (request, attempt) = (chat(), attempt());

    let mut up = upstream(endless(first)).await;
    let endpoint = openai(&up.url);
    let mut stream = endpoint.start(&request, &attempt).await.unwrap();
    assert!(stream.next().await.is_some_and(|d| d.is_ok()));
    up.told.recv().await.unwrap();
    drop(stream);
    assert_eq!(up.told.recv().await.as_deref(), Some("closed"));

    let mut up = upstream(String::new()).await;
    let endpoint = openai(&up.url);
    let mut waiting = endpoint.start(&request, &attempt);
    tokio::select! {
        biased;
        _ = &mut waiting => unreachable!("no answer is ever sent"),
        sent = up.told.recv() => assert!(sent.is_some()),
    }
    drop(waiting);
    assert_eq!(up.told.recv().await.as_deref(), Some("closed"));
}

#[tokio::test]
async fn a_body_that_stays_open_behind_done_is_not_waited_for() {
    let up = upstream(endless(EVENTS)).await;
    assert_eq!(ask(&openai(&up.url)).await.unwrap().text, "hi");
}

/// A server that writes `answer` to each connection, in the given pieces a moment apart, and counts connections.
async fn in_pieces(answer: Vec<String>, close: bool) -> Upstream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel(64);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let task = task::spawn("upstream", async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (answer, tell) = (answer.clone(), tell.clone());
            let serving = async move {
                while let Some(r) = request(&mut io).await {
                    tell.send(r).await.unwrap();
                    for piece in &answer {
                        if io.write_all(piece.as_bytes()).await.is_err() {
                            return;
                        }
                        task::sleep(Duration::from_millis(2)).await;
                    }
                    if close {
                        return;
                    }
                }
            };
            task::spawn("connection", serving).detach();
        }
    });
    Upstream { url, told, connections, _task: task }
}

fn chunks(text: &str, of: usize) -> String {
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(of).collect();
    let pieces: String =
        pieces.iter().map(|p| format!("{:x}\r\n{}\r\n", p.len(), String::from_utf8_lossy(p))).collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{pieces}0\r\n\r\n"
    )
}

#[tokio::test]
async fn an_answer_in_chunks_and_in_splinters_is_whole_and_its_connection_used_again() {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{}", chunks(EVENTS, 7));
    for splinter in [1, 5, 1_000] {
        let pieces = answer.as_bytes().chunks(splinter).map(|p| String::from_utf8_lossy(p).into_owned());
        let up = in_pieces(pieces.collect(), false).await;
        let endpoint = openai(&up.url);
        for _ in 0..2 {
            assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
            // The end of the chunks comes behind `[DONE]`, and is read aside.
            task::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(up.connections.load(Ordering::SeqCst), 1, "{splinter}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_cut_and_never_taken_for_a_whole_one() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    for broken in [
        format!("{head}{:x}\r\n{event}\r\n", event.len()),
        format!("{head}{:x}\r\n{event}", event.len() + 9),
        format!("{head}{:x}\r\n{event}0\r\n\r\n", event.len() - 1),
        format!("{head}zz\r\n{event}"),
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n{event}"),
    ] {
        let up = in_pieces(vec![broken.clone()], true).await;
        let e = ask(&openai(&up.url)).await.unwrap_err();
        assert_eq!(e.code, Code::UpstreamTruncated, "{broken}");
    }
    for (broken, code) in [
        ("SSH-2.0-OpenSSH_9\r\n", Code::UpstreamError),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", Code::UpstreamError),
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>log in</html>", Code::UpstreamError),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\nxx", Code::UpstreamError),
        ("HTTP/1.1 200 OK\r\nconte", Code::UpstreamUnreachable),
        ("", Code::UpstreamUnreachable),
    ] {
        let up = in_pieces(vec![broken.to_owned()], true).await;
        let e = ask(&openai(&up.url)).await.unwrap_err();
        assert_eq!(e.code, code, "{broken}");
    }
}

#[tokio::test]
async fn a_connection_on_which_more_was_said_than_asked_for_is_not_used_again() {
    let whole = sized("200 OK\r\ncontent-type: text/event-stream", EVENTS);
    let more = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother";
    for pieces in [vec![format!("{whole}{more}")], vec![whole, more.to_owned()]] {
        let up = in_pieces(pieces, false).await;
        let endpoint = openai(&up.url);
        for _ in 0..2 {
            assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
            task::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(up.connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_server_that_begins_its_answer_before_it_has_read_all_gets_the_rest() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, mut told) = mpsc::channel(1);
    let _server = task::spawn("upstream", async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let mut piece = [0; 1024];
        io.read_exact(&mut piece).await.unwrap();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: wait\n\n";
        io.write_all(head.as_bytes()).await.unwrap();
        let mut rest = piece.to_vec();
        while !rest.ends_with(b"}") {
            io.read_buf(&mut rest).await.unwrap();
        }
        tell.send(rest.len()).await.unwrap();
        io.write_all(EVENTS.as_bytes()).await.unwrap();
    });
    let mut large = chat();
    large.messages = vec![Message::text(Role::User, "x".repeat(16 << 20).as_str())];
    let attempt = attempt();
    let endpoint = openai(&url);
    let answer: Vec<_> = endpoint.start(&large, &attempt).await.unwrap().collect().await;
    assert!(answer.iter().all(Result::is_ok) && told.recv().await.unwrap() > 16 << 20);
}

#[tokio::test]
async fn a_closed_connection_is_seen_also_when_the_task_has_used_up_its_budget() {
    let whole = sized("200 OK\r\ncontent-type: text/event-stream", EVENTS);
    let up = in_pieces(vec![whole], true).await;
    let endpoint = openai(&up.url);
    for _ in 0..3 {
        assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
        task::sleep(Duration::from_millis(20)).await;
        while tokio::task::coop::has_budget_remaining() {
            let mut spend = std::pin::pin!(tokio::task::coop::consume_budget());
            std::future::poll_fn(|cx| {
                let _ = spend.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_under_a_request_is_replaced_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = openai(&format!("http://{}/v1", listener.local_addr().unwrap()));
    let _server = task::spawn("upstream", async move {
        let answer = sized("200 OK\r\ncontent-type: text/event-stream", EVENTS);
        while let Ok((mut io, _)) = listener.accept().await {
            request(&mut io).await.unwrap();
            io.write_all(answer.as_bytes()).await.unwrap();
            // The next request of this connection is taken and never answered.
            task::spawn("closing", async move { request(&mut io).await }).detach();
        }
    });
    for _ in 0..3 {
        assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
    }
}

#[tokio::test]
async fn a_server_that_refuses_before_it_has_read_all_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let _server = task::spawn("upstream", async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let mut piece = [0; 1024];
        io.read_exact(&mut piece).await.unwrap();
        io.write_all(sized("413 Payload Too Large", "{}").as_bytes()).await.unwrap();
        // Reads no more of it, and stays.
        task::sleep(Duration::from_secs(60)).await;
    });
    let mut large = chat();
    large.messages = vec![Message::text(Role::User, "x".repeat(32 << 20).as_str())];
    let attempt = attempt();
    let endpoint = openai(&url);
    let refused = endpoint.start(&large, &attempt).await.err().unwrap();
    assert_eq!(refused.upstream_status, Some(413));
}

#[tokio::test]
async fn a_worker_is_reached_over_its_unix_socket_and_learns_of_a_drop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (tell, mut told) = mpsc::channel(16);
    let _server = task::spawn("worker", async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            task::spawn("connection", serve(io, endless(EVENTS), tell.clone())).detach();
        }
    });
    let with_socket = EndpointSettings { unix_socket: Some(path), ..settings("http://worker/v1") };
    let client = Client::new(Duration::from_secs(1));
    let endpoint = OpenAiEndpoint::new(client, &with_socket, Default::default()).unwrap();
    assert_eq!(ask(&endpoint).await.unwrap().text, "hi");
    let sent = told.recv().await.unwrap();
    assert!(
        sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n") && sent.contains("host: worker"),
        "{sent}"
    );
    assert_eq!(told.recv().await.as_deref(), Some("closed"));
}

#[test]
fn an_address_that_is_none_is_refused() {
    for url in ["", "nonsense", "/v1", "http://"] {
        let client = Client::new(Duration::from_secs(1));
        assert!(OpenAiEndpoint::new(client, &settings(url), Default::default()).is_err(), "{url}");
    }
}
