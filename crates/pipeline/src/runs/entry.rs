//! What the journal of a run holds. Entries are JSON on disk and are read by every later version: fields are added, never
//! changed.

use contract::{Error, StageName, UnixMillis};
use serde::{Deserialize, Serialize};

use super::state::Status;

/// Who goes first among runs that are due. Above all of them is live traffic: runs wait in the batch lane of every model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// What can wait until there is nothing else.
    Low,
    /// What somebody asked for.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Lane {
    /// As a number that sorts.
    pub const fn rank(self) -> i64 {
        match self {
            Lane::Low => 0,
            Lane::Normal => 1,
            Lane::High => 2,
        }
    }
}

/// What a run is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The stages; each name once.
    pub stages: Vec<StagePlan>,
    /// Who goes first.
    #[serde(default)]
    pub lane: Lane,
    /// Nothing starts before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixMillis>,
    /// What has not ended by then has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMillis>,
}

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Its name within the run.
    pub name: StageName,
    /// The stages whose output it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StageName>,
    /// The hash of what it is given besides: part of the key of its effect.
    pub input: String,
    /// When it is tried again.
    pub retry: Retry,
}

/// How often and how soon a stage is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts that may fail by a fault that may pass. What there was no room for is no attempt.
    pub attempts: u32,
    /// Attempts that may be lost with their worker: the bound for work that kills whoever does it.
    pub losses: u32,
    /// The first pause in milliseconds; doubled each time, times 0.8 to 1.2.
    pub first_ms: i64,
    /// The longest pause in milliseconds, before the same.
    pub most_ms: i64,
}

impl Default for Retry {
    /// 3 attempts, 20 losses, pauses of 1 s to 5 min.
    fn default() -> Self {
        Retry { attempts: 3, losses: 20, first_ms: 1_000, most_ms: 300_000 }
    }
}

impl Plan {
    /// Whether every stage can come to its turn: names are unique, and what a stage needs stands before it.
    pub fn is_sound(&self) -> bool {
        let before = |n: usize| self.stages.get(..n).unwrap_or_default();
        let known = |n: usize, name: &StageName| before(n).iter().any(|s| &s.name == name);
        !self.stages.is_empty()
            && self
                .stages
                .iter()
                .enumerate()
                .all(|(n, s)| !known(n, &s.name) && s.after.iter().all(|name| known(n, name)))
    }
}

/// One line of a run's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// Command: the run was asked for.
    Submitted {
        /// When.
        at: UnixMillis,
        /// What it is to do.
        plan: Plan,
    },
    /// Command: it is to stop.
    CancelAsked {
        /// When.
        at: UnixMillis,
    },
    /// Fact: an attempt of a stage was given to a worker.
    Leased {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// From 1, rising by one with every lease of the stage.
        attempt: u32,
        /// To whom.
        worker: String,
        /// Until when the worker may be silent.
        until: UnixMillis,
    },
    /// Fact: the worker is still at it.
    Renewed {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// Until when the worker may be silent.
        until: UnixMillis,
    },
    /// Fact: how far it has come.
    Progressed {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// Units that are done.
        done: u64,
        /// Units there are, when that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u64>,
    },
    /// Fact: the stage has its output.
    Done {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt it came from.
        attempt: u32,
        /// The hash of the output.
        output: String,
    },
    /// Fact: an attempt failed.
    Failed {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// Why.
        error: Error,
        /// When it is tried again; never, without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<UnixMillis>,
    },
    /// Fact: there was no room for an attempt. It is not counted.
    Postponed {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// What there was no room in.
        error: Error,
        /// When it is tried again.
        again: UnixMillis,
    },
    /// Fact: the worker gave the lease back. It is not counted.
    Returned {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
    },
    /// Fact: the worker died, or was silent for too long.
    Lost {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The attempt.
        attempt: u32,
        /// When it is tried again; never, without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<UnixMillis>,
    },
    /// Fact: the run has ended.
    Ended {
        /// When.
        at: UnixMillis,
        /// How.
        status: Status,
        /// Why, when it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
}

impl Entry {
    /// When it was written.
    pub fn at(&self) -> UnixMillis {
        match self {
            Entry::Submitted { at, .. }
            | Entry::CancelAsked { at }
            | Entry::Leased { at, .. }
            | Entry::Renewed { at, .. }
            | Entry::Progressed { at, .. }
            | Entry::Done { at, .. }
            | Entry::Failed { at, .. }
            | Entry::Postponed { at, .. }
            | Entry::Returned { at, .. }
            | Entry::Lost { at, .. }
            | Entry::Ended { at, .. } => *at,
        }
    }
}
