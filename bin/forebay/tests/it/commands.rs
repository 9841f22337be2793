//! Commands, as the built binary runs them.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn forebay(project: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.env_remove("FOREBAY_URL").arg("--project").arg(project).args(args);
    command
}

fn json(project: &Path, args: &[&str]) -> Value {
    let output = forebay(project, args).arg("--json").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Standard error of a command that must exit with 1 and say what to do.
fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.contains("\n  help: "), "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn a_key_is_made_listed_without_its_secret_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        json(folder.path(), &["key", "create", "--name", "ci", "--tenant", "acme", "--expires", "90d"]);
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(secret.starts_with(&format!("fbk_{id}_")));
    let lifetime = made["expires_at"].as_i64().unwrap() - made["created_at"].as_i64().unwrap();
    assert_eq!(lifetime, 90 * 86_400_000);

    let listed = json(folder.path(), &["key", "list"]);
    assert_eq!(listed["keys"][0]["id"], id);
    assert_eq!(listed["keys"][0]["tenant"], "acme");
    assert_eq!(listed["keys"][0]["state"], "active");
    assert!(!listed.to_string().contains(secret));

    assert_eq!(json(folder.path(), &["key", "revoke", id])["state"], "revoked");
    assert_eq!(json(folder.path(), &["key", "list"])["keys"][0]["state"], "revoked");
    let table = forebay(folder.path(), &["key", "list"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains(id) && table.contains("revoked") && !table.contains(secret), "{table}");
}

#[test]
fn revoking_a_key_that_is_none_says_how_to_find_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = refused(&forebay(folder.path(), &["key", "revoke", "nobody"]).output().unwrap());
    assert!(text.contains("nobody") && text.contains("help: `forebay key list`"), "{text}");
}

#[test]
fn explaining_an_unknown_request_fails_with_help() {
    let folder = tempfile::tempdir().unwrap();
    let id = "req_01900000000070008000000000000000";
    refused(&forebay(folder.path(), &["explain", id]).output().unwrap());
    assert!(!folder.path().join(".forebay").exists(), "looking creates nothing");
    json(folder.path(), &["key", "create", "--name", "ci", "--tenant", "acme"]);
    let text = refused(&forebay(folder.path(), &["explain", id]).output().unwrap());
    assert!(text.contains(id), "{text}");
    refused(&forebay(folder.path(), &["explain", "yesterday"]).output().unwrap());
}

#[test]
fn costs_of_an_unused_project_are_nothing() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["key", "create", "--name", "ci", "--tenant", "acme"]);
    for by in ["tenant", "model", "pipeline", "key", "user", "day"] {
        let costs = json(folder.path(), &["costs", "--by", by, "--since", "7d"]);
        assert_eq!(costs["total"]["requests"], 0, "{by}");
    }
    let text =
        refused(&forebay(folder.path(), &["costs", "--by", "day", "--since", "soon"]).output().unwrap());
    assert!(text.contains("soon"), "{text}");
}

#[test]
fn a_fake_upstream_says_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        forebay(folder.path(), &["fake-upstream", "--listen", "127.0.0.1:0", "--scenario", "S08"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(';').next()).map(str::to_owned);
    let reached = address.as_ref().map(std::net::TcpStream::connect);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(reached, Some(Ok(_))), "{line}");
}

#[test]
fn a_budget_in_dollars_over_a_model_without_a_price_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = |price: &str| {
        format!(
            "models:\n  m: {{openai: nobody-knows, base_url: http://127.0.0.1:1/v1{price}}}\n\
             tenants: {{default: {{budget: {{usd_per_day: 1}}}}}}\n"
        )
    };
    let notes = |text: String| {
        std::fs::write(folder.path().join("forebay.yaml"), text).unwrap();
        let said = json(folder.path(), &["check"]);
        (said["ok"].clone(), said["notes"].as_array().unwrap().len())
    };
    assert_eq!(notes(config("")), (Value::Bool(true), 1));
    assert_eq!(notes(config(", price: {input: 1, output: 2}")), (Value::Bool(true), 0));
}
