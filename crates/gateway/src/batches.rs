//! OpenAI's batches: a file of requests that are answered within a day, and a file of the answers.
//!
//! Each line of the file becomes a job ([`crate::jobs`]), so that a line is stored, tried again, kept fair and survives a crash
//! like any other. What is here brings a batch from its file to its lines and from their ends to its files:
//!
//! ```text
//! validating ── every line is sound ──▶ in_progress ── every line has ended ──▶ finalizing ──▶ completed
//!      │                                    │      ├── the time is over ──────▶ finalizing ──▶ expired
//!      ├─ one is not ──▶ failed             │      └── its file is gone ──────▶ finalizing ──▶ failed
//!      └───────────── cancel ───────────────┴──▶ cancelling ──▶ cancelled
//! ```
//!
//! One task ([`drive`]) looks whose turn it is, and [`steps`] are what is done: a step of a batch at a time, and every step can be
//! done again. A line is a run whose submission names batch and line, a file has an id made of the batch's, and a batch moves on
//! only from the version that the step was decided on. So a batch that is cut off anywhere goes on with the next server.
//!
//! Invariants: every line of a file that was found sound ends once, in one of the two files, as long as the file is there to be
//! read: of one that is deleted under way, those lines do that were begun. A batch that is cancelled while its file is checked
//! has neither file. No more than a window of a batch's lines is open; of its file a piece is in memory, or a line when that is
//! longer, and of its answers a page. No batch waits for a long step of another, and none that fails is tried without a pause.
//! A tenant sees its own batches alone.

mod create;
mod drive;
mod lines;
pub(crate) mod object;
mod places;
mod results;
mod routes;
mod steps;
#[cfg(test)]
mod tests;
mod tidy;

use std::sync::Arc;

use contract::{Clock, Code, Error, RetryHint, RunId, TenantId};
use store::{BatchChange, BatchStore, NewDelivery, StoredBatch};
use tokio::sync::Notify;

pub(crate) use self::drive::Driver;
use self::object::{Batch, Status};
pub(crate) use self::routes::{admin_routes, routes};

/// What batches may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchesSettings {
    /// Lines of one.
    pub lines: u64,
    /// Those of a tenant that go on at the same time; more are refused.
    pub open: u64,
}

impl Default for BatchesSettings {
    /// 50,000 lines, 20 at once.
    fn default() -> Self {
        BatchesSettings { lines: 50_000, open: 20 }
    }
}

/// The batches of a project. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Batches {
    store: Arc<dyn BatchStore>,
    clock: Arc<dyn Clock>,
    settings: BatchesSettings,
    /// Something may be to be done.
    wake: Arc<Notify>,
    /// Somebody is to be told of an end.
    told: Arc<Notify>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Batches {
    /// The batches in a store; `wake` is notified when a line has ended, and `told` by this when there is a message to bring.
    pub(crate) fn new(
        store: Arc<dyn BatchStore>,
        clock: Arc<dyn Clock>,
        settings: BatchesSettings,
        [wake, told]: [Arc<Notify>; 2],
    ) -> Batches {
        Batches { store, clock, settings, wake, told }
    }

    /// The batches in a folder that no server works on: to be looked at and cancelled. One that is cancelled ends when a
    /// server comes to it.
    pub fn at_rest(store: Arc<dyn BatchStore>, clock: Arc<dyn Clock>) -> Batches {
        Batches::new(store, clock, BatchesSettings::default(), Default::default())
    }

    /// The newest batches first, of a tenant or of all, from behind `after` on, as JSON.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn list(
        &self,
        tenant: Option<&TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<String, Error> {
        // One more tells whether there are more.
        let found = self.store.list(tenant, after, limit.saturating_add(1)).await.map_err(storage)?;
        let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        let mut data = Vec::with_capacity(found.len());
        for stored in found.iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            data.push(self.seen(stored).await?);
        }
        let id = |b: Option<&serde_json::Value>| b.and_then(|b| b.get("id")).cloned();
        let (first, last) = (id(data.first()), id(data.last()));
        let page = serde_json::json!({
            "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more,
        });
        Ok(page.to_string())
    }

    /// A batch as JSON; of that tenant only, if one is given.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn show(&self, id: RunId, tenant: Option<&TenantId>) -> Result<String, Error> {
        let stored = self.get(id, tenant).await?;
        Ok(self.seen(&stored).await?.to_string())
    }

    /// Asks for the end of a batch: nothing more of it is begun. What it was when it had ended before.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn cancel(&self, id: RunId, tenant: Option<&TenantId>) -> Result<String, Error> {
        loop {
            let stored = self.get(id, tenant).await?;
            let mut batch = Batch::read(&stored.about)?;
            if !matches!(batch.status, Status::Validating | Status::InProgress) {
                return Ok(self.seen(&stored).await?.to_string());
            }
            batch.status = Status::Cancelling;
            batch.cancelling_at = Some(self.clock.wall());
            if self.update(&stored, &batch).await? {
                return self.show(id, tenant).await;
            }
        }
    }

    async fn get(&self, id: RunId, tenant: Option<&TenantId>) -> Result<StoredBatch, Error> {
        let stored = self.store.get(id).await.map_err(storage)?;
        stored.filter(|b| tenant.is_none_or(|t| *t == b.tenant)).ok_or_else(missing)
    }

    /// As it is shown now: while it goes on, its lines are counted.
    async fn seen(&self, stored: &StoredBatch) -> Result<serde_json::Value, Error> {
        let mut batch = Batch::read(&stored.about)?;
        if stored.ended_at.is_none() {
            let counts = self.store.counts(stored.id).await.map_err(storage)?;
            let of = |status: &str| counts.iter().filter(|(s, _)| s == status).map(|(_, n)| n).sum::<u64>();
            (batch.completed, batch.failed) = (of("succeeded"), of("failed") + of("cancelled"));
        }
        Ok(object::shown(stored.id, stored.created_at, &batch))
    }

    /// Moves a batch on from where it was read; `false` when somebody else did meanwhile.
    async fn update(&self, from: &StoredBatch, to: &Batch) -> Result<bool, Error> {
        let ended_at = to.ended_at();
        let change = BatchChange {
            id: from.id,
            version: from.version,
            about: to.written()?,
            ended_at,
            files: [to.output_file.clone(), to.error_file.clone()],
            outbox: ended_at.and_then(|at| {
                let (url, at_seconds) = (to.webhook.clone()?, at.0 / 1_000);
                let serial = from.id.serial();
                let body = serde_json::json!({
                    "id": format!("evt_{serial}"), "object": "event", "created_at": at_seconds,
                    "type": format!("batch.{}", to.status.as_str()), "data": {"id": name(from.id)},
                });
                // One message for each end, and a batch has one.
                Some(NewDelivery {
                    id: format!("msg_{serial}"),
                    url,
                    body: body.to_string().into_bytes(),
                    at,
                })
            }),
        };
        let done = self.store.update(&change).await.map_err(storage)?;
        if change.outbox.is_some() {
            self.told.notify_one();
        }
        self.wake.notify_one();
        Ok(done)
    }
}

/// A batch's id as it is shown.
pub(crate) fn name(id: RunId) -> String {
    format!("batch_{}", id.serial())
}

/// The batch of that name.
///
/// # Errors
/// `not_found`.
pub fn named(id: &str) -> Result<RunId, Error> {
    id.strip_prefix("batch_").and_then(|serial| serial.parse().ok()).ok_or_else(missing)
}

fn missing() -> Error {
    Error::new(Code::NotFound, "there is no batch of that id: GET /v1/batches lists them").param("id")
}

fn storage(e: store::Error) -> Error {
    tracing::error!(error = %e, "failed to use the batches");
    let m = "the batches cannot be read or written now: ask again in a moment";
    Error::new(Code::StorageUnavailable, m).retry(RetryHint::After(std::time::Duration::from_secs(5)))
}
