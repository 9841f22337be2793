//! Everything that is wrong is said, at its place, with a remedy.

use std::time::Duration;

use contract::{Kind, Value};
use pipeline::{OnFailure, PipelineSpec, Source, check};
use serde_json::json;

use crate::stages::{registry, spec, stage};

fn findings(p: &PipelineSpec) -> Vec<String> {
    let found = check(p, &registry().0).err().unwrap_or_default();
    assert!(found.iter().all(|f| !f.remedy.is_empty()), "a finding without a remedy");
    found.into_iter().map(|f| f.message).collect()
}

#[test]
fn a_sound_pipeline_passes() {
    let mut each = stage("notes", "work", json!({}));
    each.each = Some("parts".into());
    let p = spec(vec![
        stage("draft", "drafting", json!({"takes": ["input"], "instant": true})),
        stage("parts", "work", json!({"takes": ["input"], "gives": "list"})),
        each,
        stage("end", "work", json!({"takes": ["notes"], "pieces": 1})),
    ]);
    assert_eq!(findings(&p), Vec::<String>::new());
}

#[test]
fn a_cycle_is_named_stage_by_stage() {
    let p = spec(vec![
        stage("a", "work", json!({"takes": ["b"]})),
        stage("b", "work", json!({"takes": ["c"]})),
        stage("c", "work", json!({"takes": ["a"]})),
    ]);
    assert_eq!(findings(&p), ["the stages wait for each other: a → b → c → a"]);
}

#[test]
fn every_problem_is_reported_not_only_the_first() {
    let p = spec(vec![
        stage("a", "wrok", json!({})),
        stage("input", "work", json!({})),
        stage("b", "work", json!({"problem": "scripted"})),
    ]);
    let found = findings(&p);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn kinds_that_do_not_meet_are_refused() {
    let mut p = spec(vec![stage("e", "work", json!({"takes": ["input"], "gives": "embedding"}))]);
    assert_eq!(findings(&p), ["the pipeline promises text, but its last stage gives embedding"]);
    p.stages.push(stage("up", "upper", json!({})));
    p.stages[1].from = Source::One("e".into());
    assert_eq!(findings(&p), ["stage `up` takes text as `text`, but stage `e` gives embedding"]);
    let mut each = stage("x", "work", json!({}));
    each.each = Some("input".into());
    let mut p = spec(vec![each]);
    p.output = Kind::List(Box::new(Kind::Text));
    assert_eq!(findings(&p), ["the pipeline's input gives one text, not many"]);
}

#[test]
fn a_stage_that_nobody_needs_is_reported() {
    let p = spec(vec![stage("lost", "work", json!({})), stage("end", "work", json!({"takes": ["input"]}))]);
    assert_eq!(findings(&p), ["nothing uses the output of stage `lost`"]);
}

#[test]
fn budgets_that_do_not_add_up_are_refused() {
    let slow = |s: &mut pipeline::StageSpec, secs| s.budget.total = Some(Duration::from_secs(secs));
    let mut p = spec(vec![
        stage("a", "work", json!({"takes": ["input"]})),
        stage("b", "work", json!({"takes": ["a"]})),
    ]);
    slow(&mut p.stages[0], 6);
    slow(&mut p.stages[1], 6);
    p.budget.total = Some(Duration::from_secs(10));
    assert_eq!(findings(&p), ["the path a → b may take 12 s, the whole only 10 s"]);
    slow(&mut p.stages[1], 3);
    assert_eq!(findings(&p), Vec::<String>::new());
    p.budget.first_output = Some(Duration::from_millis(300));
    assert_eq!(findings(&p), ["no stage can show anything within 300 ms"]);
    p.stages.insert(0, stage("draft", "drafting", json!({"takes": ["input"], "instant": true})));
    assert_eq!(findings(&p), Vec::<String>::new());
}

#[test]
fn contracts_that_cannot_be_kept_are_refused() {
    let mut p = spec(vec![stage("a", "work", json!({"takes": ["input"]}))]);
    p.stages[0].on_failure = OnFailure::Fallback("zz".into());
    assert_eq!(findings(&p), ["there is no stage `zz`"]);
    p.stages[0].on_failure = OnFailure::Fallback("a".into());
    assert_eq!(findings(&p), ["a stage cannot fall back on itself"]);
    p.stages[0].on_failure = OnFailure::Default(Value::Embedding([0.0].into()));
    assert_eq!(findings(&p), ["stage `a` gives text, its default is embedding"]);
    p.stages[0].on_failure = OnFailure::Retry(0);
    assert_eq!(findings(&p), ["0 retries are none"]);
}
