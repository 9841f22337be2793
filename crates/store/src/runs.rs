//! Where runs are kept: a head for each, its journal, the outputs of its stages, and the outbox of what is to be told about
//! it. The journal's entries are opaque here: whoever decides about runs writes and reads them.

use std::time::Duration;

use contract::{BoxFuture, RunId, TenantId, UnixMillis};

use crate::{Delivery, DueDelivery, Error, NewDelivery, NewLineage, SecretNumber, StageResult, Tried};

/// A run that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What sort of run it is: `job`.
    pub kind: String,
    /// What it is about, in short.
    pub about: String,
    /// What does the work: runs of one target do not wait for those of another.
    pub target: String,
    /// How it is doing, in one word.
    pub status: String,
    /// Larger goes first.
    pub lane: i64,
    /// When it was submitted.
    pub at: UnixMillis,
    /// When it is to be looked at.
    pub due_at: UnixMillis,
    /// When that was decided, if it is a pause from then on and no date.
    pub as_of: Option<UnixMillis>,
    /// By when it must have ended.
    pub deadline: Option<UnixMillis>,
    /// The beginning of its journal.
    pub entries: Vec<String>,
    /// What it is given.
    pub input: Vec<u8>,
    /// What makes a second submission the same one.
    pub key: Option<SubmitKey>,
    /// The batch that it is a line of.
    pub part: Option<Part>,
    /// Outputs of stages that another run had made.
    pub outputs: Vec<Output>,
}

/// The place of a run in a batch. Whoever made the batch shows, ends and removes it: lists and sweeps of runs leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The batch.
    pub of: RunId,
    /// Which line.
    pub number: u64,
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Open runs of all tenants together.
    pub runs: u64,
    /// A tenant that has as many open ones submits no more.
    pub of_tenant: u64,
    /// A tenant whose open runs' inputs are as many bytes submits no more.
    pub bytes_of_tenant: u64,
}

/// What makes two submissions of a tenant the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitKey {
    /// As the caller named it, with whatever else tells callers of the tenant apart.
    pub key: String,
    /// The hash of what was submitted under it.
    pub hash: [u8; 32],
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// There is a new run.
    New,
    /// The same was submitted under that key before: this run.
    Known(RunId),
    /// Something else was submitted under that key before.
    Other,
}

/// What lists show of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHead {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What sort of run it is.
    pub kind: String,
    /// What it is about, in short.
    pub about: String,
    /// What does the work.
    pub target: String,
    /// Larger goes first.
    pub lane: i64,
    /// How it is doing.
    pub status: String,
    /// When it was submitted.
    pub submitted_at: UnixMillis,
    /// When it is to be looked at; `None` when it has ended.
    pub due_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// How long its journal is.
    pub entries: u64,
}

/// A run and its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// Its head.
    pub head: RunHead,
    /// Its journal.
    pub entries: Vec<String>,
}

/// The output of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The key of the effect: taken once for ever.
    pub key: String,
    /// The stage.
    pub stage: String,
    /// The output.
    pub value: Vec<u8>,
}

/// What happens to a run at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The run.
    pub id: RunId,
    /// How long its journal was when this was decided.
    pub after: u64,
    /// What its journal says from now on.
    pub entries: Vec<String>,
    /// How it is doing.
    pub status: String,
    /// When it is to be looked at; `None` when it has ended.
    pub due_at: Option<UnixMillis>,
    /// When that was decided, if it is a pause from then on and no date.
    pub as_of: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Whether what was asked outlives the end, for a run that goes on with this one. Else it goes with the end: it may be what
    /// nobody else is to read.
    pub keeps_input: bool,
    /// The output of a stage.
    pub output: Option<Output>,
    /// What other runs take of the stage that would make the same.
    pub result: Option<StageResult>,
    /// What the stage made of what.
    pub lineage: Option<NewLineage>,
    /// What is to be told about it.
    pub outbox: Option<NewDelivery>,
    /// Whether it outlives the machine's power from then on, and all changes before it. Else it outlives the process alone, and
    /// after a loss of power the run may be as it was before it; never with a later change and without this one.
    pub synced: bool,
}

/// Open runs of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneCount {
    /// The lane.
    pub lane: i64,
    /// Whether somebody is at them.
    pub running: bool,
    /// How many.
    pub runs: u64,
    /// When the oldest was submitted.
    pub oldest: UnixMillis,
}

/// Where runs are kept.
///
/// Contract: every change is one transaction that is on disk when its future resolves (see [`Change::synced`]); dropping the future leaves it done or
/// not done, never half. A change is applied only to the journal it was decided on, so two deciders cannot both win. Reads see
/// every change that ended before they began.
pub trait RunStore: Send + Sync {
    /// Makes runs, all or, on an error, none. What was submitted under a key before is not made again, and is known also
    /// when there is no room: [`Error::RunsFull`] is said of new ones alone.
    fn submit<'a>(
        &'a self,
        runs: &'a [NewRun],
        room: &'a Room,
    ) -> BoxFuture<'a, Result<Vec<Submitted>, Error>>;
    /// Applies a change; `false` when the journal is not as long as the change says, and nothing was done.
    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<bool, Error>>;
    /// A run with its journal.
    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredRun>, Error>>;
    /// What a run was given.
    fn input(&self, id: RunId) -> BoxFuture<'_, Result<Option<Vec<u8>>, Error>>;
    /// One of them, by its key.
    fn output<'a>(&'a self, id: RunId, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>>;
    /// The outputs of a run's stages.
    fn outputs(&self, id: RunId) -> BoxFuture<'_, Result<Vec<Output>, Error>>;
    /// Runs that are to be looked at: of each target and tenant the first `each`, the highest lane first, then the oldest.
    /// One whose pause was decided later than `now` is due: the wall clock went back, and how much of the pause is over
    /// nobody knows.
    fn due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<RunHead>, Error>>;
    /// Open runs whose deadline has passed, the longest first.
    fn overdue(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>>;
    /// When a run is to be looked at next, or its deadline passes, later than `now`.
    fn next_due(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>>;
    /// Runs in that state, oldest first.
    fn in_state<'a>(&'a self, status: &'a str) -> BoxFuture<'a, Result<Vec<RunHead>, Error>>;
    /// Open runs by lane.
    fn lanes(&self) -> BoxFuture<'_, Result<Vec<LaneCount>, Error>>;
    /// How many have not ended.
    fn open(&self) -> BoxFuture<'_, Result<u64, Error>>;
    /// Of a tenant: how many have not ended, and the bytes of their inputs together.
    fn held<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(u64, u64), Error>>;
    /// Those of a sort, the newest first, of a tenant or of all, from behind `after` on; not those that are parts.
    fn list<'a>(
        &'a self,
        kind: &'a str,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>>;
    /// Those of a sort that ended behind `after`, in the order of their ends and, of one time, of their ids; not those that are parts.
    /// All from a time on: behind that time and no run.
    fn ended<'a>(
        &'a self,
        kind: &'a str,
        after: (UnixMillis, Option<RunId>),
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>>;
    /// Removes a run that has ended, with all that is kept of it; `false` when there is none, it goes on, or it is a part.
    fn remove(&self, id: RunId) -> BoxFuture<'_, Result<bool, Error>>;
    /// Removes runs that ended before `before` and are no parts, with all that is kept of them, the longest ended first: at most `limit`, and
    /// none behind the first `bytes` of outputs and messages; not while a message about one waits. How many it were.
    fn expire(&self, before: UnixMillis, limit: u32, bytes: u64) -> BoxFuture<'_, Result<u64, Error>>;
    /// Notes that `worker` lives, and names the others that said so within the last `within`, by the clock of the store: none on a
    /// store that one process works on. A worker says so before it takes anything, and again while it works.
    fn living<'a>(&'a self, worker: &'a str, within: Duration) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        let _ = (worker, within);
        Box::pin(async { Ok(Vec::new()) })
    }
    /// Is done when another process may have made something due, or somebody put a message into the outbox that is not about a run.
    /// What another process does on a store that one works on is not heard, and what comes while nobody waits here may be missed.
    fn woken(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::pending())
    }
    /// Gives up to that many pages of the file that hold nothing back to the system. How many are left that do.
    fn shrink(&self, pages: u32) -> BoxFuture<'_, Result<u64, Error>>;

    /// Messages that are to be tried: of each tenant and receiver the first `each`, the longest due first. As of runs, one
    /// whose pause was decided later than `now` is due.
    fn deliveries_due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<DueDelivery>, Error>>;
    /// A message.
    fn delivery<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Delivery>, Error>>;
    /// A message that is due, for whoever asks first to try it now: no other process is given it for `lease`, by the clock of the
    /// store, unless a try was noted before. `None` when there is none, it is not due any more, or another has it. A store that
    /// one process works on gives it as it is.
    fn take_delivery<'a>(
        &'a self,
        id: &'a str,
        now: UnixMillis,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<Delivery>, Error>> {
        let _ = (now, lease);
        self.delivery(id)
    }
    /// When a message is to be tried next, later than `now`.
    fn next_delivery(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>>;
    /// The messages about a run, oldest first.
    fn deliveries(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;
    /// Notes what became of the try that followed `tries` others; `false` when another was noted since. A receiver that is
    /// disabled gets nothing more of its tenant.
    fn tried<'a>(&'a self, id: &'a str, tries: u32, tried: &'a Tried) -> BoxFuture<'a, Result<bool, Error>>;
    /// Sends the messages about a run once more, under their own ids, also to a receiver that was disabled. How many.
    fn redeliver(&self, run: RunId, now: UnixMillis) -> BoxFuture<'_, Result<u64, Error>>;
    /// Which secret a tenant's messages are signed with.
    fn secret<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<SecretNumber, Error>>;
    /// Signs a tenant's messages with the next one from now on. Which that is.
    fn next_secret<'a>(
        &'a self,
        tenant: &'a TenantId,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<SecretNumber, Error>>;
}
