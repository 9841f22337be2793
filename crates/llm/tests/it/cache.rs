//! The cache of answers before `Models::call`, against a scripted upstream, under tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Context, Freshness, Message, Meter, ModelName, RequestId, Role, UnixMillis, Usage};
use futures_util::{FutureExt, StreamExt, future::join_all};
use llm::{
    Answer, CacheResult, CacheScope, CacheSettings, ChatRequest, Delta, FinishReason, ModelSettings, Reply,
};
use pipeline::task;
use serde_json::json;

use crate::call::{Script, Step, World, busy, say, whole, world};

/// A world whose model `writer` keeps its answers.
pub(crate) fn kept_by(settings: CacheSettings, primary: Vec<Script>, second: Vec<Script>) -> World {
    let w = world(primary, second);
    let table = w.models.names().into_iter().map(|name: ModelName| {
        let own = ModelSettings::clone(&w.models.get(&name).unwrap());
        let cache = (name.as_str() == "writer").then_some(settings);
        (name, ModelSettings { cache, ..own })
    });
    w.models.replace(table.collect::<Vec<_>>());
    w
}

fn kept(primary: Vec<Script>) -> World {
    kept_by(CacheSettings::default(), primary, vec![])
}

/// Another request of the same caller.
pub(crate) fn asker(w: &World, n: u128) -> Context {
    Context {
        request: RequestId::from_parts(UnixMillis(0), n),
        meter: Arc::new(Meter::default()),
        arrived: w.cx.clock.now(),
        ..w.cx.clone()
    }
}

pub(crate) fn request(text: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() }
}

pub(crate) async fn begin(w: &World, cx: &Context) -> Result<Reply, contract::Error> {
    w.models.call(&"writer".into(), request("hello"), cx).await
}

async fn ask(w: &World, cx: &Context) -> Result<(Answer, Option<CacheResult>), contract::Error> {
    let reply = begin(w, cx).await?;
    let cache = reply.cache();
    Ok((reply.collect().await?, cache))
}

/// An answer of these words, 100 ms before each.
pub(crate) fn slowly(words: &[&str]) -> Script {
    let usage = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
    let words = words.iter().flat_map(|w| [Step::Wait(100), say(w)]);
    let end = [Step::Say(Delta::Finish(FinishReason::Stop)), Step::Say(Delta::Usage(usage))];
    Script::Stream(words.chain(end).collect())
}

fn text(r: Result<(Answer, Option<CacheResult>), contract::Error>) -> String {
    r.map(|(a, _)| a.text).unwrap()
}

/// Attempts and cost that a request was charged with.
fn charged(cx: &Context) -> (usize, i64) {
    (cx.meter.attempts(), cx.meter.spent().cost.nanos())
}

const COST: i64 = 10 + 20;

#[tokio::test(start_paused = true)]
async fn an_equal_request_is_answered_by_the_kept_answer_and_charged_nothing() {
    let w = kept(vec![whole("hi")]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let first = ask(&w, &one).await.unwrap();
    task::sleep(Duration::from_secs(90)).await;
    let reply = begin(&w, &two).await.unwrap();
    assert_eq!((reply.cache(), reply.age()), (Some(CacheResult::Hit), Some(Duration::from_secs(90))));
    assert_eq!((reply.model().as_str(), reply.attempts()), ("writer", 0));
    assert_eq!((reply.collect().await.unwrap(), Some(CacheResult::Miss)), first);
    assert_eq!((w.calls().0, charged(&one), charged(&two)), (1, (1, COST), (0, 0)));
    assert_eq!(one.meter.facts()["cache"], json!({"writer": {"miss": 1}}));
    let saved = json!({"writer": {"hit": 1, "saved_tokens": 12, "saved_nanousd": COST}});
    assert_eq!(two.meter.facts()["cache"], saved);
}

#[tokio::test(start_paused = true)]
async fn fifty_equal_requests_at_once_are_one_call_and_one_charge() {
    let w = kept(vec![slowly(&["a ", "b ", "c"])]);
    let all: Vec<Context> = (0..50).map(|n| asker(&w, n)).collect();
    let answers = join_all(all.iter().map(|cx| ask(&w, cx))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let (answer, cache) = answer.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("a b c", Some(FinishReason::Stop)));
        assert_eq!(answer.usage.map(|u| u.total()), Some(12));
        assert_eq!(cache, Some(if n == 0 { CacheResult::Miss } else { CacheResult::Shared }));
    }
    assert_eq!(w.calls().0, 1);
    assert_eq!(charged(&all[0]), (1, COST));
    assert!(all[1..].iter().all(|cx| charged(cx) == (0, 0)));
    let saved = json!({"writer": {"shared": 1, "saved_tokens": 12, "saved_nanousd": COST}});
    assert_eq!(all[49].meter.facts()["cache"], saved);
}

#[tokio::test(start_paused = true)]
async fn when_the_first_leaves_before_the_output_the_others_go_on_and_one_of_them_pays() {
    let w = kept(vec![slowly(&["a ", "b"])]);
    let (one, two, three) = (asker(&w, 1), asker(&w, 2), asker(&w, 3));
    let mut first = Box::pin(begin(&w, &one));
    assert!(first.as_mut().now_or_never().is_none());
    let others = async { tokio::join!(ask(&w, &two), ask(&w, &three)) };
    let leaving = async {
        task::sleep(Duration::from_millis(50)).await;
        drop(first);
    };
    let ((b, c), ()) = tokio::join!(others, leaving);
    assert_eq!((text(b), text(c)), ("a b".to_owned(), "a b".to_owned()));
    assert_eq!(w.calls().0, 1);
    assert_eq!((charged(&one), charged(&two), charged(&three)), ((0, 0), (1, COST), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn when_the_first_leaves_in_the_middle_the_others_have_all_of_it() {
    let w = kept(vec![slowly(&["a ", "b ", "c"])]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let mut first = begin(&w, &one).await.unwrap();
    assert_eq!(first.next().await, Some(Ok(Delta::Text("a ".into()))));
    let mut second = Box::pin(ask(&w, &two));
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    assert_eq!(text(second.await), "a b c");
    assert_eq!((w.calls().0, charged(&one), charged(&two)), (1, (0, 0), (1, COST)));
    let a = two.meter.take().1.remove(0);
    assert_eq!(a.ordinal, 1);
    assert!(a.started_us <= a.first_token_us.unwrap() && a.first_token_us.unwrap() <= a.ended_us);
    assert_eq!(ask(&w, &asker(&w, 3)).await.unwrap().1, Some(CacheResult::Hit), "it was kept all the same");
}

#[tokio::test(start_paused = true)]
async fn when_all_have_left_the_call_is_cancelled_at_once_and_the_last_is_charged() {
    let w = kept(vec![slowly(&["a ", "b ", "c"]), whole("again")]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let mut first = begin(&w, &one).await.unwrap();
    first.next().await.unwrap().unwrap();
    let second = begin(&w, &two).await.unwrap();
    drop(first);
    assert_eq!(w.dropped(), 0);
    drop(second);
    assert_eq!(w.dropped(), 1, "without another poll of anything");
    assert_eq!((charged(&one).0, charged(&two).0), (0, 1));
    assert_eq!(two.meter.take().1[0].ending, contract::Ending::Cancelled);
    assert_eq!(text(ask(&w, &asker(&w, 3)).await), "again", "nothing of it was kept");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_holds_up_nobody_and_has_all_of_it_later() {
    let w = kept(vec![slowly(&["a ", "b ", "c"])]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let first = begin(&w, &one).await.unwrap();
    let second = begin(&w, &two).await.unwrap();
    assert_eq!(first.collect().await.unwrap().text, "a b c");
    assert_eq!(charged(&one), (1, COST));
    assert_eq!(second.collect().await.unwrap().text, "a b c");
    assert_eq!((w.calls().0, charged(&two)), (1, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn when_the_call_fails_before_its_output_the_others_make_one_more_together() {
    let fails = || Script::Stream(vec![Step::Wait(100), Step::Fail(busy())]);
    // Twice each, since a broken stream is tried again, and nothing else is there.
    let w = kept(vec![fails(), fails(), slowly(&["a"])]);
    let without_fallback =
        ModelSettings { fallback: vec![], ..ModelSettings::clone(&w.models.get(&"writer".into()).unwrap()) };
    w.models.replace([("writer".into(), without_fallback)]);
    let all: Vec<Context> = (0..10).map(|n| asker(&w, n)).collect();
    let mut answers = join_all(all.iter().map(|cx| ask(&w, cx))).await.into_iter();
    assert_eq!(answers.next().unwrap().unwrap_err().code, Code::UpstreamError);
    for answer in answers {
        assert_eq!(text(answer), "a");
    }
    assert_eq!(w.calls().0, 3);
    assert_eq!(all.iter().map(|cx| charged(cx).0).collect::<Vec<_>>(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_model_is_asked_twice_for_all_who_wait_and_a_wrong_request_once() {
    let spent = || {
        let e = contract::Error::new(Code::BudgetExhausted, "scripted");
        Script::Stream(vec![Step::Wait(100), Step::Fail(e)])
    };
    let w = kept(vec![spent(), spent()]);
    let all: Vec<Context> = (0..10).map(|n| asker(&w, n)).collect();
    let answers = join_all(all.iter().map(|cx| ask(&w, cx))).await;
    assert!(answers.iter().all(|a| a.as_ref().unwrap_err().code == Code::BudgetExhausted));
    assert_eq!(w.calls().0, 2);

    let wrong = contract::Error::new(Code::InvalidRequest, "scripted");
    let w = kept(vec![Script::Stream(vec![Step::Wait(100), Step::Fail(wrong)])]);
    let all: Vec<Context> = (0..10).map(|n| asker(&w, n)).collect();
    let answers = join_all(all.iter().map(|cx| ask(&w, cx))).await;
    assert!(answers.iter().all(|a| a.as_ref().unwrap_err().code == Code::InvalidRequest));
    assert_eq!(w.calls().0, 1);
}

#[tokio::test(start_paused = true)]
async fn what_breaks_behind_its_first_output_breaks_for_all_and_is_not_kept() {
    let breaks = Script::Stream(vec![say("a"), Step::Wait(100), Step::Fail(busy())]);
    let w = kept(vec![breaks, whole("b")]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let (a, b) = tokio::join!(ask(&w, &one), ask(&w, &two));
    assert_eq!((a.unwrap_err().code, b.unwrap_err().code), (Code::UpstreamError, Code::UpstreamError));
    assert_eq!(text(ask(&w, &asker(&w, 3)).await), "b");
}

/// Reads to the end, resets and all.
async fn all(w: &World, cx: &Context) -> (String, usize, Option<Code>) {
    let mut reply = begin(w, cx).await.unwrap();
    let (mut text, mut resets) = (String::new(), 0);
    while let Some(delta) = reply.next().await {
        match delta {
            Ok(Delta::Text(t)) => text.push_str(&t),
            Ok(Delta::Reset) => {
                text.clear();
                resets += 1;
            }
            Ok(_) => {}
            Err(e) => return (text, resets, Some(e.code)),
        }
    }
    (text, resets, None)
}

#[tokio::test(start_paused = true)]
async fn each_reader_of_a_call_that_breaks_off_has_what_it_wants_then() {
    let breaks = || Script::Stream(vec![say("a"), Step::Wait(100), Step::Fail(busy())]);
    let ended = ("a".to_owned(), 0, Some(Code::UpstreamTruncated));
    let broke = ("a".to_owned(), 0, Some(Code::UpstreamError));
    let anew = ("new".to_owned(), 1, None);
    // Who began it takes an answer that begins anew, and who knows of no reset reads with it, until there is one.
    let w = kept_by(CacheSettings::default(), vec![breaks()], vec![whole("new")]);
    let restart = |n| Context { mid_stream: contract::MidStream::Restart, ..asker(&w, n) };
    let (one, two, three) = (restart(1), asker(&w, 2), restart(3));
    let (a, b, c) = tokio::join!(all(&w, &one), all(&w, &two), all(&w, &three));
    assert_eq!((a, b, c), (anew.clone(), ended, anew.clone()));
    assert_eq!((charged(&one).0, charged(&two).0, charged(&three).0), (2, 0, 0));
    // Who began it knows of none: the others begin anew without it, by one call.
    let w = kept_by(CacheSettings::default(), vec![breaks(), whole("new")], vec![]);
    let restart = |n| Context { mid_stream: contract::MidStream::Restart, ..asker(&w, n) };
    let (one, two, three) = (asker(&w, 1), restart(2), restart(3));
    let (a, b, c) = tokio::join!(all(&w, &one), all(&w, &two), all(&w, &three));
    assert_eq!((a, b, c), (broke, anew.clone(), anew));
    assert_eq!(w.calls(), (2, 0));
    assert_eq!(charged(&one).0 + charged(&two).0 + charged(&three).0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_time_is_over_leaves_alone() {
    let w = kept(vec![slowly(&["a ", "b ", "c"])]);
    let (one, mut two) = (asker(&w, 1), asker(&w, 2));
    two.deadline = contract::Deadline::from_now(w.cx.clock.now(), Duration::from_millis(250));
    let (a, b) = tokio::join!(ask(&w, &one), ask(&w, &two));
    assert_eq!(text(a), "a b c");
    assert_eq!(b.unwrap_err().code, Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_nearly_over_is_not_joined_by_who_has_more() {
    let w = kept(vec![Script::Hang, whole("b")]);
    let (mut one, two) = (asker(&w, 1), asker(&w, 2));
    one.deadline = contract::Deadline::from_now(w.cx.clock.now(), Duration::from_secs(1));
    let (a, b) = tokio::join!(ask(&w, &one), ask(&w, &two));
    assert_eq!((a.unwrap_err().code, text(b)), (Code::DeadlineExceeded, "b".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn tenants_never_see_each_others_answers_kept_or_under_way() {
    let w = kept(vec![slowly(&["for t"]), slowly(&["for u"]), whole("never asked")]);
    let (one, mut two) = (asker(&w, 1), asker(&w, 2));
    two.tenant = "u".into();
    let (a, b) = tokio::join!(ask(&w, &one), ask(&w, &two));
    assert_eq!((text(a), text(b)), ("for t".to_owned(), "for u".to_owned()));
    let (a, b) = (ask(&w, &one).await.unwrap(), ask(&w, &two).await.unwrap());
    assert_eq!((a.1, b.1), (Some(CacheResult::Hit), Some(CacheResult::Hit)));
    assert_eq!((a.0.text.as_str(), b.0.text.as_str()), ("for t", "for u"));
}

#[tokio::test(start_paused = true)]
async fn users_share_answers_only_where_the_scope_is_the_tenant() {
    let of = |w: &World, user: Option<&str>| Context { user: user.map(Into::into), ..asker(w, 1) };
    let w = kept(vec![whole("a")]);
    for user in [Some("ann"), Some("bob"), None] {
        assert_eq!(text(ask(&w, &of(&w, user)).await), "a");
    }
    let own = CacheSettings { scope: CacheScope::User, ..CacheSettings::default() };
    let w = kept_by(own, vec![whole("ann's"), whole("bob's"), whole("1"), whole("2")], vec![]);
    for (user, text, result) in [
        (Some("ann"), "ann's", CacheResult::Miss),
        (Some("bob"), "bob's", CacheResult::Miss),
        (Some("ann"), "ann's", CacheResult::Hit),
        (None, "1", CacheResult::Bypass),
        (None, "2", CacheResult::Bypass),
    ] {
        let (answer, cache) = ask(&w, &of(&w, user)).await.unwrap();
        assert_eq!((answer.text.as_str(), cache), (text, Some(result)), "{user:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_again_until_its_time_is_over() {
    let hour = CacheSettings::default().ttl;
    let w = kept(vec![whole("old"), whole("new")]);
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "old");
    task::sleep(hour - Duration::from_millis(1)).await;
    assert_eq!(text(ask(&w, &later(&w)).await), "old");
    task::sleep(Duration::from_millis(1)).await;
    assert_eq!(text(ask(&w, &later(&w)).await), "new");
}

/// A request that has its time before it.
pub(crate) fn later(w: &World) -> Context {
    let deadline = contract::Deadline::from_now(w.cx.clock.now(), Duration::from_secs(60));
    Context { deadline, ..asker(w, 9) }
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_want_a_new_answer_a_young_one_or_none_kept() {
    let w = kept(vec![whole("1"), whole("2"), whole("3"), whole("4")]);
    let with = |cc: &str| Context { freshness: Freshness::default().and(cc), ..later(&w) };
    let result = |r: Result<(Answer, Option<CacheResult>), contract::Error>| {
        let (answer, cache) = r.unwrap();
        (answer.text, cache.unwrap())
    };
    let want = |text: &str, r| (text.to_owned(), r);
    assert_eq!(result(ask(&w, &with("no-store")).await), want("1", CacheResult::Bypass));
    assert_eq!(result(ask(&w, &with("")).await), want("2", CacheResult::Miss));
    assert_eq!(result(ask(&w, &with("no-cache")).await), want("3", CacheResult::Miss));
    assert_eq!(result(ask(&w, &with("")).await), want("3", CacheResult::Hit), "the newer one is kept");
    task::sleep(Duration::from_secs(20)).await;
    assert_eq!(result(ask(&w, &with("max-age=30")).await), want("3", CacheResult::Hit));
    assert_eq!(result(ask(&w, &with("max-age=10")).await), want("4", CacheResult::Miss));
}

#[tokio::test(start_paused = true)]
async fn sampled_answers_are_kept_only_where_that_is_asked_for() {
    for (sampled, second) in [(false, "2"), (true, "1")] {
        let settings = CacheSettings { sampled, ..CacheSettings::default() };
        let w = kept_by(settings, vec![whole("1"), whole("2")], vec![]);
        for want in ["1", second] {
            let request = ChatRequest { temperature: Some(0.7), ..request("hello") };
            let reply = w.models.call(&"writer".into(), request, &asker(&w, 1)).await.unwrap();
            assert_eq!(reply.collect().await.unwrap().text, want);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_complete_answers_of_the_model_that_was_asked_are_kept() {
    let ends = |f: FinishReason| Script::Stream(vec![say("x"), Step::Say(Delta::Finish(f))]);
    let tool = Step::Say(Delta::ToolCall {
        index: 0,
        id: Some("c".into()),
        name: Some("f".into()),
        arguments: "{}".into(),
    });
    for (script, kept_it) in [
        (ends(FinishReason::Stop), true),
        (ends(FinishReason::Length), true),
        (Script::Stream(vec![tool, Step::Say(Delta::Finish(FinishReason::ToolCalls))]), true),
        (ends(FinishReason::ContentFilter), false),
        (ends(FinishReason::OpenAi("eos".into())), false),
        (ends(FinishReason::Anthropic("pause_turn".into())), false),
        (Script::Stream(vec![say("cut")]), false),
    ] {
        let w = kept(vec![script, whole("again")]);
        let _ = ask(&w, &asker(&w, 1)).await;
        let (_, cache) = ask(&w, &asker(&w, 2)).await.unwrap();
        assert_eq!(cache == Some(CacheResult::Hit), kept_it);
    }
    let refused = || Script::Refuse(contract::Error::new(Code::UpstreamCredentials, "scripted"));
    let w = kept_by(CacheSettings::default(), vec![refused(), whole("own")], vec![whole("stand-in")]);
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "stand-in");
    // An endpoint that refused us rests for a while.
    task::sleep(Duration::from_secs(11)).await;
    assert_eq!(text(ask(&w, &asker(&w, 2)).await), "own");
}

#[tokio::test(start_paused = true)]
async fn kept_answers_outlive_a_change_of_the_table_unless_what_answers_is_another() {
    let w = kept(vec![whole("1"), whole("2"), whole("3")]);
    let own = ModelSettings::clone(&w.models.get(&"writer".into()).unwrap());
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "1");
    w.models.replace([("writer".into(), own.clone())]);
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "1");
    w.models.replace([("writer".into(), ModelSettings { identity: "other".into(), ..own.clone() })]);
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "2");
    w.models.replace([("writer".into(), ModelSettings { cache: None, ..own })]);
    assert_eq!(text(ask(&w, &asker(&w, 1)).await), "3");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_end_is_not_kept_and_waits_for_its_slowest_reader() {
    let mut steps = vec![say("x"), Step::Wait(1)];
    steps.extend((0..20).map(|_| say(&"x".repeat(1 << 20))));
    steps.push(Step::Say(Delta::Finish(FinishReason::Stop)));
    let w = kept(vec![Script::Stream(steps), whole("again")]);
    let (one, two) = (asker(&w, 1), asker(&w, 2));
    let (a, b) = tokio::join!(begin(&w, &one), begin(&w, &two));
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    task::sleep(Duration::from_millis(1)).await;
    let mut ahead = 0;
    while let Some(Some(delta)) = a.next().now_or_never() {
        ahead += usize::from(matches!(delta, Ok(Delta::Text(_))));
    }
    assert!(ahead < 10, "{ahead} MB before the other has read one");
    let (read, rest) = tokio::join!(
        async {
            let mut n = 0;
            while let Some(delta) = b.next().await {
                n += usize::from(matches!(delta, Ok(Delta::Text(_))));
            }
            n
        },
        async {
            let mut n = ahead;
            while let Some(delta) = a.next().await {
                n += usize::from(matches!(delta, Ok(Delta::Text(_))));
            }
            n
        }
    );
    assert_eq!((read, rest), (21, 21));
    assert_eq!(text(ask(&w, &asker(&w, 3)).await), "again");
}
