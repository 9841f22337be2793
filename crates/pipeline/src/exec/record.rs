//! Under what a command ran: what somebody needs to run it again. Names of variables, never their values.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::process::Command;

use super::config::{Command as Written, ExecConfig, Folder};
use crate::task;

/// How long git is asked at most.
const GIT: Duration = Duration::from_secs(10);

/// The record. Nothing in it differs between two attempts at the same state of the project on the same sort of machine.
pub(super) async fn record(config: &ExecConfig, project: &Path) -> Json {
    let command = match &config.command {
        Written::Words(words) => json!(words),
        Written::Line(line) => json!(line),
    };
    let mut variables: Vec<&str> = config.env.keys().chain(&config.pass_env).map(String::as_str).collect();
    variables.sort_unstable();
    variables.dedup();
    let folder = match config.folder {
        Folder::Project => "project",
        Folder::Own => "own",
    };
    json!({
        "command": command,
        "folder": folder,
        "variables": variables,
        "git": git(project).await,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "forebay": env!("CARGO_PKG_VERSION"),
    })
}

/// Which commit a folder is at, and whether a file that git knows differs from it; null without a repository or without git.
async fn git(folder: &Path) -> Json {
    let Some(commit) = asked(folder, &["rev-parse", "--verify", "HEAD"]).await else { return Json::Null };
    let changed = asked(folder, &["status", "--porcelain", "--untracked-files=no", "--", "."]).await;
    json!({"commit": commit.trim(), "dirty": changed.map(|text| !text.trim().is_empty())})
}

async fn asked(folder: &Path, what: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // What a repository says is to be run is not run for a question.
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"]).arg(folder).args(what);
    for own in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(own);
    }
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.ok()?,
        () = task::sleep(GIT) => return None,
    };
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
