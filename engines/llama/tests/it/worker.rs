//! Starts the real binary and talks HTTP to its socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::Value;

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// `None`, loudly, if the model is not there.
    pub(crate) fn start(flags: &[&str]) -> Option<Self> {
        let Some(model) =
            std::env::var_os("FOREBAY_FIXTURES").map(|folder| PathBuf::from(folder).join(MODEL))
        else {
            eprintln!("SKIPPED: FOREBAY_FIXTURES is not set");
            return None;
        };
        if !model.is_file() {
            eprintln!("SKIPPED: {MODEL} is not in FOREBAY_FIXTURES");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("llama.sock");
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay-llama"))
            .arg("--model")
            .arg(model)
            .arg("--socket")
            .arg(&socket)
            // One thread: with two, each waits at every barrier for the other, and a busy machine makes that seconds.
            .args(["--alias", "smol", "--threads", "1", "--exit-with-parent"])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let stdin = child.stdin.take();
        Some(Self { child, stdin, socket, _folder: folder })
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What the death of the parent does: the pipe is closed.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends a request and reads the head of the answer.
    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, body).answer()
    }

    /// Sends a request and does not wait for the answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Sent {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        Sent(stream)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.open("GET", path, "").json()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.open("POST", path, &body.to_string()).json()
    }

    pub(crate) fn chat(&self, body: &Value) -> (u16, Value) {
        self.post("/v1/chat/completions", body)
    }

    pub(crate) fn stream(&self, body: &Value) -> Answer {
        let mut body = body.clone();
        body["stream"] = true.into();
        body["stream_options"] = serde_json::json!({ "include_usage": true });
        self.open("POST", "/v1/chat/completions", &body.to_string())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request on its way; dropping it disconnects.
pub(crate) struct Sent(UnixStream);

impl Sent {
    pub(crate) fn answer(self) -> Answer {
        let mut reader = BufReader::new(self.0);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            headers.push(line.trim_end().to_lowercase());
        }
        Answer { status, headers, reader, chunk: 0 }
    }
}

/// An answer being read; dropping it disconnects.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    reader: BufReader<UnixStream>,
    /// Bytes left in the current chunk.
    chunk: usize,
}

impl Answer {
    pub(crate) fn json(mut self) -> (u16, Value) {
        let mut body = String::new();
        self.reader.read_to_string(&mut body).unwrap();
        (self.status, serde_json::from_str(&body).unwrap())
    }

    /// The next byte of a chunked body; `None` at its end and when the connection breaks.
    fn byte(&mut self) -> Option<u8> {
        if self.chunk == 0 {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                if self.reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            self.chunk = usize::from_str_radix(line.trim(), 16).unwrap();
            if self.chunk == 0 {
                return None;
            }
        }
        let mut byte = [0];
        self.reader.read_exact(&mut byte).ok()?;
        self.chunk -= 1;
        Some(byte[0])
    }

    /// The data of the next event.
    pub(crate) fn event(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n\n") {
            bytes.push(self.byte()?);
        }
        let event = String::from_utf8(bytes).unwrap();
        Some(event.strip_prefix("data: ").unwrap().trim_end().to_owned())
    }

    /// The next event as JSON; `None` for `[DONE]` and at the end.
    pub(crate) fn chunk(&mut self) -> Option<Value> {
        serde_json::from_str(&self.event()?).ok()
    }

    /// Reads up to the first piece of text.
    pub(crate) fn first_text(&mut self) -> String {
        loop {
            let chunk = self.chunk().unwrap();
            match chunk["choices"][0]["delta"]["content"].as_str() {
                Some(text) if !text.is_empty() => return text.to_owned(),
                _ => {}
            }
        }
    }
}
