//! What the journal of a run holds. Entries are JSON on disk and are read by every later version: fields are added, never
//! changed.

use std::collections::HashMap;

use contract::{Error, RunId, StageName, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

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
    /// How many of its stages may be under way at once; as many as there are places, without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// What a stage's failure for good means for the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// What needs it is not run, and the run fails when all else has ended.
    #[default]
    Fail,
    /// The same, but a partial output counts as one.
    Partial,
    /// What needs it goes on without it.
    Skip,
    /// What needs it is given the value that its specification names.
    Default,
    /// What needs it is given the output of another stage, which may be one that runs only then.
    Fallback(StageName),
}

fn is_false(b: &bool) -> bool {
    !b
}

fn is_fail(c: &Contract) -> bool {
    *c == Contract::Fail
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
    /// What its failure means.
    #[serde(default, skip_serializing_if = "is_fail")]
    pub on_failure: Contract,
    /// It runs only when a stage that falls back on it has failed, or a lazy one that needs it is run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lazy: bool,
    /// Somebody has to say that it may start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approval: bool,
    /// How long one attempt may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// The concurrency group whose places it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How many places that group has, where the configuration knows no such group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<u32>,
    /// What it is, for whoever does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Json>,
}

impl StagePlan {
    /// A stage that waits for nothing and whose failure is the run's.
    pub fn new(name: impl Into<StageName>, input: impl Into<String>) -> Self {
        StagePlan {
            name: name.into(),
            after: Vec::new(),
            input: input.into(),
            retry: Retry::default(),
            on_failure: Contract::Fail,
            lazy: false,
            approval: false,
            timeout_ms: None,
            group: None,
            places: None,
            spec: None,
        }
    }
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
    /// A plan of these stages, of the normal lane and without limits.
    pub fn of(stages: Vec<StagePlan>) -> Self {
        Plan { stages, lane: Lane::Normal, not_before: None, deadline: None, parallel: None }
    }

    /// Whether every stage can come to its turn: names are unique, what a stage needs stands before it and is lazy only where the
    /// stage is, and what it falls back on stands in the plan and does not wait for it.
    pub fn is_sound(&self) -> bool {
        let mut before: HashMap<&StageName, bool> = HashMap::with_capacity(self.stages.len());
        for stage in &self.stages {
            let there = |name: &StageName| before.get(name).is_some_and(|lazy| stage.lazy || !lazy);
            if !stage.after.iter().all(there) || before.insert(&stage.name, stage.lazy).is_some() {
                return false;
            }
        }
        !self.stages.is_empty() && self.comes_to_an_end()
    }

    /// Whether no stage waits for itself, by what it needs and by what it falls back on.
    fn comes_to_an_end(&self) -> bool {
        let places: HashMap<&StageName, usize> =
            self.stages.iter().enumerate().map(|(at, s)| (&s.name, at)).collect();
        let (mut waiting, mut waited_for) =
            (vec![0_usize; self.stages.len()], vec![Vec::new(); self.stages.len()]);
        for (at, stage) in self.stages.iter().enumerate() {
            let falls = match &stage.on_failure {
                Contract::Fallback(other) => Some(other),
                _ => None,
            };
            for other in stage.after.iter().chain(falls) {
                let Some(of) = places.get(other).and_then(|p| waited_for.get_mut(*p)) else { return false };
                of.push(at);
                if let Some(n) = waiting.get_mut(at) {
                    *n += 1;
                }
            }
        }
        let mut free: Vec<usize> = (0..waiting.len()).filter(|at| waiting.get(*at) == Some(&0)).collect();
        let mut ended = 0;
        while let Some(at) = free.pop() {
            ended += 1;
            for other in waited_for.get(at).into_iter().flatten() {
                let Some(n) = waiting.get_mut(*other) else { continue };
                *n -= 1;
                if *n == 0 {
                    free.push(*other);
                }
            }
        }
        ended == self.stages.len()
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
        /// The run that had made the same of the same before, when nothing was done here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reused: Option<RunId>,
        /// What is missing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Option<Error>,
        /// Why it was made, or was not: for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Fact: the output of another run's stage is this one's: it was asked for again, and this much was done.
    Adopted {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// The hash of the output.
        output: String,
        /// The run.
        from: RunId,
    },
    /// Command: somebody said whether a stage may start.
    Decided {
        /// When.
        at: UnixMillis,
        /// The stage.
        stage: StageName,
        /// Who.
        by: String,
        /// Whether it may.
        approved: bool,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
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
            | Entry::Adopted { at, .. }
            | Entry::Decided { at, .. }
            | Entry::Failed { at, .. }
            | Entry::Postponed { at, .. }
            | Entry::Returned { at, .. }
            | Entry::Lost { at, .. }
            | Entry::Ended { at, .. } => *at,
        }
    }
}
