//! A client of a few lines: one request on one connection, read to its end.

use serde_json::{Value, json};
use testkit::{FakeUpstream, Handle, Script};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What came back, whole or broken.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether the message ended as HTTP says.
    pub(crate) complete: bool,
    /// Whether the connection was reset.
    pub(crate) reset: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The `data:` lines, without `[DONE]`; those that are no JSON are null.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or_default())
            .collect()
    }

    /// The text of a stream of either protocol.
    pub(crate) fn text(&self) -> String {
        let events = self.events();
        let openai = |e: &Value| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        events
            .iter()
            .filter_map(|e| openai(e).or_else(|| e["delta"]["text"].as_str().map(str::to_owned)))
            .collect()
    }

    pub(crate) fn done(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n") || self.body.contains("\"message_stop\"")
    }
}

pub(crate) async fn start(script: Script) -> Handle {
    FakeUpstream::start(script).await.unwrap()
}

pub(crate) fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "one two three"}]})
}

pub(crate) fn message(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": "one two three"}]})
}

pub(crate) fn request(line: &str, headers: &str, body: &str) -> String {
    let version = if line.contains("/messages") { "anthropic-version: 2023-06-01\r\n" } else { "" };
    format!("{line} HTTP/1.1\r\nhost: fake\r\n{version}{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub(crate) async fn open(fake: &Handle, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(fake.socket_addr().unwrap()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

pub(crate) async fn post(fake: &Handle, path: &str, body: &Value) -> Answer {
    send(fake, &format!("POST {path}"), "", &body.to_string()).await
}

pub(crate) async fn ask(fake: &Handle, body: &Value) -> Answer {
    post(fake, "/v1/chat/completions", body).await
}

pub(crate) async fn send(fake: &Handle, line: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("connection: close\r\n{headers}");
    let mut socket = open(fake, &request(line, &headers, body)).await;
    read(&mut socket).await
}

pub(crate) async fn read(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let reset = socket.read_to_end(&mut bytes).await.is_err();
    let text = String::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let (body, complete) = if head.contains("transfer-encoding: chunked") {
        dechunk(rest)
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        (rest.to_owned(), length.and_then(|n| n.parse().ok()) == Some(rest.len()))
    };
    Answer { status, head: head.to_owned(), body, complete, reset }
}

fn dechunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = tail.get(..size) else { break };
        body.push_str(chunk);
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
