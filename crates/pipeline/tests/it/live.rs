//! Live runs under tokio's paused clock: time moves only when every stage waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{Code, Context, Event, Outcome, StageState, Value};
use futures_util::{FutureExt, StreamExt};
use pipeline::live::{Live, start};
use pipeline::{OnFailure, PipelineSpec, check};
use serde_json::json;

use crate::stages::{context, registry, show, spec, stage};

fn run(p: &PipelineSpec) -> (Live, Context) {
    let graph = check(p, &registry().0).unwrap();
    let cx = context();
    (start(Arc::new(graph), Value::text("in"), cx.clone()), cx)
}

async fn to_end(mut live: Live) -> (Vec<Event>, Outcome<Value>) {
    let mut events = Vec::new();
    while let Some(e) = live.next().await {
        events.push(e);
    }
    let outcome = live.outcome().cloned().unwrap();
    assert!(matches!(events.last(), Some(Event::Done { .. })), "the last event is done");
    (events, outcome)
}

fn text(o: &Outcome<Value>) -> String {
    o.value().map(show).unwrap_or_default()
}

fn deltas(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|e| if let Event::Delta { text } = e { Some(text.as_str()) } else { None })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn independent_stages_take_as_long_as_the_slowest() {
    let p = spec(vec![
        stage("a", "work", json!({"takes": ["input"], "ms": 300, "give": "A"})),
        stage("b", "work", json!({"takes": ["input"], "ms": 500, "give": "B"})),
        stage("end", "work", json!({"takes": ["a", "b"]})),
    ]);
    let (live, cx) = run(&p);
    let (_, outcome) = to_end(live).await;
    assert_eq!(text(&outcome), "a=A,b=B");
    assert_eq!(cx.elapsed_us() / 1_000, 500);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_not_streamed_is_in_the_last_event() {
    let of = async |config| {
        let (events, _) = to_end(run(&spec(vec![stage("a", "work", config)])).0).await;
        let Some(Event::Done { output, .. }) = events.last() else { panic!("the last event is done") };
        output.clone()
    };
    assert_eq!(of(json!({"takes": ["input"], "give": "A"})).await, Some(json!("A")));
    assert_eq!(of(json!({"takes": ["input"], "pieces": 2})).await, None, "it was shown piece by piece");
}

#[tokio::test(start_paused = true)]
async fn work_on_a_core_waits_for_a_draft_that_can_be_made() {
    let heavy = json!({"takes": ["input"], "give": "H", "blocking": true});
    let draft = json!({"takes": ["input"], "give": "D", "blocking": true, "instant": true});
    let p = spec(vec![
        stage("heavy", "work", heavy),
        stage("draft", "drafting", draft),
        stage("end", "work", json!({"takes": ["heavy", "draft"]})),
    ]);
    let (events, outcome) = to_end(run(&p).0).await;
    assert_eq!(text(&outcome), "heavy=H,draft=D");
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let drafted = at(&|e| matches!(e, Event::Draft { .. }));
    let started = at(
        &|e| matches!(e, Event::Stage { name, state: StageState::Started, .. } if name.as_str() == "heavy"),
    );
    assert!(drafted < started);
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_keeps_its_order_and_its_bound() {
    let mut each = stage("notes", "work", json!({"ms": 100}));
    (each.each, each.parallel) = (Some("parts".into()), Some(2));
    let p = spec(vec![
        stage("parts", "work", json!({"takes": ["input"], "gives": "list"})),
        each,
        stage("end", "work", json!({"takes": ["notes"]})),
    ]);
    let (live, cx) = run(&p);
    let (events, outcome) = to_end(live).await;
    assert_eq!(text(&outcome), "notes=item=a+item=b+item=c+item=d");
    assert_eq!(cx.elapsed_us() / 1_000, 200, "four elements, two at a time, 100 ms each");
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Part { .. })).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_part_is_marked_and_the_rest_kept() {
    let mut each = stage("notes", "work", json!({"bad_item": "b"}));
    (each.each, each.on_failure) = (Some("parts".into()), OnFailure::Partial);
    let mut p = spec(vec![
        stage("parts", "work", json!({"takes": ["input"], "gives": "list"})),
        each,
        stage("end", "work", json!({"takes": ["notes"]})),
    ]);
    let (events, outcome) = to_end(run(&p).0).await;
    assert_eq!(text(&outcome), "notes=item=a+-+item=c+item=d");
    assert_eq!(outcome.error().map(|e| e.code), Some(Code::PartFailed));
    assert!(events.iter().any(|e| matches!(e, Event::Part { error: Some(_), .. })));
    assert!(events.iter().any(|e| matches!(e, Event::Error { partial: true, .. })));
    p.stages[1].on_failure = OnFailure::Fail;
    assert!(matches!(to_end(run(&p).0).await.1, Outcome::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_stage_is_tried_again_as_often_as_its_contract_says() {
    let mut p = spec(vec![stage("a", "work", json!({"takes": ["input"], "fail_times": 2, "give": "ok"}))]);
    p.stages[0].on_failure = OnFailure::Retry(2);
    assert_eq!(to_end(run(&p).0).await.1, Outcome::Complete(Value::text("ok")));
    p.stages[0].on_failure = OnFailure::Retry(1);
    assert!(matches!(to_end(run(&p).0).await.1, Outcome::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_stage_out_of_time_falls_back() {
    let mut slow = stage("answer", "work", json!({"takes": ["input"], "ms": 60_000, "pieces": 1}));
    slow.on_failure = OnFailure::Fallback("draft".into());
    let mut p = spec(vec![
        stage("draft", "drafting", json!({"takes": ["input"], "give": "D", "instant": true})),
        slow,
    ]);
    p.budget.total = Some(Duration::from_secs(2));
    let (live, cx) = run(&p);
    let (events, outcome) = to_end(live).await;
    assert_eq!(text(&outcome), "D");
    assert_eq!(outcome.error().map(|e| e.code), Some(Code::DeadlineExceeded));
    assert_eq!(cx.elapsed_us() / 1_000_000, 2);
    assert!(matches!(events[..], [.., Event::Error { partial: true, .. }, Event::Done { .. }]));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_is_not_shown_runs_only_when_needed() {
    for (fails, calls) in [(0, 1), (1, 2)] {
        let (registry, _, count) = registry();
        let mut main = stage("main", "work", json!({"takes": ["input"], "fail_times": fails}));
        main.on_failure = OnFailure::Fallback("spare".into());
        let p = spec(vec![stage("spare", "work", json!({"takes": ["input"]})), main]);
        let graph = check(&p, &registry).unwrap();
        to_end(start(Arc::new(graph), Value::text("in"), context())).await;
        assert_eq!(count.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn text_streamed_before_a_failure_is_a_partial_result() {
    let mut p = spec(vec![stage("a", "work", json!({"takes": ["input"], "pieces": 5, "cut_after": 2}))]);
    p.stages[0].on_failure = OnFailure::Partial;
    let (events, outcome) = to_end(run(&p).0).await;
    assert_eq!(text(&outcome), "p0 p1 ");
    assert_eq!(deltas(&events), "p0 p1 ");
    assert_eq!(outcome.error().map(|e| e.code), Some(Code::UpstreamTruncated));
}

#[tokio::test(start_paused = true)]
async fn a_tail_works_on_the_stream_while_it_is_made() {
    let p = spec(vec![stage("a", "work", json!({"takes": ["input"], "pieces": 3, "piece_ms": 100})), {
        let mut up = stage("up", "upper", json!({}));
        up.from = pipeline::Source::One("a".into());
        up
    }]);
    let (mut live, cx) = run(&p);
    while let Some(e) = live.next().await {
        if let Event::Delta { text } = e {
            assert_eq!(
                (text.as_str(), cx.elapsed_us() / 1_000),
                ("P0 ", 100),
                "shown before the stream ends"
            );
            break;
        }
    }
    let (events, outcome) = to_end(live).await;
    assert_eq!(deltas(&events), "P1 P2 ");
    assert_eq!(outcome, Outcome::Complete(Value::text("P0 P1 P2 ")));
    let done = |e: &&Event| matches!(e, Event::Stage { state: StageState::Done, .. });
    assert_eq!(events.iter().filter(done).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tail_works_on_the_fallback_of_a_stream_that_showed_nothing() {
    let tailed = |config| {
        let mut a = stage("a", "work", config);
        a.on_failure = OnFailure::Fallback("safe".into());
        let mut up = stage("up", "upper", json!({}));
        up.from = pipeline::Source::One("a".into());
        spec(vec![stage("safe", "work", json!({"takes": ["input"], "give": "draft"})), a, up])
    };
    let dead = json!({"takes": ["input"], "pieces": 3, "fail_times": 9});
    let (events, outcome) = to_end(run(&tailed(dead)).0).await;
    assert_eq!(text(&outcome), "DRAFT");
    assert_eq!(outcome.error().map(|e| e.code), Some(Code::UpstreamError));
    let up =
        |e: &&Event| matches!(e, Event::Stage { name, state: StageState::Done, .. } if name.as_str() == "up");
    assert_eq!(events.iter().filter(up).count(), 1);
    let cut = json!({"takes": ["input"], "pieces": 3, "cut_after": 2});
    let (events, outcome) = to_end(run(&tailed(cut)).0).await;
    assert_eq!(
        (deltas(&events).as_str(), text(&outcome).as_str()),
        ("P0 P1 ", "draft"),
        "never half of two answers"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_stops_every_stage_at_once() {
    let (registry, running, _) = registry();
    let p = spec(vec![
        stage("a", "work", json!({"takes": ["input"], "ms": 10_000})),
        stage("b", "work", json!({"takes": ["input"], "ms": 10_000})),
        stage("end", "work", json!({"takes": ["a", "b"]})),
    ]);
    let mut live = start(Arc::new(check(&p, &registry).unwrap()), Value::text("in"), context());
    while running.load(Ordering::SeqCst) < 2 {
        live.next().await;
        // Two `started` events come before both stages are polled.
        let _ = live.next().now_or_never();
    }
    drop(live);
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_stops_its_own_stream() {
    let (registry, _, _) = registry();
    let p = spec(vec![stage("a", "work", json!({"takes": ["input"], "pieces": 100_000}))]);
    let mut live = start(Arc::new(check(&p, &registry).unwrap()), Value::text("in"), context());
    for _ in 0..4 {
        live.next().await;
    }
    // Everything that is not read waits in the stage, not in memory: the rest still comes, in order, complete.
    let (events, outcome) = to_end(live).await;
    assert!(matches!(outcome, Outcome::Complete(_)));
    assert!(events.len() > 99_990);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_stage_runs_aside() {
    let p = spec(vec![stage("a", "work", json!({"takes": ["input"], "blocking": true, "give": "ok"}))]);
    assert_eq!(to_end(run(&p).0).await.1, Outcome::Complete(Value::text("ok")));
}
