//! The shapes of both protocols, as the official SDKs read them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{EndedHow, LogMode, Script, ToolCall, UsagePlace};

use crate::raw::{ask, chat, message, post, send, start};

#[tokio::test]
async fn an_openai_answer_has_its_shape_and_usage() {
    let fake = start(Script { tokens: Some(5), ..Script::default() }).await;
    let answer = ask(&fake, &chat(false)).await;
    let body = answer.json();
    assert!(answer.head.contains("content-type: application/json"));
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("m")));
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count(), 5);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert_eq!(body["usage"]["total_tokens"], 8);
    assert_eq!(ask(&fake, &chat(false)).await.json()["choices"], body["choices"]);
}

#[tokio::test]
async fn an_openai_stream_reports_usage_where_the_script_says() {
    let asked = |place| async move {
        let fake = start(Script { tokens: Some(5), usage: place, ..Script::default() }).await;
        let mut body = chat(true);
        body["stream_options"] = json!({"include_usage": true});
        ask(&fake, &body).await
    };
    let answer = asked(UsagePlace::FinalChunk).await;
    assert!(answer.head.contains("content-type: text/event-stream") && answer.done() && answer.complete);
    let events = answer.events();
    assert_eq!(events.len(), 1 + 5 + 1 + 1);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(events[..7].iter().all(|e| e.get("usage") == Some(&Value::Null)));
    assert_eq!(events[6]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[7]["choices"], json!([]));
    assert_eq!(events[7]["usage"]["completion_tokens"], 5);
    let events = asked(UsagePlace::InLastChoice).await.events();
    assert_eq!((events.len(), &events[6]["usage"]["completion_tokens"]), (7, &json!(5)));
    assert!(!asked(UsagePlace::Absent).await.body.contains("usage"));
    let unasked = ask(&start(Script::default()).await, &chat(true)).await;
    assert!(!unasked.body.contains("usage"));
}

#[tokio::test]
async fn an_anthropic_answer_and_count_have_their_shapes() {
    let fake = start(Script { tokens: Some(5), ..Script::default() }).await;
    let body = post(&fake, "/v1/messages", &message(false)).await.json();
    assert_eq!(
        (&body["type"], &body["role"], &body["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    assert_eq!(body["content"][0]["type"], "text");
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&json!(3), &json!(5)));
    let count = post(
        &fake,
        "/v1/messages/count_tokens",
        &json!({"model": "m", "messages": [{"role": "user", "content": "a b"}]}),
    )
    .await;
    assert_eq!(count.json(), json!({"input_tokens": 2}));
}

#[tokio::test]
async fn an_anthropic_stream_has_its_events_in_order() {
    let fake = start(Script { tokens: Some(2), ..Script::default() }).await;
    let answer = post(&fake, "/v1/messages", &message(true)).await;
    let names: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let events = answer.events();
    assert!(events.iter().zip(&names).all(|(event, name)| event["type"] == *name));
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 3);
    assert_eq!(events[6]["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn tools_are_called_when_script_and_request_say_so() {
    let arguments = r#"{"city":"Zürich \"x\""}"#;
    let call = ToolCall { name: None, arguments: arguments.to_owned() };
    let fake = start(Script { tool_call: Some(call), ..Script::default() }).await;
    assert_eq!(ask(&fake, &chat(false)).await.json()["choices"][0]["finish_reason"], "stop");
    let with_tools = |mut body: Value| {
        body["tools"] = json!([{"name": "get_weather", "function": {"name": "get_weather"}}]);
        body
    };
    let body = ask(&fake, &with_tools(chat(false))).await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        body["choices"][0]["message"]["tool_calls"][0]["function"],
        json!({"name": "get_weather", "arguments": arguments})
    );
    let events = ask(&fake, &with_tools(chat(true))).await.events();
    let parts = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(parts.collect::<String>(), arguments);
    let body = post(&fake, "/v1/messages", &with_tools(message(false))).await.json();
    assert_eq!(
        (&body["stop_reason"], &body["content"][0]["input"]),
        (&json!("tool_use"), &json!({"city": "Zürich \"x\""}))
    );
    let events = post(&fake, "/v1/messages", &with_tools(message(true))).await.events();
    assert_eq!(
        events.iter().filter_map(|e| e["delta"]["partial_json"].as_str()).collect::<String>(),
        arguments
    );
}

#[tokio::test]
async fn max_tokens_cuts_and_echo_repeats_the_tail() {
    let fake = start(Script { tokens: Some(10), ..Script::default() }).await;
    let mut body = chat(true);
    body["max_tokens"] = json!(4);
    let cut = ask(&fake, &body).await;
    assert!(cut.body.contains("\"finish_reason\":\"length\"") && cut.text().split(' ').count() == 4);
    fake.set_script(Script { echo: true, tokens: Some(2), ..Script::default() }).unwrap();
    assert_eq!(ask(&fake, &chat(true)).await.text(), "two three");
}

#[tokio::test]
async fn bad_requests_get_the_providers_own_errors() {
    let fake = start(Script { require_key: vec!["good".into()], ..Script::default() }).await;
    let openai = "POST /v1/chat/completions";
    let anthropic = "POST /v1/messages";
    let (bearer, x_key) = ("authorization: Bearer good\r\n", "x-api-key: good\r\n");
    for (line, headers, body, status, kind, text) in [
        (openai, "", "{}", 401, "invalid_request_error", "You didn't provide an API key"),
        (openai, "authorization: Bearer bad\r\n", "{}", 401, "invalid_request_error", "Incorrect API key"),
        (openai, bearer, "{", 400, "invalid_request_error", "could not parse the JSON"),
        (
            openai,
            bearer,
            r#"{"model":"m"}"#,
            400,
            "invalid_request_error",
            "Missing required parameter: 'messages'",
        ),
        (openai, bearer, r#"{"model":"m","messages":[]}"#, 400, "invalid_request_error", "empty array"),
        (openai, bearer, r#"{"model":"m","messages":7}"#, 400, "invalid_request_error", "Invalid type"),
        (
            openai,
            "authorization: Bearer good\r\nx-fake-tokns: 1\r\n",
            "{}",
            400,
            "invalid_request_error",
            "tokns",
        ),
        ("GET /v1/chat/completions", bearer, "", 405, "invalid_request_error", "Not allowed to GET"),
        ("POST /v1/nowhere", bearer, "", 404, "invalid_request_error", "Invalid URL"),
        (anthropic, "", "{}", 401, "authentication_error", "x-api-key header is required"),
        (anthropic, "x-api-key: bad\r\n", "{}", 401, "authentication_error", "invalid x-api-key"),
        (
            anthropic,
            x_key,
            r#"{"model":"m","max_tokens":1}"#,
            400,
            "invalid_request_error",
            "messages: Field required",
        ),
        (
            anthropic,
            x_key,
            r#"{"model":"m","messages":[{"role":"user","content":""}]}"#,
            400,
            "invalid_request_error",
            "max_tokens: Field required",
        ),
    ] {
        let answer = send(&fake, line, headers, body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["type"]), (status, &json!(kind)), "{line} {body}");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
}

#[tokio::test]
async fn models_are_listed_in_both_shapes_and_enforced_when_strict() {
    let fake = start(Script { models: vec!["a".into()], strict_models: true, ..Script::default() }).await;
    let list = send(&fake, "GET /v1/models", "", "").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("a")));
    let list = send(&fake, "GET /v1/models", "anthropic-version: 2023-06-01\r\n", "").await.json();
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)));
    let unknown = ask(&fake, &chat(false)).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn the_script_changes_at_run_time_and_the_log_tells_what_came() {
    let fake = start(Script::default()).await;
    let set = post(&fake, "/_fake/script", &json!({"tokens": 3, "first_token": 5})).await;
    assert_eq!((set.status, &set.json()["tokens"]), (200, &json!(3)));
    assert_eq!(post(&fake, "/_fake/script", &json!({"tokns": 3})).await.status, 400);
    let headers = "authorization: Bearer sk-secret-9876\r\n";
    send(&fake, "POST /v1/chat/completions", headers, &chat(true).to_string()).await;
    let end = fake.wait_for_end(1).await.unwrap();
    assert_eq!((end.how, end.tokens_sent), (EndedHow::Completed, 3));
    let record = &fake.log()[0];
    assert_eq!(record.key.as_ref().unwrap().expose(), "sk-secret-9876");
    assert!(record.first_byte.unwrap() - record.arrived >= Duration::from_millis(5));
    let log = send(&fake, "GET /_fake/log", "", "").await.json();
    assert_eq!(
        (&log["requests"][0]["key"], &log["requests"][0]["end"]["how"]),
        (&json!("***9876"), &json!("completed"))
    );
    fake.set_script(Script { log: LogMode::Off, ..Script::default() }).unwrap();
    ask(&fake, &chat(true)).await;
    assert_eq!(fake.log().len(), 1);
    assert!(fake.wait_for_end(2).await.is_err());
}

#[tokio::test]
async fn keep_alives_fill_the_silence_and_are_no_tokens() {
    let ms = Duration::from_millis;
    let script = Script {
        first_token: ms(60),
        keep_alive: ms(10),
        early_headers: true,
        tokens: Some(1),
        ..Script::default()
    };
    let answer = ask(&start(script).await, &chat(true)).await;
    assert!(answer.body.starts_with(": keep-alive\n\n") && answer.done(), "{}", answer.body);
}

#[tokio::test]
async fn a_fast_stream_is_few_writes() {
    let fake = start(Script { tokens: Some(1000), ..Script::default() }).await;
    let request =
        crate::raw::request("POST /v1/chat/completions", "connection: close\r\n", &chat(true).to_string());
    let mut socket = crate::raw::open(&fake, &request).await;
    let mut raw = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut raw).await.unwrap();
    let chunks = raw.lines().filter(|line| !line.is_empty() && u64::from_str_radix(line, 16).is_ok()).count();
    assert!(chunks <= 1 + raw.len() / (16 * 1024) + 1, "{chunks} chunks of {} bytes", raw.len());
}
