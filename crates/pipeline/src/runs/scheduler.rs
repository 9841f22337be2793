//! The one scheduler: brings what [`Run`] decides to disk, and only then lets it happen.
//!
//! It takes runs that are due, in the order of [turns](super::turns), as many at once as it is told, and sleeps until
//! something is submitted, something becomes due, or something ends. Every decision is made on a journal that was just read
//! and applied only if nobody wrote to that journal since; else it is made again. So several processes may cancel or look at a
//! run while one works on it.
//!
//! Invariant: what others ask for (submit, cancel) goes to its end once it was begun, also when whoever asked is gone: what is
//! on disk takes effect at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Error, RetryHint, RunId, StageName, TenantId, UnixMillis};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use store::{Change, NewRun, Room, RunStore, SubmitKey, Submitted};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::attempt::Running;
use super::counts::Counts;
use super::entry::{Entry, Plan};
use super::run::Run;
use super::state::{Action, Here, Input, Status};
use super::turns::{Busy, Places, choose};
use super::work::Execute;
use crate::task;

/// At least this often it is looked whether something is due: the wall clock may jump, another process may have written.
const LOOK: Duration = Duration::from_secs(30);
/// How long it waits when the storage cannot be used.
pub(super) const STORAGE: Duration = Duration::from_secs(1);
/// How often a decision is made again because another one came first.
const AGAIN: usize = 16;
/// How often ended runs are looked for whose time is over; how many, and how many bytes, are removed in one transaction.
const SWEEP: Duration = Duration::from_secs(600);
const SWEPT: u32 = 200;
const SWEPT_BYTES: u64 = 8 << 20;
/// How many pages the file shrinks by in one transaction, and the pause behind each that leaves the disk to others.
const PAGES: u32 = 256;
const BETWEEN: Duration = Duration::from_millis(200);
/// How often open runs are counted.
const COUNTED: Duration = Duration::from_secs(5);
/// Runs ended in one go because their time is over.
const OVERDUE: u32 = 64;
/// Changes that others ask for, at once.
const CHANGES: usize = 64;
/// So many targets may hang with all their places taken before work for others waits.
const HANGING: usize = 16;

/// How it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Attempts at once, of each target.
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
    /// What does the work, such as a model: work for one that hangs holds up none for another. One of a closed set.
    pub target: String,
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
    pub(super) running: Mutex<HashMap<(RunId, StageName), Held>>,
    pub(super) counts: Arc<Counts>,
    /// Places for what others ask for.
    changes: Arc<Semaphore>,
    /// Runs whose journal cannot be read: left as they are.
    pub(super) unreadable: Mutex<HashSet<RunId>>,
}

/// An attempt under way in this process.
pub(super) struct Held {
    pub(super) attempt: u32,
    pub(super) stop: CancellationToken,
    pub(super) tenant: TenantId,
    pub(super) target: String,
}

/// Attempts under way; each gives its run when it ended before it could say so.
type Tasks = FuturesUnordered<BoxFuture<'static, Option<RunId>>>;

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
            counts: Arc::default(),
            changes: Arc::new(Semaphore::new(CHANGES)),
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

    /// What was done so far.
    pub fn counts(&self) -> Arc<Counts> {
        self.inner.counts.clone()
    }

    /// Attempts under way in this process.
    pub fn running(&self) -> usize {
        self.inner.running.lock().len()
    }

    /// Takes runs in: they are on disk when this resolves. What was submitted before is known also when there is no room.
    ///
    /// Dropped in the middle, it is done or not done; what is done takes effect at once.
    ///
    /// # Errors
    /// `overloaded` when there are too many, `storage_unavailable` when they cannot be kept, `internal` for a plan that is not
    /// sound. Nothing was taken in then.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let scheduler = self.clone();
        self.to_the_end("submit", async move { scheduler.take_in(submissions).await }).await?
    }

    async fn take_in(self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let inner = &*self.inner;
        let now = inner.clock.wall();
        let new: Option<Vec<NewRun>> = submissions.into_iter().map(|s| new_run(s, now)).collect();
        let new = new
            .ok_or_else(|| Error::new(Code::Internal, "the plan of a run is not sound; this is a defect"))?;
        let open = inner.settings.open;
        let room = Room { runs: open, of_tenant: (open / SHARE).max(1), bytes_of_tenant: MAX_INPUTS };
        let made = inner.store.submit(&new, &room).await.map_err(refused)?;
        let fresh = made.iter().filter(|m| **m == Submitted::New).count();
        inner.counts.submitted_more(fresh as u64);
        inner.wake.notify_one();
        Ok(made)
    }

    /// Stops a run: it has ended when this resolves, unless it had before. `None` when there is no such run.
    ///
    /// Dropped in the middle, it is done or not done; what is done takes effect at once.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn cancel(&self, id: RunId) -> Result<Option<Run>, Error> {
        let scheduler = self.clone();
        let changed = self
            .to_the_end("cancel", async move { scheduler.change(id, |_| Input::Cancel, None).await })
            .await?;
        Ok(changed.map_err(unavailable)?.map(|(run, _)| run))
    }

    /// Sends the messages about a run once more.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn redeliver(&self, id: RunId) -> Result<u64, Error> {
        let inner = self.inner.clone();
        let sent = self.to_the_end("redeliver", async move {
            let sent = inner.store.redeliver(id, inner.clock.wall()).await;
            inner.told.notify_one();
            sent
        });
        sent.await?.map_err(unavailable)
    }

    /// Does what somebody asks for to its end, though he may leave in the middle: in a task of its own, as many at once as there
    /// are places.
    async fn to_the_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let defect =
            || Error::new(Code::Internal, format!("`{name}` stopped before its end; this is a defect"));
        let place = self.inner.changes.clone().acquire_owned().await.map_err(|_| defect())?;
        let (tell, told) = oneshot::channel();
        // The storage bounds its time, and places their number.
        task::spawn(name, async move {
            let _place = place;
            // Nobody may be there any more.
            let _ = tell.send(work.await);
        })
        .detach();
        told.await.map_err(|_| defect())
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
        let mut tasks = Tasks::new();
        while !inner.stopping.is_cancelled() {
            let looked = async {
                let more = self.end_overdue().await?;
                let pause = self.take_due(&mut tasks).await?;
                Ok::<_, store::Error>(if more { Duration::ZERO } else { pause })
            };
            let pause = match looked.await {
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
                Some(crashed) = tasks.next() => {
                    // Nobody has it in his hands any more; else that would be seen when its lease is over.
                    if let Some(id) = crashed
                        && let Err(e) = self.change(id, Input::Tick, None).await
                    {
                        tracing::error!(run = %id, error = %e, "failed to note that an attempt crashed");
                    }
                }
            }
        }
        while tasks.next().await.is_some() {}
    }

    /// Removes runs whose time is over, for ever, and gives their room back to the system, a little at a time.
    pub async fn sweep(self) {
        let inner = &*self.inner;
        let keep = i64::try_from(inner.settings.keep.as_millis()).unwrap_or(i64::MAX);
        loop {
            let before = UnixMillis(inner.clock.wall().0.saturating_sub(keep));
            let swept = async {
                while inner.store.expire(before, SWEPT, SWEPT_BYTES).await? > 0 {
                    task::sleep(BETWEEN).await;
                }
                while inner.store.shrink(PAGES).await? > 0 {
                    task::sleep(BETWEEN).await;
                }
                Ok::<_, store::Error>(())
            };
            if let Err(e) = swept.await {
                tracing::warn!(error = %e, "failed to remove runs whose time is over");
            }
            task::sleep(SWEEP).await;
        }
    }

    /// Counts open runs, for ever.
    pub async fn count(self) {
        let inner = &*self.inner;
        loop {
            match inner.store.lanes().await {
                Ok(lanes) => inner.counts.see(lanes),
                Err(e) => tracing::debug!(error = %e, "failed to count runs"),
            }
            task::sleep(COUNTED).await;
        }
    }

    /// What is leased to another process is lost: this one holds the folder's lock, so that one is dead.
    async fn take_over(&self) -> Result<(), store::Error> {
        let inner = &*self.inner;
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
                self.change(head.id, |_| Input::Dead { worker: worker.clone() }, None).await?;
            }
        }
        Ok(())
    }

    /// Ends what did not end within its time, whether it waits or is under way, and whether there is a place or not. Whether
    /// there may be more.
    async fn end_overdue(&self) -> Result<bool, store::Error> {
        let inner = &*self.inner;
        let unreadable = inner.unreadable.lock().clone();
        let limit = OVERDUE.saturating_add(u32::try_from(unreadable.len()).unwrap_or(u32::MAX));
        let mut overdue = inner.store.overdue(inner.clock.wall(), limit).await?;
        overdue.retain(|id| !unreadable.contains(id));
        for id in &overdue {
            self.change_or_leave(*id, Input::Tick).await?;
        }
        Ok(!overdue.is_empty())
    }

    /// Begins what is due, as far as there is room. How long nothing more will be.
    async fn take_due(&self, tasks: &mut Tasks) -> Result<Duration, store::Error> {
        let inner = &*self.inner;
        let of_target = inner.settings.parallel;
        let places = Places { of_target, all: of_target.saturating_mul(HANGING) };
        loop {
            let now = inner.clock.wall();
            let busy = self.busy();
            let unreadable = inner.unreadable.lock().clone();
            // Behind those that are under way, and may be due as well.
            let each = of_target.saturating_add(busy.most()).saturating_add(unreadable.len());
            let mut due = inner.store.due(now, u32::try_from(each).unwrap_or(u32::MAX)).await?;
            due.retain(|head| !unreadable.contains(&head.id));
            let chosen = choose(due, busy, places);
            if chosen.is_empty() {
                let next = inner.store.next_due(now).await?;
                let until =
                    next.map_or(LOOK.as_millis(), |t| u128::from(t.0.saturating_sub(now.0).unsigned_abs()));
                return Ok(Duration::from_millis(u64::try_from(until).unwrap_or(u64::MAX)).min(LOOK));
            }
            for head in chosen {
                if inner.stopping.is_cancelled() {
                    return Ok(Duration::ZERO);
                }
                for action in self.change_or_leave(head.id, Input::Take).await? {
                    let Action::Start { stage, attempt, .. } = action else { continue };
                    // From here on it is in our hands, before anybody looks at it again.
                    let held = Running::new(self, &head, &stage, attempt);
                    let id = head.id;
                    let work = task::spawn("run", self.clone().attempt(head.clone(), held));
                    tasks.push(Box::pin(async move { work.await.is_err().then_some(id) }));
                }
            }
        }
    }

    /// What is under way here.
    fn busy(&self) -> Busy {
        let mut busy = Busy::default();
        self.inner.running.lock().values().for_each(|held| busy.add(&held.target, &held.tenant));
        busy
    }

    /// This worker, and what of a run it has in its hands.
    fn here(&self, run: RunId) -> Here {
        let running = self.inner.running.lock();
        let own = running.iter().filter(|((id, _), _)| *id == run);
        Here {
            worker: self.inner.settings.worker.clone(),
            lease: self.inner.settings.lease,
            attempts: own.map(|((_, stage), held)| (stage.clone(), held.attempt)).collect(),
        }
    }

    /// A change of a run that is due. One that cannot be read holds nobody up; what the storage itself refuses, all wait for.
    async fn change_or_leave(
        &self,
        id: RunId,
        input: fn(Here) -> Input,
    ) -> Result<Vec<Action>, store::Error> {
        let inner = &*self.inner;
        match self.change(id, input, None).await {
            Ok(changed) => Ok(changed.map(|(_, actions)| actions).unwrap_or_default()),
            Err(e) if self.load(id).await.is_err() && inner.store.open().await.is_ok() => {
                tracing::error!(run = %id, error = %e, "failed to read a run's journal; it is left as it is");
                inner.unreadable.lock().insert(id);
                Ok(Vec::new())
            }
            Err(e) => Err(e),
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
        input: impl Fn(Here) -> Input,
        output: Option<&[u8]>,
    ) -> Result<Option<(Run, Vec<Action>)>, store::Error> {
        let inner = &*self.inner;
        for _ in 0..AGAIN {
            let Some(stored) = inner.store.get(id).await? else { return Ok(None) };
            let mut run = replay(id, &stored.entries)?;
            let after = run.entries();
            let actions = run.step(inner.clock.wall(), input(self.here(id)));
            let mut change = Change {
                id,
                after,
                entries: Vec::new(),
                status: run.status().as_str().to_owned(),
                due_at: run.due(),
                as_of: run.as_of(),
                ended_at: run.ended_at(),
                output: None,
                outbox: None,
            };
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
                    }
                    Action::Start { .. } | Action::Stop { .. } => {}
                }
            }
            if !change.entries.is_empty() && !inner.store.append(&change).await? {
                continue;
            }
            for action in &actions {
                if let Action::Record(entry) = action {
                    inner.counts.recorded(entry);
                }
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
            if let Some(held) = running.get(&(id, stage.clone()))
                && held.attempt == *attempt
            {
                held.stop.cancel();
            }
        }
    }
}

fn new_run(s: Submission, now: UnixMillis) -> Option<NewRun> {
    let mut run = Run::new(s.id);
    let (lane, deadline) = (s.plan.lane.rank(), s.plan.deadline);
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
        target: s.target,
        status: run.status().as_str().to_owned(),
        lane,
        at: now,
        due_at: run.due()?,
        as_of: run.as_of(),
        deadline,
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

/// What a caller is told whose runs were not taken in.
fn refused(e: store::Error) -> Error {
    let store::Error::RunsFull { tenant, runs, bytes } = e else { return unavailable(e) };
    let later = RetryHint::After(Duration::from_secs(60));
    match tenant {
        None => {
            let m = format!("{runs} jobs are waiting already: try again when some have ended");
            Error::new(Code::Overloaded, m).retry(later)
        }
        Some(tenant) => {
            let m = format!(
                "{runs} jobs of this tenant with {bytes} bytes are waiting already: try again when some have ended"
            );
            Error::new(Code::Overloaded, m).retry(later).limit_source(format!("tenant:{tenant}"))
        }
    }
}

/// What a caller is told of a storage that cannot be used.
pub(super) fn unavailable(e: store::Error) -> Error {
    tracing::error!(error = %e, "failed to use the storage of runs");
    let m = "the storage cannot be used now: see the server's log";
    Error::new(Code::StorageUnavailable, m).retry(RetryHint::After(Duration::from_secs(5)))
}
