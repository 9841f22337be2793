//! The scheduler over a store in memory, under a paused clock whose wall time jumps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{BoxFuture, Clock, RequestId, RunId, StageName, Tick, UnixMillis};
use pipeline::runs::{
    Execute, Finished, Plan, Retry, Run, Scheduler, SchedulerSettings, StagePlan, Submission, Task,
};
use pipeline::task::{self, RuntimeClock};
use store::{NewDelivery, RunHead, RunStore as _};

use crate::memory::Memory;

const START: UnixMillis = UnixMillis(1_700_000_000_000);
const MINUTE: i64 = 60_000;

/// The runtime's time, and a wall clock that can be put elsewhere.
#[derive(Debug)]
struct Jumping {
    runtime: RuntimeClock,
    off: AtomicI64,
}

impl Clock for Jumping {
    fn now(&self) -> Tick {
        self.runtime.now()
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(self.runtime.wall().0 + self.off.load(Ordering::SeqCst))
    }
}

/// Work that takes as long as its input says, in seconds; `crash` panics the first time.
#[derive(Default)]
struct Work {
    /// Every attempt that began: the run, and when.
    begun: Mutex<Vec<RunId>>,
    under_way: AtomicUsize,
    /// What the store said of runs when their ends were told.
    ended: Mutex<Vec<String>>,
}

struct UnderWay(Arc<Work>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Shared(Arc<Work>, Arc<Memory>);

impl Execute for Shared {
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished> {
        let work = self.0.clone();
        Box::pin(async move {
            work.begun.lock().unwrap().push(task.run);
            work.under_way.fetch_add(1, Ordering::SeqCst);
            let _under_way = UnderWay(work.clone());
            let input = std::str::from_utf8(&task.input).unwrap().to_owned();
            assert!(input != "crash" || task.attempt > 1, "a crash that is part of the test");
            task::sleep(Duration::from_secs(input.parse().unwrap_or(0))).await;
            Finished::done(Vec::new())
        })
    }

    fn progress(&self, _: RunId, _: &StageName) -> Option<(u64, Option<u64>)> {
        Some((self.0.under_way.load(Ordering::SeqCst) as u64, None))
    }

    fn announce(&self, _: &Run, _: &RunHead, _: Option<&[u8]>) -> Option<NewDelivery> {
        None
    }

    fn ended(&self, head: &RunHead) {
        self.0.ended.lock().unwrap().push(self.1.status(head.id));
    }
}

struct World {
    store: Arc<Memory>,
    clock: Arc<Jumping>,
    work: Arc<Work>,
    scheduler: Scheduler,
    _task: task::Task<()>,
}

impl World {
    fn new(parallel: usize) -> World {
        let store = Arc::new(Memory::default());
        let clock = Arc::new(Jumping { runtime: RuntimeClock::starting_at(START), off: AtomicI64::new(0) });
        let work = Arc::new(Work::default());
        let settings = SchedulerSettings {
            parallel,
            groups: BTreeMap::new(),
            lease: Duration::from_secs(60),
            keep: Duration::from_secs(60),
            open: 100,
            worker: "this".into(),
        };
        let scheduler = Scheduler::new(
            settings,
            store.clone(),
            clock.clone(),
            Arc::new(Shared(work.clone(), store.clone())),
        );
        let task = task::spawn("jobs", scheduler.clone().work());
        World { store, clock, work, scheduler, _task: task }
    }

    fn jump(&self, ms: i64) {
        self.clock.off.fetch_add(ms, Ordering::SeqCst);
    }

    async fn submit(&self, n: u128, input: &str) -> RunId {
        self.submit_to(n, input, "m", "gold", None).await
    }

    async fn submit_to(
        &self,
        n: u128,
        input: &str,
        target: &str,
        tenant: &str,
        within: Option<i64>,
    ) -> RunId {
        let s = submission(n, input, target, tenant, within.map(|ms| UnixMillis(self.clock.wall().0 + ms)));
        let id = s.id;
        self.scheduler.submit(vec![s]).await.unwrap();
        id
    }

    fn begun(&self, id: RunId) -> usize {
        self.work.begun.lock().unwrap().iter().filter(|run| **run == id).count()
    }
}

fn submission(n: u128, input: &str, target: &str, tenant: &str, deadline: Option<UnixMillis>) -> Submission {
    let retry = Retry { first_ms: 1_000, ..Retry::default() };
    let stage = StagePlan { retry, ..StagePlan::new("request", "") };
    Submission {
        id: RunId::of(RequestId::from_parts(START, n)),
        tenant: tenant.into(),
        kind: "job".into(),
        plan: Plan { deadline, ..Plan::of(vec![stage]) },
        about: String::new(),
        target: target.into(),
        input: input.as_bytes().to_vec(),
        key: None,
        part: None,
        adopt: None,
    }
}

async fn seconds(n: u64) {
    task::sleep(Duration::from_secs(n)).await;
}

/// The future is polled until the store did so many changes, and then dropped.
async fn leave_in_the_middle<T>(store: &Memory, asked: impl Future<Output = T>) {
    let before = *store.done.borrow();
    let mut done = store.done.subscribe();
    tokio::select! {
        biased;
        _ = asked => panic!("it was told"),
        n = done.wait_for(|n| *n > before) => drop(n.unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_submitted_who_left_in_the_middle_begins_at_once() {
    let world = World::new(2);
    seconds(1).await;
    world.store.tell(false);
    let asked = submission(1, "5", "m", "gold", None);
    let id = asked.id;
    leave_in_the_middle(&world.store, world.scheduler.submit(vec![asked])).await;
    world.store.tell(true);
    seconds(1).await;
    assert_eq!(world.begun(id), 1, "not when somebody happens to look");
    assert_eq!(world.scheduler.counts().submitted(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_cancelled_who_left_in_the_middle_stops_at_once() {
    let world = World::new(2);
    let id = world.submit(1, "500").await;
    seconds(1).await;
    assert_eq!(world.work.under_way.load(Ordering::SeqCst), 1);
    world.store.tell(false);
    leave_in_the_middle(&world.store, world.scheduler.cancel(id)).await;
    world.store.tell(true);
    seconds(1).await;
    assert_eq!(world.work.under_way.load(Ordering::SeqCst), 0, "not at its next heartbeat");
    assert_eq!((world.store.status(id).as_str(), world.store.open().await.unwrap()), ("cancelled", 0));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_doubles_nothing_and_loses_nothing() {
    for jump in [-600, -5, 5, 600].map(|minutes| minutes * MINUTE) {
        let world = World::new(1);
        let (long, waiting) = (world.submit(1, "100").await, world.submit(2, "1").await);
        seconds(30).await;
        world.jump(jump);
        let later = world.submit_to(3, "1", "other", "gold", None).await;
        seconds(60).await;
        assert_eq!((world.begun(long), world.begun(waiting), world.begun(later)), (1, 0, 1), "{jump}");
        world.jump(-jump / 2);
        seconds(60).await;
        for id in [long, waiting, later] {
            assert_eq!(world.store.status(id), "succeeded", "{jump}");
            assert_eq!((world.begun(id), world.store.count(id, "lost")), (1, 0), "{jump}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_job_fails_at_its_deadline_though_no_place_is_free() {
    let world = World::new(1);
    let long = world.submit(1, "500").await;
    seconds(1).await;
    let waiting = world.submit_to(2, "1", "m", "gold", Some(10_000)).await;
    let running = world.submit_to(3, "500", "other", "gold", Some(20_000)).await;
    seconds(9).await;
    assert_eq!(world.store.status(waiting), "queued");
    seconds(2).await;
    assert_eq!((world.store.status(waiting).as_str(), world.begun(waiting)), ("failed", 0));
    assert_eq!(world.work.under_way.load(Ordering::SeqCst), 2);
    seconds(10).await;
    assert_eq!((world.store.status(running).as_str(), world.begun(running)), ("failed", 1));
    assert_eq!(
        world.work.under_way.load(Ordering::SeqCst),
        1,
        "the call of one that is under way is stopped"
    );
    assert_eq!(world.store.status(long), "running");
}

#[tokio::test(start_paused = true)]
async fn work_for_a_model_that_hangs_holds_up_no_other_and_no_tenant_holds_up_another() {
    let world = World::new(2);
    for n in 1..=20 {
        world.submit_to(n, "1000", "stuck", "flood", None).await;
    }
    seconds(1).await;
    assert_eq!(world.work.under_way.load(Ordering::SeqCst), 2);
    let other_model = world.submit_to(21, "1", "free", "flood", None).await;
    let other_tenant = world.submit_to(22, "1", "stuck", "gold", None).await;
    seconds(3).await;
    assert_eq!(world.store.status(other_model), "succeeded");
    assert_eq!(world.store.status(other_tenant), "succeeded");
    assert_eq!(world.work.under_way.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_crashes_is_made_again_at_once() {
    let world = World::new(1);
    let id = world.submit(1, "crash").await;
    seconds(3).await;
    assert_eq!((world.store.status(id).as_str(), world.begun(id)), ("succeeded", 2));
    assert_eq!(world.store.count(id, "lost"), 1);
}

#[tokio::test(start_paused = true)]
async fn how_far_a_run_is_is_in_its_journal_for_everybody() {
    let world = World::new(1);
    let id = world.submit(1, "100").await;
    seconds(90).await;
    assert_eq!(world.store.count(id, "progressed"), 1, "it is noted when it changes");
    let run = world.scheduler.load(id).await.unwrap().unwrap();
    assert_eq!(run.stages().next().unwrap().1.progress, Some((1, None)));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_once_and_when_it_is_on_disk() {
    let world = World::new(2);
    let (_, cancelled) = (world.submit(1, "1").await, world.submit(2, "500").await);
    seconds(3).await;
    world.scheduler.cancel(cancelled).await.unwrap();
    world.scheduler.cancel(cancelled).await.unwrap();
    assert_eq!(*world.work.ended.lock().unwrap(), ["succeeded", "cancelled"]);
}
