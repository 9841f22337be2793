//! Where batches are kept: a head for each, whose meaning is opaque here, and the runs that are its lines ([`crate::Part`]).

use contract::{BoxFuture, RunId, TenantId, UnixMillis};

use crate::{Error, NewDelivery, RunHead};

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its id, of the same kind as a run's.
    pub id: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Rises with each change.
    pub version: u64,
    /// All else, in the words of whoever made it.
    pub about: String,
}

/// What happens to a batch at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchChange {
    /// The batch.
    pub id: RunId,
    /// Its version when this was decided.
    pub version: u64,
    /// What is known of it from now on.
    pub about: String,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// The ids of the files that it left.
    pub files: [Option<String>; 2],
    /// What is to be told about it.
    pub outbox: Option<NewDelivery>,
}

/// A line and what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOutput {
    /// Which line.
    pub number: u64,
    /// Its run.
    pub head: RunHead,
    /// What its run's stage left, when it left anything.
    pub output: Option<Vec<u8>>,
}

/// Where batches are kept.
///
/// Contract: as of [`crate::RunStore`]: every change is one transaction, and is applied only to the version that it was decided
/// on.
pub trait BatchStore: Send + Sync + std::fmt::Debug {
    /// Keeps a new one, unless its tenant would have more than `most` that go on. Whether it did.
    fn create<'a>(&'a self, batch: &'a StoredBatch, most: u64) -> BoxFuture<'a, Result<bool, Error>>;
    /// A batch.
    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredBatch>, Error>>;
    /// The newest first, of a tenant or of all, from behind `after` on.
    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, Error>>;
    /// Those that have not ended, the oldest first.
    fn open(&self) -> BoxFuture<'_, Result<Vec<StoredBatch>, Error>>;
    /// Applies a change; `false` when the batch has another version, and nothing was done.
    fn update<'a>(&'a self, change: &'a BatchChange) -> BoxFuture<'a, Result<bool, Error>>;
    /// How many lines of a batch are how, by the words of their runs.
    fn counts(&self, id: RunId) -> BoxFuture<'_, Result<Vec<(String, u64)>, Error>>;
    /// The runs of lines that have not ended, at most `limit`.
    fn open_parts(&self, id: RunId, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>>;
    /// Lines in the order of their numbers, from behind `after` on, whether they have ended or not.
    fn parts(
        &self,
        id: RunId,
        after: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartOutput>, Error>>;
    /// Removes at most `limit` lines of batches that have ended, whichever, whether they have ended themselves or not. How many
    /// it were. Nothing is written when there are none.
    fn clear(&self, limit: u32) -> BoxFuture<'_, Result<u64, Error>>;
    /// Removes batches that ended before `before` and of which no file is left, at most `limit`; not while a message about
    /// one waits. How many it were. Nothing is written when there are none.
    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>>;
}
