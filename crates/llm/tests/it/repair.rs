//! Pools, retry budgets, hedges and what is done about answers that break off, under tokio's paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{
    BoxFuture, Code, Ending, EndpointName, Error, Message, MidStream, ModelName, Reason, RetryHint, Role,
    Usage,
};
use futures_util::{StreamExt, stream};
use llm::{
    Asking, Attempt, ChatModel, ChatRequest, Delta, DeltaStream, Endpoint, FallbackOn, FinishReason, Hedge,
    ModelSettings, Prefill,
};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::call::{Script, Step, World, busy, say, upstream, whole, world};

fn asks() -> ChatRequest {
    ChatRequest { messages: vec![Message::text(Role::User, "hello")], ..ChatRequest::default() }
}

fn cut(text: &str) -> Script {
    Script::Stream(vec![say(text)])
}

/// The pieces a reader is given, resets as `!`, and the error that ends them.
async fn read(w: &World, asking: Asking) -> (Vec<String>, Option<Error>) {
    let mut seen = Vec::new();
    let mut answer = match w.models.call_as(&"writer".into(), asks(), asking, &w.cx).await {
        Ok(a) => a,
        Err(e) => return (seen, Some(e)),
    };
    while let Some(delta) = answer.next().await {
        match delta {
            Ok(Delta::Text(t)) => seen.push(t),
            Ok(Delta::Reset) => seen.push("!".to_owned()),
            Ok(_) => {}
            Err(e) => return (seen, Some(e)),
        }
    }
    (seen, None)
}

fn change(w: &World, name: &str, f: impl Fn(ModelSettings) -> ModelSettings) {
    let all = w.models.names().into_iter().map(|n| {
        let s = (*w.models.get(&n).unwrap()).clone();
        (n.clone(), if n.as_str() == name { f(s) } else { s })
    });
    let all: Vec<_> = all.collect();
    w.models.replace(all);
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_has_seen_begins_anew_unseen() {
    let w = world(vec![cut("half")], vec![whole("all of it")]);
    let (model, asking) = ("writer".into(), Asking { unseen: true, ..Asking::default() });
    let answer = w.models.call_as(&model, asks(), asking, &w.cx);
    let answer = answer.await.unwrap().collect().await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("all of it", Some(FinishReason::Stop)));
    let r = w.records();
    assert_eq!((r[0].ending, r[0].model.as_str()), (Ending::Partial, "writer"));
    assert_eq!(
        (r[1].ending, r[1].model.as_str(), r[1].reason),
        (Ending::Complete, "large", Some(Reason::Restart))
    );
    assert_eq!((r[0].number, r[1].number), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_told_once_there_is_an_answer_to_take_the_place() {
    let mut w = world(vec![cut("half")], vec![whole("all")]);
    w.cx.mid_stream = MidStream::Restart;
    assert_eq!(read(&w, Asking::default()).await, (vec!["half".into(), "!".into(), "all".into()], None));
    let mut w = world(vec![cut("half")], vec![Script::Refuse(busy())]);
    w.cx.mid_stream = MidStream::Restart;
    let (seen, e) = read(&w, Asking::default()).await;
    assert_eq!((seen, e.unwrap().code), (vec!["half".to_owned()], Code::UpstreamTruncated));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_gone_on_with_where_a_model_can_and_has_no_seam() {
    let continued = |text: &str| {
        let usage = Usage { input_tokens: 15, output_tokens: 3, ..Usage::default() };
        Script::Stream(vec![
            Step::Say(Delta::Version("other".into())),
            say(text),
            Step::Say(Delta::Finish(FinishReason::Stop)),
            Step::Say(Delta::Usage(usage)),
        ])
    };
    for (said, rest) in [("one two ", " three"), ("one two ", "three"), ("one two", " three")] {
        let mut w = world(vec![cut(said)], vec![continued(rest)]);
        w.cx.mid_stream = MidStream::Continue;
        change(&w, "large", |s| ModelSettings { prefill: Some(Prefill::Plain), ..s });
        let (seen, e) = read(&w, Asking::default()).await;
        assert_eq!((seen.concat().as_str(), e), ("one two three", None));
        assert_eq!(w.second.asked(), ["one two"], "it goes on behind what was said");
        assert_eq!(w.records()[1].reason, Some(Reason::Continue));
    }
    // A caller is told what all of it used: the prompt once.
    let mut w = world(vec![cut("one two")], vec![continued(" three")]);
    w.cx.mid_stream = MidStream::Continue;
    change(&w, "large", |s| ModelSettings { prefill: Some(Prefill::Plain), ..s });
    let usage = w.ask().await.unwrap().usage.unwrap();
    let first = w.records()[0].usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (first.input_tokens, first.output_tokens + 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_gone_on_with_ends_with_the_error() {
    let tool =
        Delta::ToolCall { index: 0, id: Some("c".into()), name: Some("f".into()), arguments: "{".into() };
    for (broken, prefill) in
        [(Script::Stream(vec![Step::Say(tool)]), Some(Prefill::Plain)), (cut("half"), None)]
    {
        let mut w = world(vec![broken], vec![]);
        w.cx.mid_stream = MidStream::Continue;
        change(&w, "large", |s| ModelSettings { prefill, ..s });
        assert_eq!(read(&w, Asking::default()).await.1.unwrap().code, Code::UpstreamTruncated);
        assert_eq!(w.calls(), (1, 0));
    }
    // One that refuses an assistant's words is not asked for that again.
    let refused = Script::Refuse(upstream(400, Code::InvalidRequest, RetryHint::No));
    let mut w = world(vec![cut("half"), cut("half")], vec![refused]);
    w.cx.mid_stream = MidStream::Continue;
    change(&w, "large", |s| ModelSettings { prefill: Some(Prefill::Plain), ..s });
    for _ in 0..2 {
        let (seen, e) = read(&w, Asking::default()).await;
        assert_eq!((seen.concat().as_str(), e.unwrap().code), ("half", Code::UpstreamTruncated));
    }
    assert_eq!(w.calls(), (2, 1));
}

/// Fails with a status while `down` says so.
struct Endpoints {
    down: Arc<dyn Fn() -> bool + Send + Sync>,
    calls: AtomicUsize,
}

impl ChatModel for Endpoints {
    fn start<'a>(&'a self, _: &'a ChatRequest, _: &'a Attempt) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if (self.down)() {
                return Err(busy());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            let deltas = [Ok(Delta::Text("ok".into())), Ok(Delta::Finish(FinishReason::Stop))];
            Ok(Box::pin(stream::iter(deltas)) as DeltaStream)
        })
    }
}

fn endpoint(down: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Endpoints> {
    Arc::new(Endpoints { down: Arc::new(down), calls: AtomicUsize::new(0) })
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_attempts_stay_within_the_retry_budget_and_the_fallback_answers() {
    let w = world(vec![], vec![]);
    let (primary, second) = (endpoint(|| true), endpoint(|| false));
    w.models.replace([
        (
            "writer".into(),
            ModelSettings {
                fallback: vec!["large".into()],
                ..ModelSettings::new("a".into(), primary.clone())
            },
        ),
        ("large".into(), ModelSettings::new("b".into(), second.clone())),
    ]);
    let mut cx = w.cx.clone();
    // Ten minutes, four requests a second.
    let mut good = 0;
    for n in 0..2_400u128 {
        cx.deadline = contract::Deadline::from_now(cx.clock.now(), Duration::from_secs(30));
        cx.request = contract::RequestId::from_parts(contract::UnixMillis(0), n);
        let answer = w.models.call(&"writer".into(), asks(), &cx).await;
        good += usize::from(answer.unwrap().collect().await.is_ok());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let attempts = primary.calls.load(Ordering::SeqCst) + second.calls.load(Ordering::SeqCst);
    assert_eq!((good, second.calls.load(Ordering::SeqCst)), (2_400, 2_400));
    assert!(attempts <= 2_640, "{attempts}");
    assert!(primary.calls.load(Ordering::SeqCst) >= 15, "it is looked at again now and then");
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_tries_again_takes_it_out_of_the_same_budget() {
    let mut w = world(vec![], vec![]);
    let up = endpoint(|| false);
    w.models.replace([("writer".into(), ModelSettings::new("a".into(), up.clone()))]);
    w.cx.retrying = true;
    let mut refused = 0;
    for _ in 0..30 {
        match w.ask().await {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.code, Code::Overloaded);
                refused += 1;
            }
        }
    }
    // The floor of ten, and one for ten calls.
    assert_eq!((up.calls.load(Ordering::SeqCst) + refused, refused > 15), (30, true));
}

#[tokio::test(start_paused = true)]
async fn of_two_endpoints_the_good_one_answers_at_once_and_the_other_comes_back() {
    let w = world(vec![], vec![]);
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is = broken.clone();
    let (bad, good) = (endpoint(move || is.load(Ordering::SeqCst)), endpoint(|| false));
    let mut settings = ModelSettings::new("a".into(), bad.clone());
    settings.endpoints.push(Endpoint::new("b".into(), good.clone()));
    w.models.replace([("writer".into(), settings)]);
    let mut cx = w.cx.clone();
    let ask = async |cx: &mut contract::Context, n: u128| {
        cx.deadline = contract::Deadline::from_now(cx.clock.now(), Duration::from_secs(30));
        cx.request = contract::RequestId::from_parts(contract::UnixMillis(0), n);
        w.models.call(&"writer".into(), asks(), cx).await.unwrap().collect().await.unwrap()
    };
    let before = cx.clock.now();
    for n in 0..50 {
        assert_eq!(ask(&mut cx, n).await.text, "ok");
    }
    let took = cx.clock.now().since(before);
    assert_eq!(took, Duration::from_millis(50 * 200), "another endpoint is asked without a pause");
    assert!((3..8).contains(&bad.calls.load(Ordering::SeqCst)), "after failures it rests: {:?}", bad.calls);
    broken.store(false, Ordering::SeqCst);
    for n in 50..250 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ask(&mut cx, n).await;
    }
    assert!(bad.calls.load(Ordering::SeqCst) > 50, "it is back: {:?}", bad.calls);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_rests_is_waited_for_a_little_and_else_refused_with_the_time() {
    let w = world(vec![], vec![]);
    let down = endpoint(|| true);
    w.models.replace([("writer".into(), ModelSettings::new("a".into(), down.clone()))]);
    for _ in 0..2 {
        assert_eq!(w.ask().await.unwrap_err().code, Code::UpstreamError);
    }
    // It rests for 2 s, which is waited for; then for 4, which is not.
    let calls = down.calls.load(Ordering::SeqCst);
    assert_eq!(w.ask().await.unwrap_err().code, Code::UpstreamError);
    assert_eq!(down.calls.load(Ordering::SeqCst), calls + 1, "one looks whether it is back");
    let e = w.ask().await.unwrap_err();
    assert_eq!((e.code, e.upstream_status), (Code::UpstreamError, Some(503)));
    let RetryHint::After(d) = e.retry else { panic!("{e:?}") };
    assert!(d > Duration::from_secs(2) && d <= Duration::from_secs(4) && e.message.contains("rests"), "{e}");
    assert_eq!(down.calls.load(Ordering::SeqCst), calls + 1, "nobody is asked");
    tokio::time::advance(d).await;
    w.ask().await.unwrap_err();
    assert_eq!(down.calls.load(Ordering::SeqCst), calls + 2, "the time it was told is honest");
}

#[tokio::test(start_paused = true)]
async fn a_slow_beginning_is_hedged_and_the_first_output_wins() {
    let slow =
        || Script::Stream(vec![Step::Wait(5_000), say("slow"), Step::Say(Delta::Finish(FinishReason::Stop))]);
    let hedged = |w: &World| {
        change(w, "writer", |s| ModelSettings {
            hedge: Some(Arc::new(Hedge::new(Duration::from_secs(1), 0.5, None))),
            ..s
        })
    };
    let w = world(vec![slow(), whole("fast")], vec![]);
    hedged(&w);
    assert_eq!(w.ask().await.unwrap().text, "fast");
    assert_eq!((w.now_ms(), w.calls()), (1_000, (2, 0)));
    assert_eq!(w.primary.dropped.load(Ordering::SeqCst), 2, "the slow one is stopped");
    let r = w.records();
    let lost = r.iter().find(|r| r.ending == Ending::Cancelled).unwrap();
    assert_eq!(lost.error.as_ref().unwrap().message, "the attempt beside it answered first");
    assert_eq!(r.iter().filter_map(|r| r.reason).collect::<Vec<_>>(), [Reason::Hedge]);
    // One that fails leaves the other.
    let w = world(vec![slow(), Script::Refuse(busy())], vec![]);
    hedged(&w);
    assert_eq!((w.ask().await.unwrap().text.as_str(), w.now_ms()), ("slow", 5_000));
    // A quick one is not hedged, and no more than the share is.
    let w = world(vec![whole("a"), slow(), whole("b"), slow(), slow()], vec![]);
    change(&w, "writer", |s| ModelSettings {
        hedge: Some(Arc::new(Hedge::new(Duration::from_secs(1), 0.0, None))),
        ..s
    });
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(w.ask().await.unwrap().text);
    }
    assert_eq!(texts, ["a", "b", "slow"]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_asked_for_what_it_is_there_for() {
    let filtered = || Script::Refuse(upstream(400, Code::ContentFiltered, RetryHint::No));
    let on = |w: &World, on: Vec<FallbackOn>| {
        change(w, "writer", move |s| ModelSettings {
            fallback: vec![llm::Fallback { model: "large".into(), on: Some(on.clone()) }],
            ..s
        })
    };
    let w = world(vec![filtered()], vec![whole("b")]);
    on(&w, vec![FallbackOn::ContentFilter]);
    assert_eq!(w.ask().await.unwrap().text, "b");
    let w = world(vec![Script::Refuse(busy()), Script::Refuse(busy())], vec![]);
    on(&w, vec![FallbackOn::ContentFilter, FallbackOn::Timeout]);
    assert_eq!((w.ask().await.unwrap_err().code, w.calls()), (Code::UpstreamError, (2, 0)));
}

/// Says the words of `TEXT`, each once, behind what the conversation has of them; breaks off where its list says.
struct Honest(Mutex<Vec<Option<usize>>>);

const TEXT: &str = "one two three four five six seven eight nine ten eleven twelve.";

impl ChatModel for Honest {
    fn start<'a>(&'a self, r: &'a ChatRequest, _: &'a Attempt) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        let said = match r.messages.last() {
            Some(m) if m.role == Role::Assistant => m.content.to_text().into_owned(),
            _ => String::new(),
        };
        let breaks = self.0.lock().pop().flatten();
        Box::pin(async move {
            let rest = TEXT.strip_prefix(said.as_str()).expect("it is given what was said");
            if breaks == Some(0) {
                return Err(busy());
            }
            let pieces: Vec<String> = rest.split_inclusive(' ').map(str::to_owned).collect();
            let n = breaks.map_or(pieces.len(), |b| b.min(pieces.len()));
            let mut deltas: Vec<_> = pieces.into_iter().take(n).map(|p| Ok(Delta::Text(p))).collect();
            deltas.extend(breaks.is_none().then(|| Ok(Delta::Finish(FinishReason::Stop))));
            Ok(Box::pin(stream::iter(deltas)) as DeltaStream)
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever breaks where, and whatever the policy is: what a reader has is the beginning of one answer, all of it
    /// when it ends well, and each attempt is recorded once.
    #[test]
    fn a_reader_has_the_beginning_of_one_answer_whatever_breaks(
        first in prop::collection::vec(prop::option::of(0usize..14), 0..6),
        second in prop::collection::vec(prop::option::of(0usize..14), 0..6),
        policy in 0usize..4, prefill in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let mut w = world(vec![], vec![]);
            let unseen = policy == 3;
            w.cx.mid_stream = [MidStream::Error, MidStream::Restart, MidStream::Continue][policy % 3];
            let (a, b) = (Arc::new(Honest(Mutex::new(first))), Arc::new(Honest(Mutex::new(second))));
            let with = |name: &str, m, fallback: Vec<llm::Fallback>| ModelSettings {
                fallback,
                prefill: prefill.then_some(Prefill::Plain),
                ..ModelSettings::new(EndpointName::from(name), m)
            };
            w.models.replace([
                (ModelName::from("writer"), with("a", a, vec!["large".into()])),
                (ModelName::from("large"), with("b", b, vec![])),
            ]);
            let (seen, e) = read(&w, Asking { unseen, ..Asking::default() }).await;
            let text = seen.iter().fold(String::new(), |t, p| if p == "!" { String::new() } else { t + p });
            prop_assert!(TEXT.starts_with(&text), "{seen:?}");
            prop_assert!(e.is_some() || text == TEXT);
            prop_assert!(policy == 1 || unseen || !seen.iter().any(|p| p == "!"));
            let r = w.records();
            let numbers: Vec<_> = r.iter().map(|r| r.number).collect();
            prop_assert_eq!(numbers, (1..=r.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(r.iter().filter(|r| r.ending == Ending::Complete).count(), usize::from(e.is_none()));
            prop_assert!(r.iter().skip(1).all(|r| r.reason.is_some()) && r.len() <= 12);
            Ok(())
        })?;
    }
}
