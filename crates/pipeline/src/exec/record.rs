//! Under what a command ran: what somebody needs to run it again. Names of variables, never their values.

use serde_json::{Value as Json, json};

use super::config::{Command as Written, ExecConfig, Folder};

/// The record. Nothing in it differs between two attempts on the same sort of machine: the state of the project is told to lineage,
/// and is no part of the value, which would be another one after every commit.
pub(super) fn record(config: &ExecConfig) -> Json {
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
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "forebay": env!("CARGO_PKG_VERSION"),
    })
}
