//! `Models::call` against a scripted upstream, under tokio's paused clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{
    AttemptRecord, BoxFuture, Clock, Code, Context, Deadline, Ending, EndpointName, Error, Message, Meter,
    ModelName, Price, RequestId, RetryHint, Role, TenantId, UnixMillis, Usage,
};
use futures_util::{StreamExt, stream};
use llm::{
    Answer, Attempt, ChatModel, ChatRequest, Delta, DeltaStream, FinishReason, ModelSettings, Models,
    Unlimited,
};
use parking_lot::Mutex;
use pipeline::task::RuntimeClock;

pub(crate) enum Step {
    Say(Delta),
    Fail(Error),
    Wait(u64),
}

pub(crate) enum Script {
    Refuse(Error),
    Hang,
    Stream(Vec<Step>),
}

/// Plays one script a call and counts the streams that were dropped or ended.
#[derive(Default)]
pub(crate) struct Scripted {
    asked: Mutex<Vec<String>>,
    pub(crate) scripts: Mutex<VecDeque<Script>>,
    pub(crate) calls: AtomicUsize,
    pub(crate) dropped: Arc<AtomicUsize>,
    extras: Mutex<Vec<serde_json::Map<String, serde_json::Value>>>,
}

struct CountDrop(Arc<AtomicUsize>);
impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Scripted {
    /// The last message of each call.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    /// The fields of each call that nobody here knows.
    pub(crate) fn extras(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        self.extras.lock().clone()
    }
}

impl ChatModel for Scripted {
    fn start<'a>(&'a self, r: &'a ChatRequest, _: &'a Attempt) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().extend(r.messages.last().map(|m| m.content.to_text().into_owned()));
        self.extras.lock().push(r.extra.clone());
        let guard = CountDrop(self.dropped.clone());
        Box::pin(async move {
            let script = self.scripts.lock().pop_front().expect("a script for each call");
            match script {
                Script::Refuse(e) => Err(e),
                Script::Hang => {
                    let _guard = guard;
                    std::future::pending().await
                }
                Script::Stream(steps) => {
                    Ok(Box::pin(stream::unfold((VecDeque::from(steps), guard), play)) as _)
                }
            }
        })
    }
}

type Play = (VecDeque<Step>, CountDrop);

async fn play((mut steps, guard): Play) -> Option<(Result<Delta, Error>, Play)> {
    loop {
        match steps.pop_front()? {
            Step::Say(d) => return Some((Ok(d), (steps, guard))),
            Step::Fail(e) => return Some((Err(e), (steps, guard))),
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
}

pub(crate) fn say(t: &str) -> Step {
    Step::Say(Delta::Text(t.into()))
}

pub(crate) fn whole(t: &str) -> Script {
    let usage = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
    Script::Stream(vec![say(t), Step::Say(Delta::Finish(FinishReason::Stop)), Step::Say(Delta::Usage(usage))])
}

pub(crate) fn upstream(status: u16, code: Code, retry: RetryHint) -> Error {
    Error::new(code, "scripted").retry(retry).upstream_status(status)
}

pub(crate) fn busy() -> Error {
    upstream(503, Code::UpstreamError, RetryHint::Elsewhere)
}

pub(crate) struct World {
    pub(crate) models: Models,
    pub(crate) primary: Arc<Scripted>,
    pub(crate) second: Arc<Scripted>,
    pub(crate) cx: Context,
}

const PRICE: Price = Price { input: 1_000_000, output: 10_000_000, cached_input: 0, long: None };

/// `writer` falls back to `large`, whose window is larger.
pub(crate) fn world(primary: Vec<Script>, second: Vec<Script>) -> World {
    let scripted =
        |s: Vec<Script>| Arc::new(Scripted { scripts: Mutex::new(s.into()), ..Scripted::default() });
    let (primary, second) = (scripted(primary), scripted(second));
    let models = Models::new(Arc::new(Unlimited));
    let settings = |name: &str, m: &Arc<Scripted>, window, fallback: Vec<llm::Fallback>| ModelSettings {
        price: PRICE,
        context_window: Some(window),
        fallback,
        ..ModelSettings::new(EndpointName::from(name), m.clone())
    };
    models.replace([
        (ModelName::from("writer"), settings("a", &primary, 1_000, vec!["large".into()])),
        (ModelName::from("large"), settings("b", &second, 100_000, vec![])),
    ]);
    let clock = Arc::new(RuntimeClock::starting_at(UnixMillis(0)));
    let cx = Context {
        request: RequestId::from_parts(UnixMillis(0), 1),
        tenant: TenantId::from("t"),
        user: None,
        stage: None,
        arrived: clock.now(),
        deadline: Deadline::from_now(clock.now(), Duration::from_secs(60)),
        budget: contract::Budget::default(),
        clock,
        meter: Arc::new(Meter::default()),
        trace: None,
        retrying: false,
        mid_stream: contract::MidStream::Error,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    };
    World { models, primary, second, cx }
}

impl World {
    async fn ask_text(&self, text: &str) -> Result<Answer, Error> {
        let request =
            ChatRequest { messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() };
        self.models.call(&"writer".into(), request, &self.cx).await?.collect().await
    }

    pub(crate) async fn ask(&self) -> Result<Answer, Error> {
        self.ask_text("hello").await
    }

    pub(crate) fn records(&self) -> Vec<AttemptRecord> {
        self.cx.meter.take().1
    }

    /// Streams of the first upstream that ended or were dropped.
    pub(crate) fn dropped(&self) -> usize {
        self.primary.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.primary.calls.load(Ordering::SeqCst), self.second.calls.load(Ordering::SeqCst))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.cx.elapsed_us() / 1000
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_is_recorded_once_with_its_cost() {
    let w = world(vec![whole("hi")], vec![]);
    let answer = w.ask().await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("hi", Some(FinishReason::Stop)));
    let r = w.records();
    assert_eq!(
        (r.len(), r[0].ending, r[0].usage.total(), r[0].usage.estimated),
        (1, Ending::Complete, 12, false)
    );
    assert_eq!(r[0].cost.nanos(), 10 + 20);
}

#[tokio::test(start_paused = true)]
async fn a_single_429_with_a_short_retry_after_is_waited_for() {
    let limited = upstream(429, Code::RateLimited, RetryHint::After(Duration::from_secs(2)));
    let w = world(vec![Script::Refuse(limited), whole("hi")], vec![]);
    assert_eq!(w.ask().await.unwrap().text, "hi");
    assert_eq!((w.calls(), w.now_ms()), ((2, 0), 2000));
    let r = w.records();
    assert_eq!(r.iter().map(|r| r.ending).collect::<Vec<_>>(), [Ending::Failed, Ending::Complete]);
    assert_eq!(r[0].cost.nanos(), 0, "a refused attempt costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_429_with_a_long_retry_after_goes_elsewhere_at_once() {
    let limited = upstream(429, Code::RateLimited, RetryHint::After(Duration::from_secs(30)));
    let w = world(vec![Script::Refuse(limited)], vec![whole("b")]);
    assert_eq!(w.ask().await.unwrap().text, "b");
    assert_eq!((w.calls(), w.now_ms()), ((1, 1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_lasting_503_is_tried_twice_and_then_elsewhere() {
    let w = world(vec![Script::Refuse(busy()), Script::Refuse(busy())], vec![whole("b")]);
    assert_eq!(w.ask().await.unwrap().text, "b");
    assert_eq!(w.calls(), (2, 1));
    assert_eq!(w.records()[2].model.as_str(), "large");
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_and_filtered_content_are_never_tried_again() {
    let cases = [
        (400, Code::InvalidRequest),
        (404, Code::NotFound),
        (422, Code::InvalidRequest),
        (400, Code::ContentFiltered),
    ];
    for (status, code) in cases {
        let w = world(vec![Script::Refuse(upstream(status, code, RetryHint::No))], vec![]);
        assert_eq!(w.ask().await.unwrap_err().code, code);
        assert_eq!((w.calls(), w.records().len()), ((1, 0), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_does_not_fit_goes_to_a_larger_window_only() {
    let w = world(vec![], vec![whole("b")]);
    assert_eq!(w.ask_text(&"word ".repeat(2_000)).await.unwrap().text, "b");
    assert_eq!(w.calls(), (0, 1));
    let w = world(vec![], vec![]);
    let e = w.ask_text(&"word ".repeat(200_000)).await.unwrap_err();
    assert_eq!((e.code, w.calls()), (Code::ContextLengthExceeded, (0, 0)));
    let said = upstream(400, Code::ContextLengthExceeded, RetryHint::No);
    let w = world(vec![Script::Refuse(said)], vec![whole("b")]);
    assert_eq!(w.ask().await.unwrap().text, "b");
}

#[tokio::test(start_paused = true)]
async fn no_first_token_within_ten_seconds_goes_elsewhere_and_drops_the_upstream() {
    for silent in
        [Script::Hang, Script::Stream(vec![Step::Say(Delta::Version("v".into())), Step::Wait(20_000)])]
    {
        let w = world(vec![silent], vec![whole("b")]);
        assert_eq!(w.ask().await.unwrap().text, "b");
        assert_eq!((w.calls(), w.now_ms()), ((1, 1), 10_000));
        assert_eq!(w.primary.dropped.load(Ordering::SeqCst), 1);
        assert_eq!(w.records()[0].error.as_ref().unwrap().code, Code::UpstreamTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_first_output_ends_the_stream_and_is_not_repaired() {
    let w = world(vec![Script::Stream(vec![say("ha"), Step::Fail(busy())])], vec![]);
    assert_eq!(w.ask().await.unwrap_err().code, Code::UpstreamError);
    let r = w.records();
    assert_eq!((w.calls(), r.len(), r[0].ending), ((1, 0), 1, Ending::Partial));
    assert!(r[0].usage.estimated && r[0].usage.output_tokens > 0 && r[0].cost.nanos() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_finish_reason_is_truncated_never_complete() {
    let w = world(vec![Script::Stream(vec![say("half")])], vec![]);
    assert_eq!(w.ask().await.unwrap_err().code, Code::UpstreamTruncated);
    assert_eq!(w.records()[0].ending, Ending::Partial);
}

#[tokio::test(start_paused = true)]
async fn silence_in_mid_stream_ends_it_after_fifteen_seconds() {
    let steps =
        vec![say("a"), Step::Wait(14_000), say("b"), Step::Wait(14_000), say("c"), Step::Wait(30_000)];
    let w = world(vec![Script::Stream(steps)], vec![]);
    assert_eq!(w.ask().await.unwrap_err().code, Code::UpstreamTimeout);
    assert_eq!(w.now_ms(), 14_000 + 14_000 + 15_000);
    assert_eq!(w.primary.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_taken_for_a_silent_upstream() {
    let steps =
        vec![say("a"), say("b"), Step::Wait(10), say("c"), Step::Say(Delta::Finish(FinishReason::Stop))];
    let w = world(vec![Script::Stream(steps)], vec![]);
    let request = ChatRequest { messages: vec![Message::text(Role::User, "x")], ..ChatRequest::default() };
    let mut c = w.models.call(&"writer".into(), request, &w.cx).await.unwrap();
    let mut text = String::new();
    while let Some(d) = c.next().await {
        if let Delta::Text(t) = d.unwrap() {
            text.push_str(&t);
        }
        tokio::time::advance(Duration::from_secs(16)).await;
        if text.len() == 3 {
            break;
        }
    }
    assert_eq!(text, "abc");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_or_the_stream_cancels_and_is_recorded_once() {
    let w = world(vec![Script::Hang], vec![]);
    assert!(tokio::time::timeout(Duration::from_secs(1), w.ask()).await.is_err());
    assert_eq!(w.primary.dropped.load(Ordering::SeqCst), 1);
    let r = w.records();
    assert_eq!((r.len(), r[0].ending, r[0].usage.total()), (1, Ending::Cancelled, 0));

    let w = world(vec![Script::Stream(vec![say("a b c"), Step::Wait(5_000)])], vec![]);
    assert!(tokio::time::timeout(Duration::from_secs(1), w.ask()).await.is_err());
    assert_eq!(w.primary.dropped.load(Ordering::SeqCst), 1);
    let r = w.records();
    assert_eq!((r.len(), r[0].ending, r[0].usage.estimated), (1, Ending::Cancelled, true));
    assert!(r[0].usage.input_tokens > 0 && r[0].usage.output_tokens > 0);
}

#[tokio::test(start_paused = true)]
async fn missing_usage_is_counted_here_and_given_to_the_caller() {
    let w =
        world(vec![Script::Stream(vec![say("a b"), Step::Say(Delta::Finish(FinishReason::Stop))])], vec![]);
    let answer = w.ask().await.unwrap();
    assert!(answer.usage.is_some_and(|u| u.estimated && u.output_tokens > 0));
    assert_eq!(w.records()[0].ending, Ending::Complete);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_everything() {
    let mut w = world(vec![Script::Hang], vec![]);
    w.cx.deadline = Deadline::from_now(w.cx.clock.now(), Duration::from_secs(3));
    assert_eq!(w.ask().await.unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!((w.now_ms(), w.calls()), (3000, (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_not_found() {
    let w = world(vec![], vec![]);
    let e = w.models.call(&"nobody".into(), ChatRequest::default(), &w.cx).await.unwrap_err();
    assert_eq!(e.code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn fallbacks_of_fallbacks_are_asked_in_order_and_none_twice() {
    let refused = || Script::Refuse(Error::new(Code::UpstreamCredentials, "no"));
    let scripted =
        |s: Vec<Script>| Arc::new(Scripted { scripts: Mutex::new(s.into()), ..Scripted::default() });
    let w = world(vec![], vec![]);
    // a → b → c → a, then a → d: b's own fallback is asked before d, and a only once.
    let models =
        ["a", "b", "c", "d"].map(|n| (n, scripted(vec![if n == "d" { whole("d") } else { refused() }])));
    let fallback = |n: &str| -> Vec<llm::Fallback> {
        match n {
            "a" => vec!["b".into(), "d".into()],
            "b" => vec!["c".into()],
            "c" => vec!["a".into()],
            _ => vec![],
        }
    };
    w.models.replace(models.iter().zip(1..).map(|((n, m), output)| {
        let price = Price { output, ..Price::FREE };
        let settings = ModelSettings::new(EndpointName::from(*n), m.clone());
        (ModelName::from(*n), ModelSettings { fallback: fallback(n), price, ..settings })
    }));
    let request = ChatRequest { messages: vec![Message::text(Role::User, "hi")], ..ChatRequest::default() };
    let answer = w.models.call(&"a".into(), request, &w.cx).await.unwrap().collect().await.unwrap();
    assert_eq!(answer.text, "d");
    let asked: Vec<_> = w.records().iter().map(|r| r.model.to_string()).collect();
    assert_eq!(asked, ["a", "b", "c", "d"]);
    assert_eq!((w.models.dearest(&"a".into()).output, w.models.dearest(&"d".into()).output), (4, 4));
    assert_eq!(w.models.dearest(&"nobody".into()), Price::FREE);
}
