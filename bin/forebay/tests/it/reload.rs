//! Another configuration under a running server: nothing that is under way is touched, what comes next finds it, and what is
//! not sound is refused with its place in the file.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::chance::patiently;
use crate::run::command;
use crate::server::{Server, answer, eventually, read_rest, read_until, signal};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

/// A model at an upstream, as the configuration has it.
fn model(name: &str, upstream: &str) -> String {
    format!(
        "  {name}: {{openai: gpt-test, base_url: {upstream}/v1, api_key: sk-test, max_concurrency: 1000}}\n"
    )
}

/// Everything but models that the tests begin with: only what they ask for is loaded.
const QUIET: &str = "server: {watch: false}\n";

fn write(server: &Server, config: &str) {
    std::fs::write(server.folder.path().join("forebay.yaml"), config).unwrap();
}

/// `forebay reload`: exit code, standard output as JSON, standard error.
fn reload(server: &Server) -> (i32, Json, String) {
    let url = format!("http://{}", server.address);
    let out = command(Path::new("/"), &["--json", "--server", &url, "reload"]).output().unwrap();
    let stdout = serde_json::from_slice(&out.stdout).unwrap_or_default();
    (out.status.code().unwrap(), stdout, String::from_utf8_lossy(&out.stderr).into_owned())
}

/// It must be put in place.
#[track_caller]
pub fn applied(server: &Server) -> Json {
    let (code, said, why) = reload(server);
    assert_eq!(code, 0, "{said} {why}");
    said
}

fn ready(server: &Server) -> Json {
    let (_, _, body) = server.ask("GET", "/readyz", &[], "");
    serde_json::from_str::<Json>(&body).unwrap()["config"].clone()
}

/// How often a configuration was applied or refused.
fn counted(server: &Server, result: &str) -> f64 {
    let label = format!(r#"result="{result}""#);
    server.metric("forebay_config_reloads_total", &label).unwrap_or(0.0)
}

fn names(server: &Server) -> Vec<String> {
    let (_, _, body) = server.ask("GET", "/v1/models", &[], "");
    let all: Json = serde_json::from_str(&body).unwrap();
    all["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
}

/// Opens a stream and reads to its first token.
async fn begin(server: std::net::SocketAddr) -> TcpStream {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let (mut seen, mut some) = (Vec::new(), [0; 2048]);
    while !String::from_utf8_lossy(&seen).contains("\"content\":\"") {
        let n = socket.read(&mut some).await.unwrap();
        assert!(n > 0, "a stream ended at once: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..n]);
    }
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_streams_outlive_a_reload_and_new_requests_find_what_it_changed() {
    const STREAMS: usize = 500;
    let long = upstream(json!({"tokens": 40, "token_interval": 400})).await;
    let other = upstream(json!({"text": "the other one"})).await;
    let (a, b) = (long.base_url(), other.base_url());
    let server = Server::with(&format!("{QUIET}models:\n{}", model("m", &a)));
    let address = server.address;
    let mut streams = Vec::new();
    // Not more at a time than a listener's queue takes.
    for _ in 0..STREAMS / 50 {
        streams.extend(join_all((0..50).map(|_| begin(address))).await);
    }
    let server = blocking(move || {
        write(
            &server,
            &format!(
                "{QUIET}models:\n{}{}tenants: {{gold: {{weight: 4}}, default: {{budget: {{tokens_per_day: 100m}}}}}}\n\
                 pipelines:\n  digest:\n    on: {{http: /digest}}\n    input: text\n    output: text\n    stages:\n      \
                 - answer: {{generate: {{model: m, prompt_text: 'Say: {{{{ input }}}}'}}}}\n",
                model("m", &b),
                model("n", &b),
            ),
        );
        let done = applied(&server);
        let changed: Vec<&str> = done["changed"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
        for expected in
            ["models.m: changed", "models.n: added", "tenants.gold: added", "pipelines.digest: added"]
        {
            assert!(changed.contains(&expected), "{changed:?}");
        }
        assert_eq!(server.metric("forebay_requests_in_flight", ""), Some(STREAMS as f64), "all go on");
        let (status, _, body) = server.chat("");
        assert!(status == 200 && body.contains("the other one"), "{status}: {body}");
        let (status, _, body) = server.ask("POST", "/digest", &[("content-type", "text/plain")], "some text");
        assert!(status == 200 && body.contains("the other one"), "{status}: {body}");
        assert_eq!(names(&server), ["m", "n", "digest"]);
        server
    })
    .await;
    let ends = join_all(streams.into_iter().map(|mut socket| async move {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }));
    let ends = tokio::time::timeout(Duration::from_secs(90), ends).await.expect("every stream ends");
    for end in &ends {
        assert!(end.contains("[DONE]") && end.contains(r#""finish_reason":"stop""#), "{end}");
        assert!(!end.contains(r#""error""#), "{end}");
    }
    blocking(move || {
        let complete = server.metric("forebay_requests_total", r#"ending="complete""#);
        assert_eq!(complete, Some(STREAMS as f64 + 2.0));
        let bad = server.metric("forebay_requests_total", "").unwrap() - complete.unwrap();
        assert!(bad.abs() < f64::EPSILON, "{bad} ended otherwise");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sound_is_refused_with_its_place_and_what_was_in_force_stays() {
    let up = upstream(json!({"text": "one two three"})).await;
    let base = up.base_url();
    blocking(move || {
        let good = format!("{QUIET}models:\n{}", model("m", &base));
        let server = Server::with(&good);
        let began = ready(&server);
        assert_eq!(began["refused_at"], Json::Null);
        write(&server, &format!("{good}tenants:\n  gold: {{wieght: 4}}\n"));
        signal("HUP", server.pid());
        eventually("it is refused", || ready(&server)["refused_at"].is_i64());
        assert_eq!((counted(&server, "refused"), counted(&server, "applied")), (1.0, 0.0));
        assert_eq!(server.metric("forebay_config_refused", ""), Some(1.0));
        assert_eq!(ready(&server)["version"], began["version"]);
        // The same to who asks for it, with the place as `forebay check` has it.
        let (code, said, _) = reload(&server);
        assert_eq!(code, 1, "{said}");
        let problem = &said["problems"][0];
        assert_eq!((&problem["line"], &problem["column"]), (&json!(5), &json!(10)), "{said}");
        let check = crate::server::forebay(server.folder.path()).arg("check").output().unwrap();
        let check = String::from_utf8_lossy(&check.stdout).into_owned();
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("forebay.yaml:5:10: ") && check.starts_with(message), "{message}\n{check}");
        assert_eq!(server.chat("").0, 200, "the one before is in force");
        // A file that is gone is no configuration either.
        std::fs::remove_file(server.folder.path().join("forebay.yaml")).unwrap();
        let (code, said, _) = reload(&server);
        assert!(code == 1 && said["message"].as_str().unwrap().contains("cannot read"), "{said}");
        write(&server, &good);
        let done = applied(&server);
        assert_eq!((&done["changed"], &done["config"]["version"]), (&json!([]), &began["version"]));
        assert_eq!(ready(&server)["refused_at"], Json::Null);
        assert_eq!(server.metric("forebay_config_refused", ""), Some(0.0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_at_the_start_is_named_and_the_rest_is_applied() {
    let up = upstream(json!({"text": "one two three"})).await;
    let base = up.base_url();
    blocking(move || {
        let server = Server::with(&format!("{QUIET}models:\n{}", model("m", &base)));
        let more = model("m", &base) + &model("n", &base);
        write(&server, &format!("{QUIET}telemetry: {{log: debug, sample: 0.5}}\nmodels:\n{more}"));
        let done = applied(&server);
        assert_eq!(done["config"]["needs_restart"], json!(["telemetry.log"]));
        assert_eq!(names(&server), ["m", "n"]);
        // Asked again, it is still so.
        assert_eq!(applied(&server)["config"]["needs_restart"], json!(["telemetry.log"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_model_that_is_removed_end_well_and_nobody_finds_it_any_more() {
    let up = upstream(json!({"tokens": 30, "token_interval": 100})).await;
    let base = up.base_url();
    blocking(move || {
        let both = model("m", &base) + &model("n", &base);
        let pipeline = "pipelines:\n  say:\n    input: text\n    output: text\n    stages:\n      \
             - first: {generate: {model: n, prompt_text: 'A {{ input }}'}}\n      \
             - then: {generate: {model: n, prompt_text: 'B {{ first }}'}}\n";
        let server = Server::with(&format!("{QUIET}models:\n{both}{pipeline}"));
        let mut stream = server.open_chat("n", r#","stream":true"#);
        let begun = read_until(&mut stream, "\"content\":\"");
        // Its second call comes when the model is gone.
        let body = r#"{"input":"x","stream":true}"#;
        let json = [("content-type", "application/json")];
        let mut run = server.open("POST", "/v1/pipelines/say", &json, body.as_bytes());
        let started = read_until(&mut run, "\"first\"");
        write(&server, &format!("{QUIET}models:\n{}", model("m", &base)));
        let done = applied(&server);
        assert_eq!(done["changed"], json!(["models.n: removed", "pipelines.say: removed"]));
        let of_n = |line: &&str| line.contains("model=\"n\"");
        let metrics = || server.ask("GET", "/metrics", &[], "").2;
        assert!(metrics().lines().any(|l| of_n(&l)), "its streams are still under way");
        for name in ["n", "say"] {
            let (status, _, body) = answer(server.open_chat(name, ""));
            assert!(status == 404 && body.contains("not_found"), "{status}: {body}");
        }
        assert_eq!(server.ask("POST", "/v1/pipelines/say", &json, body).0, 404);
        let all = begun + &read_rest(stream);
        assert!(all.contains(r#""finish_reason":"stop""#) && all.contains("[DONE]"), "{all}");
        let all = started + &read_rest(run);
        assert!(all.contains("event: done") && !all.contains("event: error"), "{all}");
        eventually("the metrics forget the model", || !metrics().lines().any(|l| of_n(&l)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_of_a_budget_is_spent_under_the_next_configuration_too() {
    let up = upstream(json!({"tokens": 100})).await;
    let base = up.base_url();
    blocking(move || {
        let with = |limit: &str, more: &str| {
            let budget = format!("tenants: {{default: {{budget: {{tokens_per_day: {limit}}}}}}}\n");
            format!("{QUIET}models:\n{}{budget}{more}", model("m", &base))
        };
        let ask = |server: &Server| server.chat(r#","max_tokens":100,"user":"ann""#).0;
        let server = Server::with(&with("150", ""));
        assert_eq!((ask(&server), ask(&server)), (200, 403), "the second does not fit");
        write(&server, &with("160", ""));
        assert_eq!(applied(&server)["changed"], json!(["tenants.default: changed"]));
        assert_eq!(ask(&server), 403, "the first is not forgotten");
        write(&server, &with("1m", ""));
        applied(&server);
        assert_eq!(ask(&server), 200);
        // End users were not counted so far: what they spent is in the ledger.
        write(&server, &with("1m", "each_user: {tokens_per_day: 250}\n"));
        applied(&server);
        assert_eq!(ask(&server), 403, "what she spent before counts");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_many_quick_changes_is_in_force() {
    let up = upstream(json!({"text": "one two three"})).await;
    let base = up.base_url();
    blocking(move || {
        let with = |name: &str| format!("models:\n{}", model(name, &base));
        let server = Server::with(&with("m"));
        let path = server.folder.path().join("forebay.yaml");
        for n in 0..20 {
            // In place, by a rename, in two parts, and not sound at all.
            let text = with(&format!("m{n}"));
            match n % 4 {
                0 => std::fs::write(&path, text).unwrap(),
                1 => {
                    std::fs::write(path.with_extension("new"), text).unwrap();
                    std::fs::rename(path.with_extension("new"), &path).unwrap();
                }
                2 => {
                    std::fs::write(&path, &text[..10]).unwrap();
                    std::fs::write(&path, text).unwrap();
                }
                _ => std::fs::write(&path, if n < 19 { "models: [" } else { text.as_str() }).unwrap(),
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        eventually("the last is in force", || names(&server) == ["m19"] && counted(&server, "applied") > 0.0);
        assert_eq!(ready(&server)["refused_at"], Json::Null);
        let before = counted(&server, "applied");
        assert!(before <= 20.0, "{before}");
        // What is the same is no change.
        std::fs::write(&path, with("m19")).unwrap();
        std::fs::write(server.folder.path().join("unrelated"), "x").unwrap();
        std::fs::write(&path, with("m20")).unwrap();
        eventually("it is still looked at", || names(&server) == ["m20"]);
        // It is counted behind the change.
        eventually("one was applied", || counted(&server, "applied") > before);
        assert_eq!(counted(&server, "applied"), before + 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_prompt_and_of_a_secret_is_noticed() {
    let up = upstream(json!({"echo": true, "require_key": ["sk-second"]})).await;
    let base = up.base_url();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("prompts")).unwrap();
        write("prompts/say.md", "Say alpha");
        write(".env", "UPSTREAM_KEY=sk-first\n");
        write(
            "forebay.yaml",
            &format!(
                "models:\n  m: {{openai: x, base_url: {base}/v1, api_key: \"${{UPSTREAM_KEY}}\"}}\n\
                 pipelines:\n  say:\n    input: text\n    output: text\n    stages:\n      \
                 - answer: {{generate: {{model: m, prompt: prompts/say.md}}}}\n"
            ),
        );
        let path = folder.path().to_owned();
        let server = Server::in_folder(folder);
        let say = || {
            let (status, _, body) =
                server.ask("POST", "/v1/pipelines/say", &[("content-type", "text/plain")], "hello");
            (status, body)
        };
        assert_eq!(say().0, 502, "the first key is none");
        std::fs::write(path.join(".env"), "UPSTREAM_KEY=sk-second\n").unwrap();
        eventually("the second key is used", || say().0 == 200);
        assert!(say().1.contains("alpha"), "{}", say().1);
        std::fs::write(path.join("prompts/say.new"), "Say beta").unwrap();
        std::fs::rename(path.join("prompts/say.new"), path.join("prompts/say.md")).unwrap();
        eventually("the other prompt is used", || say().1.contains("beta"));
        // A prompt that cannot be used is refused like anything else.
        std::fs::write(path.join("prompts/say.md"), "Say {{").unwrap();
        eventually("it is refused", || ready(&server)["refused_at"].is_i64());
        assert!(say().1.contains("beta"));
        // And sound again with the file alone.
        std::fs::write(path.join("prompts/say.md"), "Say gamma").unwrap();
        eventually("the third prompt is used", || say().1.contains("gamma"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_behind_a_link_is_noticed() {
    let up = upstream(json!({"text": "one two three"})).await;
    let base = up.base_url();
    blocking(move || {
        use std::os::unix::fs::symlink;
        // As Kubernetes puts a ConfigMap into a folder, and changes it.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |folder: &str, name: &str| {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("forebay.yaml"), format!("models:\n{}", model(name, &base)))
                .unwrap();
        };
        version("..1", "one");
        version("..2", "two");
        symlink("..1", at("..data")).unwrap();
        symlink("..data/forebay.yaml", at("forebay.yaml")).unwrap();
        let path = folder.path().to_owned();
        let server = Server::in_folder(folder);
        assert_eq!(names(&server), ["one"]);
        symlink("..2", path.join("..new")).unwrap();
        std::fs::rename(path.join("..new"), path.join("..data")).unwrap();
        eventually("the link leads elsewhere", || names(&server) == ["two"]);
        // And in the file that it leads to.
        std::fs::write(path.join("..2/forebay.yaml"), format!("models:\n{}", model("three", &base))).unwrap();
        eventually("the file has changed", || names(&server) == ["three"]);
        std::fs::remove_dir_all(path.join("..1")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_end_changes_nothing_at_sighup() {
    let up = upstream(json!({"tokens": 30, "token_interval": 50})).await;
    let base = up.base_url();
    blocking(move || {
        let mut server = Server::with(&format!("{QUIET}models:\n{}", model("m", &base)));
        let mut stream = server.open_chat("m", r#","stream":true"#);
        let begun = read_until(&mut stream, "\"content\":\"");
        server.terminate();
        eventually("it is draining", || std::net::TcpStream::connect(server.address).is_err());
        write(&server, "not a configuration");
        for _ in 0..3 {
            signal("HUP", server.pid());
        }
        let all = begun + &read_rest(stream);
        assert!(all.contains(r#""finish_reason":"stop""#) && all.contains("[DONE]"), "{all}");
        assert!(server.wait().success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_when_it_is_told_to_though_a_read_of_its_configuration_hangs() {
    let up = upstream(json!({})).await;
    let base = up.base_url();
    blocking(move || {
        let mut server = Server::start(&base, QUIET);
        let file = server.folder.path().join("forebay.yaml");
        std::fs::remove_file(&file).unwrap();
        // Whoever opens it to read waits for somebody who writes.
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        signal("HUP", server.pid());
        // After ten seconds.
        patiently("the read is given up", || counted(&server, "refused") > 0.0);
        server.terminate();
        eventually("it has ended", || server.has_ended());
    })
    .await;
}
