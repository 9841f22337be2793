//! Calls that several read, by any interleaving of readers that come, read and leave, and of upstreams that fail.

use std::time::Duration;

use contract::{Context, MidStream, Usage};
use futures_util::{FutureExt, StreamExt};
use llm::{CacheSettings, Delta, FinishReason, Reply};
use pipeline::task;
use proptest::prelude::*;

use crate::cache::{begin, kept_by, later, slowly};
use crate::call::{Script, Step, busy, say};

/// What one of several readers does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Come,
    Read(usize),
    Leave(usize),
    Wait(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Come),
        6 => (0usize..4).prop_map(Act::Read),
        1 => (0usize..4).prop_map(Act::Leave),
        2 => (1u64..150).prop_map(Act::Wait),
    ]
}

proptest! {
    /// However readers come, read and leave: each has read a beginning of one answer, who stays has all of it, and every call
    /// is charged once.
    #[test]
    fn any_interleaving_gives_each_reader_a_prefix_of_one_answer(acts in prop::collection::vec(any_act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let words: Vec<String> = (0..6).map(|n| format!("w{n} ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let whole: String = words.concat();
            let scripts = (0..60).map(|_| slowly(&words)).collect();
            let w = kept_by(CacheSettings::default(), scripts, vec![]);
            let mut living: Vec<(Reply, String)> = Vec::new();
            let mut contexts: Vec<Context> = Vec::new();
            for act in acts {
                match act {
                    Act::Come => {
                        let cx = later(&w);
                        living.push((begin(&w, &cx).await.unwrap(), String::new()));
                        contexts.push(cx);
                    }
                    Act::Read(n) => if let Some((reply, read)) = living.get_mut(n)
                        && let Some(Some(delta)) = reply.next().now_or_never()
                        && let Delta::Text(t) = delta.unwrap() {
                        read.push_str(&t);
                        assert!(whole.starts_with(read.as_str()), "{read}");
                    },
                    Act::Leave(n) => if n < living.len() { living.remove(n); },
                    Act::Wait(ms) => task::sleep(Duration::from_millis(ms)).await,
                }
            }
            for (reply, read) in living {
                assert_eq!(read + &reply.collect().await.unwrap().text, whole);
            }
            let attempts: usize = contexts.iter().map(|cx| cx.meter.attempts()).sum();
            assert_eq!(attempts, w.calls().0);
            assert_eq!(w.dropped(), w.calls().0);
        });
    }
}

/// How an upstream answers.
#[derive(Debug, Clone, Copy)]
enum Answers {
    Whole,
    Refuses,
    /// Breaks off behind so many words.
    Breaks(usize),
}

fn any_answers() -> impl Strategy<Value = Answers> {
    prop_oneof![
        3 => Just(Answers::Whole),
        1 => Just(Answers::Refuses),
        2 => (0usize..5).prop_map(Answers::Breaks),
    ]
}

/// Words that no other answer has.
fn words(n: usize) -> Vec<String> {
    (0..5).map(|w| format!("{n}.{w} ")).collect()
}

fn script(n: usize, answers: Answers) -> Script {
    let said =
        |count: usize| words(n).into_iter().take(count).flat_map(|w| [Step::Wait(50), say(&w)]).collect();
    match answers {
        Answers::Refuses => Script::Refuse(busy()),
        Answers::Breaks(count) => {
            let mut steps: Vec<Step> = said(count);
            steps.extend([Step::Wait(50), Step::Fail(busy())]);
            Script::Stream(steps)
        }
        Answers::Whole => {
            let mut steps: Vec<Step> = said(5);
            let usage = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
            steps.extend([Step::Say(Delta::Finish(FinishReason::Stop)), Step::Say(Delta::Usage(usage))]);
            Script::Stream(steps)
        }
    }
}

/// A reader and what it has.
struct Reads {
    reply: Reply,
    text: String,
    resets: bool,
    ended: bool,
}

impl Reads {
    fn take(&mut self, next: Option<Result<Delta, contract::Error>>, known: &[String]) {
        match next {
            Some(Ok(Delta::Text(t))) => self.text.push_str(&t),
            Some(Ok(Delta::Reset)) => {
                assert!(self.resets, "a reader that knows of no reset was given one");
                self.text.clear();
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => self.ended = true,
            None => {
                self.ended = true;
                assert!(known.contains(&self.text), "complete, and no whole answer: {}", self.text);
            }
        }
        assert!(known.iter().any(|k| k.starts_with(&self.text)), "of two answers: {}", self.text);
    }
}

proptest! {
    /// However upstreams fail and whatever each reader wants then: what it has is the beginning of one answer, what ends well
    /// is a whole one, and every attempt is charged once.
    #[test]
    fn whatever_fails_each_reader_has_the_beginning_of_one_answer(
        acts in prop::collection::vec(any_act(), 1..50),
        upstreams in prop::collection::vec(any_answers(), 6),
        wants in prop::collection::vec(any::<bool>(), 50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let known: Vec<String> = (0..500).map(|n| words(n).concat()).collect();
            let how = |n: usize| upstreams.get(n).copied().unwrap_or(Answers::Whole);
            let first = (0..200).map(|n| script(n, how(n))).collect();
            let second = (200..400).map(|n| script(n, Answers::Whole)).collect();
            let w = kept_by(CacheSettings::default(), first, second);
            let (mut living, mut contexts) = (Vec::<Reads>::new(), Vec::<Context>::new());
            for act in acts {
                match act {
                    Act::Come => {
                        let resets = wants.get(contexts.len()).copied().unwrap_or(false);
                        let mid_stream = if resets { MidStream::Restart } else { MidStream::Error };
                        let cx = Context { mid_stream, ..later(&w) };
                        if let Ok(reply) = begin(&w, &cx).await {
                            living.push(Reads { reply, text: String::new(), resets, ended: false });
                        }
                        contexts.push(cx);
                    }
                    Act::Read(n) => if let Some(r) = living.get_mut(n).filter(|r| !r.ended)
                        && let Some(next) = r.reply.next().now_or_never() {
                        r.take(next, &known);
                    },
                    Act::Leave(n) => if n < living.len() { living.remove(n); },
                    Act::Wait(ms) => task::sleep(Duration::from_millis(ms)).await,
                }
            }
            for r in &mut living {
                while !r.ended {
                    let next = r.reply.next().await;
                    r.take(next, &known);
                }
            }
            drop(living);
            let attempts: usize = contexts.iter().map(|cx| cx.meter.attempts()).sum();
            let (a, b) = w.calls();
            assert_eq!(attempts, a + b);
        });
    }
}
