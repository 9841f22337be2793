//! `kill -9` of the local model's worker in mid-stream: how long until the caller has the error, and the next answer.
//! Starting the `kill` program is part of the figure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::{chat, idle};
use crate::server::{Server, project};
use crate::stats::{Samples, head};

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const TRIES: usize = 20;

/// The server's child.
fn child(server: &Server) -> Option<String> {
    let out = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).output().unwrap();
    let parent = server.pid().to_string();
    String::from_utf8_lossy(&out.stdout).lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.len() == 3 && fields[1] == parent && !fields[2].starts_with('Z'))
            .then(|| fields[0].to_owned())
    })
}

pub(crate) async fn run(binary: &Path) {
    let model = std::env::var_os("FOREBAY_FIXTURES").map(|f| PathBuf::from(f).join(MODEL));
    let Some(model) = model.filter(|m| m.is_file() && binary.with_file_name("forebay-llama").is_file())
    else {
        println!(
            "\nSKIPPED worker: it needs {MODEL} in FOREBAY_FIXTURES and `forebay-llama` beside the server"
        );
        return;
    };
    let (mut told, mut again) = (Samples::default(), Samples::default());
    for _ in 0..TRIES {
        // A server for each try: a worker that crashes again and again is started after a pause, on purpose.
        let config = format!(
            "telemetry: {{log: error}}\nmodels: {{m: {{local: {}, parallel: 2, threads: 2}}}}\n",
            model.display()
        );
        let server = Server::start(binary, project(&config));
        let mut caller = chat(server.address, "", r#","stream":true,"max_tokens":2000"#).await;
        assert!(caller.until("content\":\"").await);
        let pid = child(&server).expect("the worker runs");
        let since = Instant::now();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        assert!(caller.until(r#""code":"worker_crashed""#).await, "the caller has a structured error");
        told.add(since.elapsed());
        let since = Instant::now();
        let next = chat(server.address, "", r#","max_tokens":1"#).await.rest().await;
        assert!(next.contains(" 200 OK"), "{next}");
        again.add(since.elapsed());
        idle(server.address).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    head("`kill -9` of the worker in mid-stream");
    told.row("from the kill to the caller's error");
    again.row("the next request, with the worker's restart, to its first token");
}
