use std::collections::{HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use contract::{Ending, Trace, TraceContext};
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use otlp::{Upstream, spans};
use proptest::prelude::*;

use crate::fixtures::{AT, attempt, error, id, record, stage};

fn upstreams() -> HashMap<contract::ModelName, Upstream> {
    let upstream = Upstream {
        provider: "openai".into(),
        model: "gpt-x".into(),
        host: Some("api.example.org".into()),
        port: Some(443),
    };
    [("writer".into(), upstream)].into()
}

fn caller() -> TraceContext {
    TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap()
}

fn value(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|a| a.key.as_str() == key).map(|a| a.value.to_string())
}

#[test]
fn attempts_hang_from_their_stages_and_stages_from_the_request() {
    let r = record(vec![attempt(Some("notes"), 1), attempt(None, 2)], vec![stage("notes")]);
    let all = spans(&r, &Trace::of(r.id, Some(caller()), 0.0), &upstreams());
    let [root, notes, first, second] = all.as_slice() else { panic!("four spans") };
    assert_eq!(root.name, "pipeline summarize");
    assert_eq!((root.parent_span_id, root.parent_span_is_remote), (SpanId::from_bytes(caller().span), true));
    assert_eq!((notes.name.as_ref(), notes.parent_span_id), ("stage notes", root.span_context.span_id()));
    assert_eq!((first.name.as_ref(), first.parent_span_id), ("chat gpt-x", notes.span_context.span_id()));
    assert_eq!(
        (second.span_kind.clone(), second.parent_span_id),
        (SpanKind::Client, root.span_context.span_id())
    );
    let at = |us| UNIX_EPOCH + Duration::from_millis(AT as u64) + Duration::from_micros(us);
    assert_eq!((root.start_time, root.end_time), (at(0), at(10_000)));
    assert_eq!((first.start_time, first.end_time), (at(1_500), at(9_000)), "from the call, not the queue");
    assert_eq!(value(first, "gen_ai.response.model").as_deref(), Some("gpt-x-2026"));
    assert_eq!(value(first, "gen_ai.usage.cache_read.input_tokens").as_deref(), Some("30"));
    assert_eq!(value(notes, "forebay.stage.parts_failed").as_deref(), Some("1"));
}

#[test]
fn an_attempt_whose_stage_was_cut_short_hangs_from_the_request() {
    let r = record(vec![attempt(Some("cut"), 1)], vec![stage("other")]);
    let all = spans(&r, &Trace::of(r.id, None, 1.0), &upstreams());
    assert_eq!(all.last().unwrap().parent_span_id, all[0].span_context.span_id());
}

#[test]
fn errors_are_codes_and_nothing_that_people_wrote_is_sent() {
    let mut failed = attempt(None, 1);
    (failed.error, failed.ending) = (Some(error()), Ending::Failed);
    let mut r = record(vec![failed], Vec::new());
    (r.error, r.ending) = (Some(error()), Ending::Failed);
    let all = spans(&r, &Trace::of(r.id, None, 1.0), &upstreams());
    assert_eq!(all[0].name, "POST /v1/messages");
    for span in &all {
        assert_eq!(span.status, Status::error("upstream_error"));
        assert_eq!(value(span, "error.type").as_deref(), Some("upstream_error"));
    }
    let sent = format!("{all:?}");
    assert!(!sent.contains("diary") && !sent.contains("ann@example.org"), "{sent}");
}

#[test]
fn a_caller_that_left_is_no_error() {
    let mut r = record(Vec::new(), Vec::new());
    r.ending = Ending::Cancelled;
    let all = spans(&r, &Trace::of(r.id, None, 1.0), &upstreams());
    assert_eq!(all[0].status, Status::Unset);
}

proptest! {
    #[test]
    fn every_record_is_one_tree_whose_spans_end_after_they_start(
        stages in 0usize..4, attempts in prop::collection::vec((0usize..6, any::<[u64; 3]>()), 0..8), n in any::<u128>(),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let attempts = attempts.into_iter().enumerate().map(|(i, (stage, [from, queued, to]))| {
            let mut a = attempt(names.get(stage).copied(), i as u32 + 1);
            (a.started_us, a.queued_us, a.ended_us) = (from, queued, to);
            a
        });
        let mut r = record(attempts.collect(), names[..stages].iter().map(|s| stage(s)).collect());
        r.id = id(n);
        let all = spans(&r, &Trace::of(r.id, None, 1.0), &HashMap::new());
        prop_assert_eq!(all.len(), 1 + r.stages.len() + r.attempts.len());
        let ids: HashSet<_> = all.iter().map(|s| s.span_context.span_id()).collect();
        prop_assert_eq!(ids.len(), all.len());
        for (i, span) in all.iter().enumerate() {
            prop_assert!(span.start_time <= span.end_time);
            prop_assert_eq!(span.parent_span_id == SpanId::INVALID, i == 0);
            prop_assert!(i == 0 || ids.contains(&span.parent_span_id));
        }
    }
}
