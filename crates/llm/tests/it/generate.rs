//! The stage kind `generate`.

use std::sync::Arc;

use contract::{
    BoxFuture, Budget, Code, Context, Error, Event, Inputs, Kind, Outcome, Sink, StageName, TenantId, Value,
};
use llm::{Delta, FinishReason, GenerateKind, ModelSettings, PartCache};
use parking_lot::Mutex;
use pipeline::{Site, StageKind};
use serde_json::json;

use crate::call::{Script, Step, World, busy, say, whole, world};

#[derive(Default)]
struct Shown(Mutex<Vec<Event>>);
impl Sink for Shown {
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>> {
        self.0.lock().push(event);
        Box::pin(async { Ok(()) })
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<(TenantId, [u8; 32], String)>>);
impl PartCache for Kept {
    fn get<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32]) -> BoxFuture<'a, Option<String>> {
        let hit = self.0.lock().iter().find(|(t, k, _)| t == tenant && k == key).map(|(_, _, v)| v.clone());
        Box::pin(async { hit })
    }
    fn put<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32], text: &'a str) -> BoxFuture<'a, ()> {
        let mut all = self.0.lock();
        all.retain(|(t, k, _)| t != tenant || k != key);
        all.push((tenant.clone(), *key, text.to_owned()));
        Box::pin(async {})
    }
}

async fn run(w: &World, config: serde_json::Value, cx: &Context, inputs: Inputs) -> Outcome<Value> {
    let kind = GenerateKind::new(w.models.clone(), ".".into(), Some(Arc::new(Kept::default())));
    let name = StageName::from("s");
    let stage = kind.build(&config, &Site { name: &name, each: false }).unwrap();
    stage.run(cx, inputs).await
}

fn hello() -> serde_json::Value {
    json!({"model": "writer", "prompt_text": "Say {{ what }}"})
}

fn what() -> Inputs {
    Inputs::from_iter([("what".to_owned(), Value::text("hi"))])
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_shown_while_it_comes_and_given_whole() {
    let mut w = world(vec![whole("hi")], vec![]);
    let shown = Arc::new(Shown::default());
    w.cx.sink = Some(shown.clone());
    assert_eq!(run(&w, hello(), &w.cx, what()).await, Outcome::Complete(Value::text("hi")));
    assert_eq!(*shown.0.lock(), [Event::Delta { text: "hi".into() }]);
    assert_eq!(w.records()[0].prompt_version.as_ref().map(String::len), Some(12));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_and_cannot_begin_anew_is_partial() {
    let half = || vec![Script::Stream(vec![say("half"), Step::Fail(busy())])];
    let w = world(half(), vec![whole("all of it")]);
    assert_eq!(run(&w, hello(), &w.cx, what()).await, Outcome::Complete(Value::text("all of it")));
    let w = world(half(), vec![Script::Refuse(busy())]);
    let Outcome::Partial(v, e) = run(&w, hello(), &w.cx, what()).await else { panic!("must be partial") };
    assert_eq!((v, e.code), (Value::text("half"), Code::UpstreamError));
}

#[tokio::test(start_paused = true)]
async fn json_that_does_not_fit_its_schema_has_failed() {
    let config =
        json!({"model": "writer", "prompt_text": "x", "schema": {"type": "object", "required": ["a"]}});
    let w = world(vec![whole(r#"{"a": 1}"#), whole("{}"), whole("nonsense")], vec![]);
    let first = run(&w, config.clone(), &w.cx, Inputs::new()).await;
    assert_eq!(first, Outcome::Complete(Value::Json(Arc::new(json!({"a": 1})))));
    for _ in 0..2 {
        assert!(matches!(run(&w, config.clone(), &w.cx, Inputs::new()).await, Outcome::Failed(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_up_budget_asks_nobody() {
    let mut w = world(vec![], vec![]);
    w.cx.budget = Budget { tokens: Some(3), ..Budget::default() };
    let out = run(&w, hello(), &w.cx, what()).await;
    assert_eq!(out.error().map(|e| e.code), Some(Code::BudgetExhausted));
}

#[tokio::test(start_paused = true)]
async fn a_cached_answer_is_used_again_by_its_own_tenant_only() {
    let mut w = world(vec![whole("one"), whole("newer"), whole("two")], vec![]);
    let kind = GenerateKind::new(w.models.clone(), ".".into(), Some(Arc::new(Kept::default())));
    let name = StageName::from("s");
    let config = json!({"model": "writer", "prompt_text": "x", "cache": true});
    let stage = kind.build(&config, &Site { name: &name, each: false }).unwrap();
    for _ in 0..2 {
        assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("one")));
    }
    w.cx.freshness = w.cx.freshness.and("no-cache");
    assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("newer")));
    w.cx.freshness = contract::Freshness::default();
    assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("newer")));
    w.cx.tenant = TenantId::from("other");
    assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("two")));
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_is_not_used_for_another_model_behind_the_same_name() {
    let w = world(vec![whole("one"), whole("two")], vec![]);
    let kind = GenerateKind::new(w.models.clone(), ".".into(), Some(Arc::new(Kept::default())));
    let name = StageName::from("s");
    let config = json!({"model": "writer", "prompt_text": "x", "cache": true});
    let stage = kind.build(&config, &Site { name: &name, each: false }).unwrap();
    for (identity, text) in [("", "one"), ("other", "two"), ("", "one"), ("other", "two")] {
        let settings = (*w.models.get(&"writer".into()).unwrap()).clone();
        w.models.replace([("writer".into(), ModelSettings { identity: identity.to_owned(), ..settings })]);
        assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text(text)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_fallback_is_not_kept_as_the_models_own() {
    let credentials = || Script::Refuse(Error::new(Code::UpstreamCredentials, "no"));
    let w = world(vec![credentials(), whole("own")], vec![whole("stand-in")]);
    let kind = GenerateKind::new(w.models.clone(), ".".into(), Some(Arc::new(Kept::default())));
    let name = StageName::from("s");
    let config = json!({"model": "writer", "prompt_text": "x", "cache": true});
    let stage = kind.build(&config, &Site { name: &name, each: false }).unwrap();
    for text in ["stand-in", "own", "own"] {
        // An endpoint that refused us rests for a while.
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text(text)));
    }
}

#[test]
fn every_problem_of_a_configuration_is_reported() {
    let w = world(vec![], vec![]);
    let kind = GenerateKind::new(w.models.clone(), ".".into(), None);
    let name = StageName::from("s");
    let site = Site { name: &name, each: false };
    let pointers =
        |config| kind.build(&config, &site).err().unwrap().into_iter().map(|p| p.pointer).collect::<Vec<_>>();
    let bad = json!({"model": "nobody", "prompt_text": "{% if %}", "schema": {"type": 7}});
    assert_eq!(pointers(bad), ["/model", "/schema", "/prompt_text"]);
    assert_eq!(pointers(json!({"model": "writer", "prompt": "../secret"})), ["/prompt"]);
    assert_eq!(pointers(json!({"model": "writer"})), [""]);
    let stage = kind.build(&hello(), &site).unwrap();
    assert_eq!(stage.signature().inputs.get("what"), Some(&Kind::Any));
}

fn notes(count: usize, words: usize) -> Inputs {
    let note = |n: usize| Some(Value::text(format!("note{n} {}", "word ".repeat(words))));
    Inputs::from_iter([("notes".to_owned(), Value::List((0..count).map(note).collect()))])
}

#[tokio::test(start_paused = true)]
async fn a_list_over_the_window_is_merged_in_groups_until_it_fits() {
    // 8 × about 200 tokens into a window of 1,000 with an answer of 100: three groups, then the text itself.
    let mut w = world(vec![whole("one"), whole("two"), whole("three"), whole("the end")], vec![]);
    let config = json!({"model": "writer", "prompt_text": "Merge:\n{{ notes }}", "max_output_tokens": 100,
        "collapse": {"parallel": 2}});
    let shown = Arc::new(Shown::default());
    w.cx.sink = Some(shown.clone());
    let out = run(&w, config, &w.cx, notes(8, 200)).await;
    assert_eq!(out, Outcome::Complete(Value::text("the end")));
    assert_eq!(*shown.0.lock(), [Event::Delta { text: "the end".into() }], "groups are not shown");
    assert_eq!(w.cx.meter.facts().get("collapse"), Some(&json!({"rounds": 1, "calls": 3})));
    let asked = w.primary.asked();
    assert!(asked[0].contains("note0") && asked[0].contains("note1") && !asked[0].contains("note7"));
    assert_eq!(asked[3], "Merge:\n[1] one\n\n[2] two\n\n[3] three");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_which_no_two_fit_together_is_refused_and_nobody_is_asked() {
    let w = world(vec![], vec![]);
    let config = json!({"model": "writer", "prompt_text": "{{ notes }}", "collapse": {}});
    let out = run(&w, config, &w.cx, notes(3, 700)).await;
    assert_eq!(out.error().map(|e| e.code), Some(Code::ContextLengthExceeded));
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_by_its_limit_ends_with_a_whole_sentence_or_is_partial() {
    let cut =
        || Script::Stream(vec![say("It is so. And then it"), Step::Say(Delta::Finish(FinishReason::Length))]);
    for (on_length, text) in [("keep", "It is so. And then it"), ("sentence", "It is so.")] {
        let w = world(vec![cut()], vec![]);
        let config = json!({"model": "writer", "prompt_text": "x", "on_length": on_length});
        assert_eq!(run(&w, config, &w.cx, Inputs::new()).await, Outcome::Complete(Value::text(text)));
    }
    let w = world(vec![cut()], vec![]);
    let config = json!({"model": "writer", "prompt_text": "x", "on_length": "partial"});
    assert!(matches!(run(&w, config, &w.cx, Inputs::new()).await, Outcome::Partial(..)));
}

#[tokio::test(start_paused = true)]
async fn calls_at_the_same_time_share_what_the_budget_has_left() {
    let slow = || Script::Stream(vec![Step::Wait(9), say("a"), Step::Say(Delta::Finish(FinishReason::Stop))]);
    let mut w = world(vec![slow(), slow(), slow()], vec![]);
    w.cx.budget = Budget { tokens: Some(100), ..Budget::default() };
    let kind = GenerateKind::new(w.models.clone(), ".".into(), None);
    let name = StageName::from("s");
    let config = json!({"model": "writer", "prompt_text": "x", "max_output_tokens": 40});
    let stage = kind.build(&config, &Site { name: &name, each: true }).unwrap();
    let call = || stage.run(&w.cx, Inputs::new());
    let (a, b, c) = tokio::join!(call(), call(), call());
    assert!(a.error().is_none() && b.error().is_none());
    assert_eq!(c.error().map(|e| e.code), Some(Code::BudgetExhausted), "100 hold two of 8 + 40, not three");
}
