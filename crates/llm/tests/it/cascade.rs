//! The stage kind `cascade`, from the model `writer` to the model `large`.

use std::sync::Arc;

use contract::{
    BoxFuture, Code, Context, Ending, Error, Event, Inputs, Money, Outcome, Sink, StageName, Value,
};
use llm::{CascadeKind, Delta, FinishReason, GenerateKind, ModelSettings};
use parking_lot::Mutex;
use pipeline::{Site, StageKind};
use serde_json::{Value as Json, json};

use crate::call::{Script, Step, World, busy, say, whole, world};

#[derive(Default)]
struct Shown(Mutex<Vec<String>>);
impl Sink for Shown {
    fn send(&self, event: Event) -> BoxFuture<'_, Result<(), Error>> {
        if let Event::Delta { text } = event {
            self.0.lock().push(text);
        }
        Box::pin(async { Ok(()) })
    }
}

/// `writer` without its fallback, which would be the cascade's own next model.
fn two(small: Vec<Script>, large: Vec<Script>) -> World {
    let w = world(small, large);
    let own = |name: &str| ModelSettings::clone(&w.models.get(&name.into()).unwrap());
    let small = ModelSettings { fallback: vec![], ..own("writer") };
    let dear = contract::Price { output: 100_000_000, ..own("large").price };
    let large = ModelSettings { price: dear, ..own("large") };
    w.models.replace([("writer".into(), small), ("large".into(), large)]);
    w
}

fn config(more: Json) -> Json {
    let mut all = json!({"models": ["writer", "large"], "prompt_text": "Answer {{ what }}"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

async fn run(w: &World, more: Json) -> (Outcome<Value>, Vec<String>) {
    let kind = CascadeKind::new(GenerateKind::new(w.models.clone(), ".".into(), None));
    let name = StageName::from("s");
    let stage = kind.build(&config(more), &Site { name: &name, each: false }).unwrap();
    let shown = Arc::new(Shown::default());
    let cx = Context { sink: Some(shown.clone()), stage: Some(name), ..w.cx.clone() };
    let inputs = Inputs::from_iter([("what".to_owned(), Value::text("this"))]);
    let outcome = stage.run(&cx, inputs).await;
    let shown = shown.0.lock().clone();
    (outcome, shown)
}

fn complete(text: &str) -> Outcome<Value> {
    Outcome::Complete(Value::text(text))
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_passes_is_given_and_the_larger_model_is_not_asked() {
    let w = two(vec![whole("Paris")], vec![]);
    let (outcome, shown) = run(&w, json!({"accept": {"must_match": "Paris"}})).await;
    assert_eq!((outcome, shown), (complete("Paris"), vec!["Paris".to_owned()]));
    assert_eq!(w.calls(), (1, 0));
    assert_eq!(w.cx.meter.facts()["cascade"], json!({"writer": {"accepted": 1}}));
}

#[tokio::test(start_paused = true)]
async fn a_refused_answer_is_never_shown_and_both_calls_are_charged_at_their_own_price() {
    let larger =
        Script::Stream(vec![say("It is "), say("Paris."), Step::Say(Delta::Finish(FinishReason::Stop))]);
    let w = two(vec![whole("I'm sorry, but I can't help with that.")], vec![larger]);
    let (outcome, shown) = run(&w, json!({})).await;
    assert_eq!((outcome, shown), (complete("It is Paris."), vec!["It is ".to_owned(), "Paris.".to_owned()]));
    assert_eq!(w.primary.asked(), w.second.asked(), "the same prompt");
    let facts = json!({"writer": {"refused_refusal": 1}, "large": {"accepted": 1}});
    assert_eq!(w.cx.meter.facts()["cascade"], facts);
    let records = w.records();
    let names: Vec<_> =
        records.iter().map(|a| (a.model.as_str(), a.stage.as_ref().map(StageName::as_str))).collect();
    assert_eq!(names, [("writer", Some("s")), ("large", Some("s"))]);
    assert_eq!(records[0].cost, Money::from_nanos(10 + 20));
    assert!(records[1].cost > Money::from_nanos(100));
    assert!(records.iter().all(|a| a.instead_of.is_none() && a.ending == Ending::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_is_followed_by_the_next_even_in_the_middle_of_its_answer() {
    // Each is tried again: what nobody sees begins anew where it breaks off.
    let refuses = || Script::Refuse(busy());
    let breaks = || Script::Stream(vec![say("half of i"), Step::Fail(busy())]);
    for script in [(0..9).map(|_| refuses()).collect(), (0..9).map(|_| breaks()).collect()] {
        let w = two(script, vec![whole("all")]);
        let (outcome, shown) = run(&w, json!({})).await;
        assert_eq!((outcome, shown), (complete("all"), vec!["all".to_owned()]));
        assert_eq!(w.cx.meter.facts()["cascade"]["writer"], json!({"failed": 1}));
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_be_the_same_at_any_model_ends_the_cascade() {
    let filtered = Script::Stream(vec![say("x"), Step::Say(Delta::Finish(FinishReason::ContentFilter))]);
    let wrong = Script::Refuse(Error::new(Code::InvalidRequest, "scripted"));
    for (script, code) in [(filtered, Code::ContentFiltered), (wrong, Code::InvalidRequest)] {
        let w = two(vec![script], vec![]);
        let (outcome, shown) = run(&w, json!({})).await;
        assert_eq!((outcome.error().map(|e| e.code), shown.len()), (Some(code), 0));
        assert_eq!(w.calls(), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_model_fails_as_a_generate_stage_fails() {
    let breaks = Script::Stream(vec![say("half"), Step::Fail(busy())]);
    let w = two(vec![whole("")], vec![breaks]);
    let (outcome, shown) = run(&w, json!({})).await;
    let Outcome::Partial(value, e) = outcome else { panic!("must be partial: {outcome:?}") };
    assert_eq!((value, e.code, shown), (Value::text("half"), Code::UpstreamError, vec!["half".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn an_unsure_answer_is_passed_on_and_only_who_is_judged_gives_log_probabilities() {
    let said = |p: f64| {
        let content = json!({"content": [{"token": "x", "logprob": p.ln()}]});
        Script::Stream(vec![
            Step::Say(Delta::Logprobs(Box::new(content))),
            say("small"),
            Step::Say(Delta::Finish(FinishReason::Stop)),
        ])
    };
    for (probability, answer, figure) in [(0.9, "small", "accepted"), (0.7, "large", "refused_not_confident")]
    {
        let w = two(vec![said(probability)], vec![whole("large")]);
        let (outcome, _) = run(&w, json!({"accept": {"min_confidence": 0.8}})).await;
        assert_eq!(outcome, complete(answer));
        assert_eq!(w.cx.meter.facts()["cascade"]["writer"], json!({figure: 1}));
        assert_eq!(w.primary.extras()[0]["logprobs"], true);
        assert!(w.second.extras().iter().all(|e| !e.contains_key("logprobs")));
    }
    let w = two(vec![whole("small")], vec![whole("large")]);
    assert_eq!(run(&w, json!({"accept": {"min_confidence": 0.0}})).await.0, complete("large"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_fit_the_schema_is_passed_on() {
    let schema = json!({"type": "object", "required": ["city"]});
    let w = two(vec![whole(r#"{"town": 1}"#)], vec![whole(r#"{"city": "Paris"}"#)]);
    let (outcome, _) = run(&w, json!({"schema": schema})).await;
    assert_eq!(outcome, Outcome::Complete(Value::Json(Arc::new(json!({"city": "Paris"})))));
    assert_eq!(w.cx.meter.facts()["cascade"]["writer"], json!({"refused_schema": 1}));
}

#[test]
fn every_problem_of_a_cascade_is_reported_once() {
    let w = two(vec![], vec![]);
    let kind = CascadeKind::new(GenerateKind::new(w.models.clone(), ".".into(), None));
    let name = StageName::from("s");
    let pointers = |config: Json| {
        let problems = kind.build(&config, &Site { name: &name, each: false }).err().unwrap();
        problems.into_iter().map(|p| p.pointer).collect::<Vec<_>>()
    };
    let bad = json!({"models": ["writer", "nobody", "writer"], "prompt_text": "{% if %}", "schema": {"type": 7},
        "accept": {"must_match": "(", "min_chars": 2, "max_chars": 1}});
    assert_eq!(
        pointers(bad),
        ["/models/2", "/accept/must_match", "/accept/max_chars", "/schema", "/prompt_text", "/models/1"]
    );
    assert_eq!(pointers(json!({"models": ["writer"], "prompt_text": "x"})), ["/models"]);
    let good = kind.build(&config(json!({})), &Site { name: &name, each: false }).unwrap();
    assert_eq!(good.models().iter().map(|m| m.as_str().to_owned()).collect::<Vec<_>>(), ["writer", "large"]);
}
