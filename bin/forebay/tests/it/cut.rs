//! A pipeline called as a model whose answer is cut: no caller takes it for a complete one, whatever the protocol, and what
//! a contract took in does not make an answer a cut one.

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::server::Server;

async fn upstream(script: Json) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(script).unwrap()).await.unwrap()
}

/// A server whose pipeline `p` ends with a stage that keeps what came.
fn server(up: &Handle, generate: &str) -> Server {
    let stage =
        format!("{{generate: {{model: m, prompt_text: '{{{{ input }}}}'{generate}}}, on_failure: partial}}");
    let p = format!("  p:\n    input: text\n    output: text\n    stages:\n      - answer: {stage}\n");
    Server::start(&up.base_url(), &p)
}

/// Status and body on OpenAI's surface and on Anthropic's.
fn ask(server: &Server, model: &str, stream: bool) -> [(u16, String); 2] {
    let body = json!({"model": model, "max_tokens": 1_000, "stream": stream,
        "messages": [{"role": "user", "content": "The harbour was closed. Nobody knew why it was closed."}]})
    .to_string();
    ["/v1/chat/completions", "/v1/messages"].map(|path| {
        let (status, _, body) = server.ask("POST", path, &[], &body);
        (status, body)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_answer_that_broke_off_is_an_error_in_a_stream_and_unfinished_as_a_whole() {
    let up = upstream(json!({"tokens": 40, "faults": [{"fault": {"cut": {"after_tokens": 10}}}]})).await;
    let server = server(&up, "");
    let [(_, openai), (_, anthropic)] = ask(&server, "p", true);
    assert!(
        openai.contains(r#""finish_reason":"error""#) && openai.contains("upstream_truncated"),
        "{openai}"
    );
    assert!(!openai.contains(r#""finish_reason":"stop""#) && !openai.contains("[DONE]"), "{openai}");
    assert!(anthropic.contains("event: error") && anthropic.contains("upstream_truncated"), "{anthropic}");
    assert!(!anthropic.contains("end_turn") && !anthropic.contains("message_stop"), "{anthropic}");
    let [(status, openai), (other, anthropic)] = ask(&server, "p", false);
    assert_eq!((status, other), (200, 200), "{openai}\n{anthropic}");
    let (openai, anthropic): (Json, Json) =
        (serde_json::from_str(&openai).unwrap(), serde_json::from_str(&anthropic).unwrap());
    assert_eq!(openai["choices"][0]["finish_reason"], "length", "{openai}");
    assert_ne!(openai["choices"][0]["message"]["content"], "", "{openai}");
    assert!(openai["usage"]["completion_tokens"].as_u64() > Some(0), "{openai}");
    assert_eq!(anthropic["stop_reason"], "max_tokens", "{anthropic}");
    let id = openai["id"].as_str().unwrap();
    let (_, _, record) = server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
    let record: Json = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["ending"], &record["error"]["code"]),
        (&json!("partial"), &json!("upstream_truncated"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_answer_cut_by_its_limit_ends_for_length() {
    let up = upstream(json!({"tokens": 40})).await;
    let server = server(&up, ", max_output_tokens: 8, on_length: partial");
    for stream in [true, false] {
        let [(_, openai), (_, anthropic)] = ask(&server, "p", stream);
        assert!(openai.contains(r#""finish_reason":"length""#), "{openai}");
        assert!(anthropic.contains(r#""stop_reason":"max_tokens""#), "{anthropic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_stands_in_for_a_dead_model_is_a_whole_answer() {
    let up = upstream(json!({"scenario": "S04"})).await;
    let server = Server::start(&up.base_url(), "");
    for stream in [true, false] {
        let [(_, openai), (_, anthropic)] = ask(&server, "shout", stream);
        assert!(openai.contains(r#""finish_reason":"stop""#) && openai.contains("was closed."), "{openai}");
        assert!(
            anthropic.contains(r#""stop_reason":"end_turn""#) && anthropic.contains("was closed."),
            "{anthropic}"
        );
    }
}
