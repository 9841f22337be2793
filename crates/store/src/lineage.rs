//! Facts of lineage: what was made of what, by whom. A fact is opaque here but for its ends, by which it is found.

use contract::{BoxFuture, TenantId, UnixMillis};

use crate::Error;

/// Whether something was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineageRole {
    /// It was read.
    Input,
    /// It was written.
    Output,
}

impl LineageRole {
    /// The number in the database.
    pub const fn number(self) -> i64 {
        match self {
            LineageRole::Input => 0,
            LineageRole::Output => 1,
        }
    }

    /// The role of that number.
    pub const fn of(number: i64) -> LineageRole {
        if number == 0 { LineageRole::Input } else { LineageRole::Output }
    }
}

/// One end of a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageEnd {
    /// Read or written.
    pub role: LineageRole,
    /// What sort of thing: `dataset`.
    pub kind: String,
    /// What it is called, in at most [`LineageEnd::NAME`] bytes.
    pub name: String,
    /// What tells its states apart, in at most [`LineageEnd::VERSION`] bytes; empty when nothing does.
    pub version: String,
    /// The number of its version.
    pub number: Option<u64>,
}

impl LineageEnd {
    /// The longest name of a thing, a run or a job, in bytes: what an index can hold.
    pub const NAME: usize = 768;
    /// The longest version.
    pub const VERSION: usize = 256;
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageFact {
    /// What makes a second fact the same one.
    pub key: [u8; 32],
    /// Whose.
    pub tenant: TenantId,
    /// The run that it is of: `run_…`, or another's name for a run. Empty when it is of none.
    pub run: String,
    /// What ran: `PIPELINE.STAGE`.
    pub job: String,
    /// When.
    pub at: UnixMillis,
    /// All that is known, as JSON.
    pub body: String,
}

/// A fact that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLineage {
    /// It.
    pub fact: LineageFact,
    /// Its ends; one that is there twice counts once.
    pub ends: Vec<LineageEnd>,
}

/// A state of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineageVersion {
    /// By what tells its states apart.
    Name(String),
    /// By its number.
    Number(u64),
}

/// Facts that are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageQuery {
    /// Of this tenant alone.
    pub tenant: Option<TenantId>,
    /// Where the thing was read, or where it was written.
    pub role: LineageRole,
    /// What sort of thing.
    pub kind: String,
    /// What it is called.
    pub name: String,
    /// In this state: all facts. In any: the newest of each job.
    pub version: Option<LineageVersion>,
    /// At most so many.
    pub limit: u32,
}

/// Where facts are kept.
///
/// Contract: the first fact of a key is kept, later ones are not. Facts of a call are there all or none. Reads see every fact
/// whose call, or whose [`Change`](crate::Change), ended before they began. What a fact says stays when its run is removed.
pub trait LineageStore: Send + Sync {
    /// Keeps facts. How many of them were new.
    fn put<'a>(&'a self, facts: &'a [NewLineage]) -> BoxFuture<'a, Result<u64, Error>>;
    /// Facts that a thing is an end of, the newest first.
    fn around<'a>(&'a self, query: &'a LineageQuery) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>>;
    /// The facts of a run, the oldest first; of one job alone, if one is given.
    fn of_run<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        run: &'a str,
        job: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>>;
    /// The newest facts of a job.
    fn of_job<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        job: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>>;
    /// Kinds and names of things that are called so, or of which that is a version; at most `limit`.
    fn called<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        text: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Error>>;
    /// Names of that kind, in order, at most `limit`: for whoever asked for one that there is not.
    fn names<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        kind: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>>;
    /// Removes at most `limit` facts that are older than `before`, the oldest first. How many.
    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>>;
}
