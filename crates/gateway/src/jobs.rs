//! Jobs: a request that is answered later. `Prefer: respond-async` stores it, with who asked, and answers 202; a worker in
//! this process asks the very routes that the caller would have reached, in the batch lane of every model.
//!
//! A job is a run of one stage ([`pipeline::runs`]): stored, retried, cancelled and ended there. Here is what it is about: the
//! stored request, the call on the caller's behalf, and what is shown of it. Whatever is a `POST` of ours can be a job.
//!
//! Invariants: a job that was acknowledged is on disk. An attempt's ledger record has an id of its own, made of the job's: no
//! attempt is billed twice, and none hides another. A tenant sees its own jobs alone.

pub(crate) mod background;
mod execute;
mod routes;
mod stored;
mod submit;
mod target;
pub(crate) mod view;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::{Clock, Code, Error, RunId};
use parking_lot::Mutex;
use pipeline::durable::{self, Durable};
use pipeline::runs::{
    ByKind, Deliver, Execute, Outbox, Plan, Scheduler, SchedulerSettings, StagePlan, Submission,
};
use pipeline::task::{self, Task};
use store::{RunHead, RunStore, SubmitKey, Submitted};
use tokio::sync::Notify;

pub(crate) use self::execute::Kept;
use self::execute::{Live, Worker};
pub(crate) use self::routes::{admin_routes, answer, routes, written};
pub(crate) use self::stored::custom_id;
pub use self::stored::{Job, Line};
pub(crate) use self::submit::{is_possible, is_wanted, submit, submit_instead};
use crate::batches::{Batches, BatchesSettings, Driver};
use crate::current::{Current, Latest};
use crate::drain::Drain;
use crate::nested::Caller;
use crate::runs::Runs;

/// What a job's run is called among runs.
const KIND: &str = "job";
/// Its one stage.
pub(crate) const STAGE: &str = "request";
/// How long a worker may be silent. A dead one is found at the next start; this is for one that hangs.
const LEASE: Duration = Duration::from_secs(60);
/// How long a stopping server waits until what was given back is on disk.
const FAREWELL: Duration = Duration::from_secs(5);

/// How jobs are kept and worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsSettings {
    /// Jobs at once, of each model and pipeline.
    pub parallel: usize,
    /// Stages of durable runs at once of each concurrency group.
    pub groups: BTreeMap<String, usize>,
    /// How often a job whose attempt failed by a fault that may pass is attempted in all.
    pub attempts: u32,
    /// How long a job is kept when it has ended.
    pub keep: Duration,
    /// How long it may wait for its turn and be tried again.
    pub within: Duration,
    /// How many may wait; more are refused.
    pub waiting: u64,
    /// Who is told about a job that names nobody.
    pub webhook: Option<String>,
    /// What batches may be.
    pub batches: BatchesSettings,
}

impl Default for JobsSettings {
    /// 4 at once, 3 attempts, kept for 7 days, within 24 hours, 100,000 waiting, nobody told.
    fn default() -> Self {
        JobsSettings {
            parallel: 4,
            groups: BTreeMap::new(),
            attempts: 3,
            keep: Duration::from_secs(7 * 86_400),
            within: Duration::from_secs(86_400),
            waiting: 100_000,
            webhook: None,
            batches: BatchesSettings::default(),
        }
    }
}

/// Who does the work.
struct By {
    worker: Worker,
    durable: Option<Durable>,
}

impl By {
    fn nobody() -> By {
        By { worker: Worker::nobody(), durable: None }
    }
}

/// The jobs of a project. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    settings: JobsSettings,
    clock: Arc<dyn Clock>,
    scheduler: Scheduler,
    /// Durable runs of pipelines, which it works on too.
    runs: Option<Runs>,
    /// Whose jobs they are: what they call is one of its models and pipelines.
    gateway: Latest,
    deliver: Option<Arc<dyn Deliver>>,
    /// What attempts under way have used so far.
    live: Live,
    /// Batches, whose lines are jobs.
    batches: OnceLock<Batches>,
    work: Mutex<Option<Task<()>>>,
    /// Ended with this.
    beside: Mutex<Vec<Task<()>>>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Begins to work on the jobs of a gateway, and takes over what a dead process left. It answers
    /// `Prefer: respond-async` from now on. Needs a runtime.
    ///
    /// Durable runs of pipelines are done by `durable`, beside them.
    pub fn start(
        current: &Current,
        settings: JobsSettings,
        deliver: Arc<dyn Deliver>,
        durable: Option<Durable>,
    ) -> Jobs {
        let app = current.app();
        let store: Arc<dyn RunStore> = app.inner.reader.runs.clone();
        let worker = format!("{}-{}", std::process::id(), app.request_id());
        let execute = Worker::of(current);
        let lines = execute.lines();
        let by = By { worker: execute, durable: durable.clone() };
        let jobs = Jobs::over(store, app.inner.clock.clone(), settings, worker, by, Some(deliver.clone()));
        let scheduler = jobs.inner.scheduler.clone();
        let outbox = Outbox::new(
            scheduler.store().clone(),
            app.inner.clock.clone(),
            deliver,
            scheduler.told(),
            scheduler.counts(),
        );
        *jobs.inner.work.lock() = Some({
            let (scheduler, mut dead) = (scheduler.clone(), durable.clone());
            task::kept("jobs", move || {
                // Once: what is begun here later does not die with another process.
                let (work, dead) = (scheduler.clone().work(), dead.take());
                async move {
                    if let Some(dead) = dead {
                        dead.clear_dead().await;
                    }
                    work.await;
                }
            })
        });
        let driver = jobs.driver(current, lines);
        let drain = app.inner.drain.clone();
        let (stop, sweep, watch) = (scheduler.clone(), scheduler.clone(), scheduler.clone());
        let (tidy, ends, end) = (driver.clone(), drain.clone(), drain.clone());
        jobs.inner.beside.lock().extend([
            task::kept("outbox", move || outbox.clone().work()),
            task::kept("sweep", move || sweep.clone().sweep()),
            task::kept("watch", move || watch.clone().watch()),
            task::kept("count", move || scheduler.clone().count()),
            task::kept("batches", move || until(ends.clone(), driver.clone().work())),
            task::kept("tidy", move || until(end.clone(), tidy.clone().tidy())),
            task::spawn("drain", async move {
                drain.started().await;
                stop.stop();
            }),
        ]);
        if let Some(durable) = durable {
            durable.calls().live_by(Arc::new(Caller::of(current)));
            jobs.inner.beside.lock().push(task::kept("runs", move || durable.clone().sweep()));
        }
        app.keep_jobs(jobs.clone());
        jobs
    }

    /// The jobs in a folder that no server works on: to be looked at and cancelled.
    pub fn at_rest(store: Arc<dyn RunStore>, clock: Arc<dyn Clock>) -> Jobs {
        Jobs::over(store, clock, JobsSettings::default(), "nobody".to_owned(), By::nobody(), None)
    }

    /// The jobs of a gateway, on none of which anybody works, and who would bring its batches on.
    #[cfg(test)]
    pub(crate) fn resting(current: &Current, settings: JobsSettings) -> (Jobs, Driver) {
        let app = current.app();
        let (store, clock) = (app.inner.reader.runs.clone(), app.inner.clock.clone());
        let by = By { worker: Worker::of(current), durable: None };
        let jobs = Jobs::over(store, clock, settings, "nobody".to_owned(), by, None);
        app.keep_jobs(jobs.clone());
        let driver = jobs.driver(current, Arc::default());
        (jobs, driver)
    }

    /// Who brings the batches of a gateway on, whose lines are these jobs; `lines` is notified when one has ended.
    fn driver(&self, current: &Current, lines: Arc<Notify>) -> Driver {
        let inner = &self.inner;
        let app = current.app();
        let wakes = [lines, inner.scheduler.told()];
        let kept = app.inner.reader.batches.clone();
        let batches = Batches::new(kept, inner.clock.clone(), inner.settings.batches, wakes);
        let _ = inner.batches.set(batches.clone());
        Driver {
            batches,
            jobs: self.clone(),
            files: app.inner.files.clone(),
            gateway: current.downgrade(),
            keep: inner.settings.keep,
        }
    }

    fn over(
        store: Arc<dyn RunStore>,
        clock: Arc<dyn Clock>,
        settings: JobsSettings,
        worker: String,
        By { worker: execute, durable }: By,
        deliver: Option<Arc<dyn Deliver>>,
    ) -> Jobs {
        let scheduling = SchedulerSettings {
            parallel: settings.parallel,
            groups: settings.groups.clone(),
            lease: LEASE,
            keep: settings.keep,
            open: settings.waiting,
            worker,
        };
        let (live, gateway) = (execute.live(), execute.gateway());
        let kinds = durable.iter().map(|d| (durable::KIND, Arc::new(d.clone()) as Arc<dyn Execute>));
        let execute = ByKind::new(Arc::new(execute), kinds.collect());
        let scheduler = Scheduler::new(scheduling, store, clock.clone(), Arc::new(execute));
        if let Some(durable) = &durable {
            durable.on(scheduler.clone());
        }
        let (work, beside) = (Mutex::default(), Mutex::default());
        Jobs {
            inner: Arc::new(Inner {
                settings,
                clock,
                scheduler,
                runs: durable.map(Runs::new),
                gateway,
                deliver,
                live,
                batches: OnceLock::new(),
                work,
                beside,
            }),
        }
    }

    /// Durable runs of pipelines.
    pub(crate) fn runs(&self) -> Option<Runs> {
        self.inner.runs.clone()
    }

    /// Who brings messages to addresses that others name, if anybody.
    pub(crate) fn sender(&self) -> Option<Arc<dyn Deliver>> {
        self.inner.deliver.clone()
    }

    /// Who works on them.
    pub(crate) fn scheduler(&self) -> Scheduler {
        self.inner.scheduler.clone()
    }

    /// Gives back what is under way, and resolves when that is on disk.
    pub async fn close(&self) {
        self.inner.scheduler.give_back();
        let work = self.inner.work.lock().take();
        if let Some(work) = work
            && tokio::time::timeout(FAREWELL, work).await.is_err()
        {
            tracing::warn!("jobs under way could not be given back in time; the next server takes them over");
        }
        self.inner.beside.lock().clear();
    }

    /// Stores jobs, all or, on an error, none: they are on disk when this resolves. What became of each, and its id. What was
    /// submitted before under its idempotency key is known also when there is no room for more.
    ///
    /// Dropped in the middle, it is done or not done; what is done takes effect at once.
    ///
    /// # Errors
    /// `overloaded` when too many wait, `storage_unavailable`.
    pub async fn submit(&self, jobs: Vec<(RunId, Job)>) -> Result<Vec<(RunId, Submitted)>, Error> {
        let app = self.inner.gateway.app();
        let now = self.inner.clock.wall();
        let within = i64::try_from(self.inner.settings.within.as_millis()).unwrap_or(i64::MAX);
        let deadline = contract::UnixMillis(now.0.saturating_add(within));
        let mut ids = Vec::with_capacity(jobs.len());
        let mut submissions = Vec::with_capacity(jobs.len());
        for (id, job) in jobs {
            let hash = job.hash();
            let retry =
                pipeline::runs::Retry { attempts: self.inner.settings.attempts, ..Default::default() };
            let stage = StagePlan { retry, ..StagePlan::new(STAGE, hash.to_hex().to_string()) };
            let plan = Plan {
                lane: job.lane,
                not_before: job.not_before,
                // A line has the time of its batch, however long it waits behind others.
                deadline: Some(match (job.deadline, &job.line) {
                    (Some(own), Some(_)) => own,
                    (own, _) => own.map_or(deadline, |d| d.min(deadline)),
                }),
                ..Plan::of(vec![stage])
            };
            ids.push(id);
            submissions.push(Submission {
                id,
                tenant: job.tenant.clone(),
                kind: KIND.to_owned(),
                plan,
                about: job.about()?,
                target: app.as_ref().map(|app| target::of(app, &job)).unwrap_or_default(),
                part: job.line.as_ref().map(|l| store::Part { of: l.of, number: l.number }),
                key: job.submit_key().map(|key| SubmitKey { key, hash: hash.into() }),
                input: job.body.into(),
                adopt: None,
            });
        }
        let made = self.inner.scheduler.submit(submissions).await?;
        Ok(ids.into_iter().zip(made).collect())
    }

    /// How many jobs a tenant could submit now.
    pub(crate) async fn room(&self, tenant: &contract::TenantId) -> Result<u64, Error> {
        self.inner.scheduler.room(tenant).await
    }

    /// The newest jobs first, of a tenant or of all, from behind `after` on, as JSON.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn list(
        &self,
        tenant: Option<&contract::TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<String, Error> {
        // One more tells whether there are more.
        let heads = self.store().list(KIND, tenant, after, limit.saturating_add(1)).await.map_err(storage)?;
        view::list(&heads, usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// A job and all that is known of it, as JSON; of that tenant only, if one is given.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn show(&self, id: RunId, tenant: Option<&contract::TenantId>) -> Result<String, Error> {
        let head = self.head(id, tenant).await?;
        let run = self.inner.scheduler.load(id).await.map_err(storage)?.ok_or_else(missing)?;
        let outputs = match run.status().is_end() {
            true => self.store().outputs(id).await.map_err(storage)?,
            false => Vec::new(),
        };
        let kept = outputs.iter().find(|o| o.stage == STAGE).map(|o| o.value.as_slice());
        view::whole(&run, &head, kept, self.inner.live.stages(id))
    }

    /// What was done so far, for metrics.
    pub(crate) fn counts(&self) -> Arc<pipeline::runs::Counts> {
        self.inner.scheduler.counts()
    }

    /// Ends a job; what it was when it had ended before.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn cancel(&self, id: RunId, tenant: Option<&contract::TenantId>) -> Result<String, Error> {
        self.head(id, tenant).await?;
        self.inner.scheduler.cancel(id).await?;
        self.show(id, tenant).await
    }

    /// The head of a job, of that tenant only, if one is given: nobody finds out whether others have one of that id.
    async fn head(&self, id: RunId, tenant: Option<&contract::TenantId>) -> Result<RunHead, Error> {
        let stored = self.store().get(id).await.map_err(storage)?;
        let own = |head: &RunHead| head.kind == KIND && tenant.is_none_or(|t| *t == head.tenant);
        stored.map(|s| s.head).filter(own).ok_or_else(missing)
    }

    /// The batches, whose lines are jobs.
    pub(crate) fn batches(&self) -> Option<&Batches> {
        self.inner.batches.get()
    }

    /// Ends a job, whoever's it is.
    pub(crate) async fn stop(&self, id: RunId) -> Result<(), Error> {
        self.inner.scheduler.cancel(id).await.map(|_| ())
    }

    /// The same of one whose journal may be unreadable, which is left as it is.
    pub(crate) async fn stop_or_leave(&self, id: RunId) -> Result<(), Error> {
        self.inner.scheduler.cancel_or_leave(id).await
    }

    /// Jobs whose journals cannot be read, as far as that was seen.
    pub(crate) fn unreadable(&self) -> HashSet<RunId> {
        self.inner.scheduler.unreadable()
    }

    /// Why a job failed; `internal` when nobody can read that.
    pub(crate) async fn error(&self, id: RunId) -> Result<Option<Error>, Error> {
        match self.inner.scheduler.load(id).await {
            Ok(run) => Ok(run.and_then(|run| run.error().cloned())),
            Err(e @ store::Error::Decode(_)) => {
                tracing::error!(run = %id, error = %e, "failed to read a run's journal");
                let m = "the record of this request cannot be read: see the server's log";
                Ok(Some(Error::new(Code::Internal, m)))
            }
            Err(e) => Err(storage(e)),
        }
    }

    /// The messages about a job or a batch, as JSON.
    pub(crate) async fn deliveries(&self, about: RunId) -> Result<String, Error> {
        Ok(view::deliveries(&self.store().deliveries(about).await.map_err(storage)?).to_string())
    }

    /// Sends the messages about a job or a batch once more, under the same ids, and gives them as JSON.
    pub(crate) async fn redeliver(&self, about: RunId) -> Result<String, Error> {
        self.inner.scheduler.redeliver(about).await?;
        self.deliveries(about).await
    }

    fn store(&self) -> &dyn RunStore {
        &**self.inner.scheduler.store()
    }
}

/// Work that ends with the server.
async fn until(drain: Drain, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = drain.started() => {}
    }
}

fn missing() -> Error {
    Error::new(Code::NotFound, "there is no job of that id").param("id")
}

pub(crate) fn storage(e: store::Error) -> Error {
    tracing::error!(error = %e, "failed to read jobs");
    Error::new(Code::StorageUnavailable, "the jobs cannot be read now: see the server's log")
}
