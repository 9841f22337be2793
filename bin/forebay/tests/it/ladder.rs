//! Pipelines whose models are busy: what they do instead, at once, and what the caller is told of it.

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::{Server, eventually};

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

const TEXT: &str = "The harbour was closed on Monday. Nobody knew why the harbour was closed.";

fn config(slow: &Handle, quick: &Handle) -> String {
    let (a, b) = (slow.base_url(), quick.base_url());
    let answer = "      - answer: {generate: {model: m, prompt_text: '{{ input }}'}}\n";
    let draft = "      - draft: {extractive: {sentences: 1}}\n";
    let pipeline = |name: &str, input: &str, then: &str, stages: &str| {
        format!(
            "  {name}:\n    input: {input}\n    output: text\n    budget: {{total: 60s}}\n    \
             when_busy: {{wait: 200ms, then: [{then}]}}\n    stages:\n{stages}"
        )
    };
    format!(
        "models:\n  m: {{openai: m, base_url: {a}/v1, max_concurrency: 1}}\n  \
         small: {{openai: small, base_url: {b}/v1, max_concurrency: 1}}\npipelines:\n{}{}{}",
        pipeline("model", "text", "{model: small}, shed", answer),
        pipeline("draft", "document", "draft", &format!("{draft}{answer}")),
        pipeline("shed", "text", "shed", answer),
    )
}

/// Status, headers and body.
fn ask(server: &Server, pipeline: &str) -> (u16, String, String) {
    server.ask("POST", &format!("/v1/pipelines/{pipeline}"), &[("content-type", "text/plain")], TEXT)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pipeline_does_less_at_once_and_says_so() {
    let slow = upstream(json!({"first_token": 600, "text": "from the large model"})).await;
    let quick = upstream(json!({"text": "from the small model"})).await;
    let server = Server::with(&config(&slow, &quick));
    // Nothing waits: all of it, and what a call takes is known from here on.
    let (status, head, body) = ask(&server, "shed");
    assert!(status == 200 && body.contains("from the large model") && !head.contains("forebay-degraded"));
    // Three calls of the large model, of which two wait.
    slow.set_script(serde_json::from_value(json!({"first_token": 4_000, "text": "late"})).unwrap()).unwrap();
    let busy: Vec<_> = (0..3).map(|_| server.open_chat("m", r#","stream":true"#)).collect();
    eventually("the queue is there", || {
        server.metric("forebay_model_queue_requests", "model=\"m\"") == Some(2.0)
    });

    let (status, head, body) = ask(&server, "model");
    assert!(status == 200 && body.contains("from the small model"), "{status} {body}");
    assert!(
        head.contains("forebay-degraded: model") && body.contains(r#""degraded":"model""#),
        "{head}{body}"
    );

    let (status, head, body) = ask(&server, "draft");
    let said: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, said["complete"].as_bool()), (200, Some(true)), "{body}");
    assert!(TEXT.contains(said["output"].as_str().unwrap().trim()), "{body}");
    assert!(head.contains("forebay-degraded: draft") && said["degraded"] == "draft", "{head}{body}");

    let (status, head, body) = ask(&server, "shed");
    assert!(status == 429 && body.contains("overloaded"), "{status} {body}");
    let after =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("retry-after: ").map(str::to_owned));
    assert!(after.is_some_and(|s| s.trim().parse::<u64>().unwrap() >= 1), "{head}");
    // The same as models, in the words of their surface.
    let (status, head, body) = {
        let body = json!({"model": "model", "messages": [{"role": "user", "content": TEXT}]}).to_string();
        server.ask("POST", "/v1/chat/completions", &[], &body)
    };
    assert!(status == 200 && body.contains("from the small model"), "{status} {body}");
    assert!(head.contains("forebay-degraded: model"), "{head}");

    for (rung, n) in [("model", 2.0), ("draft", 1.0), ("shed", 1.0)] {
        let label = format!("pipeline=\"{rung}\",rung=\"{rung}\"");
        assert_eq!(server.metric("forebay_degraded_total", &label), Some(n), "{rung}");
    }
    assert_eq!(slow.log().len(), 2, "the large model was asked by nobody else");
    drop(busy);
}

/// The server of `config` whose large model is busy: three calls of it, of which two wait. Drop them to end that.
fn keep_busy(server: &Server, slow: &Handle) -> Vec<impl Sized> {
    slow.set_script(serde_json::from_value(json!({"first_token": 4_000, "text": "late"})).unwrap()).unwrap();
    (0..3).map(|_| server.open_chat("m", r#","stream":true"#)).collect()
}

fn laddered(slow: &Handle, then: &str, rest: &str) -> String {
    let a = slow.base_url();
    format!(
        "models:\n  m: {{openai: m, base_url: {a}/v1, max_concurrency: 1}}\npipelines:\n  p:\n    input: text\n    \
         output: text\n    budget: {{total: 60s}}\n    when_busy: {{wait: 200ms, then: [{then}]}}\n    stages:\n      \
         - answer: {{generate: {{model: m, prompt_text: '{{{{ input }}}}'}}}}\n{rest}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pipeline_gives_the_answer_that_the_same_request_had_before_and_to_its_tenant_alone() {
    let slow = upstream(json!({"first_token": 600, "text": "from the large model"})).await;
    let server = Server::with(&laddered(&slow, "{cached: 1h}, shed", ""));
    let ask = |headers: &[(&str, &str)], text: &str| {
        let all: Vec<_> =
            [("content-type", "text/plain")].into_iter().chain(headers.iter().copied()).collect();
        server.ask("POST", "/v1/pipelines/p", &all, text)
    };
    let (status, head, _) = ask(&[], TEXT);
    assert!(status == 200 && !head.contains("forebay-degraded"), "{head}");
    // Not kept, because it says so.
    assert_eq!(ask(&[("cache-control", "no-store")], "Something private.").0, 200);
    let busy = keep_busy(&server, &slow);
    eventually("the queue is there", || {
        server.metric("forebay_model_queue_requests", "model=\"m\"") == Some(2.0)
    });
    let (status, head, body) = ask(&[], TEXT);
    let said: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, said["output"].as_str()), (200, Some("from the large model")), "{body}");
    assert_eq!((&said["complete"], &said["degraded"]), (&json!(true), &json!("cached")), "{body}");
    assert!(said["degraded_age_s"].is_u64() && said["cost_nanousd"] == 0, "{body}");
    assert!(head.contains("forebay-degraded: cached") && head.contains("age: "), "{head}");
    // As it would have streamed, and on other surfaces.
    let (_, _, events) = ask(&[("accept", "text/event-stream")], TEXT);
    assert!(events.contains("event: delta") && events.contains("from the large model"), "{events}");
    let body = json!({"model": "p", "messages": [{"role": "user", "content": TEXT}]}).to_string();
    let (status, head, body) = server.ask("POST", "/v1/chat/completions", &[], &body);
    assert!(status == 200 && body.contains("from the large model"), "{status} {body}");
    assert!(head.contains("forebay-degraded: cached"), "{head}");
    // Another request, one whose answer is not kept, and one that wants no old answer go down to the next rung.
    for (headers, text) in
        [(&[][..], "Another text."), (&[], "Something private."), (&[("cache-control", "no-cache")], TEXT)]
    {
        let (status, head, body) = ask(headers, text);
        assert!(status == 429 && body.contains("overloaded"), "{status} {head} {body}");
    }
    let counted =
        |rung: &str| server.metric("forebay_degraded_total", &format!("pipeline=\"p\",rung=\"{rung}\""));
    assert_eq!((counted("cached"), counted("shed")), (Some(3.0), Some(3.0)));
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pipeline_makes_a_job_of_a_call_whose_caller_takes_one() {
    let slow = upstream(json!({"first_token": 600, "text": "from the large model"})).await;
    let server = Server::with(&laddered(&slow, "job, shed", ""));
    let ask = |headers: &[(&str, &str)], path: &str, body: &str| server.ask("POST", path, headers, body);
    let native = "/v1/pipelines/p";
    let text = ("content-type", "text/plain");
    assert_eq!(ask(&[text], native, TEXT).0, 200);
    let busy = keep_busy(&server, &slow);
    eventually("the queue is there", || {
        server.metric("forebay_model_queue_requests", "model=\"m\"") == Some(2.0)
    });
    let (status, head, body) = ask(&[text], native, TEXT);
    let job: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, job["object"].as_str()), (202, Some("job")), "{head}{body}");
    assert!(head.contains("forebay-degraded: job") && !head.contains("preference-applied"), "{head}");
    let location = format!("location: /v1/jobs/{}", job["id"].as_str().unwrap());
    assert!(head.to_ascii_lowercase().contains(&location), "{head}");
    // Under a key it is one job, however often it is sent.
    let keyed = [text, ("idempotency-key", "once")];
    let (first, again) = (ask(&keyed, native, TEXT), ask(&keyed, native, TEXT));
    let id = |body: &str| serde_json::from_str::<Json>(body).unwrap()["id"].clone();
    assert_eq!((first.0, again.0, id(&first.2)), (202, 202, id(&again.2)), "{} {}", first.2, again.2);
    // Who reads a stream, or says no, or speaks a protocol that knows no jobs, is refused as before.
    let chat = json!({"model": "p", "messages": [{"role": "user", "content": TEXT}]}).to_string();
    let streams = [text, ("accept", "text/event-stream")];
    let declines = [text, ("forebay-accept", "answer")];
    for (headers, path, body) in
        [(&streams[..], native, TEXT), (&declines, native, TEXT), (&[], "/v1/chat/completions", &chat)]
    {
        let (status, _, body) = ask(headers, path, body);
        assert_eq!(status, 429, "{body}");
    }
    // Unless it says that it does.
    let (status, _, body) = ask(&[("forebay-accept", "job")], "/v1/chat/completions", &chat);
    assert_eq!(status, 202, "{body}");
    let counted =
        |rung: &str| server.metric("forebay_degraded_total", &format!("pipeline=\"p\",rung=\"{rung}\""));
    assert_eq!((counted("job"), counted("shed")), (Some(3.0), Some(3.0)));
    drop(busy);
    slow.set_script(serde_json::from_value(json!({"text": "done later"})).unwrap()).unwrap();
    let at = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let mut ended = Json::Null;
    eventually("the job is done", || {
        ended = serde_json::from_str(&server.ask("GET", &at, &[], "").2).unwrap();
        ended["status"] == "succeeded"
    });
    assert!(ended.to_string().contains("done later"), "{ended}");
    assert!(ended.to_string().contains(r#""degraded":"job""#), "its record says why: {ended}");
}
