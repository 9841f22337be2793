//! The one scheduler: brings what [`Run`] decides to disk, and only then lets it happen.
//!
//! It takes runs that are due, highest lane and oldest first, as many at once as it is told, and sleeps until something is
//! submitted, something becomes due, or something ends. Every decision is made on a journal that was just read and applied
//! only if nobody wrote to that journal since; else it is made again. So several processes may cancel or look at a run while
//! one works on it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{Clock, Code, Error, RetryHint, RunId, StageName, TenantId, UnixMillis};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use store::{Change, NewRun, RunStore, SubmitKey, Submitted};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, Plan};
use super::run::Run;
use super::state::{Action, Input, Status};
use super::work::Execute;
use crate::task;

/// At least this often it is looked whether something is due: the wall clock may jump, another process may have written.
const LOOK: Duration = Duration::from_secs(30);
/// How long it waits when the storage cannot be used.
pub(super) const STORAGE: Duration = Duration::from_secs(1);
/// How often a decision is made again because another one came first.
const AGAIN: usize = 16;
/// How often ended runs are looked for whose time is over, and how many are removed in one transaction.
const SWEEP: Duration = Duration::from_secs(600);
const SWEPT: u32 = 200;

/// How it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Attempts at once.
    pub parallel: usize,
    /// How long a worker may be silent.
    pub lease: Duration,
    /// How long a run is kept when it has ended.
    pub keep: Duration,
    /// How many runs may be open; more are refused.
    pub open: u64,
    /// The name of this process, different from every earlier one's.
    pub worker: String,
}

/// What is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The run's id.
    pub id: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What sort of run it is.
    pub kind: String,
    /// What it is to do.
    pub plan: Plan,
    /// What it is about, in short.
    pub about: String,
    /// What it is given.
    pub input: Vec<u8>,
    /// What makes a second submission the same one.
    pub key: Option<SubmitKey>,
}

/// The scheduler. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Scheduler {
    pub(super) inner: Arc<Inner>,
}

/// A tenant's waiting runs are at most all that may wait divided by this: one tenant's flood leaves room for the others'.
const SHARE: u64 = 2;
/// What the inputs of a tenant's waiting runs may be together, in bytes.
const MAX_INPUTS: u64 = 1 << 30;

pub(super) struct Inner {
    pub(super) settings: SchedulerSettings,
    pub(super) store: Arc<dyn RunStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) execute: Arc<dyn Execute>,
    /// Something may be due.
    pub(super) wake: Notify,
    /// A message was put into the outbox.
    pub(super) told: Arc<Notify>,
    /// Nothing more is taken.
    pub(super) stopping: CancellationToken,
    /// What is held is given back.
    pub(super) give_back: CancellationToken,
    pub(super) running: Mutex<HashMap<(RunId, StageName), (u32, CancellationToken)>>,
    pub(super) open: AtomicU64,
    /// Runs whose journal cannot be read: left as they are.
    pub(super) unreadable: Mutex<HashSet<RunId>>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler over a store. Nothing happens before [`Scheduler::work`].
    pub fn new(
        settings: SchedulerSettings,
        store: Arc<dyn RunStore>,
        clock: Arc<dyn Clock>,
        execute: Arc<dyn Execute>,
    ) -> Self {
        let inner = Inner {
            settings,
            store,
            clock,
            execute,
            wake: Notify::new(),
            told: Arc::new(Notify::new()),
            stopping: CancellationToken::new(),
            give_back: CancellationToken::new(),
            running: Mutex::default(),
            open: AtomicU64::new(0),
            unreadable: Mutex::default(),
        };
        Scheduler { inner: Arc::new(inner) }
    }

    /// Where the runs are.
    pub fn store(&self) -> &Arc<dyn RunStore> {
        &self.inner.store
    }

    /// Is told when a message was put into the outbox.
    pub fn told(&self) -> Arc<Notify> {
        self.inner.told.clone()
    }

    /// Runs that have not ended, as far as this process knows.
    pub fn open(&self) -> u64 {
        self.inner.open.load(Ordering::Relaxed)
    }

    /// Attempts under way in this process.
    pub fn running(&self) -> usize {
        self.inner.running.lock().len()
    }

    /// Takes runs in: they are on disk when this resolves.
    ///
    /// # Errors
    /// `overloaded` when there are too many, `storage_unavailable` when they cannot be kept, `internal` for a plan that is not
    /// sound. Nothing was taken in then.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let inner = &*self.inner;
        if inner.open.load(Ordering::Relaxed).saturating_add(submissions.len() as u64) > inner.settings.open {
            let m =
                format!("{} jobs are waiting already: try again when some have ended", inner.settings.open);
            return Err(Error::new(Code::Overloaded, m).retry(RetryHint::After(Duration::from_secs(60))));
        }
        let tenants: HashSet<TenantId> = submissions.iter().map(|s| s.tenant.clone()).collect();
        for tenant in &tenants {
            let (runs, bytes) = inner.store.held(tenant).await.map_err(unavailable)?;
            if runs >= inner.settings.open / SHARE || bytes >= MAX_INPUTS {
                let m = format!(
                    "{runs} jobs of this tenant with {bytes} bytes are waiting already: try again when some have ended"
                );
                let e = Error::new(Code::Overloaded, m).retry(RetryHint::After(Duration::from_secs(60)));
                return Err(e.limit_source(format!("tenant:{tenant}")));
            }
        }
        let now = inner.clock.wall();
        let new: Option<Vec<NewRun>> = submissions.into_iter().map(|s| new_run(s, now)).collect();
        let new = new
            .ok_or_else(|| Error::new(Code::Internal, "the plan of a run is not sound; this is a defect"))?;
        let made = inner.store.submit(&new).await.map_err(unavailable)?;
        let fresh = made.iter().filter(|m| **m == Submitted::New).count();
        inner.open.fetch_add(fresh as u64, Ordering::Relaxed);
        inner.wake.notify_one();
        Ok(made)
    }

    /// Stops a run: it has ended when this resolves, unless it had before. `None` when there is no such run.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn cancel(&self, id: RunId) -> Result<Option<Run>, Error> {
        let changed = self.change(id, Input::Cancel, None).await.map_err(unavailable)?;
        Ok(changed.map(|(run, _)| run))
    }

    /// Nothing more is taken; what is under way goes on.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }

    /// What is under way is ended and given back.
    pub fn give_back(&self) {
        self.stop();
        self.inner.give_back.cancel();
    }

    /// Works until it is stopped and what was under way is over. What a dead process held is taken over first.
    pub async fn work(self) {
        let inner = &*self.inner;
        while let Err(e) = self.take_over().await {
            tracing::error!(error = %e, "failed to take over the runs of the last process");
            tokio::select! {
                () = task::sleep(STORAGE) => {}
                () = inner.stopping.cancelled() => return,
            }
        }
        let mut tasks = FuturesUnordered::new();
        while !inner.stopping.is_cancelled() {
            let pause = match self.take_due(&mut tasks).await {
                Ok(pause) => pause,
                Err(e) => {
                    tracing::error!(error = %e, "failed to look for runs that are due");
                    STORAGE
                }
            };
            tokio::select! {
                () = inner.wake.notified() => {}
                () = task::sleep(pause) => {}
                () = inner.stopping.cancelled() => {}
                Some(_) = tasks.next() => {}
            }
        }
        while tasks.next().await.is_some() {}
    }

    /// Removes runs whose time is over, for ever.
    pub async fn sweep(self) {
        let inner = &*self.inner;
        let keep = i64::try_from(inner.settings.keep.as_millis()).unwrap_or(i64::MAX);
        loop {
            let before = UnixMillis(inner.clock.wall().0.saturating_sub(keep));
            match inner.store.expire(before, SWEPT).await {
                Ok(n) if n >= u64::from(SWEPT) => continue,
                Ok(_) => {}
                Err(e) => tracing::warn!(error = %e, "failed to remove runs whose time is over"),
            }
            task::sleep(SWEEP).await;
        }
    }

    /// What is leased to another process is lost: this one holds the folder's lock, so that one is dead.
    async fn take_over(&self) -> Result<(), store::Error> {
        let inner = &*self.inner;
        inner.open.store(inner.store.open().await?, Ordering::Relaxed);
        for head in inner.store.in_state(Status::Running.as_str()).await? {
            let run = match self.load(head.id).await {
                Ok(Some(run)) => run,
                Ok(None) => continue,
                // One that cannot be read holds nobody up.
                Err(e) => {
                    tracing::error!(run = %head.id, error = %e, "failed to read a run's journal; it is left as it is");
                    continue;
                }
            };
            let mut dead: Vec<String> =
                run.stages().filter_map(|(_, s)| Some(s.held()?.worker.clone())).collect();
            dead.retain(|w| *w != inner.settings.worker);
            dead.dedup();
            for worker in dead {
                self.change(head.id, Input::Dead { worker }, None).await?;
            }
        }
        Ok(())
    }

    /// Begins what is due, as far as there is room. How long nothing more will be.
    async fn take_due(&self, tasks: &mut FuturesUnordered<task::Task<()>>) -> Result<Duration, store::Error> {
        let inner = &*self.inner;
        loop {
            let free = inner.settings.parallel.saturating_sub(tasks.len());
            if free == 0 {
                return Ok(LOOK);
            }
            let now = inner.clock.wall();
            let unreadable = inner.unreadable.lock().len();
            let mut due = inner.store.due(now, u32::try_from(free + unreadable).unwrap_or(u32::MAX)).await?;
            due.retain(|head| !inner.unreadable.lock().contains(&head.id));
            due.truncate(free);
            if due.is_empty() {
                let next = inner.store.next_due(now).await?;
                let until =
                    next.map_or(LOOK.as_millis(), |t| u128::from(t.0.saturating_sub(now.0).unsigned_abs()));
                return Ok(Duration::from_millis(u64::try_from(until).unwrap_or(u64::MAX)).min(LOOK));
            }
            for head in due {
                if inner.stopping.is_cancelled() {
                    return Ok(Duration::ZERO);
                }
                let take = Input::Take { worker: inner.settings.worker.clone(), lease: inner.settings.lease };
                let changed = match self.change(head.id, take, None).await {
                    Ok(changed) => changed,
                    // One that cannot be read holds nobody up; what the storage itself refuses, all wait for.
                    Err(e) if self.load(head.id).await.is_err() && inner.store.open().await.is_ok() => {
                        tracing::error!(run = %head.id, error = %e, "failed to read a run's journal; it is left as it is");
                        inner.unreadable.lock().insert(head.id);
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                let Some((_, actions)) = changed else { continue };
                for action in actions {
                    let Action::Start { stage, attempt, .. } = action else { continue };
                    tasks.push(task::spawn("run", self.clone().attempt(head.clone(), stage, attempt)));
                }
            }
        }
    }

    /// A run as its journal has it now.
    ///
    /// # Errors
    /// The storage's.
    pub async fn load(&self, id: RunId) -> Result<Option<Run>, store::Error> {
        let Some(stored) = self.inner.store.get(id).await? else { return Ok(None) };
        replay(id, &stored.entries).map(Some)
    }

    /// Decides on the journal as it is, brings that to disk, then does what is to be done here. The run behind it, and the
    /// actions.
    pub(super) async fn change(
        &self,
        id: RunId,
        input: Input,
        output: Option<&[u8]>,
    ) -> Result<Option<(Run, Vec<Action>)>, store::Error> {
        let inner = &*self.inner;
        for _ in 0..AGAIN {
            let Some(stored) = inner.store.get(id).await? else { return Ok(None) };
            let mut run = replay(id, &stored.entries)?;
            let after = run.entries();
            let actions = run.step(inner.clock.wall(), input.clone());
            let mut change = Change {
                id,
                after,
                entries: Vec::new(),
                status: run.status().as_str().to_owned(),
                due_at: run.due(),
                ended_at: run.ended_at(),
                output: None,
                outbox: None,
            };
            let mut ended = false;
            for action in &actions {
                match action {
                    Action::Record(entry) => change.entries.push(serde_json::to_string(entry)?),
                    Action::Keep { stage, key } => {
                        let value = output.unwrap_or_default().to_owned();
                        change.output =
                            Some(store::Output { key: key.clone(), stage: stage.as_str().to_owned(), value });
                    }
                    Action::End(_) => {
                        let kept = change.output.as_ref().map(|o| o.value.as_slice());
                        change.outbox = inner.execute.announce(&run, &stored.head, kept);
                        ended = true;
                    }
                    Action::Start { .. } | Action::Stop { .. } => {}
                }
            }
            if !change.entries.is_empty() && !inner.store.append(&change).await? {
                continue;
            }
            if ended {
                inner
                    .open
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(1)))
                    .ok();
            }
            if change.outbox.is_some() {
                inner.told.notify_one();
            }
            self.stop_attempts(id, &actions);
            return Ok(Some((run, actions)));
        }
        Err(store::Error::Contended)
    }

    fn stop_attempts(&self, id: RunId, actions: &[Action]) {
        for action in actions {
            let Action::Stop { stage, attempt } = action else { continue };
            let running = self.inner.running.lock();
            if let Some((held, stop)) = running.get(&(id, stage.clone()))
                && held == attempt
            {
                stop.cancel();
            }
        }
    }
}

fn new_run(s: Submission, now: UnixMillis) -> Option<NewRun> {
    let mut run = Run::new(s.id);
    let lane = s.plan.lane.rank();
    let actions = run.step(now, Input::Submit(s.plan));
    let entry = |a: Action| match a {
        Action::Record(entry) => serde_json::to_string(&entry).ok(),
        _ => None,
    };
    let entries: Vec<String> = actions.into_iter().filter_map(entry).collect();
    Some(NewRun {
        id: s.id,
        tenant: s.tenant,
        kind: s.kind,
        about: s.about,
        status: run.status().as_str().to_owned(),
        lane,
        at: now,
        due_at: run.due()?,
        entries,
        input: s.input,
        key: s.key,
    })
}

/// The run that stored entries describe.
fn replay(id: RunId, entries: &[String]) -> Result<Run, store::Error> {
    let entries: Vec<Entry> = entries.iter().map(|e| serde_json::from_str(e)).collect::<Result<_, _>>()?;
    Ok(Run::replay(id, &entries))
}

/// What a caller is told of a storage that cannot be used.
pub(super) fn unavailable(e: store::Error) -> Error {
    tracing::error!(error = %e, "failed to use the storage of runs");
    let m = "the storage cannot be used now: see the server's log";
    Error::new(Code::StorageUnavailable, m).retry(RetryHint::After(Duration::from_secs(5)))
}
