//! Plain HTTP/1.1 over a socket, so that what is measured is the server and not a client library.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The answer to a request, as far as it was read.
pub(crate) struct Answer {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

/// Sends a request over a connection of its own.
pub(crate) async fn send(to: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    socket.write_all(&request).await.unwrap();
    Answer { socket, buffer: Vec::new() }
}

/// Asks the model `m`.
pub(crate) async fn chat(to: SocketAddr, headers: &str, more: &str) -> Answer {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hello there"}}]{more}}}"#);
    send(to, "/v1/chat/completions", headers, body.as_bytes()).await
}

impl Answer {
    /// Reads until `wanted` has come. `false` when it ended without.
    pub(crate) async fn until(&mut self, wanted: &str) -> bool {
        let wanted = wanted.as_bytes();
        let mut from = 0;
        loop {
            if self.buffer[from..].windows(wanted.len()).any(|w| w == wanted) {
                return true;
            }
            from = self.buffer.len().saturating_sub(wanted.len());
            match self.socket.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => return false,
            }
        }
    }

    /// Reads to the end, and gives all of it.
    pub(crate) async fn rest(mut self) -> String {
        while matches!(self.socket.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {}
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// The sum of a metric over its series.
pub(crate) async fn metric(server: SocketAddr, name: &str) -> f64 {
    let text = send(server, "/metrics", "", b"").await.rest().await;
    let of = |l: &str| {
        let (series, value) = l.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(of).sum()
}

/// Waits until nothing is held any more: every measurement ends with this.
pub(crate) async fn idle(server: SocketAddr) {
    const HELD: [&str; 7] = [
        "forebay_requests_in_flight",
        "forebay_model_slots_in_use",
        "forebay_model_queue_requests",
        "forebay_leases",
        "forebay_reserved_tokens",
        "forebay_reserved_usd",
        "forebay_open_streams",
    ];
    for _ in 0..1_000 {
        let mut held = 0.0;
        for name in HELD {
            held += metric(server, name).await;
        }
        if held == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something was left behind");
}
