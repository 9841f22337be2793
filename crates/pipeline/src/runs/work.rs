//! What the scheduler asks of whoever does the work.

use contract::{BoxFuture, Error, RunId, StageName, TenantId};

use super::run::Run;

/// One attempt of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The run.
    pub run: RunId,
    /// Whose run it is.
    pub tenant: TenantId,
    /// The stage.
    pub stage: StageName,
    /// Which attempt, from 1: no other attempt of the stage has this number, whatever dies.
    pub attempt: u32,
    /// What the run is about, in short.
    pub about: String,
    /// What it is given.
    pub input: Vec<u8>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What is kept when this ends the stage, well or not.
    pub output: Vec<u8>,
    /// Whether it did.
    pub result: Result<(), Error>,
}

/// Whoever does the work.
///
/// Contract: attempts are at-least-once, so one may be begun whose forerunner has done everything but say so. Dropping the
/// future ends the attempt. It is called for an attempt once.
pub trait Execute: Send + Sync {
    /// Does it.
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished>;

    /// How far the attempt at a run is: units done, and how many there are when that is known. `None` when that is not known.
    fn progress(&self, run: RunId) -> Option<(u64, Option<u64>)>;

    /// What is told about a run that has just ended, to whom, in the transaction of its end. `head` is as it was
    /// before; `output` is what the last
    /// attempt left, when one ended it.
    fn announce(&self, run: &Run, head: &store::RunHead, output: Option<&[u8]>)
    -> Option<store::NewDelivery>;

    /// Is told that a run has ended, once that is on disk. `head` is as it was before.
    fn ended(&self, head: &store::RunHead);
}
