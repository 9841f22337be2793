//! Bad input, end to end against the running binary: each case a clear error of the right status in its surface's shape,
//! nothing of the inside in it, and a server that answers the next good request as if nothing had been.

#![allow(clippy::print_stderr, reason = "a check that is skipped says so")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::{Server, forebay};

mod bodies;
mod heads;
mod keys;
mod places;
mod sizes;
mod slow;
mod sockets;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const PIPELINE: &str = "/v1/pipelines/shout";

/// A server over an upstream that answers at once; both live as long as the value.
struct Target {
    server: Server,
    upstream: String,
    _handle: Handle,
    _runtime: tokio::runtime::Runtime,
}

impl Target {
    /// `more` is added to the configuration, at its top level.
    fn start(more: &str) -> Target {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script: Script = serde_json::from_value(json!({"text": "fine"})).unwrap();
        let handle = runtime.block_on(FakeUpstream::start(script)).unwrap();
        let upstream = handle.base_url();
        let server = Server::start(&upstream, more);
        Target { server, upstream, _handle: handle, _runtime: runtime }
    }

    /// Sends bytes as they are and reads until the server closes or falls silent for `silence`.
    fn raw(&self, bytes: &[u8], silence: Duration) -> String {
        let mut socket = TcpStream::connect(self.server.address).unwrap();
        socket.set_read_timeout(Some(silence)).unwrap();
        let _ = socket.write_all(bytes);
        read_all(&mut socket)
    }

    /// One raw request, to the end of its connection.
    fn head(&self, request: &str) -> Answer {
        Answer::of(&self.raw(request.as_bytes(), Duration::from_secs(10)))
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut socket = self.server.open("POST", path, headers, body);
        // A bomb is unpacked up to its limit, slowly in an unoptimised build.
        socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Answer::of(&read_all(&mut socket))
    }

    /// A good request succeeds, and nothing is in flight.
    fn assert_unharmed(&self, after: &str) {
        let (status, _, body) = self.server.chat("");
        assert_eq!(status, 200, "after {after}: {body}");
        let (_, _, metrics) = self.server.ask("GET", "/metrics", &[], "");
        assert!(metrics.contains("forebay_requests_in_flight 0"), "after {after}:\n{metrics}");
    }

    /// The error is whole, in the path's shape, and tells nothing of the inside.
    fn assert_refused(&self, path: &str, answer: &Answer, status: u16, code: &str, case: &str) {
        let case = case.get(..case.len().min(120)).unwrap_or("(a case)");
        assert_eq!(answer.status, status, "{path} {case}: {answer:?}");
        let body: Json =
            serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path} {case}: {e}: {answer:?}"));
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(message.len() > 10, "{path} {case}: {body}");
        assert!(answer.head.contains("x-request-id: "), "{path} {case}: no id in {}", answer.head);
        if path.starts_with("/v1/messages") {
            assert_eq!(
                (&body["type"], &body["error"]["type"]),
                (&json!("error"), &json!(code)),
                "{case}: {body}"
            );
        } else {
            assert_eq!(body["error"]["code"], code, "{path} {case}: {body}");
            assert!(body["error"]["type"].is_string(), "{path} {case}: {body}");
        }
        self.assert_nothing_leaks(&answer.body, case);
    }

    fn assert_nothing_leaks(&self, text: &str, case: &str) {
        let folder = self.server.folder.path().display().to_string();
        let upstream = self.upstream.trim_start_matches("http://");
        let inside = [
            "sk-test",
            upstream,
            &folder,
            "/src/",
            ".rs",
            "::",
            "struct ",
            "enum ",
            "variant",
            "serde",
            "hyper",
            "axum",
            "tungstenite",
            "sqlx",
            "panicked",
        ];
        for word in inside {
            assert!(!text.contains(word), "{case}: `{word}` in {text}");
        }
    }

    /// A figure of the server's memory in bytes, where the system tells.
    fn memory(&self, figure: &str) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix(figure))?;
        line.trim().trim_end_matches(" kB").parse::<usize>().ok().map(|kb| kb << 10)
    }

    /// Runs `work` and checks that the server's resident memory was never more than `bytes` above what it was.
    fn within_memory<T>(&self, bytes: usize, case: &str, work: impl FnOnce() -> T) -> T {
        // Linux sets the peak back to what is resident now.
        let reset = std::fs::write(format!("/proc/{}/clear_refs", self.server.pid()), "5").is_ok();
        let before = self.memory("VmRSS:").filter(|_| reset);
        let out = work();
        match (before, self.memory("VmHWM:")) {
            (Some(before), Some(peak)) => {
                let more = peak.saturating_sub(before);
                assert!(more <= bytes, "{case}: the server took {} MB more", more >> 20);
            }
            _ => eprintln!("SKIPPED: this system does not tell a process's memory ({case})"),
        }
        out
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(raw: &str) -> Answer {
        let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }
}

fn read_all(socket: &mut TcpStream) -> String {
    let mut raw = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = socket.read(&mut buffer) {
        raw.extend_from_slice(buffer.get(..n).unwrap());
        if n == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&raw).into_owned()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test outside the process measures real time")]
    Instant::now()
}
