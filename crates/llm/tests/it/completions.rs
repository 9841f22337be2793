//! Completions: a prompt is what the user says, what cannot be done is refused by name, and streams end as they must.

use bytes::BytesMut;
use contract::{Code, Error, Message, Role, Usage};
use llm::surface::completions::{Chunks, parse, render};
use llm::{Answer, Delta, FinishReason};
use serde_json::{Value as Json, json};

fn with(more: Json) -> String {
    let mut body = json!({"model": "m", "prompt": "Once"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[test]
fn a_prompt_is_what_the_user_says() {
    for prompt in [json!("Once"), json!(["Once"])] {
        let body = with(
            json!({"prompt": prompt, "max_tokens": 9, "stop": "END", "seed": 7, "user": "u", "n": 1, "best_of": 1,
            "echo": false, "suffix": null, "logprobs": null, "stream": true, "stream_options": {"include_usage": true},
            "frequency_penalty": 0.1}),
        );
        let call = parse(body.as_bytes()).unwrap();
        assert_eq!(call.request.messages, [Message::text(Role::User, "Once")]);
        assert_eq!((call.request.max_output_tokens, call.request.seed), (Some(9), Some(7)));
        assert_eq!(call.request.stop, ["END"]);
        assert_eq!(Json::Object(call.request.extra), json!({"user": "u", "frequency_penalty": 0.1}));
        assert!(call.include_usage && call.request.stream);
        assert_eq!(call.user.unwrap().as_str(), "u");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    for (more, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"prompt": [1, 2]}), "prompt"),
        (json!({"prompt": [[1, 2]]}), "prompt"),
        (json!({"prompt": {}}), "prompt"),
        (json!({"n": 2}), "n"),
        (json!({"best_of": 3}), "best_of"),
        (json!({"echo": true}), "echo"),
        (json!({"suffix": "end"}), "suffix"),
        (json!({"logprobs": 0}), "logprobs"),
        (json!({"messages": []}), "messages"),
        (json!({"tools": []}), "tools"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"stream_options": 1}), "stream_options"),
        (json!({"model": ""}), "model"),
    ] {
        let body = with(more);
        let e = parse(body.as_bytes()).unwrap_err();
        assert_eq!((e.code, e.param.as_deref()), (Code::InvalidRequest, Some(param)), "{body}: {e}");
    }
}

fn streamed(include_usage: bool, end: impl FnOnce(&mut Chunks, &mut BytesMut)) -> String {
    let (mut out, mut w) = (BytesMut::new(), Chunks::new("id1", 7, "m", include_usage));
    for delta in [
        Delta::Version("v".into()),
        Delta::Reasoning("hm".into()),
        Delta::Text("a \"b\"\n".into()),
        Delta::Usage(Usage { input_tokens: 5, output_tokens: 6, ..Usage::default() }),
    ] {
        w.delta(&mut out, &delta);
    }
    end(&mut w, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn streams_and_whole_answers_are_written_as_the_protocol_says() {
    let end = |w: &mut Chunks, out: &mut BytesMut| {
        w.delta(out, &Delta::Finish(FinishReason::Length));
        w.end(out);
    };
    insta::assert_snapshot!("completions_stream", streamed(false, end));
    insta::assert_snapshot!("completions_stream_with_usage", streamed(true, end));
    let broken = streamed(false, |w, out| w.error(out, &Error::new(Code::UpstreamTruncated, "cut")));
    assert!(broken.ends_with("\"finish_reason\":\"error\"}]}\n\n") && !broken.contains("[DONE]"), "{broken}");
    assert!(broken.contains(r#""error":{"code":"upstream_truncated","message":"cut"}"#), "{broken}");
    let answer = Answer { text: "then".into(), finish: Some(FinishReason::ToolCalls), ..Answer::default() };
    let mut out = BytesMut::new();
    render(&mut out, "id1", 7, "m", &answer);
    let whole: Json = serde_json::from_slice(&out).unwrap();
    let choice = json!({"index": 0, "text": "then", "logprobs": null, "finish_reason": "stop"});
    assert_eq!((&whole["object"], &whole["choices"]), (&json!("text_completion"), &json!([choice])));
    assert_eq!(whole["usage"]["total_tokens"], 0);
}
