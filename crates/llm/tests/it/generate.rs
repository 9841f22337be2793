//! The stage kind `generate`.

use std::sync::Arc;

use contract::{
    BoxFuture, Budget, Code, Context, Error, Event, Inputs, Kind, Outcome, Sink, StageName, TenantId, Value,
};
use llm::{GenerateKind, PartCache};
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
        self.0.lock().push((tenant.clone(), *key, text.to_owned()));
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
async fn an_answer_that_breaks_off_is_partial() {
    let w = world(vec![Script::Stream(vec![say("half"), Step::Fail(busy())])], vec![]);
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
    let mut w = world(vec![whole("one"), whole("two")], vec![]);
    let kind = GenerateKind::new(w.models.clone(), ".".into(), Some(Arc::new(Kept::default())));
    let name = StageName::from("s");
    let config = json!({"model": "writer", "prompt_text": "x", "cache": true});
    let stage = kind.build(&config, &Site { name: &name, each: false }).unwrap();
    for _ in 0..2 {
        assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("one")));
    }
    w.cx.tenant = TenantId::from("other");
    assert_eq!(stage.run(&w.cx, Inputs::new()).await, Outcome::Complete(Value::text("two")));
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
