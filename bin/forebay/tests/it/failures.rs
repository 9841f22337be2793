//! What stands in the way of a command: each failure says what to do, and the exit code is not zero.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value as Json;

use crate::run::{command, project};

fn failed(output: &Output, help: &str) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: ") && text.contains(help), "no `{help}` in {text}");
    text
}

#[test]
fn a_port_in_use_names_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = project("http://127.0.0.1:1");
    let up = command(folder.path(), &["up", "--listen", &address]).output().unwrap();
    let text = failed(&up, "help: stop what listens there, or choose another port by --listen");
    assert!(text.contains(&address), "{text}");
    // Another machine's address is not one to listen on.
    let up = command(folder.path(), &["up", "--listen", "192.0.2.1:8080"]).output().unwrap();
    failed(&up, "help: choose an address of this machine");
}

#[test]
fn a_folder_that_cannot_be_written_names_the_way_out() {
    let folder = project("http://127.0.0.1:1");
    // A file where the storage's folder would be: no permission helps there, root's neither.
    std::fs::write(folder.path().join(".forebay"), "").unwrap();
    let doc = folder.path().join("doc.md");
    for args in
        [&["up", "--listen", "127.0.0.1:0"][..], &["run", "shout", doc.to_str().unwrap()], &["key", "list"]]
    {
        let out = command(folder.path(), args).output().unwrap();
        failed(&out, "help: give this user write access to the folder, or choose another");
    }
    let init = command(&folder.path().join("forebay.yaml/sub"), &["init"]).output().unwrap();
    failed(&init, "help: ");
}

#[test]
fn a_missing_model_file_is_found_before_anything_runs() {
    let folder = project("http://127.0.0.1:1");
    let config = "models: {w: {local: none.gguf}}\npipelines: {p: {input: text, output: text, stages: [{a: {generate: {model: w, prompt_text: x}}}]}}\n";
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let doc = folder.path().join("doc.md");
    for args in [&["check"][..], &["up", "--listen", "127.0.0.1:0"], &["run", "p", doc.to_str().unwrap()]] {
        let out = command(folder.path(), args).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(
            text.contains("there is no model file `none.gguf`") && text.contains("forebay models pull"),
            "{text}"
        );
    }
}

#[test]
fn a_server_that_is_none_is_said_with_its_address() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let url = format!("http://{closed}");
    for args in [&["key", "list"][..], &["costs", "--by", "day"], &["models", "list"]] {
        let out = command(Path::new("/"), &["--server", &url]).args(args).output().unwrap();
        let text = failed(&out, "help: check the address, and that the server runs");
        assert!(text.contains(&closed), "{text}");
        for wrong in ["127.0.0.1:8080", "ftp://x", "http://", "http://me:secret@host"] {
            let out = command(Path::new("/"), &["--server", wrong]).args(args).output().unwrap();
            failed(&out, "help: write it as http://127.0.0.1:8080");
        }
    }
}

#[test]
fn an_error_is_json_when_json_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["check"][..], &["up"], &["models", "list"], &["prices", "list"], &["run", "p", "-"]] {
        let out = command(folder.path(), &["--json"]).args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        let told: Json = serde_json::from_slice(&out.stderr)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&out.stderr)));
        assert!(told["error"]["message"].is_string() && told["error"]["help"].is_string(), "{told}");
    }
}

#[test]
fn completions_know_every_command_and_no_secret() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut complete = command(Path::new("/"), &["completions", shell]);
        let script = complete.env("FOREBAY_API_KEY", "fbk_secret").output().unwrap();
        let script = String::from_utf8(script.stdout).unwrap();
        for word in [
            "run",
            "up",
            "check",
            "key",
            "models",
            "pull",
            "prices",
            "explain",
            "costs",
            "fake-upstream",
            "server",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("fbk_secret"));
    }
    let help =
        command(Path::new("/"), &["run", "--help"]).env("FOREBAY_API_KEY", "fbk_secret").output().unwrap();
    assert!(help.status.success() && !String::from_utf8_lossy(&help.stdout).contains("fbk_secret"));
}
