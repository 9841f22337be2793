//! Surfaces: what is written is what SDKs parse, and wrong requests name their parameter.

use bytes::BytesMut;
use contract::{Code, Error, Usage};
use llm::codec::Decoder;
use llm::codec::anthropic::AnthropicDecoder;
use llm::codec::openai::OpenAiDecoder;
use llm::surface::{anthropic, openai};
use llm::{Answer, Delta, FinishReason};
use serde_json::json;

fn deltas() -> Vec<Delta> {
    vec![
        Delta::Text("a \"b\"\n".into()),
        Delta::ToolCall { index: 0, id: Some("c1".into()), name: Some("f".into()), arguments: String::new() },
        Delta::ToolCall { index: 0, id: None, name: None, arguments: "{\"x\":1}".into() },
        Delta::Usage(Usage { input_tokens: 5, output_tokens: 6, cached_input_tokens: 1, ..Usage::default() }),
        Delta::Finish(FinishReason::ToolCalls),
    ]
}

fn openai_stream(include_usage: bool) -> BytesMut {
    let (mut out, mut w) = (BytesMut::new(), openai::Chunks::new("id1", 7, "m", include_usage));
    w.start(&mut out);
    deltas().iter().for_each(|d| w.delta(&mut out, d));
    w.end(&mut out);
    out
}

fn anthropic_stream() -> BytesMut {
    let (mut out, mut w) = (BytesMut::new(), anthropic::Events::new("msg_1", "m", 5));
    w.start(&mut out);
    w.ping(&mut out);
    deltas().iter().for_each(|d| w.delta(&mut out, d));
    w.end(&mut out);
    out
}

#[test]
fn streams_are_written_as_the_protocols_say() {
    let text = |b: BytesMut| String::from_utf8(b.to_vec()).unwrap();
    insta::assert_snapshot!("openai_stream", text(openai_stream(false)));
    insta::assert_snapshot!("openai_stream_with_usage", text(openai_stream(true)));
    insta::assert_snapshot!("anthropic_stream", text(anthropic_stream()));
}

#[test]
fn what_a_surface_writes_its_codec_reads_back() {
    let answer = |mut d: Box<dyn Decoder>, bytes: &[u8]| {
        let (mut out, mut answer) = (llm::codec::Deltas::new(), Answer::default());
        d.feed(bytes, &mut out);
        out.into_iter().for_each(|d| answer.push(d.unwrap()));
        answer
    };
    let mut want = Answer { version: Some("m".into()), ..Answer::default() };
    deltas().into_iter().for_each(|d| want.push(d));
    assert_eq!(answer(Box::<OpenAiDecoder>::default(), &openai_stream(true)), want);
    assert_eq!(answer(Box::<AnthropicDecoder>::default(), &anthropic_stream()), want);

    let (mut a, mut b) = (BytesMut::new(), BytesMut::new());
    openai::render(&mut a, "id", 7, "m", &want);
    anthropic::render(&mut b, "id", "m", &want);
    for out in [llm::codec::openai::decode_body(&a), llm::codec::anthropic::decode_body(&b)] {
        let mut got = Answer::default();
        out.unwrap().into_iter().for_each(|d| got.push(d.unwrap()));
        assert_eq!(got, want);
    }
}

#[test]
fn an_error_in_mid_stream_ends_it_without_done() {
    let e = Error::new(Code::UpstreamTruncated, "cut");
    let mut out = BytesMut::new();
    openai::Chunks::new("id1", 7, "m", false).error(&mut out, &e);
    assert_eq!(
        &out[..],
        b"data: {\"id\":\"id1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"error\":{\"code\":\"upstream_truncated\",\"message\":\"cut\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n"
    );
    let mut out = BytesMut::new();
    anthropic::Events::new("i", "m", 1).error(&mut out, "api_error", &e);
    assert_eq!(&out[..], b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"cut\",\"code\":\"upstream_truncated\"},\"request_id\":\"i\"}\n\n");
}

#[test]
fn wrong_requests_name_their_parameter() {
    let m = r#""model":"m","messages":[{"role":"user","content":"x"}]"#;
    let cases = [
        (r#"{"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":"m"}"#.to_owned(), "messages"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), "messages"),
        (r#"{"model":"m","messages":[{"role":"x","content":""}]}"#.to_owned(), "messages[0].role"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#.to_owned(), "messages[0].content"),
        (format!(r#"{{{m},"max_tokens":0}}"#), "max_tokens"),
        (format!(r#"{{{m},"temperature":3}}"#), "temperature"),
        (format!(r#"{{{m},"n":2}}"#), "n"),
        (format!(r#"{{{m},"stream":"yes"}}"#), "stream"),
        (format!(r#"{{{m},"stop":[1]}}"#), "stop"),
        (format!(r#"{{{m},"tools":{{}}}}"#), "tools"),
    ];
    for (body, param) in cases {
        let e = openai::parse(body.as_bytes()).unwrap_err();
        assert_eq!((e.code, e.param.as_deref()), (Code::InvalidRequest, Some(param)), "{body}");
    }
    let e = anthropic::parse(format!("{{{m}}}").as_bytes()).unwrap_err();
    assert_eq!(e.param.as_deref(), Some("max_tokens"));
    let deep = format!(r#"{{"model":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(openai::parse(deep.as_bytes()).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(openai::parse(b"\xff\xfe").unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn a_reason_of_the_providers_own_is_carried_within_its_protocol_and_mapped_across() {
    for (reason, on_openai, on_anthropic) in [
        (FinishReason::Anthropic("pause_turn".into()), "length", "pause_turn"),
        (FinishReason::Anthropic("later".into()), "stop", "later"),
        (FinishReason::OpenAi("tired".into()), "tired", "end_turn"),
        (FinishReason::ContentFilter, "content_filter", "refusal"),
    ] {
        let answer = Answer { finish: Some(reason.clone()), ..Answer::default() };
        let (mut whole, mut streamed) = (BytesMut::new(), BytesMut::new());
        openai::render(&mut whole, "id", 0, "m", &answer);
        openai::Chunks::new("id", 0, "m", false).delta(&mut streamed, &Delta::Finish(reason.clone()));
        for out in [&whole, &streamed] {
            let out = String::from_utf8_lossy(out);
            assert!(out.contains(&format!(r#""finish_reason":"{on_openai}""#)), "{out}");
        }
        let (mut whole, mut streamed) = (BytesMut::new(), BytesMut::new());
        anthropic::render(&mut whole, "id", "m", &answer);
        let mut events = anthropic::Events::new("id", "m", 0);
        events.delta(&mut streamed, &Delta::Finish(reason));
        events.end(&mut streamed);
        for out in [&whole, &streamed] {
            let out = String::from_utf8_lossy(out);
            assert!(out.contains(&format!(r#""stop_reason":"{on_anthropic}""#)), "{out}");
        }
    }
}

#[test]
fn what_only_one_protocol_knows_comes_back_on_it_unchanged() {
    let probs = |token: &str| {
        let one = json!({"token": token, "logprob": -0.5, "bytes": null, "top_logprobs": []});
        Delta::Logprobs(Box::new(json!({"content": [one], "refusal": null})))
    };
    let deltas = [
        Delta::Reasoning("because".into()),
        Delta::Signature("seal".into()),
        probs("a"),
        Delta::Text("a".into()),
        probs("b"),
        Delta::Text("b".into()),
        Delta::Finish(FinishReason::Stop),
    ];
    let mut want = Answer::default();
    deltas.iter().for_each(|d| want.push(d.clone()));
    assert_eq!(want.logprobs.as_ref().unwrap()["content"].as_array().unwrap().len(), 2);

    let read = |mut d: Box<dyn Decoder>, bytes: &[u8]| {
        let (mut out, mut answer) = (llm::codec::Deltas::new(), Answer::default());
        d.feed(bytes, &mut out);
        out.into_iter().for_each(|d| answer.push(d.unwrap()));
        answer
    };
    let whole = |d: llm::codec::Deltas| {
        let mut answer = Answer::default();
        d.into_iter().for_each(|d| answer.push(d.unwrap()));
        answer
    };
    let (mut out, mut w) = (BytesMut::new(), openai::Chunks::new("id1", 7, "m", false));
    w.start(&mut out);
    deltas.iter().for_each(|d| w.delta(&mut out, d));
    w.end(&mut out);
    let streamed = read(Box::<OpenAiDecoder>::default(), &out);
    let mut out = BytesMut::new();
    openai::render(&mut out, "id", 7, "m", &want);
    for got in [streamed, whole(llm::codec::openai::decode_body(&out).unwrap())] {
        assert_eq!((&got.logprobs, &got.text, &got.reasoning), (&want.logprobs, &want.text, &want.reasoning));
    }

    let (mut out, mut w) = (BytesMut::new(), anthropic::Events::new("msg_1", "m", 5));
    w.start(&mut out);
    deltas.iter().for_each(|d| w.delta(&mut out, d));
    w.end(&mut out);
    let streamed = read(Box::<AnthropicDecoder>::default(), &out);
    let mut out = BytesMut::new();
    anthropic::render(&mut out, "id", "m", &want);
    for got in [streamed, whole(llm::codec::anthropic::decode_body(&out).unwrap())] {
        assert_eq!(
            (&got.signature, &got.text, &got.reasoning),
            (&want.signature, &want.text, &want.reasoning)
        );
    }
}

#[test]
fn marks_for_a_providers_cache_reach_it_and_no_other() {
    let mark = json!({"type": "ephemeral"});
    let body = json!({
        "model": "m", "max_tokens": 9,
        "system": [{"type": "text", "text": "Long.", "cache_control": mark}],
        "tools": [{"name": "f", "input_schema": {}, "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi.", "cache_control": mark}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [
                {"type": "text", "text": "seen"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]}]},
        ],
    });
    let call = anthropic::parse(body.to_string().as_bytes()).unwrap();
    let sent = |bytes: BytesMut| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let to_anthropic = sent(llm::codec::anthropic::encode(&call.request, "m"));
    assert_eq!((&to_anthropic["system"], &to_anthropic["tools"]), (&body["system"], &body["tools"]));
    assert_eq!(to_anthropic["messages"][0]["content"][0], body["messages"][0]["content"][0]);
    assert_eq!(to_anthropic["messages"][0]["content"][1], body["messages"][1]["content"][0]);

    let dialect = llm::codec::openai::Dialect::default();
    let to_openai = sent(llm::codec::openai::encode(&call.request, "m", dialect));
    assert!(!to_openai.to_string().contains("cache_control"), "{to_openai}");
    assert_eq!(to_openai["messages"][0]["content"], json!([{"type": "text", "text": "Long."}]));
    assert_eq!(to_openai["messages"][2]["content"], "seen");
    assert_eq!(call.request.messages[1].content.to_text(), "Hi.");
}

#[test]
fn the_end_user_is_named_by_either_word() {
    let of = |more: &str| {
        let body = format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}]{more}}}"#);
        openai::parse(body.as_bytes()).map(|call| call.user.map(|user| user.as_str().to_owned()))
    };
    assert_eq!(of("").unwrap(), None);
    assert_eq!(of(r#", "safety_identifier": "ann""#).unwrap().as_deref(), Some("ann"));
    assert_eq!(of(r#", "user": "bob", "safety_identifier": "ann""#).unwrap().as_deref(), Some("bob"));
    assert_eq!(of(r#", "user": null, "safety_identifier": "ann""#).unwrap().as_deref(), Some("ann"));
    assert_eq!(of(r#", "safety_identifier": 7"#).unwrap_err().param.as_deref(), Some("safety_identifier"));
}
