//! Streams and bodies, whole and not.

use proptest::prelude::*;

use super::*;

const OPENAI: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"b\\\"\"},\"finish_reason\":null}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n\
    event: ping\ndata: {\"type\":\"ping\"}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const NATIVE: &str = ": ping\n\nid: 1\nevent: accepted\ndata: {\"type\":\"accepted\",\"id\":\"req_1\"}\n\n\
    id: 2\nevent: delta\ndata: {\"type\":\"delta\",\"text\":\"hi\"}\n\n\
    id: 3\nevent: done\ndata: {\"type\":\"done\",\"done\":true,\"usage\":{\"input_tokens\":9,\"output_tokens\":2},\"cost_nanousd\":13}\n\n";
const ALL: [(Speaks, &str); 3] =
    [(Speaks::Openai, OPENAI), (Speaks::Anthropic, ANTHROPIC), (Speaks::Native, NATIVE)];

fn read(speaks: Speaks, pieces: &[&[u8]]) -> (Outcome, Took) {
    let mut events = Events::new(speaks);
    for piece in pieces {
        events.feed(piece);
    }
    events.end(false)
}

#[test]
fn a_whole_stream_is_complete_and_its_tokens_are_counted() {
    for (speaks, stream) in ALL {
        let (outcome, took) = read(speaks, &[stream.as_bytes()]);
        assert_eq!(outcome, Outcome::Complete, "{speaks:?}");
        assert_eq!((took.input_tokens, took.output_tokens, took.counted), (9, 2, true), "{speaks:?}");
    }
    assert_eq!(read(Speaks::Native, &[NATIVE.as_bytes()]).1.cost_nanousd, Some(13));
}

#[test]
fn a_stream_that_is_cut_anywhere_is_never_complete() {
    for (speaks, stream) in ALL {
        // The blank line behind the end mark may be missing.
        for at in 0..stream.len() - 2 {
            let (outcome, _) = read(speaks, &[&stream.as_bytes()[..at]]);
            let ended = at >= stream.trim_end().len();
            assert!(matches!(outcome, Outcome::Broken(_)) || ended, "{speaks:?} cut at {at}: {outcome:?}");
        }
    }
}

#[test]
fn a_stream_that_ends_whole_over_a_lost_connection_is_broken() {
    let mut events = Events::new(Speaks::Openai);
    events.feed(OPENAI.as_bytes());
    assert_eq!(events.end(true).0, Outcome::Broken(LOST));
}

#[test]
fn an_error_in_the_stream_is_an_error_before_output_and_partial_behind_it() {
    let error = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}],\"error\":{\"code\":\"upstream_truncated\",\"message\":\"x\"}}\n\n";
    let before = read(Speaks::Openai, &[error.as_bytes()]).0;
    assert_eq!(before, Outcome::Error { status: 200, code: "upstream_truncated".into() });
    let (begun, _) = OPENAI.split_at(OPENAI.find("data: {\"choices\":[{\"delta\":{},").unwrap());
    let behind = read(Speaks::Openai, &[begun.as_bytes(), error.as_bytes()]).0;
    assert_eq!(behind, Outcome::Partial { code: "upstream_truncated".into() });
    let anthropic = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    let said = read(Speaks::Anthropic, &[anthropic.as_bytes()]).0;
    assert_eq!(said, Outcome::Error { status: 200, code: "overloaded_error".into() });
    let native = "data: {\"type\":\"error\",\"code\":\"part_failed\",\"class\":\"upstream\",\"message\":\"x\",\"partial\":true}\n\n";
    let said = read(Speaks::Native, &[native.as_bytes(), NATIVE.as_bytes()]).0;
    assert_eq!(said, Outcome::Partial { code: "part_failed".into() });
}

#[test]
fn an_event_that_cannot_be_read_or_comes_behind_the_end_breaks_the_stream() {
    for (speaks, stream) in ALL {
        let torn = [b"data: {\"type\":\n\n", stream.as_bytes()];
        assert_eq!(read(speaks, &torn).0, Outcome::Broken(UNREADABLE));
        assert_eq!(read(speaks, &[stream.as_bytes(), b"data: {}\n\n"]).0, Outcome::Broken(BEHIND));
    }
    let mark = OPENAI.replace("data: [DONE]\n\n", "");
    assert_eq!(read(Speaks::Openai, &[mark.as_bytes()]).0, Outcome::Broken(NO_END));
}

#[test]
fn output_is_noticed_with_the_bytes_that_carry_it() {
    for (speaks, stream) in ALL {
        let mut events = Events::new(speaks);
        let noticed = stream.as_bytes().iter().filter(|b| events.feed(&[**b])).count();
        assert_eq!(noticed, 1, "{speaks:?}");
    }
}

#[test]
fn a_refusal_is_a_shed_by_its_status_and_says_whether_a_retry_was_offered() {
    let mut headers = HeaderMap::new();
    let body = br#"{"error":{"message":"x","type":"rate_limit_error","code":"overloaded"}}"#;
    let shed = |retry_after| Outcome::Shed { status: 429, code: "overloaded".into(), retry_after };
    assert_eq!(refused(StatusCode::TOO_MANY_REQUESTS, &headers, body), shed(false));
    headers.insert(http::header::RETRY_AFTER, 3.into());
    assert_eq!(refused(StatusCode::TOO_MANY_REQUESTS, &headers, body), shed(true));
    let body = br#"{"type":"error","error":{"type":"api_error"}}"#;
    let error = Outcome::Error { status: 502, code: "api_error".into() };
    assert_eq!(refused(StatusCode::BAD_GATEWAY, &headers, body), error);
    let page = Outcome::Error { status: 500, code: String::new() };
    assert_eq!(refused(StatusCode::INTERNAL_SERVER_ERROR, &headers, b"<html>"), page);
}

#[test]
fn whole_bodies_need_what_makes_them_an_answer() {
    let mut took = Took::default();
    let good = br#"{"choices":[{"message":{"content":"x"},"finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":3}}"#;
    assert_eq!(whole(Speaks::Openai, good, &mut took), Outcome::Complete);
    assert_eq!((took.input_tokens, took.output_tokens), (4, 3));
    let partial = br#"{"id":"req_1","output":"x","complete":false,"error":{"type":"error","code":"part_failed"},"cost_nanousd":5}"#;
    assert_eq!(whole(Speaks::Native, partial, &mut took), Outcome::Partial { code: "part_failed".into() });
    assert_eq!(took.cost_nanousd, Some(5));
    assert_eq!(whole(Speaks::Anthropic, br#"{"stop_reason":"end_turn"}"#, &mut took), Outcome::Complete);
    for body in [&b"{}"[..], b"", b"[]", br#"{"choices":[]}"#] {
        for (speaks, _) in ALL {
            assert_eq!(whole(speaks, body, &mut took), Outcome::Broken(NO_ANSWER));
        }
    }
}

proptest! {
    #[test]
    fn where_a_stream_is_cut_into_reads_changes_nothing(which in 0usize..3, at in any::<prop::sample::Index>()) {
        let (speaks, stream) = ALL[which];
        let (a, b) = stream.as_bytes().split_at(at.index(stream.len()));
        prop_assert_eq!(read(speaks, &[a, b]), read(speaks, &[stream.as_bytes()]));
    }

    #[test]
    fn any_bytes_are_taken_and_never_complete(which in 0usize..3, bytes in any::<Vec<u8>>()) {
        let (speaks, _) = ALL[which];
        prop_assert_ne!(read(speaks, &[&bytes]).0, Outcome::Complete);
        let mut took = Took::default();
        prop_assert_ne!(whole(speaks, &bytes, &mut took), Outcome::Complete);
    }
}
