//! Calls that several read, where some wait behind others: the batch lane, and readers that do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::{BoxFuture, Code, Deadline, Error, ModelName, TenantId};
use futures_util::{FutureExt, StreamExt};
use llm::{CacheResult, CacheSettings, ModelSettings, Models, Slot, Slots, Unlimited};
use pipeline::task;

use crate::cache::{begin, kept_by, later, slowly};
use crate::call::{Script, Step, World, say};

/// Who asks now gives way, or not; who does waits half a minute.
#[derive(Default)]
struct Lanes(AtomicBool);

impl Slots for Lanes {
    fn gives_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn acquire<'a>(
        &'a self,
        _: &'a ModelName,
        _: &'a TenantId,
        _: u64,
        _: Deadline,
        _: Option<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn Slot>, Error>> {
        let waits = self.gives_way();
        Box::pin(async move {
            if waits {
                task::sleep(Duration::from_secs(30)).await;
            }
            Ok(Box::new(Unlimited) as Box<dyn Slot>)
        })
    }
}

fn laned(scripts: Vec<Script>) -> (World, Arc<Lanes>) {
    let w = kept_by(CacheSettings::default(), scripts, vec![]);
    let lanes = Arc::new(Lanes::default());
    let models = Models::new(lanes.clone());
    let table = w.models.names().into_iter().map(|n| {
        let own = ModelSettings::clone(&w.models.get(&n).unwrap());
        (n, own)
    });
    models.replace(table.collect::<Vec<_>>());
    (World { models, ..w }, lanes)
}

#[tokio::test(start_paused = true)]
async fn a_live_call_does_not_wait_behind_everybody_with_an_equal_one_of_the_batch_lane() {
    let (w, lanes) = laned(vec![slowly(&["live"]), slowly(&["batch"])]);
    let (batch_cx, live_cx, other_cx) = (later(&w), later(&w), later(&w));
    lanes.0.store(true, Ordering::Relaxed);
    let mut batch = Box::pin(begin(&w, &batch_cx));
    assert!((&mut batch).now_or_never().is_none());
    lanes.0.store(false, Ordering::Relaxed);
    let asked = w.now_ms();
    let live = begin(&w, &live_cx).await.unwrap();
    assert_eq!((live.cache(), w.now_ms() - asked), (Some(CacheResult::Miss), 100));
    // Another of the batch lane reads the live one.
    lanes.0.store(true, Ordering::Relaxed);
    let other = begin(&w, &other_cx).await.unwrap();
    assert_eq!(other.cache(), Some(CacheResult::Shared));
    assert_eq!(
        (live.collect().await.unwrap().text, other.collect().await.unwrap().text),
        ("live".into(), "live".into())
    );
    assert_eq!(batch.await.unwrap().collect().await.unwrap().text, "batch");
}

#[tokio::test(start_paused = true)]
async fn the_first_reader_ends_with_its_time_also_when_another_holds_it_back() {
    let megabyte = "x".repeat(1 << 20);
    let w = kept_by(
        CacheSettings::default(),
        vec![Script::Stream((0..9).map(|_| say(&megabyte)).collect::<Vec<Step>>())],
        vec![],
    );
    let mut cx = later(&w);
    cx.deadline = Deadline::from_now(cx.clock.now(), Duration::from_secs(5));
    let mut first = begin(&w, &cx).await.unwrap();
    // It joins, and never reads.
    let stalled_cx = contract::Context { deadline: cx.deadline, ..later(&w) };
    let stalled = begin(&w, &stalled_cx).await.unwrap();
    let ended = async {
        loop {
            match first.next().await {
                Some(Ok(_)) => {}
                Some(Err(e)) => break e,
                None => panic!("it was held back"),
            }
        }
    };
    let e = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends by its deadline");
    assert_eq!(e.code, Code::DeadlineExceeded);
    drop(stalled);
}
