//! The loop that starts pipelines, over a store that others write to and that fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Code, Error, PipelineName, RequestId, RunId, TenantId, UnixMillis};
use parking_lot::Mutex;
use pipeline::runs::Status;
use pipeline::task;
use pipeline::triggers::{
    Cause, Driver, EndedRun, Event, EventRule, Missed, Overlap, Schedule, Seen, Start, StartRun, Took,
    Trigger, TriggerPlan, Watch, When,
};
use store::{MemoryStore, StoredMemory};

#[derive(Debug, Default)]
struct Kept {
    texts: Mutex<BTreeMap<String, StoredMemory>>,
    broken: Mutex<bool>,
}

impl Kept {
    fn check(&self) -> Result<(), store::Error> {
        if *self.broken.lock() { Err(store::Error::Journal("full".into())) } else { Ok(()) }
    }
}

impl MemoryStore for Kept {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredMemory>, store::Error>> {
        Box::pin(async move { self.check().map(|()| self.texts.lock().get(name).cloned()) })
    }
    fn set<'a>(
        &'a self,
        name: &'a str,
        after: u64,
        memory: &'a str,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        Box::pin(async move {
            self.check()?;
            // Others come in between.
            tokio::task::yield_now().await;
            let mut texts = self.texts.lock();
            let fits = texts.get(name).map_or(0, |t| t.version) == after;
            if fits {
                texts.insert(name.into(), StoredMemory { version: after + 1, memory: memory.into() });
            }
            Ok(fits)
        })
    }
}

/// Versions and runs, as all processes see them.
#[derive(Default)]
struct World {
    version: Mutex<Option<u64>>,
    runs: Mutex<Vec<(StartRun, RunId, Status)>>,
    refuse: Mutex<Option<Code>>,
}

impl Watch for World {
    fn version<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(async { Ok(*self.version.lock()) })
    }
}

impl Start for World {
    fn start(&self, start: StartRun) -> BoxFuture<'_, Result<Option<RunId>, Error>> {
        Box::pin(async move {
            if let Some(code) = *self.refuse.lock() {
                return Err(Error::new(code, "no"));
            }
            let mut runs = self.runs.lock();
            if let Some((known, id, _)) = runs.iter().find(|(s, ..)| s.key == start.key) {
                assert_eq!(*known, start);
                return Ok(Some(*id));
            }
            let id = RunId::of(RequestId::from_parts(UnixMillis(0), runs.len() as u128));
            runs.push((start, id, Status::Running));
            Ok(Some(id))
        })
    }
    fn status(&self, run: RunId) -> BoxFuture<'_, Result<Option<Status>, Error>> {
        Box::pin(async move { Ok(self.runs.lock().iter().find(|r| r.1 == run).map(|r| r.2)) })
    }
    fn ended<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        since: UnixMillis,
    ) -> BoxFuture<'a, Result<Vec<EndedRun>, Error>> {
        let runs = self.runs.lock().clone();
        let ended = runs.into_iter().filter(|(s, _, status)| s.pipeline == *pipeline && status.is_end());
        let ended = ended.map(|(_, run, status)| EndedRun { run, status, at: since }).collect();
        Box::pin(async move { Ok(ended) })
    }
}

fn plans() -> Vec<TriggerPlan> {
    let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
    let nightly = vec![
        Trigger::Dataset { dataset: "flights".into(), quiet: Duration::from_secs(2) },
        Trigger::Event(EventRule { kind: Some("order".into()), ..EventRule::default() }),
        Trigger::Cron { schedule, missed: Missed::Once },
        Trigger::Folder { files: "inbox/*".into(), quiet: Duration::ZERO },
    ];
    let after = vec![Trigger::Run { pipeline: "nightly".into(), when: When::Succeeded }];
    let plan =
        |name: &str, triggers| TriggerPlan { pipeline: name.into(), triggers, overlap: Overlap::Queue };
    vec![plan("nightly", nightly), plan("report", after)]
}

struct Process {
    driver: Driver,
    _work: task::Task<()>,
}

fn process(kept: &Arc<Kept>, world: &Arc<World>) -> Process {
    let clock = Arc::new(task::RuntimeClock::starting_at(UnixMillis(1_800_000_300_000)));
    let driver = Driver::new(kept.clone(), world.clone(), world.clone(), clock);
    driver.plan(plans());
    Process { _work: task::spawn("triggers", driver.clone().work()), driver }
}

fn order(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "/shop".into(),
        kind: "order".into(),
        attributes: BTreeMap::new(),
        data: serde_json::Value::Null,
    }
}

fn names(world: &World) -> Vec<String> {
    world.runs.lock().iter().map(|(s, ..)| s.pipeline.to_string()).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn commits_start_a_run_and_its_end_starts_the_next_pipeline() {
    let (kept, world) = <(Arc<Kept>, Arc<World>)>::default();
    let process = process(&kept, &world);
    task::sleep(SECOND).await;
    *world.version.lock() = Some(0);
    process.driver.look();
    task::sleep(SECOND).await;
    *world.version.lock() = Some(2);
    process.driver.look();
    task::sleep(SECOND * 3 / 2).await;
    assert!(names(&world).is_empty(), "not before it is quiet");
    task::sleep(SECOND).await;
    assert_eq!(world.runs.lock()[0].0.causes, [Cause::Dataset { dataset: "flights".into(), from: 0, to: 2 }]);
    // Nobody tells: it is seen within some seconds.
    world.runs.lock()[0].2 = Status::Succeeded;
    task::sleep(SECOND * 4).await;
    assert_eq!(names(&world), ["nightly", "report"]);
    *world.version.lock() = Some(3);
    task::sleep(SECOND * 6).await;
    assert_eq!(names(&world), ["nightly", "report", "nightly"]);
    task::sleep(SECOND * 3600).await;
    assert_eq!(names(&world).len(), 3, "one at a time");
    world.runs.lock()[2].2 = Status::Failed;
    task::sleep(SECOND * 4).await;
    assert!(matches!(world.runs.lock()[3].0.causes[..], [Cause::Cron { missed: 0, .. }]));
}

#[tokio::test(start_paused = true)]
async fn of_several_processes_one_starts_a_run() {
    let (kept, world) = <(Arc<Kept>, Arc<World>)>::default();
    let all: Vec<Process> = (0..4).map(|_| process(&kept, &world)).collect();
    task::sleep(SECOND).await;
    for n in 0..50_u64 {
        *world.version.lock() = Some(n);
        for process in &all {
            process.driver.look();
        }
        task::sleep(SECOND * 5).await;
        world.runs.lock().iter_mut().for_each(|r| r.2 = Status::Failed);
    }
    task::sleep(SECOND * 10).await;
    assert_eq!(names(&world), vec!["nightly"; 50]);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_acknowledged_when_it_is_on_disk_and_known_when_it_comes_again() {
    let (kept, world) = <(Arc<Kept>, Arc<World>)>::default();
    let first = process(&kept, &world);
    let tenant = TenantId::new("acme");
    let came = first.driver.event(&tenant, order("1")).await.unwrap();
    assert_eq!((came.len(), came[0].took, came[0].run), (1, Took::Waits, Some(world.runs.lock()[0].1)));
    let came = first.driver.event(&tenant, order("2")).await.unwrap();
    assert_eq!((came[0].took, came[0].run), (Took::Waits, None), "one run goes on at a time");
    *kept.broken.lock() = true;
    let failed = first.driver.event(&tenant, order("3")).await.unwrap_err();
    assert_eq!(failed.code, Code::StorageUnavailable);
    *kept.broken.lock() = false;
    assert_eq!(first.driver.event(&tenant, order("3")).await.unwrap()[0].took, Took::Waits);
    drop(first);
    let second = process(&kept, &world);
    for id in ["1", "2", "3"] {
        assert_eq!(second.driver.event(&tenant, order(id)).await.unwrap()[0].took, Took::Known);
    }
    world.runs.lock()[0].2 = Status::Failed;
    task::sleep(SECOND * 4).await;
    assert_eq!(world.runs.lock()[1].0.causes.len(), 2);
    let other = Event { kind: "other".into(), ..order("4") };
    assert!(second.driver.event(&tenant, other).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_now_is_later_and_what_never_can_is_passed_over() {
    let (kept, world) = <(Arc<Kept>, Arc<World>)>::default();
    let process = process(&kept, &world);
    let seen = |path: &str| vec![Seen { path: path.into(), size: 1, modified: UnixMillis(1), whole: true }];
    *world.refuse.lock() = Some(Code::Overloaded);
    process.driver.files("inbox/*", seen("inbox/a")).await.unwrap();
    task::sleep(SECOND * 100).await;
    assert!(names(&world).is_empty());
    *world.refuse.lock() = None;
    task::sleep(SECOND * 61).await;
    assert_eq!(names(&world), ["nightly"]);
    world.runs.lock()[0].2 = Status::Failed;
    *world.refuse.lock() = Some(Code::NotFound);
    task::sleep(SECOND * 4).await;
    process.driver.files("inbox/*", seen("inbox/b")).await.unwrap();
    *world.refuse.lock() = None;
    task::sleep(SECOND * 100).await;
    assert_eq!(names(&world), ["nightly"]);
    let (tenant, report) = (TenantId::new("a"), PipelineName::new("report"));
    let asked = process.driver.ask(&tenant, &report, "call", serde_json::Map::new()).await.unwrap();
    assert!(asked[0].run.is_some());
}
