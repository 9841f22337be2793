//! The words of a run: where it and its stages stand, what may happen to it, and what is to be done then.

use std::time::Duration;

use contract::{Error, StageName, UnixMillis};
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
    /// It waits for others.
    Blocked,
    /// It may start, from then on.
    Ready(UnixMillis),
    /// Somebody is at it.
    Leased(Held),
    /// It has its output.
    Done,
    /// It failed for good.
    Failed,
    /// The run ended without it.
    Cancelled,
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
            error: None,
            started_at: None,
            ended_at: None,
            as_of: None,
        }
    }

    /// It may start at `from`, which was decided at `as_of`.
    pub(super) fn ready(&mut self, from: UnixMillis, as_of: Option<UnixMillis>) {
        (self.phase, self.as_of) = (Phase::Ready(from), as_of);
    }

    /// Whether it may start. A pause that was decided later than `now` is over: the wall clock went back.
    pub(super) fn may_start(&self, now: UnixMillis) -> bool {
        matches!(self.phase, Phase::Ready(from) if from <= now || self.as_of.is_some_and(|t| t > now))
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
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It is asked for. A plan that is not sound is not taken.
    Submit(Plan),
    /// It is to stop.
    Cancel,
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
    /// It has an output, of this hash.
    Done(String),
    /// It failed.
    Failed(Error),
    /// It was not brought to its end, for no fault of its own.
    Returned,
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
