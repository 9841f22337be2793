//! Responses: items become turns, what cannot be done is refused by name, and a whole answer says how it ended.

mod stream;

use bytes::BytesMut;
use contract::{Code, Content, Error, Message, Part, Role, ToolCall, Usage};
use llm::surface::Call;
use llm::surface::responses::{Echo, Events, Unanswered, parse, render, unanswered};
use llm::{Answer, Delta, FinishReason};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn read(body: &Json) -> (Call, Echo) {
    parse(body.to_string().as_bytes()).unwrap()
}

fn with(more: Json) -> Json {
    let mut body = json!({"model": "m", "input": "hi"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn of(items: Json) -> Vec<Message> {
    read(&json!({"model": "m", "input": items})).0.request.messages
}

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() }
}

fn said(text: &str, tool_calls: Vec<ToolCall>) -> Message {
    Message { tool_calls, ..Message::text(Role::Assistant, text) }
}

fn gave(id: &str, text: &str) -> Message {
    Message { tool_call_id: Some(id.into()), ..Message::text(Role::Tool, text) }
}

#[test]
fn a_text_and_instructions_are_two_turns() {
    let (call, _) = read(&with(json!({"instructions": "Be brief.", "stream": true, "user": "u"})));
    let want = [Message::text(Role::System, "Be brief."), Message::text(Role::User, "hi")];
    assert_eq!(call.request.messages, want);
    assert!(call.request.stream && call.include_usage);
    assert_eq!(call.user.unwrap().as_str(), "u");
}

#[test]
fn items_are_joined_to_the_turns_that_providers_want() {
    let f = |id: &str| json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": "f", "arguments": "{}"});
    let out = |id: &str, v: Json| json!({"type": "function_call_output", "call_id": id, "output": v});
    let message = |text: &str| {
        let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
        json!({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    };
    let user = Message::text(Role::User, "q");
    let q = json!({"role": "user", "content": "q"});
    // Calls made together are one turn, with the words before them and those behind them.
    let together =
        json!([q, message("a"), f("1"), f("2"), message("b"), out("1", json!("x")), out("2", json!("y"))]);
    let mut turn = said("a", vec![call("1"), call("2")]);
    turn.content = Content::Parts(vec![Part::Text("a".into()), Part::Text("b".into())]);
    assert_eq!(of(together), [user.clone(), turn, gave("1", "x"), gave("2", "y")]);
    // Calls made one after the other are turns of their own.
    let apart = json!([
        q,
        f("1"),
        out("1", json!("x")),
        f("2"),
        out("2", json!([{"type": "input_text", "text": "y"}]))
    ]);
    let want =
        [user.clone(), said("", vec![call("1")]), gave("1", "x"), said("", vec![call("2")]), gave("2", "y")];
    assert_eq!(of(apart), want);
    // Messages alone stay apart.
    let examples = json!([q, message("a"), message("b")]);
    assert_eq!(of(examples), [user, said("a", vec![]), said("b", vec![])]);
}

#[test]
fn sealed_reasoning_goes_back_with_the_turn_it_led_to() {
    let sealed = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "seal",
        "summary": [{"type": "summary_text", "text": "hm"}]});
    let open = json!({"type": "reasoning", "id": "rs_1", "summary": []});
    let f = json!({"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"});
    let messages = of(json!([{"role": "user", "content": "q"}, open, sealed, f]));
    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "seal"});
    let mut turn = said("", vec![call("1")]);
    turn.content = Content::Parts(vec![Part::Other(thinking.clone())]);
    assert_eq!(messages, [Message::text(Role::User, "q"), turn]);
    let request = llm::ChatRequest { messages, ..Default::default() };
    let sent = |b: BytesMut| serde_json::from_slice::<Json>(&b).unwrap();
    let anthropic = sent(llm::codec::anthropic::encode(&request, "m"));
    assert_eq!(anthropic["messages"][1]["content"][0], thinking);
    let openai = sent(llm::codec::openai::encode(&request, "m", Default::default()));
    assert_eq!(openai["messages"][1]["content"], Json::Null);
}

#[test]
fn parts_are_told_in_chats_words() {
    let parts = json!([
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]);
    let want = vec![
        Part::Text("look".into()),
        Part::Other(json!({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}})),
        Part::Other(
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}}),
        ),
        Part::Other(json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}})),
    ];
    assert_eq!(of(json!([{"role": "user", "content": parts}]))[0].content, Content::Parts(want));
}

#[test]
fn parameters_are_told_in_chats_words() {
    let tool = json!({"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true});
    let other = json!({"type": "function", "name": "g"});
    let schema = json!({"type": "object"});
    let (call, _) = read(&with(json!({
        "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.9, "tools": [tool, other], "parallel_tool_calls": false,
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": true}, "verbosity": "low"},
        "reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "top_logprobs": 2, "metadata": {"a": "b"},
        "safety_identifier": "who", "service_tier": "flex", "top_k": 4, "stream_options": {"include_obfuscation": false},
    })));
    let r = call.request;
    assert_eq!((r.max_output_tokens, r.temperature, r.top_p), (Some(9), Some(0.5), Some(0.9)));
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true});
    assert_eq!(
        r.tools,
        Some(json!([{"type": "function", "function": function}])),
        "only what is allowed is seen"
    );
    assert_eq!(r.tool_choice, Some("required".into()));
    let form = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
    assert_eq!(r.response_format, Some(form));
    let extra = json!({"parallel_tool_calls": false, "verbosity": "low", "reasoning_effort": "low", "logprobs": true,
        "top_logprobs": 2, "safety_identifier": "who", "service_tier": "flex", "top_k": 4});
    assert_eq!(Json::Object(r.extra), extra);
    assert_eq!(call.user.unwrap().as_str(), "who");
    // A choice among no tools says nothing, and upstreams refuse it.
    let (call, _) = read(&with(json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true})));
    assert_eq!((call.request.tools, call.request.tool_choice), (None, None));
    assert!(call.request.extra.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    let item = |v: Json| json!({"input": [v]});
    let part = |v: Json| json!({"input": [{"role": "user", "content": [v]}]});
    for (more, param) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"context_management": [{"type": "compaction"}]}), "context_management"),
        (json!({"moderation": {}}), "moderation"),
        (json!({"background": 1}), "background"),
        (json!({"background": true, "store": false}), "store"),
        (json!({"background": true, "stream": true}), "stream"),
        (json!({"store": true}), "store"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"messages": []}), "messages"),
        (json!({"max_tokens": 5}), "max_tokens"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"n": 1}), "n"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": 1}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": {"type": "web_search"}}), "tool_choice"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format"),
        (json!({"text": {"format": {"type": "json_schema", "schema": {}}}}), "text.format.name"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "text.format.schema"),
        (json!({"reasoning": {"effort": 1}}), "reasoning.effort"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"include": "x"}), "include"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"user": 1}), "user"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 1}), "input"),
        (item(json!(1)), "input[0]"),
        (item(json!({"type": "item_reference", "id": "msg_1"})), "input[0]"),
        (item(json!({"id": "msg_1"})), "input[0]"),
        (item(json!({"type": "web_search_call", "id": "x"})), "input[0].type"),
        (item(json!({"role": "tool", "content": "x"})), "input[0].role"),
        (item(json!({"role": "user"})), "input[0].content"),
        (item(json!({"type": "function_call", "call_id": "1", "name": "f"})), "input[0].arguments"),
        (item(json!({"type": "function_call_output", "output": "x"})), "input[0].call_id"),
        (item(json!({"type": "reasoning"})), "input[0].summary"),
        (item(json!({"type": "reasoning", "summary": []})), "input"),
        (part(json!({"type": "input_text"})), "input[0].content[0].text"),
        (part(json!({"type": "input_image", "file_id": "file-1"})), "input[0].content[0].file_id"),
        (part(json!({"type": "input_file", "file_url": "http://x"})), "input[0].content[0].file_url"),
        (part(json!({"type": "video"})), "input[0].content[0].type"),
    ] {
        let body = with(more);
        let e = parse(body.to_string().as_bytes()).unwrap_err();
        assert_eq!((e.code, e.param.as_deref()), (Code::InvalidRequest, Some(param)), "{body}: {e}");
    }
    // What says that nothing special is wanted is taken.
    read(&with(
        json!({"store": false, "background": false, "truncation": "disabled", "previous_response_id": null,
        "messages": null, "conversation": null, "tools": null, "text": null, "reasoning": null}),
    ));
}

fn whole(echo: &Echo, answer: &Answer) -> Json {
    let mut out = BytesMut::new();
    render(&mut out, "7", 5, "m", echo, answer);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_whole_response_has_what_was_asked_and_what_was_said() {
    let (_, echo) =
        read(&with(json!({"instructions": "Be \"brief\".", "temperature": 0.5, "metadata": {"a": "b"}})));
    let answer = Answer {
        text: "four".into(),
        reasoning: "hm".into(),
        tool_calls: vec![call("c1")],
        finish: Some(FinishReason::ToolCalls),
        usage: Some(Usage {
            input_tokens: 5,
            output_tokens: 6,
            cached_input_tokens: 1,
            reasoning_tokens: 2,
            estimated: false,
        }),
        ..Answer::default()
    };
    insta::assert_snapshot!("response", serde_json::to_string_pretty(&whole(&echo, &answer)).unwrap());
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic_and_what_it_takes_is_json(body in any_body()) {
        if let Ok((call, echo)) = parse(body.to_string().as_bytes()) {
            for sent in [
                llm::codec::openai::encode(&call.request, "m", Default::default()),
                llm::codec::anthropic::encode(&call.request, "m"),
            ] {
                prop_assert!(serde_json::from_slice::<Json>(&sent).is_ok());
            }
            prop_assert!(whole(&echo, &Answer::default()).is_object());
        }
    }
}

/// Bodies of the words of the protocol, in places right and wrong.
fn any_body() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i8>().prop_map(Json::from),
        prop::sample::select(vec![
            "message",
            "user",
            "assistant",
            "function_call",
            "function_call_output",
            "reasoning",
            "input_text",
            "input_image",
            "function",
            "auto",
            "json_schema",
            "allowed_tools",
            "m",
        ])
        .prop_map(Json::from),
    ];
    let word = prop::sample::select(vec![
        "type",
        "role",
        "content",
        "call_id",
        "name",
        "arguments",
        "output",
        "summary",
        "text",
        "format",
        "schema",
        "tools",
        "mode",
        "image_url",
        "id",
    ])
    .prop_map(str::to_owned);
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(word.clone(), inner, 0..5)
                .prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    });
    let field = prop::sample::select(vec![
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "metadata",
        "include",
        "stream",
        "user",
        "other",
    ]);
    prop::collection::vec((field, value), 0..6).prop_map(|fields| {
        let mut body = json!({"model": "m", "input": "x"});
        let map = body.as_object_mut().unwrap();
        map.extend(fields.into_iter().map(|(k, v)| (k.to_owned(), v)));
        body
    })
}

#[test]
fn what_is_made_in_the_background_has_an_object_before_it_has_an_answer() {
    let (call, echo) = read(&json!({"model": "m", "input": "x", "background": true, "metadata": {"a": "b"}}));
    assert!(echo.is_background() && !call.request.stream && !call.request.extra.contains_key("background"));
    let failed = contract::Error::new(contract::Code::UpstreamError, "no");
    for (why, status, error) in [
        (Unanswered::Queued, "queued", Json::Null),
        (Unanswered::InProgress, "in_progress", Json::Null),
        (Unanswered::Cancelled, "cancelled", Json::Null),
        (Unanswered::Failed(&failed), "failed", json!("upstream_error")),
    ] {
        let mut out = BytesMut::new();
        unanswered(&mut out, "1", 5, "m", &echo, why);
        let object: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            [&object["id"], &object["status"], &object["output"], &object["usage"], &object["background"]],
            [&json!("resp_1"), &json!(status), &json!([]), &Json::Null, &json!(true)]
        );
        let code = object["error"].get("code").cloned().unwrap_or_default();
        assert_eq!((&object["metadata"], code), (&json!({"a": "b"}), error));
    }
}
