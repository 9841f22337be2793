//! Answers that break off, endpoints that fail and beginnings that are slow, on the running server: what the caller reads,
//! what the upstreams were asked, and what the record says.

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::Server;

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

/// A model `m` at the first upstream with more settings, and its fallback `spare` at the second.
fn server(first: &Handle, second: &Handle, more: &str, spare: &str) -> Server {
    let (a, b) = (first.base_url(), second.base_url());
    Server::with(&format!(
        "models:\n  m: {{openai: gpt, base_url: {a}/v1, fallback: [spare]{more}}}\n  \
         spare: {{openai: spare, base_url: {b}/v1{spare}}}\n\
         pipelines:\n  p:\n    input: text\n    output: text\n    mid_stream: restart\n    stages:\n      \
         - answer: {{generate: {{model: m, prompt_text: '{{{{ input }}}}'}}}}\n"
    ))
}

fn ask(server: &Server, path: &str, headers: &[(&str, &str)], stream: bool) -> (u16, String, String) {
    let body = json!({"model": "m", "max_tokens": 1_000, "stream": stream,
        "messages": [{"role": "user", "content": "Count."}]});
    server.ask("POST", path, headers, &body.to_string())
}

/// The text of a stream's pieces from its last reset on, and whether it ended well.
fn text(stream: &str) -> (String, bool) {
    let mut text = String::new();
    for data in stream.lines().filter_map(|l| l.strip_prefix("data: ")) {
        let Ok(event) = serde_json::from_str::<Json>(data) else { continue };
        if event["forebay"]["reset"] == true || event["type"] == "forebay_reset" || event["type"] == "reset" {
            text.clear();
        }
        let piece = [&event["choices"][0]["delta"]["content"], &event["delta"]["text"], &event["text"]];
        text.extend(piece.into_iter().filter_map(Json::as_str));
    }
    let whole = stream.contains("data: [DONE]") || stream.contains("message_stop");
    (text, whole)
}

/// The attempts of the last request: model, reason and ending.
fn attempts(server: &Server, id: &str) -> Vec<[String; 3]> {
    let (_, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
    let record: Json = serde_json::from_str(&record).unwrap();
    let of = |a: &Json, k: &str| a[k].as_str().unwrap_or_default().to_owned();
    record["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| ["model", "reason", "ending"].map(|k| of(a, k)))
        .collect()
}

fn id(answer: &str) -> String {
    let at = answer.find("req_").unwrap();
    answer[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

const CUT: &str = r#"{"tokens": 60, "seed": 7, "faults": [{"fault": {"cut": {"after_tokens": 40}}}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_whole_where_it_was_not_streamed() {
    let cut = upstream(serde_json::from_str(CUT).unwrap()).await;
    let whole = upstream(json!({"tokens": 60, "text": "All of it from the spare model."})).await;
    let server = server(&cut, &whole, "", "");
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (status, _, answer) = ask(&server, path, &[], false);
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer.contains("All of it from the spare model.") && answer.contains("\"usage\""),
            "{answer}"
        );
        let made = attempts(&server, &id(&answer));
        assert_eq!(made, [["m", "", "partial"], ["spare", "restart", "complete"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_ends_with_the_error_unless_the_caller_asked_for_more() {
    let cut = upstream(serde_json::from_str(CUT).unwrap()).await;
    let whole = upstream(json!({"text": "All of it from the spare model."})).await;
    let server = server(&cut, &whole, "", "");
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (_, _, stream) = ask(&server, path, &[], true);
        assert!(stream.contains("upstream_truncated") && !text(&stream).1, "{stream}");
        let (_, _, stream) = ask(&server, path, &[("forebay-mid-stream", "restart")], true);
        assert_eq!(text(&stream), ("All of it from the spare model.".to_owned(), true), "{stream}");
        assert_eq!(attempts(&server, &id(&stream))[1], ["spare", "restart", "complete"]);
        let (status, _, refused) = ask(&server, path, &[("forebay-mid-stream", "maybe")], true);
        assert!(status == 400 && refused.contains("error, restart, continue"), "{refused}");
    }
    // A pipeline says it for its callers.
    let native = [("content-type", "text/plain"), ("accept", "text/event-stream")];
    let (_, _, stream) = server.ask("POST", "/v1/pipelines/p", &native, "Count.");
    assert!(stream.contains("event: reset"), "{stream}");
    assert_eq!(text(&stream).0, "All of it from the spare model.", "{stream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_gone_on_with_by_a_model_that_can() {
    let cut = upstream(serde_json::from_str(CUT).unwrap()).await;
    let rest = upstream(json!({"text": "and this is the rest.", "log": "bodies"})).await;
    let server = server(&cut, &rest, "", ", prefill: vllm");
    let on = [("forebay-mid-stream", "continue")];
    let (_, _, stream) = ask(&server, "/v1/chat/completions", &on, true);
    let (said, whole) = text(&stream);
    assert!(whole && said.ends_with("and this is the rest.") && said.split(' ').count() > 40, "{stream}");
    assert!(!stream.contains("reset"), "{stream}");
    assert_eq!(attempts(&server, &id(&stream))[1], ["spare", "continue", "complete"]);
    let log = rest.log();
    let body = log[0].body.as_ref().unwrap().to_string();
    assert!(body.contains("continue_final_message"), "{body}");
    // A model that refuses an assistant's words leaves the error, and is not asked for it again.
    let refuses = upstream(json!({"faults": [{"fault": {"refuse_prefill": {}}}]})).await;
    let server = self::server(&cut, &refuses, "", ", prefill: plain");
    for _ in 0..2 {
        let (_, _, stream) = ask(&server, "/v1/chat/completions", &on, true);
        assert!(stream.contains("upstream_truncated") && !text(&stream).1, "{stream}");
    }
    assert_eq!(refuses.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_share_a_model_and_one_that_fails_rests() {
    let down = upstream(json!({"scenario": "S04"})).await;
    let up = upstream(json!({"tokens": 5})).await;
    let server = Server::with(&format!(
        "models:\n  m:\n    openai: gpt\n    api_key: sk-one\n    base_url: {}/v1\n    endpoints:\n      \
         - {{base_url: {}/v1, api_key: sk-two, name: second}}\n",
        down.base_url(),
        up.base_url()
    ));
    for _ in 0..30 {
        let (status, _, answer) = ask(&server, "/v1/chat/completions", &[], false);
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(up.log().len(), 30);
    assert!(down.log().len() <= 3, "{}", down.log().len());
    if down.log().len() == 3 {
        assert_eq!(server.metric("forebay_endpoint_resting", "endpoint=\"m\""), Some(1.0));
    }
    assert_eq!(server.metric("forebay_endpoint_resting", "endpoint=\"second\""), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_beginning_is_hedged_and_the_slow_upstream_is_left() {
    let slow = upstream(json!({"first_token": 20_000, "tokens": 5})).await;
    // Slower than an endpoint is taken for that was never asked: each of them is asked first at some time.
    let quick = upstream(json!({"first_token": 150, "tokens": 5})).await;
    let server = Server::with(&format!(
        "models:\n  m:\n    openai: gpt\n    base_url: {}/v1\n    hedge: {{after: 400ms, share: 1}}\n    \
         endpoints: [{{base_url: {}/v1}}]\n",
        slow.base_url(),
        quick.base_url()
    ));
    let mut hedged = 0;
    for _ in 0..4 {
        let (status, _, answer) = ask(&server, "/v1/chat/completions", &[], false);
        assert_eq!(status, 200, "{answer}");
        let made = attempts(&server, &id(&answer));
        if made.len() == 2 {
            hedged += 1;
            assert!(made.iter().any(|a| a[1] == "hedge" && a[2] == "complete"), "{made:?}");
            assert!(made.iter().any(|a| a[1].is_empty() && a[2] == "cancelled"), "{made:?}");
        }
    }
    assert!(hedged > 0, "the slow one was asked first at least once");
    for no in 1..=slow.log().len() as u64 {
        let end = slow.wait_for_end(no).await.unwrap();
        assert_eq!(end.tokens_sent, 0);
    }
}
