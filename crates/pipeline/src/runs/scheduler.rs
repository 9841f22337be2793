//! The one scheduler: brings what [`Run`] decides to disk, and only then lets it happen.
//!
//! It takes runs that are due, in the order of [turns](super::turns), as many at once as it is told, and sleeps until
//! something is submitted, something becomes due, or something ends. Every decision is made on a journal that was just read
//! and applied only if nobody wrote to that journal since; else it is made again. So several processes may cancel or look at a
//! run while one works on it.
//!
//! Invariant: what others ask for (submit, cancel) goes to its end once it was begun, also when whoever asked is gone: what is
//! on disk takes effect at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Error, RetryHint, RunId, StageName, TenantId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use store::{Part, RunStore, SubmitKey};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::active::Active;
use super::counts::Counts;
use super::entry::{Entry, Plan};
use super::run::Run;
use super::state::{Action, Input};
use super::work::Execute;
use crate::task;

/// How long it waits when the storage cannot be used.
pub(super) const STORAGE: Duration = Duration::from_secs(1);
/// Changes that others ask for, at once.
const CHANGES: usize = 64;

/// How it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Attempts at once, of each target.
    pub parallel: usize,
    /// Attempts at once of each concurrency group, over all runs of this process.
    pub groups: BTreeMap<String, usize>,
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
    /// The batch that it is a line of.
    pub part: Option<Part>,
    /// What another run has done of the same plan and is not done again.
    pub adopt: Option<Adopt>,
}

/// What another run has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// The run.
    pub from: RunId,
    /// Stages, in the order of the plan, with their outputs.
    pub outputs: Vec<(StageName, Vec<u8>)>,
}

/// The scheduler. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Scheduler {
    pub(super) inner: Arc<Inner>,
}

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
    /// The other workers that lived when it was last asked.
    pub(super) living: Mutex<Vec<String>>,
    pub(super) counts: Arc<Counts>,
    /// Places for what others ask for.
    pub(super) changes: Arc<Semaphore>,
    /// Runs at work here, as they are.
    pub(super) active: Active,
    /// Whether runs wait for a place: then whoever has one gives it back.
    pub(super) pressed: AtomicBool,
    /// Runs whose journal cannot be read, as far as that was seen: left as they are.
    pub(super) unreadable: Mutex<HashSet<RunId>>,
}

/// An attempt under way in this process.
pub(super) struct Held {
    pub(super) attempt: u32,
    pub(super) stop: CancellationToken,
    pub(super) tenant: TenantId,
    pub(super) target: String,
    pub(super) group: Option<String>,
    /// It waits for another run, and takes no place meanwhile.
    pub(super) rests: bool,
}

/// Attempts under way; each gives its run when it ended before it could say so.
pub(super) type Tasks = FuturesUnordered<BoxFuture<'static, Option<RunId>>>;

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
            living: Mutex::default(),
            counts: Arc::default(),
            changes: Arc::new(Semaphore::new(CHANGES)),
            active: Active::default(),
            pressed: AtomicBool::new(false),
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

    /// Runs whose journal cannot be read, as far as that was seen: nothing is done about them.
    pub fn unreadable(&self) -> HashSet<RunId> {
        self.inner.unreadable.lock().clone()
    }

    /// Attempts under way in this process.
    pub fn running(&self) -> usize {
        self.inner.running.lock().len()
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

    /// Works until it is stopped and what was under way is over. What dead processes held is taken over first.
    pub async fn work(self) {
        let inner = &*self.inner;
        while let Err(e) = self.take_over().await {
            tracing::error!(error = %e, "failed to take over the runs of dead processes");
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
                        && let Err(e) = self.change(id, |here| vec![Input::Tick(here)], None).await
                    {
                        tracing::error!(run = %id, error = %e, "failed to note that an attempt crashed");
                    }
                }
            }
        }
        while tasks.next().await.is_some() {}
    }

    /// A run as its journal has it now.
    ///
    /// # Errors
    /// The storage's.
    pub async fn load(&self, id: RunId) -> Result<Option<Run>, store::Error> {
        let Some(stored) = self.inner.store.get(id).await? else { return Ok(None) };
        replay(id, &stored.entries).map(Some)
    }

    /// Whether an attempt at a run is under way here.
    pub(super) fn is_here(&self, id: RunId) -> bool {
        self.inner.running.lock().keys().any(|(run, _)| *run == id)
    }

    pub(super) fn stop_attempts(&self, id: RunId, actions: &[Action]) {
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

/// The run that stored entries describe.
pub(super) fn replay(id: RunId, entries: &[String]) -> Result<Run, store::Error> {
    let entries: Vec<Entry> = entries.iter().map(|e| serde_json::from_str(e)).collect::<Result<_, _>>()?;
    Ok(Run::replay(id, &entries))
}

/// What a caller is told of a storage that cannot be used.
pub(crate) fn unavailable(e: store::Error) -> Error {
    tracing::error!(error = %e, "failed to use the storage of runs");
    let m = "the storage cannot be used now: see the server's log";
    Error::new(Code::StorageUnavailable, m).retry(RetryHint::After(Duration::from_secs(5)))
}
