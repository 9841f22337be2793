//! What the scheduler asks of whoever does the work.

use std::collections::HashMap;
use std::sync::Arc;

use contract::{BoxFuture, Error, RunId, StageName, TenantId};

use super::entry::StagePlan;
use super::run::Run;

/// One attempt of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The run.
    pub run: RunId,
    /// What sort of run it is.
    pub kind: String,
    /// Whose run it is.
    pub tenant: TenantId,
    /// The stage.
    pub stage: Arc<StagePlan>,
    /// The key of its effect: equal for all its attempts.
    pub key: String,
    /// Which attempt, from 1: no other attempt of the stage has this number, whatever dies.
    pub attempt: u32,
    /// What the run is about, in short.
    pub about: String,
    /// What the run is given.
    pub input: Arc<[u8]>,
    /// What the stages gave that it needs.
    pub given: Vec<(StageName, Given)>,
}

/// What a stage is given of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Its output.
    Output(Arc<[u8]>),
    /// The value that this stage's specification names.
    Default(Arc<StagePlan>),
    /// Nothing: it is skipped.
    Nothing,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What is kept when this ends the stage, well or not.
    pub output: Vec<u8>,
    /// Whether it did.
    pub result: Result<(), Error>,
    /// Whether the output is usable though it failed: whether that is one says the stage's contract.
    pub partial: bool,
    /// The run that had made that output of the same, when nothing was done.
    pub reused: Option<RunId>,
    /// Why it was made, or was not: for people.
    pub note: Option<String>,
    /// What other runs take that would make the same, which is kept when this ends the stage well. Its value is the output.
    pub result_of: Option<Box<store::StageResult>>,
    /// What it made of what, which is kept when this ends the stage well.
    pub lineage: Option<Box<store::NewLineage>>,
}

impl Finished {
    /// It has an output.
    pub fn done(output: Vec<u8>) -> Finished {
        Finished {
            output,
            result: Ok(()),
            partial: false,
            reused: None,
            note: None,
            result_of: None,
            lineage: None,
        }
    }

    /// It failed.
    pub fn failed(error: Error) -> Finished {
        Finished { result: Err(error), ..Finished::done(Vec::new()) }
    }

    /// It has an output, from which something is missing: whether that is one says the stage's contract.
    pub fn partial(output: Vec<u8>, error: Error) -> Finished {
        Finished { result: Err(error), partial: true, ..Finished::done(output) }
    }
}

/// Whoever does the work.
///
/// Contract: attempts are at-least-once, so one may be begun whose forerunner has done everything but say so. Dropping the
/// future ends the attempt. It is called for an attempt once.
pub trait Execute: Send + Sync {
    /// Does it.
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished>;

    /// How far the attempt at a run's stage is: units done, and how many there are when that is known. `None` when that is not known.
    fn progress(&self, run: RunId, stage: &StageName) -> Option<(u64, Option<u64>)>;

    /// What is told about a run that has just ended, to whom, in the transaction of its end. `head` is as it was
    /// before; `output` is what the last
    /// attempt left, when one ended it.
    fn announce(&self, run: &Run, head: &store::RunHead, output: Option<&[u8]>)
    -> Option<store::NewDelivery>;

    /// Whether another run may go on with one of this sort that did not succeed, and is given the same.
    fn resumable(&self, _kind: &str) -> bool {
        false
    }

    /// Is told that a run has ended, once that is on disk. `head` is as it was before.
    fn ended(&self, head: &store::RunHead);
}

/// Several that each do one sort of runs.
pub struct ByKind {
    kinds: HashMap<&'static str, Arc<dyn Execute>>,
    others: Arc<dyn Execute>,
}

impl ByKind {
    /// Runs of each sort are done by that one, all others by `others`.
    pub fn new(others: Arc<dyn Execute>, kinds: HashMap<&'static str, Arc<dyn Execute>>) -> ByKind {
        ByKind { kinds, others }
    }

    fn of(&self, kind: &str) -> &Arc<dyn Execute> {
        self.kinds.get(kind).unwrap_or(&self.others)
    }
}

impl Execute for ByKind {
    fn execute(&self, task: Task) -> BoxFuture<'static, Finished> {
        self.of(&task.kind).execute(task)
    }

    fn progress(&self, run: RunId, stage: &StageName) -> Option<(u64, Option<u64>)> {
        let of = std::iter::once(&self.others).chain(self.kinds.values());
        of.into_iter().find_map(|e| e.progress(run, stage))
    }

    fn announce(
        &self,
        run: &Run,
        head: &store::RunHead,
        output: Option<&[u8]>,
    ) -> Option<store::NewDelivery> {
        self.of(&head.kind).announce(run, head, output)
    }

    fn resumable(&self, kind: &str) -> bool {
        self.of(kind).resumable(kind)
    }

    fn ended(&self, head: &store::RunHead) {
        self.of(&head.kind).ended(head);
    }
}
