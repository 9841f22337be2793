//! Under what a command ran: what somebody needs to run it again. Names of variables, never their values.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::config::{Command as Written, ExecConfig, Folder};
use crate::code;

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
    let git = code::git(project).await.map(|g| json!({"commit": g.commit, "dirty": g.dirty}));
    json!({
        "command": command,
        "folder": folder,
        "variables": variables,
        "git": git,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "forebay": env!("CARGO_PKG_VERSION"),
    })
}
