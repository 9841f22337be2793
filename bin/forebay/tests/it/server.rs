//! A real `forebay up` in a folder of its own, before a fake upstream, and a client that speaks plain HTTP/1.1.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server over one model `m` at the upstream and one pipeline `shout`.
    pub fn start(upstream: &str, more: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "models:\n  m: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, price: {{input: 1, output: 2}}}}\n\
             pipelines:\n  shout:\n    input: document\n    output: text\n    stages:\n      \
             - draft: {{extractive: {{sentences: 1}}}}\n      \
             - answer: {{generate: {{model: m, prompt_text: 'Shout: {{{{ input }}}}'}}, on_failure: {{fallback: draft}}}}\n{more}"
        );
        std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
        Server::in_folder(folder)
    }

    /// Starts a server in a folder that has its configuration.
    pub fn in_folder(folder: tempfile::TempDir) -> Server {
        let mut child = forebay(folder.path())
            .args(["up", "--json", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).expect("the address as JSON");
        let address = told["listening"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Server { child, address, folder }
    }

    /// `kill -9`, then the folder as it was left.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Sends a request and leaves the connection open for reading.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        // A server that refuses early may close before all is sent.
        let _ = socket.write_all(body);
        socket
    }

    /// Sends a request and reads the whole answer: status, head, body (chunks joined).
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String, String) {
        let mut raw = Vec::new();
        let _ = self.open(method, path, headers, body.as_bytes()).read_to_end(&mut raw);
        let raw = String::from_utf8_lossy(&raw).into_owned();
        let (head, rest) = raw.split_once("\r\n\r\n").unwrap_or((&raw, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            dechunk(rest)
        } else {
            rest.to_owned()
        };
        (status, head.to_lowercase(), body)
    }

    /// Asks the model `m` for a chat answer.
    pub fn chat(&self, more: &str) -> (u16, String, String) {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hello there"}}]{more}}}"#);
        self.ask("POST", "/v1/chat/completions", &[], &body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, acting on a folder.
pub fn forebay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("--project").arg(folder);
    command
}

fn dechunk(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let Ok(n) = usize::from_str_radix(size.trim(), 16) else { break };
        if n == 0 {
            break;
        }
        out.push_str(tail.get(..n).unwrap_or(tail));
        rest = tail.get(n + 2..).unwrap_or("");
    }
    out
}
