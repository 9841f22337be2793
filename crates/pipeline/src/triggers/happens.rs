//! The words of the machine: what may happen to the triggers of a pipeline, and what is to be done then.

use contract::{PipelineName, RunId, TenantId, UnixMillis};
use serde_json::{Map, Value as Json};

use super::event::Event;
use super::plan::StartRun;
use crate::runs::Status;

/// A file of a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was changed.
    pub modified: UnixMillis,
    /// Whether it did not change for a while. One that did is no cause yet.
    pub whole: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// A dataset has this version now; `None` when it has none.
    Version {
        /// Which.
        dataset: &'a str,
        /// Its newest version.
        version: Option<u64>,
    },
    /// A run ended, of this pipeline or another.
    Ended {
        /// Of which.
        pipeline: &'a PipelineName,
        /// Which.
        run: RunId,
        /// How.
        status: Status,
        /// When.
        at: UnixMillis,
    },
    /// A run of this pipeline is not there any more.
    Gone(RunId),
    /// An event came.
    Event {
        /// Who sent it.
        tenant: &'a TenantId,
        /// It.
        event: &'a Event,
    },
    /// An alert fired.
    Alert {
        /// Which.
        alert: &'a str,
        /// What tells this time from the others.
        id: &'a str,
    },
    /// The files of a folder.
    Files {
        /// As the trigger names them.
        files: &'a str,
        /// All of them.
        seen: &'a [Seen],
    },
    /// Somebody asks for a run.
    Asked {
        /// Who.
        tenant: &'a TenantId,
        /// What tells this call from the others.
        id: &'a str,
        /// With what.
        params: &'a Map<String, Json>,
    },
    /// A start that was asked for has a run.
    Started {
        /// The start.
        key: &'a str,
        /// The run.
        run: RunId,
    },
    /// A start that was asked for cannot be now.
    Later {
        /// The start.
        key: &'a str,
    },
    /// A start that was asked for can never be.
    Refused {
        /// The start.
        key: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The memory is to be on disk before anything else is done.
    Save,
    /// A run is to be started; what comes of it is told by [`Input::Started`], [`Input::Later`] or [`Input::Refused`].
    Start(StartRun),
}

/// What came of something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Took {
    /// Nothing here waits for it.
    #[default]
    Nothing,
    /// It starts a run, now or later.
    Waits,
    /// It was seen before.
    Known,
    /// Too much waits: it was not taken.
    Full,
}
