//! Drives the real binary over its socket, with a small real model.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests may panic and print"
)]

mod worker;

use serde_json::{Value, json};

use crate::worker::Worker;

fn ask(question: &str) -> Value {
    json!({
        "model": "smol", "temperature": 0, "max_tokens": 24,
        "messages": [{ "role": "system", "content": "You are a helpful assistant." }, { "role": "user", "content": question }],
    })
}

/// An answer that is certain to be long, and holds its sequence until someone ends it.
fn endless() -> Value {
    let mut body = constrained(&json!({ "type": "array", "items": { "type": "integer" }, "minItems": 500 }));
    body["max_tokens"] = 1_000_000_000.into();
    body
}

fn constrained(schema: &Value) -> Value {
    let mut body = ask("Answer with JSON.");
    body["max_tokens"] = 200.into();
    body["response_format"] =
        json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
    body
}

fn text(body: &Value) -> &str {
    body["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn streams_text_then_the_reason_then_usage_then_done() {
    let Some(worker) = Worker::start(&[]) else { return };
    let mut answer = worker.stream(&ask("What is the capital of France?"));
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains(&"content-type: text/event-stream".to_owned()));
    let mut events = Vec::new();
    while let Some(event) = answer.event() {
        events.push(event);
    }
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (usage, chunks) = chunks.split_last().unwrap();
    let (end, deltas) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == usage["id"]));
    assert_eq!(deltas[0]["choices"][0]["delta"]["role"], "assistant");
    let streamed: String =
        deltas.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert!(streamed.contains("Paris"), "{streamed}");
    // The end token counts too, and has no text.
    assert_eq!(usage["usage"]["completion_tokens"], deltas.len());
}

#[test]
fn answers_whole_and_reuses_the_prefix_of_the_last_prompt() {
    let Some(worker) = Worker::start(&[]) else { return };
    let (status, first) = worker.chat(&ask("What is the capital of France?"));
    assert_eq!(status, 200);
    assert!(text(&first).contains("Paris"));
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let (_, again) = worker.chat(&ask("What is the capital of France?"));
    let prompt = again["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
    assert_eq!(text(&again), text(&first));
}

#[test]
fn a_prefix_is_copied_from_a_sequence_that_is_still_running() {
    let Some(worker) = Worker::start(&["--parallel", "2"]) else { return };
    let instructions = "Always answer in the style of a captain of a ship. ".repeat(8);
    let with_instructions = |body: Value| {
        let mut body = body;
        body["messages"][0]["content"] = instructions.clone().into();
        body
    };
    let (_, alone) = worker.chat(&with_instructions(ask("What is the capital of France?")));
    // Takes the slot with the prefix, and keeps it busy.
    let mut running = worker.stream(&with_instructions(endless()));
    running.first_text();
    let (_, beside) = worker.chat(&with_instructions(ask("What is the capital of France?")));
    assert!(beside["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 64);
    assert_eq!(text(&beside), text(&alone), "a copied prefix reads like the original");
}

#[test]
fn the_answer_satisfies_its_json_schema() {
    let Some(worker) = Worker::start(&[]) else { return };
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["city", "unit", "degrees"],
        "properties": { "city": { "type": "string", "maxLength": 20 }, "unit": { "enum": ["c", "f"] }, "degrees": { "type": "integer" } },
    });
    for (seed, temperature) in [(1, 0.0), (2, 1.0), (3, 2.0)] {
        let mut body = constrained(&schema);
        body["seed"] = seed.into();
        body["temperature"] = temperature.into();
        let (status, answer) = worker.chat(&body);
        assert_eq!(status, 200, "{answer}");
        let value: Value = serde_json::from_str(text(&answer)).unwrap();
        assert!(value["city"].is_string() && value["degrees"].is_i64(), "{value}");
        assert!(["c", "f"].contains(&value["unit"].as_str().unwrap()));
    }
}

#[test]
fn a_json_schema_that_makes_no_grammar_is_refused() {
    let Some(worker) = Worker::start(&[]) else { return };
    let (status, body) = worker.chat(&constrained(&json!({ "$ref": "#/definitions/missing" })));
    assert_eq!((status, &body["error"]["param"]), (400, &json!("response_format")));
    assert_eq!(worker.chat(&ask("Hi")).0, 200);
}

#[test]
fn characters_are_whole_in_every_delta() {
    let Some(worker) = Worker::start(&[]) else { return };
    let wanted = "naïve 東京 👩‍👩‍👧 é";
    let mut answer = worker.stream(&constrained(&json!({ "const": wanted })));
    let mut streamed = String::new();
    while let Some(chunk) = answer.chunk() {
        streamed.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(streamed.trim(), format!("\"{wanted}\""));
}

#[test]
fn a_stop_sequence_ends_the_answer_and_is_not_in_it() {
    let Some(worker) = Worker::start(&[]) else { return };
    let mut body = ask("What is the capital of France?");
    body["stop"] = json!([" is Par"]);
    let (_, answer) = worker.chat(&body);
    assert_eq!(text(&answer), "The capital of France");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn four_streams_run_at_once_and_a_fifth_is_turned_away() {
    let Some(worker) = Worker::start(&["--parallel", "4", "--queue", "0"]) else { return };
    let mut streams: Vec<_> = (0..4).map(|_| worker.stream(&endless())).collect();
    for stream in &mut streams {
        assert_eq!(stream.status, 200);
        stream.first_text();
    }
    let fifth = worker.stream(&ask("Hi"));
    assert_eq!(fifth.status, 503);
    assert!(fifth.headers.contains(&"retry-after: 1".to_owned()));
    // Each goes on by itself.
    for stream in &mut streams {
        for _ in 0..20 {
            assert!(stream.chunk().is_some());
        }
    }
}

/// Asks until a place is free. Every refusal is a round trip, so this is bounded without a clock.
fn eventually_answers(worker: &Worker) -> bool {
    (0..20_000).any(|_| worker.chat(&ask("Hi")).0 == 200)
}

#[test]
fn a_disconnect_in_the_middle_of_a_stream_frees_the_sequence() {
    let Some(worker) = Worker::start(&["--parallel", "1", "--queue", "0"]) else { return };
    let mut stream = worker.stream(&endless());
    stream.first_text();
    assert_eq!(worker.chat(&ask("Hi")).0, 503);
    drop(stream);
    assert!(eventually_answers(&worker));
}

#[test]
fn a_disconnect_before_the_answer_frees_the_sequence() {
    let Some(worker) = Worker::start(&["--parallel", "1", "--queue", "0"]) else { return };
    // Whichever of the two comes first has the only sequence.
    let waiting = (0..1_000).find_map(|_| {
        let waiting = worker.send("POST", "/v1/chat/completions", &endless().to_string());
        let refused = worker.open("POST", "/v1/chat/completions", &ask("Hi").to_string()).status == 503;
        refused.then_some(waiting)
    });
    assert!(waiting.is_some());
    drop(waiting);
    assert!(eventually_answers(&worker));
}

#[test]
fn a_reader_that_stops_reading_stalls_itself_only() {
    let Some(worker) = Worker::start(&["--parallel", "2", "--queue", "0"]) else { return };
    let mut slow = worker.stream(&endless());
    slow.first_text();
    for _ in 0..5 {
        assert_eq!(worker.chat(&ask("What is the capital of France?")).0, 200);
    }
    assert!(slow.chunk().is_some());
}

#[test]
fn a_prompt_over_the_context_is_refused_with_its_size() {
    let Some(worker) = Worker::start(&["--context", "512", "--parallel", "2"]) else { return };
    let (status, body) = worker.chat(&ask(&"word ".repeat(400)));
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "context_length_exceeded");
    assert!(body["error"]["message"].as_str().unwrap().contains("256"), "{body}");
}

#[test]
fn an_answer_that_reaches_the_end_of_the_context_ends_there() {
    let Some(worker) = Worker::start(&["--context", "256", "--parallel", "1"]) else { return };
    let (status, body) = worker.chat(&endless());
    assert_eq!((status, &body["choices"][0]["finish_reason"]), (200, &json!("length")));
    assert_eq!(body["usage"]["total_tokens"], 256);
    assert_eq!(worker.chat(&ask("Hi")).0, 200);
}

#[test]
fn bad_requests_are_answered_in_the_shape_of_openai() {
    let Some(worker) = Worker::start(&[]) else { return };
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (method, path, body, status, code) in [
        ("POST", "/v1/chat/completions", "{not json", 400, "invalid_request"),
        ("POST", "/v1/chat/completions", nested.as_str(), 400, "invalid_request"),
        ("POST", "/v1/chat/completions", r#"{"messages":[]}"#, 400, "invalid_request"),
        (
            "POST",
            "/v1/chat/completions",
            r#"{"model":"other","messages":[{"role":"user","content":"x"}]}"#,
            404,
            "model_not_found",
        ),
        ("POST", "/v1/nothing", "{}", 404, "not_found"),
    ] {
        let (answered, value) = worker.open(method, path, body).json();
        assert_eq!((answered, &value["error"]["code"]), (status, &json!(code)), "{path}");
        assert!(value["error"]["message"].is_string() && value["error"]["type"].is_string());
    }
    assert_eq!(worker.chat(&ask("Hi")).0, 200);
}

#[test]
fn tells_its_model_its_health_and_token_counts() {
    let Some(worker) = Worker::start(&["--context", "4096", "--parallel", "2"]) else { return };
    let (_, models) = worker.get("/v1/models");
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["context_length"]),
        (&json!("smol"), &json!(2048))
    );
    assert_eq!(worker.get("/health").0, 200);
    assert_eq!(worker.post("/tokenize", &json!({ "text": "" })).1["count"], 0);
    assert_eq!(worker.post("/tokenize", &json!({ "text": "hello world" })).1["count"], 2);
}

#[test]
fn a_killed_worker_closes_its_streams_without_done() {
    let Some(mut worker) = Worker::start(&[]) else { return };
    let mut stream = worker.stream(&endless());
    stream.first_text();
    worker.kill();
    let mut last = String::new();
    while let Some(event) = stream.event() {
        last = event;
    }
    assert_ne!(last, "[DONE]");
}

#[test]
fn ends_with_its_parent_in_the_middle_of_a_stream() {
    let Some(mut worker) = Worker::start(&[]) else { return };
    let mut stream = worker.stream(&endless());
    stream.first_text();
    worker.close_stdin();
    assert!(worker.wait().success());
}

#[test]
fn a_missing_model_file_is_named_and_ends_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_forebay-llama"))
        .arg("--model")
        .arg(folder.path().join("no.gguf"))
        .arg("--socket")
        .arg(folder.path().join("x.sock"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no.gguf"));
}
