//! What somebody that decides again and again has to remember: one text for each name, opaque here.
//!
//! Two things remember: the triggers of a pipeline what they have seen, and what is watched how it stands. Each has a table of its
//! own ([`Statements`]) and is the same [`MemoryStore`].

use contract::BoxFuture;

use crate::Error;

/// What is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMemory {
    /// Rises by one with each change, from 1.
    pub version: u64,
    /// What was kept.
    pub memory: String,
}

/// Where it is kept.
///
/// Contract: as of [`crate::RunStore`]: a change is on disk when its future resolves, and is applied only to the version that it
/// was decided on, so two deciders cannot both win.
pub trait MemoryStore: Send + Sync + std::fmt::Debug {
    /// What is kept under a name.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredMemory>, Error>>;
    /// Keeps this instead of version `after`, 0 when there is none yet; `false` when there is another, and nothing was done.
    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>>;
}

/// The statements of one table, the same in every SQL database.
#[derive(Debug, Clone, Copy)]
pub struct Statements {
    /// Of a name `$1`: version and memory.
    pub get: &'static str,
    /// Of a name `$1` that has none, after `$2` the memory `$3`.
    pub first: &'static str,
    /// Of a name `$1`, after version `$2` the memory `$3`.
    pub next: &'static str,
}

impl Statements {
    /// What triggers have seen, by pipeline.
    pub const TRIGGERS: Self = Statements {
        get: "SELECT version, memory FROM triggers WHERE pipeline = $1",
        first: "INSERT INTO triggers (pipeline, version, memory) VALUES ($1, $2 + 1, $3) \
                ON CONFLICT (pipeline) DO NOTHING",
        next: "UPDATE triggers SET version = $2 + 1, memory = $3 WHERE pipeline = $1 AND version = $2",
    };
    /// How what is watched stands, by its name.
    pub const WATCHING: Self = Statements {
        get: "SELECT version, memory FROM watching WHERE name = $1",
        first: "INSERT INTO watching (name, version, memory) VALUES ($1, $2 + 1, $3) \
                ON CONFLICT (name) DO NOTHING",
        next: "UPDATE watching SET version = $2 + 1, memory = $3 WHERE name = $1 AND version = $2",
    };

    /// The statement that keeps something instead of version `after`. Two at once wait for each other in it, and the second finds
    /// another version.
    pub fn set(&self, after: u64) -> &'static str {
        if after == 0 { self.first } else { self.next }
    }
}
