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
