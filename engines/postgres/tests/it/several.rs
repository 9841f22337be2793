//! Several processes on one database: workers that share runs, die and are replaced, and ledgers behind journals of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{BoxFuture, RequestId, RunId, Secret, StageName, SystemClock, UnixMillis};
use pipeline::runs::{
    Execute, Finished, Plan, Retry, Run, Scheduler, SchedulerSettings, StagePlan, Submission, Task,
};
use pipeline::task;
use postgres::Postgres;
use store::journal::Position;
use store::{Backend as _, CostBy, DeliveryState, Entry, Error, NewDelivery, RunHead, Settled, Tried};
use testkit::postgres::Server;
use testkit::stores::fixtures::{admitted, range, record};

/// Long enough for a loaded machine, too short for the half minute after which everybody looks by himself.
const SOON: Duration = Duration::from_secs(25);
/// How long a worker of these tests may be silent.
const LEASE: Duration = Duration::from_secs(6);

async fn until(what: &str, within: Duration, mut done: impl AsyncFnMut() -> bool) {
    let looked = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(within, looked).await.is_ok(), "it never came: {what}");
}

/// Work that takes as many milliseconds as its input says, and who began it how often.
#[derive(Default)]
struct Work {
    begun: Mutex<BTreeMap<RunId, Vec<&'static str>>>,
}

struct Shared(&'static str, Arc<Work>);

impl Execute for Shared {
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished> {
        self.1.begun.lock().unwrap().entry(task.run).or_default().push(self.0);
        let ms = std::str::from_utf8(&task.input).unwrap().parse().unwrap();
        Box::pin(async move {
            task::sleep(Duration::from_millis(ms)).await;
            Finished::done(b"done".to_vec())
        })
    }

    fn progress(&self, _: RunId, _: &StageName) -> Option<(u64, Option<u64>)> {
        None
    }

    fn announce(&self, run: &Run, _: &RunHead, _: Option<&[u8]>) -> Option<NewDelivery> {
        Some(message(&format!("msg_{}", run.id())))
    }

    fn ended(&self, _: &RunHead) {}
}

fn message(id: &str) -> NewDelivery {
    NewDelivery {
        id: id.to_owned(),
        url: "https://a.example/hook".to_owned(),
        body: b"{}".to_vec(),
        at: UnixMillis(50),
    }
}

/// A process: its scheduler at work until it is dropped, which is what a kill is.
struct Worker {
    scheduler: Scheduler,
    database: Arc<Postgres>,
    tasks: Vec<task::Task<()>>,
}

async fn worker(server: &Server, journal: &str, name: &'static str, work: &Arc<Work>) -> Worker {
    let database = crate::of(server, journal).await;
    let settings = SchedulerSettings {
        parallel: 2,
        groups: BTreeMap::new(),
        lease: LEASE,
        keep: Duration::from_secs(60),
        open: 1_000,
        worker: name.to_owned(),
    };
    let execute = Arc::new(Shared(name, work.clone()));
    let clock = Arc::new(SystemClock::default());
    let scheduler = Scheduler::new(settings, database.runs(), clock, execute);
    Worker { scheduler, database, tasks: Vec::new() }
}

impl Worker {
    fn work(&mut self) {
        let [work, watch] = [self.scheduler.clone(), self.scheduler.clone()];
        self.tasks = vec![task::spawn("work", work.work()), task::spawn("watch", watch.watch())];
    }

    fn kill(&mut self) {
        self.tasks.clear();
    }

    async fn submit(&self, n: u128, ms: u64) -> RunId {
        let id = RunId::of(RequestId::from_parts(UnixMillis(1_000), n));
        let stage = StagePlan {
            retry: Retry { attempts: 3, losses: 3, ..Retry::default() },
            ..StagePlan::new("only", format!("{n}"))
        };
        let plan = Plan::of(vec![stage]);
        let submission = Submission {
            id,
            tenant: "gold".into(),
            kind: "job".into(),
            plan,
            about: String::new(),
            target: "m".into(),
            input: ms.to_string().into_bytes(),
            key: None,
            part: None,
            adopt: None,
        };
        self.scheduler.submit(vec![submission]).await.unwrap();
        id
    }

    async fn count(&self, id: RunId, entry: &str) -> usize {
        let word = format!(r#""entry":"{entry}""#);
        let stored = self.database.runs().get(id).await.unwrap().unwrap();
        stored.entries.iter().filter(|e| e.contains(&word)).count()
    }

    async fn status(&self, id: RunId) -> String {
        self.database.runs().get(id).await.unwrap().unwrap().head.status
    }
}

#[tokio::test]
async fn two_workers_share_the_runs_and_each_run_is_done_once() {
    let Some(server) = Server::start() else { return };
    let work = Arc::new(Work::default());
    let mut a = worker(&server, "a", "a", &work).await;
    let mut b = worker(&server, "b", "b", &work).await;
    a.work();
    b.work();
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(a.submit(n, 30).await);
    }
    until("all have ended", SOON * 2, async || a.database.runs().open().await.unwrap() == 0).await;
    let begun = work.begun.lock().unwrap().clone();
    assert!(begun.values().all(|by| by.len() == 1), "{begun:?}");
    let by = |who| begun.values().filter(|by| by[0] == who).count();
    // The one that only hears of them has its share.
    assert!(by("a") >= 10 && by("b") >= 10, "{} and {}", by("a"), by("b"));
    for id in ids {
        assert_eq!((a.status(id).await.as_str(), a.count(id, "done").await), ("succeeded", 1));
        assert_eq!(a.database.runs().deliveries(id).await.unwrap().len(), 1);
        assert_eq!(a.database.runs().outputs(id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_a_dead_worker_held_is_taken_over_and_what_a_living_one_holds_is_not() {
    let Some(server) = Server::start() else { return };
    let work = Arc::new(Work::default());
    let mut a = worker(&server, "a", "a", &work).await;
    a.work();
    let long = a.submit(1, 3_600_000).await;
    until("it runs", SOON, async || a.status(long).await == "running").await;
    // Another one starts, and looks again and again for longer than a lease.
    let mut b = worker(&server, "b", "b", &work).await;
    b.work();
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(work.begun.lock().unwrap()[&long], ["a"]);
    assert_eq!(b.count(long, "lost").await, 0);
    a.kill();
    until("it is taken over", SOON, async || work.begun.lock().unwrap()[&long].len() == 2).await;
    assert_eq!(work.begun.lock().unwrap()[&long], ["a", "b"]);
    assert_eq!(b.count(long, "lost").await, 1);
    // A new process of the dead one's folder leaves it where it is.
    let mut again = worker(&server, "a", "a again", &work).await;
    again.work();
    let short = again.submit(2, 0).await;
    until("the other one ends", SOON, async || again.status(short).await == "succeeded").await;
    assert_eq!(work.begun.lock().unwrap()[&long], ["a", "b"]);
}

#[tokio::test]
async fn a_new_process_of_a_folder_takes_over_at_once_what_the_one_before_it_held() {
    let Some(server) = Server::start() else { return };
    let work = Arc::new(Work::default());
    let mut a = worker(&server, "a", "first", &work).await;
    a.work();
    let long = a.submit(1, 3_600_000).await;
    until("it runs", SOON, async || work.begun.lock().unwrap().contains_key(&long)).await;
    a.kill();
    let runs = a.database.runs();
    assert_eq!(runs.living("witness", LEASE).await.unwrap(), [""; 0], "of this folder there is one worker");
    let b = crate::of(&server, "b").await.runs();
    assert_eq!(b.living("other", Duration::from_secs(3_600)).await.unwrap(), ["witness"]);
    let mut again = worker(&server, "a", "second", &work).await;
    again.work();
    until("it is taken over", SOON, async || work.begun.lock().unwrap()[&long].len() == 2).await;
    assert_eq!(again.count(long, "lost").await, 1);
    assert_eq!(b.living("other", Duration::from_secs(3_600)).await.unwrap(), ["second"]);
}

#[tokio::test]
async fn a_submission_wakes_the_workers_of_other_processes() {
    let Some(server) = Server::start() else { return };
    let work = Arc::new(Work::default());
    let mut b = worker(&server, "b", "b", &work).await;
    b.work();
    let a = worker(&server, "a", "a", &work).await;
    let first = a.submit(1, 0).await;
    until("it hears of it", SOON, async || a.status(first).await == "succeeded").await;
    // Also when its connection broke.
    server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LISTEN%' AND pid <> pg_backend_pid()");
    let second = a.submit(2, 0).await;
    until("it hears of it again", SOON, async || a.status(second).await == "succeeded").await;
}

#[tokio::test]
async fn a_message_is_tried_by_one_process_and_by_another_when_that_one_is_gone() {
    let Some(server) = Server::start() else { return };
    let work = Arc::new(Work::default());
    let mut a = worker(&server, "a", "a", &work).await;
    a.work();
    let id = a.submit(1, 0).await;
    until("it ends", SOON, async || a.status(id).await == "succeeded").await;
    let (of_a, of_b) = (a.database.runs(), crate::of(&server, "b").await.runs());
    let (message, now, hour) = (format!("msg_{id}"), UnixMillis(99), Duration::from_secs(3_600));
    assert_eq!(of_b.take_delivery(&message, UnixMillis(49), hour).await.unwrap().map(|d| d.tries), Some(0));
    assert_eq!(of_a.take_delivery(&message, now, hour).await.unwrap(), None, "another has it");
    assert_eq!(of_a.deliveries_due(now, 9).await.unwrap(), []);
    assert_eq!(of_b.deliveries_due(now, 9).await.unwrap().len(), 1, "who died with it begins with it again");
    assert!(of_b.take_delivery(&message, now, Duration::ZERO).await.unwrap().is_some());
    assert_eq!(of_a.deliveries_due(now, 9).await.unwrap().len(), 1, "the lease is over");
    assert!(of_a.take_delivery(&message, now, hour).await.unwrap().is_some());
    let tried = |state, next_at: Option<i64>| Tried {
        at: UnixMillis(60),
        state,
        next_at: next_at.map(UnixMillis),
        answer: None,
        problem: None,
    };
    assert!(of_a.tried(&message, 0, &tried(DeliveryState::Waiting, Some(500))).await.unwrap());
    assert_eq!(of_b.take_delivery(&message, now, hour).await.unwrap(), None, "it is not due any more");
    assert!(of_b.take_delivery(&message, UnixMillis(500), hour).await.unwrap().is_some());
    assert!(of_b.tried(&message, 1, &tried(DeliveryState::Delivered, None)).await.unwrap());
    assert_eq!(of_a.take_delivery(&message, UnixMillis(900), hour).await.unwrap(), None);
}

#[tokio::test]
async fn each_folder_has_a_journal_of_its_own_and_all_have_one_bill() {
    let Some(server) = Server::start() else { return };
    let (a, b) = (crate::of(&server, "a").await.ledger(), crate::of(&server, "b").await.ledger());
    let at = |segment, offset| Position { segment, offset };
    let settled = |n| Entry::Settled(Settled::new(&record(n)).unwrap());
    a.apply(&[Entry::Admitted(admitted(1)), settled(2)], at(1, 10)).await.unwrap();
    b.apply(&[Entry::Admitted(admitted(3)), settled(4)], at(7, 70)).await.unwrap();
    assert_eq!((a.position().await.unwrap(), b.position().await.unwrap()), (at(1, 10), at(7, 70)));
    assert_eq!(a.open_requests().await.unwrap(), [admitted(1)], "the other's are under way, not lost");
    assert_eq!(b.open_requests().await.unwrap(), [admitted(3)]);
    for ledger in [&a, &b] {
        let bill = ledger.costs(CostBy::Tenant, range().0, range().1).await.unwrap();
        assert_eq!((bill[0].requests, bill[0].cost.nanos()), (2, 28));
    }
}

#[tokio::test]
async fn who_opens_a_new_database_beside_others_finds_it_whole_and_who_is_older_is_refused() {
    let Some(server) = Server::start() else { return };
    let url = Secret::new(server.database("fresh"));
    let opened = (0..4).map(|n| {
        let url = url.clone();
        task::spawn("open", async move { Postgres::open(&url, &n.to_string()).await.map(drop) })
    });
    for one in opened.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    server.sql("fresh", "INSERT INTO forebay_schema VALUES (99)");
    let e = Postgres::open(&url, "x").await.unwrap_err();
    assert!(matches!(e, Error::NewerSchema { found: 99, .. }) && e.to_string().contains("upgrade"), "{e}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_that_names_it_and_passes_when_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let runs = crate::of(&server, "a").await.runs();
    assert_eq!(runs.open().await.unwrap(), 0);
    server.restart();
    until("it is used again", SOON, async || runs.open().await.is_ok()).await;
    let url = Secret::new(server.url("nowhere").replace("forebay@", "forebay:s3cret@"));
    let e = Postgres::open(&url, "a").await.unwrap_err().to_string();
    assert!(e.contains("nowhere") && e.contains("storage.url") && !e.contains("s3cret"), "{e}");
}
