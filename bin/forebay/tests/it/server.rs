//! A real `forebay up` in a folder of its own, before a fake upstream, and a client that speaks plain HTTP/1.1.
//!
//! When a [`Server`] that still runs is dropped, it has to be idle: no request in flight, nothing queued, no slot, lease,
//! stream or reservation held. So every end-to-end test proves that it left nothing behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use contract::{Clock as _, Deadline, SystemClock};

/// What must be zero on an idle server.
const HELD: &[&str] = &[
    "forebay_requests_in_flight",
    "forebay_model_slots_in_use",
    "forebay_model_queue_requests",
    "forebay_model_queue_tokens",
    "forebay_leases",
    "forebay_reserved_tokens",
    "forebay_reserved_usd",
    "forebay_open_streams",
];

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Whether it was killed or has ended.
    gone: bool,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server over one model `m` at the upstream and one pipeline `shout`.
    pub fn start(upstream: &str, more: &str) -> Server {
        Server::with_model(upstream, "", more)
    }

    /// The same with more settings of the model: `, max_concurrency: 1`.
    pub fn with_model(upstream: &str, model: &str, more: &str) -> Server {
        Server::with(&format!(
            "models:\n  m: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, price: {{input: 1, output: 2}}{model}}}\n\
             pipelines:\n  shout:\n    input: document\n    output: text\n    stages:\n      \
             - draft: {{extractive: {{sentences: 1}}}}\n      \
             - answer: {{generate: {{model: m, prompt_text: 'Shout: {{{{ input }}}}'}}, on_failure: {{fallback: draft}}}}\n{more}"
        ))
    }

    /// As [`Server::start`], with more in its environment.
    pub fn start_with_env(upstream: &str, more: &str, env: &[(&str, &str)]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let model = format!(
            "models: {{m: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, price: {{input: 1, output: 2}}}}}}\n"
        );
        std::fs::write(folder.path().join("forebay.yaml"), model + more).unwrap();
        Server::in_folder_with(folder, env)
    }

    /// Starts a server with this configuration.
    pub fn with(config: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
        Server::in_folder(folder)
    }

    /// Starts a server in a folder that has its configuration.
    pub fn in_folder(folder: tempfile::TempDir) -> Server {
        Server::in_folder_with(folder, &[])
    }

    /// The same, with more in its environment.
    pub fn in_folder_with(folder: tempfile::TempDir, env: &[(&str, &str)]) -> Server {
        crate::on_postgres::place(folder.path());
        let mut child = forebay(folder.path())
            .envs(env.iter().copied())
            .args(["up", "--json", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).expect("the address as JSON");
        let address = told["listening"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Server { child, gone: false, address, folder }
    }

    /// Begins a server in a folder and kills it so long after, by `kill -9`, however far it came.
    pub fn killed_while_it_begins(folder: &Path, env: &[(&str, &str)], after: Duration) {
        let mut command = forebay(folder);
        command.envs(env.iter().copied()).args(["up", "--json", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        std::thread::park_timeout(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `kill -9`, then the folder as it was left.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.gone = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        signal("TERM", self.pid());
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.gone = true;
        self.child.wait().unwrap()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.gone = self.gone || self.child.try_wait().unwrap().is_some();
        self.gone
    }

    /// Sends a request and leaves the connection open for reading.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        open(TcpStream::connect(self.address).unwrap(), (method, path), headers, body)
    }

    /// Sends a request and reads the whole answer: status, head, body (chunks joined).
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String, String) {
        answer(self.open(method, path, headers, body.as_bytes()))
    }

    /// Asks the model `m` for a chat answer.
    pub fn chat(&self, more: &str) -> (u16, String, String) {
        answer(self.open_chat("m", more))
    }

    /// Asks a model for a chat answer and leaves the connection open for reading.
    pub fn open_chat(&self, model: &str, more: &str) -> TcpStream {
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello there"}}]{more}}}"#);
        self.open("POST", "/v1/chat/completions", &[], body.as_bytes())
    }

    /// The sum of a metric over those of its series whose labels contain `label`; `None` when there is none.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, _, text) = self.ask("GET", "/metrics", &[], "");
        sum(&text, name, label)
    }

    /// Whether nothing is held; else what is.
    pub fn held(&self) -> Result<(), String> {
        let (status, _, text) = self.ask("GET", "/metrics", &[], "");
        let some = |name: &&&str| sum(&text, name, "") != Some(0.0);
        // A model that nobody has asked for has no series yet.
        let unused = |name: &&&str| name.contains("_model_") && sum(&text, name, "").is_none();
        let held: Vec<_> = HELD.iter().filter(|n| some(n) && !unused(n)).collect();
        if status == 200 && held.is_empty() { Ok(()) } else { Err(format!("{status}: {held:?} in\n{text}")) }
    }
}

/// Sends a request and leaves the connection open for reading.
pub fn open(
    mut socket: TcpStream,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> TcpStream {
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

impl Drop for Server {
    fn drop(&mut self) {
        if !self.gone && !std::thread::panicking() {
            // What a caller that has just left held is given back as soon as the server notices.
            let mut last = Ok(());
            eventually("nothing is left behind", || {
                last = self.held();
                last.is_ok()
            });
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until it holds, for at most ten seconds. Each try is a request over a new connection: no sleep is needed to let
/// the server work.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::default();
    let deadline = Deadline::from_now(clock.now(), Duration::from_secs(10));
    while !holds() {
        assert!(!deadline.passed(clock.now()), "it never came to hold: {what}");
        std::thread::yield_now();
    }
}

/// Sends a signal to a process.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// The whole answer on a connection: status, head, body (chunks joined).
pub fn answer(mut socket: TcpStream) -> (u16, String, String) {
    let mut raw = Vec::new();
    let _ = socket.read_to_end(&mut raw);
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

/// Reads until `wanted` has come, and gives all that came.
pub fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all);
        if text.contains(wanted) {
            return text.into_owned();
        }
        match socket.read(&mut some) {
            Ok(n) if n > 0 => all.extend_from_slice(&some[..n]),
            end => panic!("{wanted:?} never came ({end:?}): {text}"),
        }
    }
}

/// All that still comes, as it is on the wire.
pub fn read_rest(mut socket: TcpStream) -> String {
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).unwrap();
    String::from_utf8_lossy(&raw).into_owned()
}

/// The binary, acting on a folder.
pub fn forebay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("--project").arg(folder);
    command
}

/// The sum of the series of a metric whose labels contain `label`.
fn sum(text: &str, name: &str, label: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (own, labels) = series.split_once('{').unwrap_or((series, ""));
        (own == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    values.fold(None, |sum, v| Some(sum.unwrap_or(0.0) + v))
}

/// A chunked body, as far as it came.
pub fn dechunk(mut rest: &str) -> String {
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
