//! The words of a run: where it and its stages stand, what may happen to it, and what is to be done then.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Error, RunId, StageName, UnixMillis};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Plan};

/// How a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nobody is at it.
    Queued,
    /// Somebody is.
    Running,
    /// Every stage has its output.
    Succeeded,
    /// A stage failed for good, or the time is over.
    Failed,
    /// It was told to stop.
    Cancelled,
}

impl Status {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// Whether nothing comes behind it.
    pub const fn is_end(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Cancelled)
    }
}

/// Where a stage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It waits for others, or to be needed.
    Blocked,
    /// It waits for somebody who says that it may start.
    Waiting,
    /// It may start, from then on.
    Ready(UnixMillis),
    /// Somebody is at it.
    Leased(Held),
    /// It has its output.
    Done,
    /// It failed for good.
    Failed,
    /// What it needs failed.
    Skipped,
    /// The run ended without it.
    Cancelled,
}

impl Phase {
    /// The name on the wire.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Phase::Blocked => "blocked",
            Phase::Waiting => "waiting",
            Phase::Ready(_) => "ready",
            Phase::Leased(_) => "running",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Skipped => "skipped",
            Phase::Cancelled => "cancelled",
        }
    }

    /// Whether nothing comes behind it.
    pub const fn is_end(&self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Skipped | Phase::Cancelled)
    }
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Whose.
    pub worker: String,
    /// Until when the worker may be silent.
    pub until: UnixMillis,
}

/// What is known of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageState {
    /// Where it stands.
    pub phase: Phase,
    /// Leases so far.
    pub attempts: u32,
    /// Attempts that failed and count.
    pub failures: u32,
    /// Attempts that were lost with their worker.
    pub losses: u32,
    /// Times there was no room.
    pub postponed: u32,
    /// Units done, and how many there are.
    pub progress: Option<(u64, Option<u64>)>,
    /// The hash of its output.
    pub output: Option<String>,
    /// The attempt whose output or final failure it is.
    pub ended_by: Option<u32>,
    /// The run whose output it is, when another one had made it.
    pub reused: Option<RunId>,
    /// Why its output was made, or was not.
    pub note: Option<String>,
    /// Who said that it may start, or may not.
    pub decided_by: Option<String>,
    /// What went wrong last.
    pub error: Option<Error>,
    /// When its first attempt began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// When it was decided until when a ready stage pauses; `None` when that is a date.
    pub as_of: Option<UnixMillis>,
}

impl StageState {
    pub(super) fn new(phase: Phase) -> Self {
        StageState {
            phase,
            attempts: 0,
            failures: 0,
            losses: 0,
            postponed: 0,
            progress: None,
            output: None,
            ended_by: None,
            reused: None,
            decided_by: None,
            note: None,
            error: None,
            started_at: None,
            ended_at: None,
            as_of: None,
        }
    }

    /// The lease on it, if there is one.
    pub fn held(&self) -> Option<&Held> {
        match &self.phase {
            Phase::Leased(held) => Some(held),
            _ => None,
        }
    }
}

/// A worker that looks at a run, and what of it this worker has in its hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Who.
    pub worker: String,
    /// How long it may be silent.
    pub lease: Duration,
    /// Its attempts that are under way. No clock says that of one's own: an attempt of its that is not among them is lost, and
    /// one that is among them is not, whatever the time.
    pub attempts: Vec<(StageName, u32)>,
    /// Other workers that live: what they hold is theirs, whatever the clock says, which may not be theirs.
    pub living: Vec<String>,
    /// Whether it may begin stages of concurrency groups: where nobody counts them it may not.
    pub grouped: bool,
    /// How many stages it may begin of each concurrency group; those that are not named have no bound.
    pub groups: BTreeMap<String, usize>,
    /// How many stages are under way of each concurrency group, over all runs.
    pub busy: BTreeMap<String, usize>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It is asked for. A plan that is not sound is not taken.
    Submit(Plan),
    /// It is to stop.
    Cancel,
    /// What another run's stage had made of the same is this one's, before anything starts.
    Adopt {
        /// The stage.
        stage: StageName,
        /// The hash of the output.
        output: String,
        /// The other run.
        from: RunId,
    },
    /// Somebody says whether a stage may start that waits for that.
    Decide {
        /// The stage.
        stage: StageName,
        /// Who.
        by: String,
        /// Whether it may.
        approved: bool,
        /// Why.
        reason: Option<String>,
    },
    /// A worker asks for something to do.
    Take(Here),
    /// A worker is still at an attempt.
    Beat {
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// How long it may be silent from now on.
        lease: Duration,
    },
    /// A worker says what became of an attempt, or how far it is.
    Report {
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// What.
        report: Report,
    },
    /// A worker is dead: what it held is free.
    Dead {
        /// Who.
        worker: String,
    },
    /// Time went by, or something fell silent.
    Tick(Here),
}

/// What a worker says of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// So many units are done.
    Progress(u64, Option<u64>),
    /// It has an output.
    Made(Made),
    /// It failed.
    Failed(Error),
    /// It was not brought to its end, for no fault of its own.
    Returned,
}

impl Report {
    /// It has an output, of this hash, and there is nothing more to say of it.
    pub fn done(output: impl Into<String>) -> Report {
        Report::Made(Made { output: output.into(), ..Made::default() })
    }
}

/// An output, and what there is to say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Its hash.
    pub output: String,
    /// The run that had made the same of the same, when nothing was done here.
    pub reused: Option<RunId>,
    /// What is missing of it. Whether it is an output then says the stage's contract.
    pub partial: Option<Error>,
    /// Why it was made, or was not: for people.
    pub note: Option<String>,
}

/// What is to be done, in this order. Nothing is, before all that is to be recorded is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this.
    Record(Entry),
    /// Begin an attempt.
    Start {
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// The key of its effect.
        key: String,
    },
    /// End an attempt: nobody waits for it any more.
    Stop {
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
    },
    /// Keep the output of the attempt that was just reported, under this key, in the same transaction as the entries.
    Keep {
        /// The stage.
        stage: StageName,
        /// The key of its effect.
        key: String,
    },
    /// The run has ended: tell whoever is to be told, in the same transaction.
    End(Status),
}
