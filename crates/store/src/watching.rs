//! Where it is kept how what is watched stands: one text for each name, opaque here.

use contract::BoxFuture;

use crate::Error;

/// What is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWatching {
    /// Rises by one with each change, from 1.
    pub version: u64,
    /// What was kept.
    pub memory: String,
}

/// Where it is kept.
///
/// Contract: as of [`crate::RunStore`]: a change is on disk when its future resolves, and is applied only to the version that it
/// was decided on, so two deciders cannot both win.
pub trait WatchStore: Send + Sync + std::fmt::Debug {
    /// What is kept under a name.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredWatching>, Error>>;
    /// Keeps this instead of version `after`, 0 when there is none yet; `false` when there is another, and nothing was done.
    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>>;
}
