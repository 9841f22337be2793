//! A `forebay up` in a folder of its own; killed when dropped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// A project folder with this configuration.
pub(crate) fn project(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    folder
}

/// A model `m` at an upstream and a pipeline `shout` that asks it.
pub(crate) fn config(upstream: &str, model: &str) -> String {
    format!(
        "telemetry: {{log: error}}\nmodels:\n  m: {{openai: gpt, base_url: {upstream}/v1, price: {{input: 1, output: 2}}{model}}}\n\
         pipelines:\n  shout:\n    input: text\n    output: text\n    stages:\n      \
         - answer: {{generate: {{model: m, prompt_text: '{{{{ input }}}}'}}}}\n"
    )
}

impl Server {
    pub(crate) fn start(binary: &Path, folder: tempfile::TempDir) -> Server {
        let mut child = Command::new(binary)
            .arg("--project")
            .arg(folder.path())
            .args(["up", "--json", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).expect("the address as JSON");
        let address = told["listening"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Server { child, address, _folder: folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let out = Command::new("ps").args(["-o", "rss=", "-p", &self.pid().to_string()]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key of a tenant, made before the server starts.
pub(crate) fn key(binary: &Path, folder: &Path, tenant: &str) -> String {
    let out = Command::new(binary)
        .arg("--project")
        .arg(folder)
        .args(["--json", "key", "create", "--name", tenant, "--tenant", tenant])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let created: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    created["key"].as_str().unwrap().to_owned()
}
