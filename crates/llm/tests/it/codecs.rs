//! Upstream codecs: equal deltas for every split, and the liberties they take.

use contract::{Code, Usage};
use llm::codec::anthropic::{self, AnthropicDecoder};
use llm::codec::openai::{self, OpenAiDecoder};
use llm::codec::{Decoder, Deltas};
use llm::{Delta, FinishReason, surface};

const OPENAI: &str = concat!(
    ": keep-alive\r\n\r\n",
    "data: {\"id\":\"x\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\r\n\r\n",
    "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gr\u{fc}\\u00df \\\"dich\\\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {broken\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\n",
    "data: \"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n",
);

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c-1\",\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\u{e9}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

fn decode(mut d: impl Decoder, pieces: &[&[u8]]) -> (Deltas, u64) {
    let mut out = Deltas::new();
    for p in pieces {
        d.feed(p, &mut out);
    }
    d.end(&mut out);
    (out, d.skipped())
}

fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
    Delta::ToolCall { index, id: id.map(Into::into), name: name.map(Into::into), arguments: arguments.into() }
}

#[test]
fn openai_usage_beside_choices_a_missing_done_and_a_malformed_event_are_taken() {
    let (out, skipped) = decode(OpenAiDecoder::default(), &[OPENAI.as_bytes()]);
    let want = vec![
        Delta::Version("m-1".into()),
        Delta::Text("Grüß \"dich\"".into()),
        call(0, Some("c1"), Some("f"), ""),
        call(0, None, None, "{}"),
        Delta::Finish(FinishReason::ToolCalls),
        Delta::Usage(Usage { input_tokens: 7, output_tokens: 5, cached_input_tokens: 2, ..Usage::default() }),
    ];
    assert_eq!(out.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), want);
    assert_eq!(skipped, 1);
}

#[test]
fn anthropic_cached_input_is_part_of_the_input_and_message_stop_ends_it() {
    let (out, skipped) = decode(AnthropicDecoder::default(), &[ANTHROPIC.as_bytes()]);
    let usage = |o| {
        Delta::Usage(Usage { input_tokens: 7, output_tokens: o, cached_input_tokens: 2, ..Usage::default() })
    };
    let want = vec![
        Delta::Version("c-1".into()),
        usage(1),
        Delta::Text("hé".into()),
        call(0, Some("t1"), Some("f"), ""),
        call(0, None, None, "{}"),
        usage(9),
        Delta::Finish(FinishReason::ToolCalls),
    ];
    assert_eq!(out.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), want);
    assert_eq!(skipped, 0);
}

#[test]
fn anthropic_answers_that_said_why_they_ended_are_complete_without_a_message_stop() {
    let (cut, _) = ANTHROPIC.split_at(ANTHROPIC.find("event: message_stop").unwrap());
    let whole = decode(AnthropicDecoder::default(), &[ANTHROPIC.as_bytes()]);
    assert_eq!(decode(AnthropicDecoder::default(), &[cut.as_bytes()]), whole);
    let (cut, _) = ANTHROPIC.split_at(ANTHROPIC.find("event: message_delta").unwrap());
    let (out, _) = decode(AnthropicDecoder::default(), &[cut.as_bytes()]);
    assert!(!out.iter().any(|d| matches!(d, Ok(Delta::Finish(_)))));
}

#[test]
fn every_split_gives_equal_deltas() {
    let openai = decode(OpenAiDecoder::default(), &[OPENAI.as_bytes()]);
    for at in 0..=OPENAI.len() {
        let (a, b) = OPENAI.as_bytes().split_at(at);
        assert_eq!(decode(OpenAiDecoder::default(), &[a, b]), openai, "split at {at}");
    }
    let anthropic = decode(AnthropicDecoder::default(), &[ANTHROPIC.as_bytes()]);
    for at in 0..=ANTHROPIC.len() {
        let (a, b) = ANTHROPIC.as_bytes().split_at(at);
        assert_eq!(decode(AnthropicDecoder::default(), &[a, b]), anthropic, "split at {at}");
    }
    let bytes: Vec<&[u8]> = OPENAI.as_bytes().chunks(1).collect();
    assert_eq!(decode(OpenAiDecoder::default(), &bytes), openai);
}

#[test]
fn an_error_event_ends_the_stream_with_its_meaning() {
    let body = b"data: {\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let (out, _) = decode(OpenAiDecoder::default(), &[body]);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].as_ref().unwrap_err().code, Code::RateLimited);
    let body = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    let (out, _) = decode(AnthropicDecoder::default(), &[body]);
    assert_eq!(out[0].as_ref().unwrap_err().upstream_status, Some(529));
}

#[test]
fn an_answer_that_the_provider_broke_off_is_truncated_and_reasons_of_its_own_are_kept() {
    let end = |reason: &str| {
        let body = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"{reason}\"}}]}}\n\n"
        );
        decode(OpenAiDecoder::default(), &[body.as_bytes()]).0.pop_back().unwrap()
    };
    for broken in ["abort", "error"] {
        assert_eq!(end(broken).unwrap_err().code, Code::UpstreamTruncated, "{broken}");
        let body = format!(r#"{{"choices":[{{"index":0,"message":{{}},"finish_reason":"{broken}"}}]}}"#);
        assert!(openai::decode_body(body.as_bytes()).unwrap().iter().any(Result::is_err), "{broken}");
    }
    assert_eq!(end("eos").unwrap(), Delta::Finish(FinishReason::Stop));
    assert_eq!(end("model_length").unwrap(), Delta::Finish(FinishReason::Length));
    assert_eq!(end("tired").unwrap(), Delta::Finish(FinishReason::OpenAi("tired".into())));
    let body = br#"{"type":"message","content":[],"stop_reason":"pause_turn"}"#;
    let last = anthropic::decode_body(body).unwrap().pop_back().unwrap().unwrap();
    assert_eq!(last, Delta::Finish(FinishReason::Anthropic("pause_turn".into())));
}

#[test]
fn bodies_that_are_not_streamed_give_the_same_deltas() {
    let body = br#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let out: Vec<_> = openai::decode_body(body).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(out[1..3], [Delta::Text("hi".into()), Delta::Finish(FinishReason::Stop)]);
    let body = br#"{"type":"message","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let out: Vec<_> = anthropic::decode_body(body).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(out[1], Delta::Text("hi".into()));
    assert_eq!(out[3], Delta::Finish(FinishReason::Stop));
    assert!(openai::decode_body(b"<html>").is_err() && anthropic::decode_body(b"{}").is_err());
}

#[test]
fn a_conversation_with_tools_reaches_both_providers_in_their_own_form() {
    let body = br#"{"model":"m","max_tokens":9,"stop":"END","stream":true,"top_k":3,"messages":[
        {"role":"developer","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"42"}],
        "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"required"}"#;
    let call = surface::openai::parse(body).unwrap();
    let json = |b: &[u8]| serde_json::from_slice::<serde_json::Value>(b).unwrap();
    insta::assert_json_snapshot!("to_anthropic", json(&anthropic::encode(&call.request, "claude")));
    insta::assert_json_snapshot!(
        "to_openai",
        json(&openai::encode(&call.request, "gpt", openai::Dialect::default()))
    );
    // What an Anthropic caller sends arrives as the same conversation.
    let again = surface::anthropic::parse(&anthropic::encode(&call.request, "claude")).unwrap();
    assert_eq!(again.request.messages, call.request.messages);
    assert_eq!(again.request.tools, call.request.tools);
    assert_eq!(again.request.tool_choice, call.request.tool_choice);
}

#[test]
fn reasoning_tokens_are_read_where_the_provider_says_them() {
    let usage = |details: &str| {
        let body = format!(
            r#"{{"choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":9,"completion_tokens_details":{details}}}}}"#
        );
        match llm::codec::openai::decode_body(body.as_bytes()).unwrap().pop_back() {
            Some(Ok(Delta::Usage(u))) => u.reasoning_tokens,
            _ => 0,
        }
    };
    assert_eq!(usage(r#"{"reasoning_tokens":7}"#), 7);
    assert_eq!(
        (usage("null"), usage("{}"), usage("[]"), usage(r#"{"reasoning_tokens":null}"#)),
        (0, 0, 0, 0)
    );
}
