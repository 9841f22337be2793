//! Brings what [`Triggers`] decide to disk, and only then lets it happen.
//!
//! One loop for all pipelines: it looks at datasets and at ends of runs now and then, or at once when it is told to; sleeps until
//! the next time that something is due; and takes what comes from outside, one after another. Each decision is applied only to the
//! memory it was made on: when another process decided first, it is made again on what that one left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{Class, Clock, Code, Error, PipelineName, RetryHint, RunId, TenantId};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use store::MemoryStore;
use tokio::sync::{Notify, mpsc, oneshot};

use super::event::Event;
use super::happens::{Action, Input, Seen, Took};
use super::means::{Came, EndedRun, Start, Watch};
use super::plan::{Cause, StartRun, Trigger, TriggerPlan};
use super::step::Triggers;
use crate::runs::Status;
use crate::task;

/// How often it looks at what nobody tells it.
const LOOK: Duration = Duration::from_secs(3);
/// How long it waits when the storage cannot be used.
const STORAGE: Duration = Duration::from_secs(1);
/// How often a decision is made again because another process came first.
const AGAIN: usize = 16;
/// What comes from outside and waits its turn.
const INBOX: usize = 256;

/// What comes from outside.
enum Told {
    Event(TenantId, Box<Event>),
    Alert(String, String),
    Asked(TenantId, PipelineName, String, Map<String, Json>),
    Files(String, Vec<Seen>),
}

type Reply = oneshot::Sender<Result<Vec<Came>, Error>>;

/// The loop, and the way to it. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn MemoryStore>,
    start: Arc<dyn Start>,
    watch: Arc<dyn Watch>,
    clock: Arc<dyn Clock>,
    plans: Mutex<(u64, Vec<TriggerPlan>)>,
    /// Something is to be looked at.
    look: Notify,
    inbox: mpsc::Sender<(Told, Reply)>,
    outbox: tokio::sync::Mutex<mpsc::Receiver<(Told, Reply)>>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("plans", &self.inner.plans.lock().1.len()).finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver without plans. Nothing happens before [`Driver::work`].
    pub fn new(
        store: Arc<dyn MemoryStore>,
        start: Arc<dyn Start>,
        watch: Arc<dyn Watch>,
        clock: Arc<dyn Clock>,
    ) -> Driver {
        let (inbox, outbox) = mpsc::channel(INBOX);
        let outbox = tokio::sync::Mutex::new(outbox);
        let plans = Mutex::default();
        let inner = Inner { store, start, watch, clock, plans, look: Notify::new(), inbox, outbox };
        Driver { inner: Arc::new(inner) }
    }

    /// From now on these pipelines are started by these triggers, and no others.
    pub fn plan(&self, plans: Vec<TriggerPlan>) {
        let mut held = self.inner.plans.lock();
        *held = (held.0 + 1, plans);
        drop(held);
        self.inner.look.notify_one();
    }

    /// Something was committed, or a run ended: it is looked at now and not in some seconds.
    pub fn look(&self) {
        self.inner.look.notify_one();
    }

    /// An event came. What it starts is decided, and on disk, when this returns.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when too much waits; the storage's. The same event can be sent again then.
    pub async fn event(&self, tenant: &TenantId, event: Event) -> Result<Vec<Came>, Error> {
        self.tell(Told::Event(tenant.clone(), Box::new(event))).await
    }

    /// An alert fired; `id` tells this time from the others.
    ///
    /// # Errors
    /// As of [`Driver::event`].
    pub async fn alert(&self, alert: &str, id: &str) -> Result<Vec<Came>, Error> {
        self.tell(Told::Alert(alert.to_owned(), id.to_owned())).await
    }

    /// Somebody asks for a run of a pipeline that has a plan here, under its rules about runs that go on.
    ///
    /// # Errors
    /// As of [`Driver::event`].
    pub async fn ask(
        &self,
        tenant: &TenantId,
        pipeline: &PipelineName,
        id: &str,
        params: Map<String, Json>,
    ) -> Result<Vec<Came>, Error> {
        self.tell(Told::Asked(tenant.clone(), pipeline.clone(), id.to_owned(), params)).await
    }

    /// The files of a folder, all of them.
    ///
    /// # Errors
    /// As of [`Driver::event`].
    pub async fn files(&self, files: &str, seen: Vec<Seen>) -> Result<Vec<Came>, Error> {
        self.tell(Told::Files(files.to_owned(), seen)).await
    }

    async fn tell(&self, told: Told) -> Result<Vec<Came>, Error> {
        let (reply, came) = oneshot::channel();
        let full = |_| {
            Error::new(Code::Overloaded, "take it: too many wait before it").retry(RetryHint::After(STORAGE))
        };
        self.inner.inbox.try_send((told, reply)).map_err(full)?;
        let stopped = |_| Error::new(Code::Draining, "take it: the server stops");
        came.await.map_err(stopped)?
    }

    /// Works until it is dropped. A second call waits for the first to end.
    pub async fn work(self) {
        let inner = &*self.inner;
        let mut outbox = inner.outbox.lock().await;
        let mut all = All { inner, machines: BTreeMap::new(), plans: Vec::new(), generation: 0 };
        let mut looked: Option<contract::Tick> = None;
        loop {
            let due = looked.is_none_or(|at| inner.clock.now().since(at) >= LOOK);
            all.replan();
            if due {
                all.look().await;
                looked = Some(inner.clock.now());
            }
            let pause = all.tick().await;
            tokio::select! {
                Some((told, reply)) = outbox.recv() => {
                    let came = all.told(&told).await;
                    // Whoever asked may be gone; what was decided stays.
                    let _gone = reply.send(came);
                }
                () = inner.look.notified() => looked = None,
                () = task::sleep(pause.min(LOOK)) => {}
            }
        }
    }
}

/// A pipeline's triggers, and the version of what is kept of them.
struct Machine {
    triggers: Triggers,
    version: u64,
}

/// What the loop holds.
struct All<'a> {
    inner: &'a Inner,
    machines: BTreeMap<PipelineName, Machine>,
    plans: Vec<TriggerPlan>,
    generation: u64,
}

/// What came of an input.
#[derive(Default)]
struct Decided {
    /// Whether it was taken.
    took: Took,
    /// The runs that were started.
    started: Vec<(StartRun, RunId)>,
    /// Those that never can be, and why.
    refused: Vec<(StartRun, String)>,
}

impl All<'_> {
    /// Takes the newest plans.
    fn replan(&mut self) {
        let held = self.inner.plans.lock();
        if held.0 != self.generation {
            self.generation = held.0;
            self.plans.clone_from(&held.1);
            self.machines.clear();
        }
    }

    /// Reads what is kept of a pipeline's triggers, unless it is held.
    async fn load(&mut self, pipeline: &PipelineName) -> Result<(), Error> {
        if self.machines.contains_key(pipeline) {
            return Ok(());
        }
        let Some(plan) = self.plans.iter().find(|p| p.pipeline == *pipeline).cloned() else { return Ok(()) };
        let stored = self.inner.store.get(pipeline.as_str()).await?;
        let (version, memory) = stored.map_or_else(Default::default, |s| (s.version, s.memory));
        let memory = match memory.as_str() {
            "" => Default::default(),
            kept => serde_json::from_str(kept).map_err(|e| {
                let message = format!("read what the triggers of `{pipeline}` have seen: {e}");
                Error::new(Code::StorageUnavailable, message)
            })?,
        };
        let triggers = Triggers::new(plan, memory, self.inner.clock.wall());
        self.machines.insert(pipeline.clone(), Machine { triggers, version });
        Ok(())
    }

    /// Looks at what nobody tells: versions, ends of runs, runs that are over.
    async fn look(&mut self) {
        let mut datasets = BTreeSet::new();
        let mut pipelines = BTreeSet::new();
        for trigger in self.plans.iter().flat_map(|p| &p.triggers) {
            match trigger {
                Trigger::Dataset { dataset, .. } => drop(datasets.insert(dataset.clone())),
                Trigger::Run { pipeline, .. } => drop(pipelines.insert(pipeline.clone())),
                _ => {}
            }
        }
        for dataset in datasets {
            match self.inner.watch.version(&dataset).await {
                Ok(version) => self.each(&Input::Version { dataset: &dataset, version }).await,
                Err(e) => tracing::warn!(dataset, error = %e, "failed to see the version of a dataset"),
            }
        }
        for pipeline in pipelines {
            let since = self.machines.values().filter_map(|m| m.triggers.ends_since(&pipeline)).min();
            let Some(since) = since else { continue };
            let ended = self.inner.start.ended(&pipeline, since).await;
            let ended = ended
                .inspect_err(|e| tracing::warn!(%pipeline, error = %e, "failed to see which runs ended"));
            for EndedRun { run, status, at } in ended.unwrap_or_default() {
                self.each(&Input::Ended { pipeline: &pipeline, run, status, at }).await;
            }
        }
        for name in self.names() {
            let active = self.machines.get(&name).map(|m| m.triggers.memory().active().to_vec());
            for run in active.unwrap_or_default() {
                match self.inner.start.status(run).await {
                    Ok(status) if status.is_none_or(Status::is_end) => {
                        let gone = self.one(&name, &Input::Gone(run)).await;
                        failed(&name, gone);
                    }
                    Ok(_) => {}
                    Err(e) => tracing::warn!(%run, error = %e, "failed to see how a run is doing"),
                }
            }
        }
    }

    /// Tells all the time, and says when to do so again.
    async fn tick(&mut self) -> Duration {
        self.each(&Input::Tick).await;
        if self.machines.len() < self.plans.len() {
            return STORAGE;
        }
        let now = self.inner.clock.wall();
        let wake = self.machines.values().filter_map(|m| m.triggers.wake()).min();
        let left = wake.map_or(i64::MAX, |at| at.0.saturating_sub(now.0)).max(1);
        Duration::from_millis(left.unsigned_abs())
    }

    /// What comes from outside.
    async fn told(&mut self, told: &Told) -> Result<Vec<Came>, Error> {
        self.replan();
        let (input, identity) = match told {
            Told::Event(tenant, event) => {
                let cause = Cause::Event(event.clone());
                (Input::Event { tenant, event }, Some(cause.identity()))
            }
            Told::Alert(alert, id) => {
                let cause = Cause::Alert { alert: alert.clone(), id: id.clone() };
                (Input::Alert { alert, id }, Some(cause.identity()))
            }
            Told::Files(files, seen) => (Input::Files { files, seen }, None),
            Told::Asked(tenant, pipeline, id, params) => {
                let cause = Cause::Asked { id: id.clone(), params: Map::new() };
                let of = self.one(pipeline, &Input::Asked { tenant, id, params }).await?;
                return Ok(vec![came(pipeline.clone(), of, Some(&cause.identity()))]);
            }
        };
        let mut all = Vec::new();
        for name in self.names() {
            let of = self.one(&name, &input).await?;
            all.push(came(name, of, identity.as_deref()));
        }
        all.retain(|c| c.took != Took::Nothing);
        Ok(all)
    }

    fn names(&self) -> Vec<PipelineName> {
        self.plans.iter().map(|p| p.pipeline.clone()).collect()
    }

    /// Tells all; what fails is seen again the next time.
    async fn each(&mut self, input: &Input<'_>) {
        for name in self.names() {
            let came = self.one(&name, input).await;
            failed(&name, came);
        }
    }

    /// Tells one pipeline's triggers, and does what they decide. On an error they are read anew before the next.
    async fn one(&mut self, name: &PipelineName, input: &Input<'_>) -> Result<Decided, Error> {
        for _ in 0..AGAIN {
            self.load(name).await?;
            let Some(machine) = self.machines.remove(name) else { return Ok(Decided::default()) };
            match self.act(machine, input).await? {
                (Some(machine), Some(came)) => {
                    self.machines.insert(name.clone(), machine);
                    return Ok(came);
                }
                (None, Some(came)) => return Ok(came),
                (_, None) => {}
            }
        }
        Err(store::Error::Contended.into())
    }

    /// What came of it: nothing when another process decided first. The machine, when it still says what is on disk.
    async fn act(
        &self,
        mut machine: Machine,
        input: &Input<'_>,
    ) -> Result<(Option<Machine>, Option<Decided>), Error> {
        let now = || self.inner.clock.wall();
        let (mut actions, took) = machine.triggers.step(now(), input);
        let (mut decided, mut first) = (Decided { took, ..Decided::default() }, true);
        loop {
            let mut next = None;
            for action in actions {
                match action {
                    Action::Save if !self.save(&mut machine).await? => {
                        return Ok((None, (!first).then_some(decided)));
                    }
                    Action::Save => {}
                    Action::Start(start) => next = Some(start),
                }
            }
            first = false;
            let Some(start) = next else { return Ok((Some(machine), Some(decided))) };
            let key = start.key.clone();
            let input = match self.inner.start.start(start.clone()).await {
                Ok(Some(run)) => {
                    tracing::info!(pipeline = %start.pipeline, %run, key, "a trigger started a run");
                    decided.started.push((start, run));
                    Outcome::Started(run)
                }
                Ok(None) => Outcome::Later,
                Err(e) if matches!(e.code.class(), Class::Invalid | Class::Denied) => {
                    tracing::error!(pipeline = %start.pipeline, error = %e, "a run cannot be started, and what caused it is passed over");
                    decided.refused.push((start, e.message.clone()));
                    Outcome::Refused(e.message)
                }
                Err(e) => {
                    tracing::warn!(pipeline = %start.pipeline, error = %e, "failed to start a run; it is tried again");
                    Outcome::Later
                }
            };
            let input = match &input {
                Outcome::Started(run) => Input::Started { key: &key, run: *run },
                Outcome::Later => Input::Later { key: &key },
                Outcome::Refused(why) => Input::Refused { key: &key, why },
            };
            actions = machine.triggers.step(now(), &input).0;
        }
    }

    async fn save(&self, machine: &mut Machine) -> Result<bool, Error> {
        let memory = serde_json::to_string(machine.triggers.memory()).map_err(store::Error::Decode)?;
        let pipeline = machine.triggers.plan().pipeline.clone();
        let saved = self.inner.store.set(pipeline.as_str(), machine.version, &memory).await?;
        machine.version += u64::from(saved);
        Ok(saved)
    }
}

/// What came of a start.
enum Outcome {
    Started(RunId),
    Later,
    Refused(String),
}

fn failed(pipeline: &PipelineName, came: Result<Decided, Error>) {
    if let Err(e) = came {
        tracing::error!(%pipeline, error = %e, "failed to decide what starts a pipeline; it is tried again");
    }
}

fn came(pipeline: PipelineName, decided: Decided, identity: Option<&str>) -> Came {
    let Decided { took, started, refused } = decided;
    let caused = |start: &StartRun| start.causes.iter().any(|c| Some(c.identity().as_str()) == identity);
    let run = started.iter().find(|(start, _)| caused(start)).map(|(_, run)| *run);
    let refused = refused.into_iter().find(|(start, _)| caused(start)).map(|(_, why)| why);
    Came { pipeline, took, run, refused }
}
