//! Jobs over the running server: submitted, looked at, cancelled, retried, taken over from a dead process, told about.

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::server::{Server, eventually, forebay};

const ASYNC: (&str, &str) = ("prefer", "respond-async");

fn script(v: Json) -> Script {
    serde_json::from_value(v).unwrap()
}

fn parse(body: &str) -> Json {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("not JSON ({e}): {body}"))
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

const DOCUMENT: &str =
    r#"{"input":"First sentence of some length here. Second sentence of some length there."}"#;

fn submit(server: &Server, more: &[(&str, &str)]) -> Json {
    let mut headers = vec![ASYNC, ("content-type", "application/json")];
    headers.extend_from_slice(more);
    let (status, head, body) = server.ask("POST", "/v1/pipelines/shout", &headers, DOCUMENT);
    assert_eq!(status, 202, "{head}\n{body}");
    let job = parse(&body);
    assert!(head.contains("preference-applied: respond-async"), "{head}");
    assert!(head.contains(&format!("location: /v1/jobs/{}", job["id"].as_str().unwrap())), "{head}");
    job
}

fn show(server: &Server, id: &Json) -> Json {
    let (status, _, body) = server.ask("GET", &format!("/v1/jobs/{}", id.as_str().unwrap()), &[], "");
    assert_eq!(status, 200, "{body}");
    parse(&body)
}

fn ended(server: &Server, id: &Json) -> Json {
    let mut last = Json::Null;
    eventually("the job ends", || {
        last = show(server, id);
        last["ended_at"].is_i64()
    });
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_acknowledged_at_once_and_its_result_is_that_of_the_live_call() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let job = submit(&server, &[]);
        assert!(["queued", "running", "succeeded"].contains(&job["status"].as_str().unwrap()), "{job}");
        let job = ended(&server, &job["id"]);
        assert_eq!((&job["status"], &job["attempts"]), (&json!("succeeded"), &json!(1)), "{job}");
        assert_eq!(
            (&job["result"]["output"], &job["result"]["complete"]),
            (&json!("LOUD"), &json!(true)),
            "{job}"
        );
        assert_eq!(job["progress"][0]["state"], "done");
        // The ledger has it under an id that the job names.
        let request = job["request_ids"][0].as_str().unwrap();
        let (status, _, record) = server.ask("GET", &format!("/v1/requests/{request}"), &[], "");
        assert_eq!((status, &parse(&record)["ending"]), (200, &json!("complete")));
        assert_eq!(server.metric("forebay_jobs_ended_total", r#"outcome="succeeded""#), Some(1.0));
        assert_eq!(server.metric("forebay_job_attempts_ended_total", r#"outcome="done""#), Some(1.0));
        // Chat calls in both protocols.
        let chat = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
        for (path, at) in
            [("/v1/chat/completions", "/choices/0/message/content"), ("/v1/messages", "/content/0/text")]
        {
            let (status, _, body) = server.ask("POST", path, &[ASYNC], chat);
            assert_eq!(status, 202, "{body}");
            let job = ended(&server, &parse(&body)["id"]);
            assert_eq!(job["result"].pointer(at), Some(&json!("LOUD")), "{job}");
        }
        let (_, _, list) = server.ask("GET", "/v1/jobs?limit=2", &[], "");
        let list = parse(&list);
        assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (2, &json!(true)));
        assert_eq!(list["data"][0]["path"], "/v1/messages");
        let after = format!("/v1/jobs?after={}", list["last_id"].as_str().unwrap());
        let (_, _, rest) = server.ask("GET", &after, &[], "");
        assert_eq!(parse(&rest)["data"][0]["path"], "/v1/pipelines/shout");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_at_once_and_what_turns_out_wrong_by_the_job() {
    let up = FakeUpstream::start(script(json!({"text": "x"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let json = ("content-type", "application/json");
        for (path, body, status) in [
            ("/v1/pipelines/nobody", DOCUMENT, 404),
            ("/v1/chat/completions", r#"{"model":"nobody","messages":[{"role":"user","content":"x"}]}"#, 404),
            ("/v1/chat/completions", "{", 400),
            ("/v1/pipelines/shout", r#"{"input":"x","stream":true}"#, 400),
            ("/v1/pipelines/shout?stream=true", DOCUMENT, 400),
        ] {
            let (found, _, text) = server.ask("POST", path, &[ASYNC, json], body);
            assert_eq!(found, status, "{path} {body}: {text}");
        }
        for address in ["https://169.254.169.254/latest", "https://2130706433/", "https://0177.0.0.1/"] {
            let hook = ("forebay-webhook", address);
            let (status, _, body) = server.ask("POST", "/v1/pipelines/shout", &[ASYNC, json, hook], DOCUMENT);
            assert_eq!((status, &parse(&body)["error"]["param"]), (400, &json!("forebay-webhook")), "{body}");
        }
        let events = ("accept", "text/event-stream");
        let (status, _, body) = server.ask("POST", "/v1/pipelines/shout", &[ASYNC, json, events], DOCUMENT);
        assert_eq!((status, &parse(&body)["error"]["param"]), (400, &json!("accept")), "{body}");
        let (_, _, body) = server.ask("POST", "/v1/pipelines/shout", &[ASYNC, json], r#"{"input":5}"#);
        let job = ended(&server, &parse(&body)["id"]);
        assert_eq!(
            (&job["status"], &job["error"]["code"], &job["attempts"]),
            (&json!("failed"), &json!("invalid_request"), &json!(1)),
            "{job}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_is_the_same_job_and_another_body_is_refused() {
    let up = FakeUpstream::start(script(json!({"text": "x"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    blocking(move || {
        let key = ("idempotency-key", "order-7");
        let (one, two) = (submit(&server, &[key]), submit(&server, &[key]));
        assert_eq!(one["id"], two["id"]);
        ended(&server, &one["id"]);
        let headers = [ASYNC, key, ("content-type", "application/json")];
        let (status, _, body) =
            server.ask("POST", "/v1/pipelines/shout", &headers, r#"{"input":"Another one."}"#);
        assert_eq!(
            (status, &parse(&body)["error"]["code"]),
            (422, &json!("idempotency_key_reused")),
            "{body}"
        );
    })
    .await;
    assert_eq!(up.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_known_is_known_also_when_there_is_no_room_for_more() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000}))).await.unwrap();
    let server = Server::start(&up.base_url(), "jobs: {waiting: 2}\n");
    blocking(move || {
        let key = ("idempotency-key", "order-7");
        let one = submit(&server, &[key]);
        let json = ("content-type", "application/json");
        let (status, head, body) = server.ask("POST", "/v1/pipelines/shout", &[ASYNC, json], DOCUMENT);
        assert_eq!(status, 429, "one tenant has half of all: {body}");
        assert!(head.contains("retry-after: 60"), "{head}");
        assert_eq!(submit(&server, &[key])["id"], one["id"]);
        drop(server.kill());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_a_secret_of_its_own_that_can_be_replaced() {
    let up = FakeUpstream::start(script(json!({"text": "x"}))).await.unwrap();
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let server = Server::start(&up.base_url(), &format!("jobs: {{webhook: {{secret: {secret}}}}}\n"));
    blocking(move || {
        let ask = |args: &[&str]| {
            let mut all = vec!["--json", "webhooks", "secret"];
            all.extend_from_slice(args);
            let made = forebay(server.folder.path()).args(all).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            parse(&String::from_utf8(made.stdout).unwrap())
        };
        let (gold, other) = (ask(&["--tenant", "gold"]), ask(&["--tenant", "other"]));
        assert!(gold["secret"].as_str().unwrap().starts_with("whsec_"), "{gold}");
        assert_ne!(gold["secret"], other["secret"]);
        assert_ne!(gold["secret"], secret);
        assert_eq!(gold["old_secret"], Json::Null);
        let next = ask(&["--tenant", "gold", "--rotate"]);
        assert_eq!(next["old_secret"], gold["secret"]);
        assert_ne!(next["secret"], gold["secret"]);
        assert_eq!(ask(&["--tenant", "gold"])["secret"], next["secret"]);
        assert_eq!(ask(&["--tenant", "other"]), other);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_its_upstream_and_an_ended_one_can_be_removed() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    let (server, id) = blocking(move || {
        let job = submit(&server, &[]);
        (server, job["id"].clone())
    })
    .await;
    up.wait_for_arrival(1).await.unwrap();
    blocking(move || {
        assert_eq!(show(&server, &id)["status"], "running");
        let path = format!("/v1/jobs/{}", id.as_str().unwrap());
        let (status, _, body) = server.ask("POST", &format!("{path}/cancel"), &[], "");
        assert_eq!((status, &parse(&body)["status"]), (200, &json!("cancelled")));
        eventually("the call is stopped", || server.held().is_ok());
        let (status, _, body) = server.ask("DELETE", &path, &[], "");
        assert_eq!((status, &parse(&body)["deleted"]), (200, &json!(true)));
        assert_eq!(server.ask("GET", &path, &[], "").0, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_jobs_alone() {
    let up = FakeUpstream::start(script(json!({"text": "x"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "auth: {required: true}\n");
    blocking(move || {
        let key = |tenant: &str, more: &[&str]| {
            let mut args = vec!["key", "create", "--name", "n", "--tenant", tenant];
            args.extend_from_slice(more);
            let made = forebay(server.folder.path()).args(args).output().unwrap();
            format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
        };
        let (gold, other, admin) = (key("gold", &[]), key("other", &[]), key("ops", &["--admin"]));
        let as_ =
            |who: &str, method: &str, path: &str| server.ask(method, path, &[("authorization", who)], "");
        eventually("the keys are known", || as_(&admin, "GET", "/v1/jobs").0 == 200);
        // How an answer is read means nothing to a job, and takes its call out of nobody's hands.
        let headers = [
            ASYNC,
            ("content-type", "application/json"),
            ("authorization", gold.as_str()),
            ("forebay-resume", "30s"),
        ];
        let (status, _, body) = server.ask("POST", "/v1/pipelines/shout", &headers, DOCUMENT);
        assert_eq!(status, 202, "{body}");
        let path = format!("/v1/jobs/{}", parse(&body)["id"].as_str().unwrap());
        eventually("it ends", || parse(&as_(&gold, "GET", &path).2)["status"] == "succeeded");
        assert_eq!(server.ask("GET", &path, &[], "").0, 401);
        let job = parse(&as_(&gold, "GET", &path).2);
        let (status, _, record) =
            as_(&gold, "GET", &format!("/v1/requests/{}", job["request_ids"][0].as_str().unwrap()));
        assert_eq!((status, &parse(&record)["tenant"]), (200, &json!("gold")), "{record}");
        for (method, more) in
            [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/deliveries"), ("POST", "/redeliver")]
        {
            assert_eq!(as_(&other, method, &format!("{path}{more}")).0, 404, "{method} {more}");
        }
        assert_eq!(parse(&as_(&other, "GET", "/v1/jobs").2)["data"], json!([]));
        assert_eq!(as_(&other, "GET", "/v1/admin/jobs").0, 403);
        assert_eq!(parse(&as_(&admin, "GET", "/v1/admin/jobs").2)["data"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_by_a_passing_fault_is_tried_again_and_each_attempt_is_in_the_ledger() {
    // The model is asked twice for each attempt, and the pipeline would fall back: a chat call fails whole.
    let up = FakeUpstream::start(script(json!({"faults": [{"fault": {"status": {"status": 500}}}]})))
        .await
        .unwrap();
    let server = Server::start(&up.base_url(), "");
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let (server, id) = blocking(move || {
        let (status, _, body) = server.ask("POST", "/v1/chat/completions", &[ASYNC], chat);
        assert_eq!(status, 202, "{body}");
        let id = parse(&body)["id"].clone();
        eventually("an attempt fails", || show(&server, &id)["progress"][0]["failures"] == 1);
        (server, id)
    })
    .await;
    up.set_script(script(json!({"text": "at last"}))).unwrap();
    blocking(move || {
        let job = ended(&server, &id);
        assert_eq!((&job["status"], &job["attempts"]), (&json!("succeeded"), &json!(2)), "{job}");
        let endings: Vec<Json> = job["request_ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| {
                let (_, _, record) =
                    server.ask("GET", &format!("/v1/requests/{}", id.as_str().unwrap()), &[], "");
                parse(&record)["ending"].clone()
            })
            .collect();
        assert_eq!(endings, [json!("failed"), json!("complete")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_under_way_when_the_server_died_is_done_by_the_next() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    let (server, id) = blocking(move || {
        let job = submit(&server, &[]);
        (server, job["id"].clone())
    })
    .await;
    up.wait_for_arrival(1).await.unwrap();
    up.set_script(script(json!({"text": "LOUD"}))).unwrap();
    blocking(move || {
        let server = Server::in_folder(server.kill());
        let job = ended(&server, &id);
        assert_eq!(
            (&job["status"], &job["attempts"], &job["result"]["output"]),
            (&json!("succeeded"), &json!(2), &json!("LOUD")),
            "{job}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_gives_back_what_it_cannot_end() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000}))).await.unwrap();
    let server = Server::start(&up.base_url(), "server: {drain: 200ms}\n");
    let (server, id) = blocking(move || {
        let job = submit(&server, &[]);
        (server, job["id"].clone())
    })
    .await;
    up.wait_for_arrival(1).await.unwrap();
    up.set_script(script(json!({"text": "LOUD"}))).unwrap();
    blocking(move || {
        let mut server = server;
        server.terminate();
        assert!(server.wait().success());
        let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
        let server = Server::in_folder(folder);
        let job = ended(&server, &id);
        assert_eq!(
            (&job["status"], &job["result"]["output"]),
            (&json!("succeeded"), &json!("LOUD")),
            "{job}"
        );
        assert_eq!(job["progress"][0]["failures"], 0, "a stop is nobody's fault: {job}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_calls_go_before_jobs_at_a_busy_model() {
    let up = FakeUpstream::start(script(json!({"first_token": 60_000, "log": "bodies"}))).await.unwrap();
    let server = Server::with_model(&up.base_url(), ", max_concurrency: 1", "jobs: {parallel: 4}\n");
    let (server, first) = blocking(move || {
        let job = submit(&server, &[]);
        (server, job["id"].as_str().unwrap().to_owned())
    })
    .await;
    up.wait_for_arrival(1).await.unwrap();
    up.set_script(script(json!({"text": "x", "log": "bodies"}))).unwrap();
    blocking(move || {
        let waits = |n: f64| move |s: &Server| s.metric("forebay_model_queue_requests", "") == Some(n);
        let jobs: Vec<Json> = (0..3).map(|_| submit(&server, &[])["id"].clone()).collect();
        eventually("the jobs wait for the model", || waits(3.0)(&server));
        let live = server.open_chat("m", "");
        eventually("so does the live call", || waits(4.0)(&server));
        let (status, _, _) = server.ask("POST", &format!("/v1/jobs/{first}/cancel"), &[], "");
        assert_eq!((status, crate::server::answer(live).0), (200, 200));
        for id in &jobs {
            assert_eq!(ended(&server, id)["status"], "succeeded");
        }
    })
    .await;
    let bodies: Vec<String> = up.log().iter().map(|r| format!("{:?}", r.body)).collect();
    let live = bodies.iter().position(|b| b.contains("hello there"));
    assert_eq!(
        (live, bodies.len()),
        (Some(1), 5),
        "the first that came to its turn was the live call: {bodies:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_and_cancels_the_same_jobs_in_the_folder_and_on_a_server() {
    let up = FakeUpstream::start(script(json!({"text": "LOUD"}))).await.unwrap();
    let server = Server::start(&up.base_url(), "");
    let (server, done) = blocking(move || {
        let done = ended(&server, &submit(&server, &[])["id"]);
        (server, done)
    })
    .await;
    up.set_script(script(json!({"first_token": 60_000}))).unwrap();
    blocking(move || {
        let open = submit(&server, &[])["id"].clone();
        eventually("it runs", || show(&server, &open)["status"] == "running");
        let at = format!("http://{}", server.address);
        let jobs = |more: &[&str], args: &[&str]| {
            let output = forebay(server.folder.path())
                .args(more)
                .args(["--json", "jobs"])
                .args(args)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (output.status.success(), serde_json::from_str(&text).unwrap_or(Json::Null))
        };
        let id = done["id"].as_str().unwrap();
        for args in [vec!["list"], vec!["list", "--limit", "1"], vec!["show", id]] {
            let (folder, remote) = (jobs(&[], &args), jobs(&["--server", &at], &args));
            assert!(folder.0 && folder == remote, "{args:?}: {folder:?} {remote:?}");
        }
        assert_eq!(jobs(&[], &["show", id]).1["result"]["output"], "LOUD");
        let none = "run_00000000000070008000000000000000";
        assert!(!jobs(&[], &["show", none]).0 && !jobs(&["--server", &at], &["show", none]).0);
        // Ended in the folder, while the server works on it.
        let cancelled = jobs(&[], &["cancel", open.as_str().unwrap()]);
        assert_eq!(cancelled.1["status"], "cancelled");
        assert_eq!(show(&server, &open)["status"], "cancelled");
        drop(server.kill());
    })
    .await;
}
