//! Where runs are kept: a head for each, its journal, the outputs of its stages, and the outbox of what is to be told about
//! it. The journal's entries are opaque here: whoever decides about runs writes and reads them.

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::Error;

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
    /// How it is doing, in one word.
    pub status: String,
    /// Larger goes first.
    pub lane: i64,
    /// When it was submitted.
    pub at: UnixMillis,
    /// When it is to be looked at.
    pub due_at: UnixMillis,
    /// The beginning of its journal.
    pub entries: Vec<String>,
    /// What it is given.
    pub input: Vec<u8>,
    /// What makes a second submission the same one.
    pub key: Option<SubmitKey>,
}

/// What makes two submissions of a tenant the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitKey {
    /// As the caller named it.
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
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// The output of a stage.
    pub output: Option<Output>,
    /// What is to be told about it.
    pub outbox: Option<NewDelivery>,
}

/// A message that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The message's id: the same for every try.
    pub id: String,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
    /// When.
    pub at: UnixMillis,
}

/// How a delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It will be tried.
    Waiting,
    /// It was taken.
    Delivered,
    /// Every try failed.
    Failed,
    /// The receiver said that it is gone for good: nothing is sent there any more.
    Disabled,
}

impl DeliveryState {
    /// The name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Waiting => "waiting",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Failed => "failed",
            DeliveryState::Disabled => "disabled",
        }
    }
}

/// A message of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id.
    pub id: String,
    /// The run it is about.
    pub run: RunId,
    /// Whose run that is.
    pub tenant: TenantId,
    /// To where.
    pub url: String,
    /// What is said.
    pub body: Vec<u8>,
    /// How it is doing.
    pub state: DeliveryState,
    /// Since when it is in the outbox.
    pub created_at: UnixMillis,
    /// When it is tried next.
    pub next_at: Option<UnixMillis>,
    /// How often it was tried.
    pub tries: u32,
    /// When it was tried last.
    pub tried_at: Option<UnixMillis>,
    /// The status of the last answer.
    pub answer: Option<u16>,
    /// What went wrong last.
    pub problem: Option<String>,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When.
    pub at: UnixMillis,
    /// How the delivery is doing now.
    pub state: DeliveryState,
    /// When it is tried next, when it waits.
    pub next_at: Option<UnixMillis>,
    /// The status of the answer.
    pub answer: Option<u16>,
    /// What went wrong.
    pub problem: Option<String>,
}

/// Where runs are kept.
///
/// Contract: every change is one transaction that is on disk when its future resolves; dropping the future leaves it done or
/// not done, never half. A change is applied only to the journal it was decided on, so two deciders cannot both win. Reads see
/// every change that ended before they began.
pub trait RunStore: Send + Sync {
    /// Makes runs, all or, on an error, none. What was submitted under a key before is not made again.
    fn submit<'a>(&'a self, runs: &'a [NewRun]) -> BoxFuture<'a, Result<Vec<Submitted>, Error>>;
    /// Applies a change; `false` when the journal is not as long as the change says, and nothing was done.
    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<bool, Error>>;
    /// A run with its journal.
    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredRun>, Error>>;
    /// What a run was given.
    fn input(&self, id: RunId) -> BoxFuture<'_, Result<Option<Vec<u8>>, Error>>;
    /// The outputs of a run's stages.
    fn outputs(&self, id: RunId) -> BoxFuture<'_, Result<Vec<Output>, Error>>;
    /// Runs that are to be looked at: the highest lane first, then the oldest.
    fn due(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<RunHead>, Error>>;
    /// When a run is to be looked at next, later than `now`.
    fn next_due(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>>;
    /// Runs in that state, oldest first.
    fn in_state<'a>(&'a self, status: &'a str) -> BoxFuture<'a, Result<Vec<RunHead>, Error>>;
    /// How many have not ended.
    fn open(&self) -> BoxFuture<'_, Result<u64, Error>>;
    /// Of a tenant: how many have not ended, and the bytes of their inputs together.
    fn held<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(u64, u64), Error>>;
    /// The newest first, of a tenant or of all, from behind `after` on.
    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>>;
    /// Removes a run that has ended, with all that is kept of it; `false` when there is none, or it goes on.
    fn remove(&self, id: RunId) -> BoxFuture<'_, Result<bool, Error>>;
    /// Removes runs that ended before `before`, at most `limit`, with all that is kept of them; not while a message about one
    /// waits. How many it were.
    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>>;

    /// Messages that are to be tried, the longest due first.
    fn deliveries_due(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;
    /// When a message is to be tried next.
    fn next_delivery(&self) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>>;
    /// The messages about a run, oldest first.
    fn deliveries(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;
    /// Notes what became of the try that followed `tries` others; `false` when another was noted since. A receiver that is
    /// disabled gets nothing more of its tenant.
    fn tried<'a>(&'a self, id: &'a str, tries: u32, tried: &'a Tried) -> BoxFuture<'a, Result<bool, Error>>;
    /// Sends the messages about a run once more, under their own ids, also to a receiver that was disabled. How many.
    fn redeliver(&self, run: RunId, now: UnixMillis) -> BoxFuture<'_, Result<u64, Error>>;
}
