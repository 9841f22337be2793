//! Kept answers and shared calls on the running server, counted at the upstream: `docs/guides/caching.md`.

use std::net::TcpStream;

use serde_json::{Value as Json, json};
use testkit::{EndedHow, FakeUpstream, Handle};

use crate::server::{Server, answer, eventually, forebay, read_rest, read_until};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value(script).unwrap()).await.unwrap()
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

fn caching(up: &Handle) -> Server {
    Server::with_model(&up.base_url(), ", cache: {ttl: 1h, max_bytes: 1mb}", "")
}

fn parse(body: &str) -> Json {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("not JSON ({e}): {body}"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

/// The text of a streamed answer.
fn streamed(body: &str) -> String {
    let events = body.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|e| *e != "[DONE]");
    events.filter_map(|e| parse(e)["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_request_costs_nothing_and_says_so_everywhere() {
    let up = upstream(json!({"text": "one two three"})).await;
    let server = caching(&up);
    let server = blocking(move || {
        let (_, head, first) = server.chat("");
        assert_eq!((header(&head, "forebay-cache"), header(&head, "age")), (Some("miss"), None), "{head}");
        // Streamed or not, and by whatever user: the same answer.
        let (status, head, second) = server.chat(r#","user":"ann""#);
        assert_eq!(status, 200);
        assert_eq!(
            (header(&head, "forebay-cache"), header(&head, "age")),
            (Some("hit"), Some("0")),
            "{head}"
        );
        assert_eq!(
            (header(&head, "forebay-cost-nanousd"), header(&head, "forebay-attempts")),
            (Some("0"), Some("0"))
        );
        let (first, second) = (parse(&first), parse(&second));
        assert_eq!((&first["choices"], &first["usage"]), (&second["choices"], &second["usage"]));
        let (_, head, body) = server.chat(r#","stream":true"#);
        assert_eq!(
            (header(&head, "forebay-cache"), streamed(&body).as_str()),
            (Some("hit"), "one two three")
        );

        let (_, _, record) =
            server.ask("GET", &format!("/v1/requests/{}", second["id"].as_str().unwrap()), &[], "");
        let record = parse(&record);
        assert_eq!((&record["attempts"], &record["cost"]), (&json!([]), &json!(0)), "{record}");
        let (tokens, cost) =
            (&first["usage"]["total_tokens"], record["facts"]["cache"]["m"]["saved_nanousd"].as_u64());
        assert_eq!(&record["facts"]["cache"]["m"]["saved_tokens"], tokens);
        assert!(cost.is_some_and(|c| c > 0), "{record}");
        for (result, n) in [("hit", 2.0), ("miss", 1.0)] {
            let label = format!(r#"model="m",result="{result}""#);
            assert_eq!(server.metric("forebay_cache_requests_total", &label), Some(n));
        }
        assert!(server.metric("forebay_cache_saved_usd_total", r#"model="m""#).is_some_and(|usd| usd > 0.0));
        let explained =
            forebay(server.folder.path()).args(["explain", second["id"].as_str().unwrap()]).output();
        let explained = String::from_utf8(explained.unwrap().stdout).unwrap();
        assert!(explained.contains("cache: m (hit 1, saved_tokens "), "{explained}");
        server
    })
    .await;
    assert_eq!(up.log().len(), 1);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_at_once_are_one_call_and_one_charge() {
    let up =
        upstream(json!({"first_token": 500, "token_interval": 5, "text": "one two three four five"})).await;
    let server = caching(&up);
    let calls: Vec<TcpStream> =
        (0..50).map(|n| server.open_chat("m", if n % 2 == 0 { "" } else { r#","stream":true"# })).collect();
    let answers = calls.into_iter().map(|socket| blocking(move || answer(socket)));
    for (n, answer) in futures_util::future::join_all(answers).await.into_iter().enumerate() {
        let (status, head, body) = answer;
        let text = if n % 2 == 0 {
            parse(&body)["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        } else {
            streamed(&body)
        };
        assert_eq!((status, text.as_str()), (200, "one two three four five"), "{head}");
    }
    assert_eq!(up.log().len(), 1);
    let shared = r#"result="shared""#;
    assert_eq!(server.metric("forebay_cache_requests_total", shared), Some(49.0));
    assert_eq!(server.metric("forebay_attempts_total", ""), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_first_caller_leaves_the_others_have_all_of_it() {
    let up = upstream(json!({"token_interval": 20, "tokens": 100})).await;
    let server = caching(&up);
    let mut first = server.open_chat("m", r#","stream":true"#);
    read_until(&mut first, "content");
    let mut second = server.open_chat("m", r#","stream":true"#);
    let began = read_until(&mut second, "content");
    drop(first);
    eventually("it is recorded as cancelled", || {
        server.metric("forebay_requests_total", r#"ending="cancelled""#) == Some(1.0)
    });
    let rest = blocking(move || read_rest(second)).await;
    let whole = began + &rest;
    assert!(whole.contains("[DONE]") && whole.to_lowercase().contains("forebay-cache: shared"), "{whole}");
    assert_eq!(up.wait_for_end(1).await.unwrap().how, EndedHow::Completed);
    assert_eq!(up.log().len(), 1);
    let (_, head, body) = server.chat("");
    assert_eq!(header(&head, "forebay-cache"), Some("hit"));
    let usage = parse(&body)["usage"].clone();
    let charged = server.metric("forebay_tokens_total", r#"direction="output""#);
    assert_eq!(charged, usage["completion_tokens"].as_f64(), "once, and not to the one that left");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_have_left_the_upstream_is_let_go() {
    let up = upstream(json!({"first_token": 60_000})).await;
    let server = caching(&up);
    let calls: Vec<TcpStream> = (0..3).map(|_| server.open_chat("m", "")).collect();
    up.wait_for_arrival(1).await.unwrap();
    eventually("all three are in", || server.metric("forebay_requests_in_flight", "") == Some(3.0));
    drop(calls);
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), up.wait_for_end(1)).await;
    assert_eq!(end.expect("it learns that all have left").unwrap().how, EndedHow::ClientLeft);
    assert_eq!(up.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_get_each_others_answers() {
    let up = upstream(json!({"text": "one two"})).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "auth: {{required: true}}\nmodels:\n  m: {{openai: gpt-test, base_url: {}/v1, api_key: sk-test, cache: {{}}}}\n",
        up.base_url()
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    // The keys are made where the server will look for them.
    crate::on_postgres::place(folder.path());
    let key = |tenant: &str| {
        let made = forebay(folder.path()).args(["key", "create", "--name", "k", "--tenant", tenant]).output();
        String::from_utf8(made.unwrap().stdout).unwrap().trim().to_owned()
    };
    let keys = [key("acme"), key("globex")];
    let server = Server::in_folder(folder);
    let found = blocking(move || {
        let ask = |key: &str, control: &str| {
            let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
            let bearer = format!("Bearer {key}");
            let headers = [("authorization", bearer.as_str()), ("cache-control", control)];
            let (status, head, body) = server.ask("POST", "/v1/chat/completions", &headers, body);
            assert_eq!(status, 200, "{body}");
            header(&head, "forebay-cache").unwrap().to_owned()
        };
        let mut found: Vec<String> = Vec::new();
        for key in keys.iter().chain(&keys) {
            found.push(ask(key, ""));
        }
        found.extend(["no-store", "no-cache", "max-age=60", "private"].map(|control| ask(&keys[0], control)));
        // The server's own check of a stopped server asks for its metrics without a key.
        drop(server);
        found
    })
    .await;
    assert_eq!(found, ["miss", "miss", "hit", "hit", "bypass", "miss", "hit", "hit"]);
    assert_eq!(up.log().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_asks_the_large_model_only_when_the_small_ones_answer_does_not_do() {
    let small = upstream(json!({"text": "ok", "log": "bodies"})).await;
    let large = upstream(json!({"text": "a much longer answer"})).await;
    let config = |min_chars: u64| {
        format!(
            "models:\n  small: {{openai: s, base_url: {}/v1, api_key: sk-s, price: {{input: 1, output: 1}}}}\n  \
             large: {{openai: l, base_url: {}/v1, api_key: sk-l, price: {{input: 10, output: 10}}}}\n\
             pipelines:\n  ask:\n    input: text\n    output: text\n    stages:\n      \
             - answer: {{cascade: {{models: [small, large], prompt_text: '{{{{ input }}}}', \
             accept: {{min_chars: {min_chars}}}}}}}\n",
            small.base_url(),
            large.base_url()
        )
    };
    for (min_chars, text, asked) in [(2, "ok", (1, 0)), (3, "a much longer answer", (2, 1))] {
        let server = Server::with(&config(min_chars));
        let record = blocking(move || {
            let (status, _, body) = server.ask("POST", "/v1/pipelines/ask", &[], r#"{"input":"hello"}"#);
            let body = parse(&body);
            assert_eq!((status, &body["output"]), (200, &json!(text)), "{body}");
            let (_, _, record) =
                server.ask("GET", &format!("/v1/requests/{}", body["id"].as_str().unwrap()), &[], "");
            parse(&record)
        })
        .await;
        assert_eq!((small.log().len(), large.log().len()), asked);
        let models: Vec<&str> =
            record["attempts"].as_array().unwrap().iter().map(|a| a["model"].as_str().unwrap()).collect();
        if min_chars == 2 {
            assert_eq!(
                (models, &record["facts"]["cascade"]),
                (vec!["small"], &json!({"small": {"accepted": 1}}))
            );
        } else {
            assert_eq!(models, ["small", "large"]);
            let facts = json!({"small": {"refused_too_short": 1}, "large": {"accepted": 1}});
            assert_eq!(record["facts"]["cascade"], facts);
        }
    }
}

#[test]
fn check_names_what_is_wrong_in_a_cascade_and_in_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let config = "models:\n  small: {openai: s, api_key: sk, cache: {scope: everybody, max_bytes: lots}}\n\
        pipelines:\n  ask:\n    input: text\n    output: text\n    stages:\n      \
        - answer: {cascade: {models: [small, larg], prompt_text: 'x', accept: {must_match: '('}}}\n";
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let out = forebay(folder.path()).arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    for part in ["scope", "a size such as", "there is no model `larg`"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let fixed = config.replace("everybody", "user").replace("lots", "1mb").replace("larg]", "big]");
    let fixed = fixed.replace("pipelines:", "  big: {openai: b, api_key: sk}\npipelines:");
    std::fs::write(folder.path().join("forebay.yaml"), &fixed).unwrap();
    let out = forebay(folder.path()).arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("not a regular expression"), "{text}");
    std::fs::write(folder.path().join("forebay.yaml"), fixed.replace("'('", "'x'")).unwrap();
    assert!(forebay(folder.path()).arg("check").status().unwrap().success());
}
