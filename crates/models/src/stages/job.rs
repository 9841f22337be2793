//! One attempt at a stage: what it works with, and where it says what it does.

use std::sync::Arc;

use contract::{Attempt, Clock, Code, Context, TenantId};
use pipeline::artifacts::Artifact;
use pipeline::task;
use store::tracking::TenantTracking;

use super::error::{crashed, untracked};
use super::{Means, Tracked};

/// Files that stages of this module leave are no longer than this.
const LONGEST: u64 = 4 << 30;

pub(super) struct Job<'a> {
    pub(super) means: &'a dyn Means,
    pub(super) attempt: &'a Attempt,
    pub(super) cx: &'a Context,
    tracked: Tracked,
    /// The stage's name.
    pub(super) stage: Arc<str>,
}

impl<'a> Job<'a> {
    pub(super) fn begin(means: &'a dyn Means, cx: &'a Context) -> Result<Job<'a>, contract::Error> {
        let Some(attempt) = &cx.attempt else {
            let message =
                "this stage makes models, which only a durable run does; start the pipeline as a run";
            return Err(contract::Error::new(Code::InvalidRequest, message));
        };
        let stage = cx.stage.as_ref().map_or_else(|| Arc::from("stage"), |name| name.shared());
        Ok(Job { means, attempt, cx, tracked: means.tracked().ok_or_else(untracked)?, stage })
    }

    /// One line of the stage's log.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        self.attempt.log.line(line.as_ref());
    }

    /// What the list of the run's stages says of this one.
    pub(super) fn note(&self, line: impl Into<String>) {
        self.cx.meter.fact("note", line.into().into());
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.cx.clock
    }

    /// Now, in milliseconds since the epoch.
    pub(super) fn now(&self) -> i64 {
        self.clock().wall().0
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.cx.tenant
    }

    pub(super) fn tracked(&self) -> &Tracked {
        &self.tracked
    }

    pub(super) fn tracking(&self) -> TenantTracking<'_> {
        self.tracked.tracking.of(&self.cx.tenant)
    }

    /// Keeps a file that the stage leaves.
    pub(super) async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<Artifact, contract::Error> {
        let (files, name, now) = (self.means.files(), name.to_owned(), self.clock().wall());
        let kept = move || files.put(&name, &mut bytes.as_slice(), LONGEST, now);
        task::reading("keep a model", kept).await.map_err(|e| crashed(&e))?
    }

    /// What is in a file that a stage left.
    pub(super) async fn read(&self, file: &Artifact) -> Result<Vec<u8>, contract::Error> {
        let (files, hash) = (self.means.files(), file.hash.clone());
        let read = move || {
            let mut bytes = Vec::new();
            let read = std::io::Read::read_to_end(&mut files.open(&hash)?, &mut bytes);
            let failed = |e: std::io::Error| {
                contract::Error::new(
                    Code::StorageUnavailable,
                    format!("a model cannot be read: {}", e.kind()),
                )
            };
            read.map(|_| bytes).map_err(failed)
        };
        task::reading("read a model", read).await.map_err(|e| crashed(&e))?
    }
}
