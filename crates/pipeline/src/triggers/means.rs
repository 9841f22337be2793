//! Whom the loop asks: who knows versions of datasets, and who starts runs and knows of them.

use contract::{BoxFuture, Error, PipelineName, RunId, UnixMillis};

use super::happens::Took;
use super::plan::StartRun;
use crate::runs::Status;

/// Whoever knows the versions of datasets.
pub trait Watch: Send + Sync {
    /// The newest version of a dataset; `None` when it has none.
    fn version<'a>(&'a self, dataset: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>>;
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRun {
    /// Which.
    pub run: RunId,
    /// How it ended.
    pub status: Status,
    /// When.
    pub at: UnixMillis,
}

/// Whoever starts runs, and knows of them.
pub trait Start: Send + Sync {
    /// Starts a run, or finds the one that was started under that key before. `None` when there is no room for it now.
    ///
    /// # Errors
    /// Of class [`Class::Invalid`] or [`Class::Denied`] when it can never be; it is not asked for again. After any other it is.
    fn start(&self, start: StartRun) -> BoxFuture<'_, Result<Option<RunId>, Error>>;
    /// How a run is doing; `None` when it is not there any more.
    fn status(&self, run: RunId) -> BoxFuture<'_, Result<Option<Status>, Error>>;
    /// Runs of a pipeline that ended at or after `since`, whoever started them, in any order. All of them: triggers ask for those of
    /// the last minutes.
    fn ended<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        since: UnixMillis,
    ) -> BoxFuture<'a, Result<Vec<EndedRun>, Error>>;
}

/// What came of an event or a call for one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Whether it was taken.
    pub took: Took,
    /// The run that it started at once. It may start one later.
    pub run: Option<RunId>,
    /// Why the run that it would have started cannot be: it was not taken, and can be sent again.
    pub refused: Option<String>,
}
