//! Commands on a running server, and who may give them.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value as Json, json};
use testkit::FakeUpstream;

use crate::run::{command, script};
use crate::server::{Server, forebay};

/// A command on the server, with or without a key: exit code, standard output as JSON, standard error.
fn on(server: &Server, key: Option<&str>, args: &[&str]) -> (i32, Json, String) {
    let mut command = command(Path::new("/"), &["--json", "--server", &format!("http://{}", server.address)]);
    if let Some(key) = key {
        command.env("FOREBAY_API_KEY", key);
    }
    let out = command.args(args).output().unwrap();
    let stdout = serde_json::from_slice(&out.stdout).unwrap_or_default();
    (out.status.code().unwrap(), stdout, String::from_utf8_lossy(&out.stderr).into_owned())
}

/// The same in the server's folder.
fn in_folder(server: &Server, args: &[&str]) -> Json {
    let out = command(server.folder.path(), &["--json"]).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_folder_give_the_same_keys_costs_and_records() {
    let up = FakeUpstream::start(script(json!({"text": "one two three"}))).await.unwrap();
    let base = up.base_url();
    blocking(move || {
        let server = Server::start(&base, "");
        let (code, made, why) = on(&server, None, &["key", "create", "--name", "ci", "--tenant", "gold"]);
        assert_eq!(code, 0, "{why}");
        let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap().to_owned());
        let bearer = format!("Bearer {secret}");
        let models = server.ask("GET", "/v1/models", &[("authorization", &bearer)], "");
        assert_eq!(models.0, 200, "the key opens the door at once");
        assert_eq!(on(&server, None, &["key", "list"]).1, in_folder(&server, &["key", "list"]));
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let (_, _, answer) = server.ask("POST", "/v1/chat/completions", &[("authorization", &bearer)], body);
        let request = serde_json::from_str::<Json>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
        let own = on(&server, Some(&secret), &["explain", &request]);
        let operators = on(&server, None, &["explain", &request]);
        assert_eq!((own.0, &own.1["tenant"]), (0, &json!("gold")), "{}", own.2);
        assert_eq!(own.1, operators.1);
        assert_eq!(own.1, in_folder(&server, &["explain", &request]));
        // The database has it with the next group commit.
        let costs = (0..2_000).map(|_| on(&server, None, &["costs", "--by", "tenant"]).1);
        let costs = costs.into_iter().find(|c| c["total"]["requests"] == 1).expect("it is in the bill");
        assert_eq!(costs, in_folder(&server, &["costs", "--by", "tenant"]));
        let (_, models, _) = on(&server, None, &["models", "list"]);
        assert_eq!(
            (&models["models"][0]["name"], &models["models"][0]["state"]),
            (&json!("m"), &json!("ready"))
        );
        assert_eq!(models["models"][0]["price"]["input"], 1_000_000_000);
        assert_eq!(on(&server, None, &["key", "revoke", id]).1["state"], "revoked");
        let refused = server.ask("GET", "/v1/models", &[("authorization", &bearer)], "");
        assert_eq!(refused.0, 401, "it is refused at once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrators_key_administers_a_closed_server() {
    blocking(|| {
        let server = Server::start("http://127.0.0.1:1", "auth: {required: true}\n");
        let key = |args: &[&str]| {
            let made = in_folder(&server, &[&["key", "create", "--tenant", "t", "--name"], args].concat());
            (made["key"].as_str().unwrap().to_owned(), made["role"].clone())
        };
        let (user, admin) = (key(&["user"]), key(&["boss", "--admin"]));
        assert_eq!((&user.1, &admin.1), (&json!("user"), &json!("admin")));
        // Keys reach a running server within a second.
        let opens = |key: &str| {
            server.ask("GET", "/v1/models", &[("authorization", &format!("Bearer {key}"))], "").0 == 200
        };
        assert!((0..5_000).any(|_| opens(&admin.0)) && (0..5_000).any(|_| opens(&user.0)));
        for args in [
            &["key", "list"][..],
            &["key", "create", "--name", "x", "--tenant", "y", "--admin"],
            &["key", "revoke", "z"],
            &["costs", "--by", "day"],
            &["models", "list"],
        ] {
            let (code, out, why) = on(&server, None, args);
            assert_eq!((code, &out), (1, &Json::Null), "{args:?}");
            assert!(why.contains("FOREBAY_API_KEY"), "{why}");
            let (code, out, why) = on(&server, Some(&user.0), args);
            assert_eq!((code, &out), (1, &Json::Null), "{args:?}");
            assert!(why.contains("may not administer") && !why.contains(&user.0), "{why}");
            let (code, _, why) = on(&server, Some("fbk_aaaaaaaaaaaa_wrong"), args);
            assert_eq!(code, 1, "{args:?}: {why}");
        }
        assert_eq!(
            in_folder(&server, &["key", "list"])["keys"].as_array().map(Vec::len),
            Some(2),
            "nothing was made"
        );
        assert_eq!(on(&server, Some(&admin.0), &["key", "list"]).0, 0);
        let unknown = on(&server, Some(&admin.0), &["key", "revoke", "nobody"]);
        assert!(unknown.0 == 1 && unknown.2.contains("nobody"), "{unknown:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_is_administered_by_its_own_machine_and_by_no_page_or_proxy() {
    blocking(|| {
        let server = Server::start("http://127.0.0.1:1", "");
        let host = format!("localhost:{}", server.address.port());
        // The helper writes `host: x`, which is another machine's name: refused as a rebound one would be.
        assert_eq!(server.ask("GET", "/v1/admin/keys", &[], "").0, 403);
        let raw = |headers: &str| {
            use std::io::{Read as _, Write as _};
            let mut socket = std::net::TcpStream::connect(server.address).unwrap();
            let head =
                format!("GET /v1/admin/keys HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
            socket.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
        };
        assert_eq!(raw(""), 200);
        assert_eq!(raw("x-forwarded-for: 192.0.2.1\r\n"), 403);
        assert_eq!(raw("origin: https://evil.example\r\n"), 403);
        assert_eq!(raw("authorization: Bearer placeholder\r\n"), 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_on_a_server_is_in_no_log() {
    blocking(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = "telemetry: {log: trace}\nmodels: {m: {openai: x, base_url: 'http://127.0.0.1:1', api_key: sk-test}}\n";
        std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
        let log = folder.path().join("log");
        let mut child = forebay(folder.path())
            .args(["up", "--json", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let told: Json = serde_json::from_str(&line).unwrap();
        let url = told["listening"].as_str().unwrap();
        let args = ["--json", "--server", url, "key", "create", "--name", "ci", "--tenant", "t"];
        let out = command(Path::new("/"), &args).output().unwrap();
        let made: Json = serde_json::from_slice(&out.stdout).unwrap();
        let secret = made["key"].as_str().unwrap();
        let mut listed = command(Path::new("/"), &["--server", url, "key", "list"]);
        assert_eq!(listed.env("FOREBAY_API_KEY", secret).output().unwrap().status.code(), Some(1), "a user's key");
        child.kill().unwrap();
        child.wait().unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        let tail = secret.rsplit('_').next().unwrap();
        assert!(log.contains("a key was made") && log.contains(made["id"].as_str().unwrap()), "{log}");
        assert!(!log.contains(tail), "the secret is in the log");
    })
    .await;
}
