//! The events of a response: any stream is a well-formed one.

use std::collections::BTreeMap;

use super::*;

#[test]
fn an_answer_that_was_cut_short_is_incomplete_and_says_why() {
    let (_, echo) = read(&with(json!({})));
    for (finish, status, reason) in [
        (FinishReason::Stop, "completed", Json::Null),
        (FinishReason::Length, "incomplete", json!({"reason": "max_output_tokens"})),
        (FinishReason::ContentFilter, "incomplete", json!({"reason": "content_filter"})),
        (FinishReason::Anthropic("pause_turn".into()), "incomplete", json!({"reason": "max_output_tokens"})),
    ] {
        let answer = Answer { text: "a".into(), finish: Some(finish.clone()), ..Answer::default() };
        let object = whole(&echo, &answer);
        assert_eq!((&object["status"], &object["incomplete_details"]), (&json!(status), &reason));
        assert_eq!(object["output"][0]["status"], status);
        let events = streamed(&[Delta::Text("a".into()), Delta::Finish(finish)], None);
        let last = events.last().unwrap();
        assert_eq!(
            (&last["type"], &last["response"]["incomplete_details"]),
            (&json!(format!("response.{status}")), &reason)
        );
    }
}

/// The data of all events.
fn streamed(deltas: &[Delta], broken: Option<&Error>) -> Vec<Json> {
    let (_, echo) = read(&with(json!({})));
    let (mut out, mut events) = (BytesMut::new(), Events::new("7", 5, "m", echo));
    events.start(&mut out);
    deltas.iter().for_each(|d| events.delta(&mut out, d));
    match broken {
        None => events.end(&mut out),
        Some(e) => events.error(&mut out, e),
    }
    let text = std::str::from_utf8(&out).unwrap();
    assert!(text.ends_with("\n\n"));
    let all = text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Json = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        data
    });
    all.collect()
}

#[test]
fn the_events_of_a_stream_are_the_protocols() {
    let probs = json!({"content": [{"token": "fo", "logprob": -0.5, "bytes": null, "top_logprobs": []}]});
    let piece = |index, id: Option<&str>, arguments: &str| Delta::ToolCall {
        index,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: arguments.into(),
    };
    let deltas = [
        Delta::Version("v".into()),
        Delta::Reasoning("hm".into()),
        Delta::Signature("seal".into()),
        Delta::Logprobs(Box::new(probs)),
        Delta::Text("fo".into()),
        Delta::Text("ur".into()),
        piece(0, Some("c1"), ""),
        piece(1, Some("c2"), "{}"),
        piece(0, None, "{}"),
        Delta::Usage(Usage { input_tokens: 5, output_tokens: 6, ..Usage::default() }),
        Delta::Finish(FinishReason::ToolCalls),
    ];
    let events = streamed(&deltas, None);
    let (mut out, (_, echo)) = (BytesMut::new(), read(&with(json!({}))));
    let mut w = Events::new("7", 5, "m", echo);
    w.start(&mut out);
    deltas.iter().for_each(|d| w.delta(&mut out, d));
    w.end(&mut out);
    insta::assert_snapshot!("response_stream", String::from_utf8(out.to_vec()).unwrap());
    assert_eq!(events.last().unwrap()["type"], "response.completed");
}

#[test]
fn a_stream_that_broke_says_what_came_and_ends_nothing_that_had_not_ended() {
    let e = Error::new(Code::UpstreamTruncated, "cut");
    let begun =
        Delta::ToolCall { index: 0, id: Some("c".into()), name: Some("f".into()), arguments: "{}".into() };
    let events = streamed(&[Delta::Text("fo".into()), begun], Some(&e));
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["error", "response.failed"]);
    let done = |e: &&Json| e["type"] == "response.output_item.done";
    assert!(events.iter().filter(done).all(|e| e["item"]["type"] == "message"), "no call is done: {kinds:?}");
    assert!(!kinds.contains(&"response.function_call_arguments.done"));
    let told = &events[events.len() - 2];
    assert_eq!((&told["code"], &told["message"]), (&json!("upstream_truncated"), &json!("cut")));
    let response = &events.last().unwrap()["response"];
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("upstream_truncated"))
    );
    assert_eq!(response["output"][0]["content"][0]["text"], "fo");
    assert_eq!(response["output"][1]["status"], "incomplete");
}

#[test]
fn an_answer_that_begins_anew_is_the_new_one_alone() {
    let piece = |id: &str| Delta::ToolCall {
        index: 0,
        id: Some(id.into()),
        name: Some("f".into()),
        arguments: "{".into(),
    };
    let deltas = [
        Delta::Text("old".into()),
        piece("c1"),
        Delta::Text("older".into()),
        Delta::Reset,
        Delta::Text("new".into()),
        piece("c2"),
        Delta::Finish(FinishReason::ToolCalls),
    ];
    let events = streamed(&deltas, None);
    assert!(events.iter().enumerate().all(|(n, e)| e["sequence_number"] == n as u64));
    let at = events.iter().position(|e| e["type"] == "response.forebay_reset").unwrap();
    assert_eq!(events[at]["output_index"], 3, "the first item that counts");
    let done = |events: &[Json]| -> Vec<(u64, String)> {
        let done = events.iter().filter(|e| e["type"] == "response.output_item.done");
        done.map(|e| (e["output_index"].as_u64().unwrap(), e["item"]["type"].as_str().unwrap().to_owned()))
            .collect()
    };
    // The words are over; the call is not to be made.
    assert_eq!(done(&events[..at]), [(0, "message".to_owned()), (2, "message".to_owned())]);
    assert_eq!(done(&events[at..]), [(3, "message".to_owned()), (4, "function_call".to_owned())]);
    let output = events.last().unwrap()["response"]["output"].as_array().unwrap();
    assert_eq!(
        (output.len(), &output[0]["content"][0]["text"], &output[1]["call_id"]),
        (2, &json!("new"), &json!("c2"))
    );
}

/// What a client puts together from the pieces of an item.
#[derive(Default)]
struct Pieced {
    kind: String,
    pieces: String,
    /// Of the event that says the whole text, and of the item when it is done.
    wholes: Vec<String>,
    done: bool,
}

fn text_of(item: &Json) -> String {
    let at = match item["type"].as_str().unwrap() {
        "message" => "/content/0/text",
        "reasoning" => "/summary/0/text",
        _ => "/arguments",
    };
    item.pointer(at).and_then(Json::as_str).unwrap_or_default().to_owned()
}

/// Checks that events are in order and say the same as the last one; gives the texts of the items.
fn well_formed(events: &[Json], broken: bool) -> Vec<(String, String)> {
    let mut items: BTreeMap<u64, Pieced> = BTreeMap::new();
    let (mut ids, last) = (BTreeMap::new(), events.len() - 1);
    for (n, e) in events.iter().enumerate() {
        assert_eq!(e["sequence_number"], n as u64);
        let kind = e["type"].as_str().unwrap();
        let index = e["output_index"].as_u64();
        match (kind, n) {
            ("response.created", 0) | ("response.in_progress", 1) => {
                assert_eq!(
                    (&e["response"]["status"], &e["response"]["output"]),
                    (&json!("in_progress"), &json!([]))
                );
            }
            ("error", _) => assert!(broken && n + 1 == last),
            ("response.completed" | "response.incomplete" | "response.failed", _) => {
                assert_eq!((n, kind == "response.failed"), (last, broken));
                assert_eq!(format!("response.{}", e["response"]["status"].as_str().unwrap()), kind);
            }
            ("response.output_item.added", _) => {
                assert_eq!(index, Some(items.len() as u64));
                let kind = e["item"]["type"].as_str().unwrap().to_owned();
                ids.insert(index, e["item"]["id"].clone());
                assert_eq!((text_of(&e["item"]).as_str(), &e["item"]["status"]), ("", &json!("in_progress")));
                items.insert(index.unwrap(), Pieced { kind, ..Pieced::default() });
            }
            _ => {
                let item = items.get_mut(&index.unwrap()).unwrap();
                assert!(!item.done, "nothing follows the end of an item");
                let id = e.get("item_id").unwrap_or(&e["item"]["id"]);
                assert_eq!(ids.get(&index), Some(id));
                if kind.ends_with(".delta") {
                    assert!(item.wholes.is_empty());
                    item.pieces.push_str(e["delta"].as_str().unwrap());
                } else if kind == "response.output_item.done" {
                    item.wholes.push(text_of(&e["item"]));
                    item.done = true;
                } else {
                    let text = e.get("text").or(e.get("arguments")).or(e.pointer("/part/text"));
                    let text = text.and_then(Json::as_str).unwrap().to_owned();
                    if kind.ends_with(".added") {
                        assert_eq!((text.as_str(), item.pieces.as_str()), ("", ""));
                    } else {
                        item.wholes.push(text);
                    }
                }
            }
        }
    }
    let output = events[last]["response"]["output"].as_array().unwrap();
    assert_eq!(output.len(), items.len());
    for (index, item) in &items {
        assert!(item.done || broken, "{index} is never done");
        let end = &output[*index as usize];
        assert!(item.wholes.iter().all(|w| *w == item.pieces), "{:?} of {}", item.wholes, item.pieces);
        assert_eq!((text_of(end), &end["id"]), (item.pieces.clone(), &ids[&Some(*index)]));
        let ended = end["status"] == "completed" || end["status"] == "incomplete";
        assert!(ended && (item.done || end["status"] == "incomplete"));
    }
    items.into_values().map(|i| (i.kind, i.pieces)).collect()
}

fn any_delta() -> impl Strategy<Value = Delta> {
    let text = "[ab\"\\\\\n\u{0}é😀]{0,5}";
    prop_oneof![
        4 => text.prop_map(Delta::Text),
        2 => text.prop_map(Delta::Reasoning),
        1 => text.prop_map(Delta::Signature),
        1 => Just(Delta::Version("v".into())),
        1 => Just(Delta::Logprobs(Box::new(json!({"content": [{"token": "a", "logprob": -1.0}]})))),
        1 => (0u64..9).prop_map(|n| Delta::Usage(Usage { output_tokens: n, ..Usage::default() })),
        3 => (0u32..3, any::<bool>(), text).prop_map(|(index, first, arguments)| Delta::ToolCall {
            index,
            id: first.then(|| format!("c{index}")),
            name: first.then(|| "f".to_owned()),
            arguments,
        }),
    ]
}

/// The same text in other pieces.
fn split(deltas: &[Delta], cuts: &[usize]) -> Vec<Delta> {
    let mut out = Vec::new();
    for (delta, cut) in deltas.iter().zip(cuts.iter().cycle()) {
        let at = |t: &str| t.char_indices().map(|(i, _)| i).nth(*cut).unwrap_or(t.len());
        match delta {
            Delta::Text(t) => {
                let (a, b) = t.split_at(at(t));
                out.extend([Delta::Text(a.into()), Delta::Text(b.into())]);
            }
            Delta::Reasoning(t) => {
                let (a, b) = t.split_at(at(t));
                out.extend([Delta::Reasoning(a.into()), Delta::Reasoning(b.into())]);
            }
            Delta::ToolCall { index, id, name, arguments } => {
                let (a, b) = arguments.split_at(at(arguments));
                let (index, id, name) = (*index, id.clone(), name.clone());
                out.push(Delta::ToolCall { index, id, name, arguments: a.into() });
                out.push(Delta::ToolCall { index, id: None, name: None, arguments: b.into() });
            }
            other => out.push(other.clone()),
        }
    }
    out
}

proptest! {
    #[test]
    fn any_deltas_split_anywhere_make_a_well_formed_stream_of_the_same_items(
        deltas in prop::collection::vec(any_delta(), 0..14),
        cuts in prop::collection::vec(0usize..5, 1..5),
        finish in prop::sample::select(vec![FinishReason::Stop, FinishReason::Length, FinishReason::ContentFilter]),
        broken: bool,
    ) {
        let e = Error::new(Code::UpstreamTruncated, "cut");
        let mut texts = Vec::new();
        for mut deltas in [deltas.clone(), split(&deltas, &cuts)] {
            if !broken {
                deltas.push(Delta::Finish(finish.clone()));
            }
            texts.push(well_formed(&streamed(&deltas, broken.then_some(&e)), broken));
        }
        prop_assert_eq!(&texts[0], &texts[1]);
        let mut want = Answer::default();
        deltas.into_iter().for_each(|d| want.push(d));
        let all = |kind: &str| texts[0].iter().filter(|(k, _)| k == kind).map(|(_, t)| t.as_str()).collect::<String>();
        prop_assert_eq!((all("message"), all("reasoning")), (want.text, want.reasoning));
        let calls: usize = want.tool_calls.iter().map(|c| c.arguments.len()).sum();
        prop_assert_eq!(all("function_call").len(), calls);
    }
}
