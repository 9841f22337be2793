//! What the scheduler and the outbox have done, in sums: for metrics, by closed sets of words.

use std::sync::atomic::{AtomicU64, Ordering};

use store::{DeliveryState, LaneCount};

use super::entry::Entry;
use super::state::Status;

/// Sums since the process began. Each only grows.
#[derive(Debug, Default)]
pub struct Counts {
    submitted: AtomicU64,
    started: AtomicU64,
    done: AtomicU64,
    again: AtomicU64,
    failed: AtomicU64,
    postponed: AtomicU64,
    returned: AtomicU64,
    lost: AtomicU64,
    succeeded: AtomicU64,
    run_failed: AtomicU64,
    cancelled: AtomicU64,
    delivered: AtomicU64,
    waiting: AtomicU64,
    undelivered: AtomicU64,
    disabled: AtomicU64,
    lanes: parking_lot::Mutex<Vec<LaneCount>>,
}

fn one(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// So many runs were taken in.
    pub(super) fn submitted_more(&self, n: u64) {
        self.submitted.fetch_add(n, Ordering::Relaxed);
    }

    /// An entry is on disk.
    pub(super) fn recorded(&self, entry: &Entry) {
        match entry {
            Entry::Leased { .. } => one(&self.started),
            Entry::Done { .. } => one(&self.done),
            Entry::Failed { again: Some(_), .. } => one(&self.again),
            Entry::Failed { again: None, .. } => one(&self.failed),
            Entry::Postponed { .. } => one(&self.postponed),
            Entry::Returned { .. } => one(&self.returned),
            Entry::Lost { .. } => one(&self.lost),
            Entry::Ended { status: Status::Succeeded, .. } => one(&self.succeeded),
            Entry::Ended { status: Status::Cancelled, .. } => one(&self.cancelled),
            Entry::Ended { .. } => one(&self.run_failed),
            Entry::Submitted { .. }
            | Entry::CancelAsked { .. }
            | Entry::Adopted { .. }
            | Entry::Decided { .. }
            | Entry::Renewed { .. }
            | Entry::Progressed { .. } => {}
        }
    }

    /// A message was tried, and that is how it is doing.
    pub(super) fn tried(&self, state: DeliveryState) {
        match state {
            DeliveryState::Delivered => one(&self.delivered),
            DeliveryState::Waiting => one(&self.waiting),
            DeliveryState::Failed => one(&self.undelivered),
            DeliveryState::Disabled => one(&self.disabled),
        }
    }

    pub(super) fn see(&self, lanes: Vec<LaneCount>) {
        *self.lanes.lock() = lanes;
    }

    /// Runs taken in.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Attempts begun.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Attempts over, by what came of them.
    pub fn attempts(&self) -> [(&'static str, u64); 6] {
        [
            ("done", &self.done),
            ("failed_again", &self.again),
            ("failed", &self.failed),
            ("postponed", &self.postponed),
            ("returned", &self.returned),
            ("lost", &self.lost),
        ]
        .map(|(word, n)| (word, n.load(Ordering::Relaxed)))
    }

    /// Runs ended, by how.
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        [("succeeded", &self.succeeded), ("failed", &self.run_failed), ("cancelled", &self.cancelled)]
            .map(|(word, n)| (word, n.load(Ordering::Relaxed)))
    }

    /// Tries to deliver a message, by what came of them.
    pub fn deliveries(&self) -> [(&'static str, u64); 4] {
        [
            ("delivered", &self.delivered),
            ("failed_again", &self.waiting),
            ("failed", &self.undelivered),
            ("disabled", &self.disabled),
        ]
        .map(|(word, n)| (word, n.load(Ordering::Relaxed)))
    }

    /// Open runs by lane, as they were a few seconds ago.
    pub fn lanes(&self) -> Vec<LaneCount> {
        self.lanes.lock().clone()
    }
}
