//! Results of stages by the hash of all that they were made of, so that a run takes what an earlier one made of the same; and
//! what each was made of, so that a run can say why it made one again.

use contract::{BoxFuture, RunId, TenantId, UnixMillis};

use crate::Error;

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageResult {
    /// The hash of all that it was made of. Whose it is is part of that.
    pub key: [u8; 32],
    /// Whose.
    pub tenant: TenantId,
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// The run that made it.
    pub run: RunId,
    /// What it was made of, part by part, as JSON.
    pub of: String,
    /// The result.
    pub value: Vec<u8>,
    /// When.
    pub at: UnixMillis,
}

/// A result's key and its value.
pub type KeyedValue = ([u8; 32], Vec<u8>);

/// Where results are kept.
///
/// Contract: the first result of a key is kept, later ones are not: whoever depends on it goes on with equal values. A lost
/// result costs a stage that is run again and nothing else.
pub trait ResultStore: Send + Sync {
    /// The result of that key.
    fn get<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<Option<StageResult>, Error>>;
    /// The result of that key; when there is none, the newest of that stage (a tenant's, of a pipeline), whatever it was made of,
    /// without its value.
    fn look<'a>(
        &'a self,
        key: &'a [u8; 32],
        stage: (&'a TenantId, &'a str, &'a str),
    ) -> BoxFuture<'a, Result<Option<StageResult>, Error>>;
    /// Keeps a result, unless there is one of that key: of that only the time is new.
    fn put<'a>(&'a self, result: &'a StageResult) -> BoxFuture<'a, Result<(), Error>>;
    /// The keys and values of results, by their keys, those behind `after`.
    fn page<'a>(
        &'a self,
        after: Option<&'a [u8; 32]>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<KeyedValue>, Error>>;
    /// Removes a result, when there is one of that key.
    fn forget<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<(), Error>>;
    /// Removes results that nobody put since then. How many.
    fn expire(&self, before: UnixMillis) -> BoxFuture<'_, Result<u64, Error>>;
}
