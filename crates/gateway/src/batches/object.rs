//! A batch as it is kept and as it is shown.

use std::collections::BTreeMap;

use contract::{Code, Error, KeyId, RunId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::name;

/// How a batch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Its file is read, and nothing done yet.
    Validating,
    /// Its file is not sound.
    Failed,
    /// Its lines are worked on.
    InProgress,
    /// Its files are written.
    Finalizing,
    /// Every line has ended.
    Completed,
    /// Its time was over before that.
    Expired,
    /// It was told to stop.
    Cancelling,
    /// It has.
    Cancelled,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Status::Validating => "validating",
            Status::Failed => "failed",
            Status::InProgress => "in_progress",
            Status::Finalizing => "finalizing",
            Status::Completed => "completed",
            Status::Expired => "expired",
            Status::Cancelling => "cancelling",
            Status::Cancelled => "cancelled",
        }
    }
}

/// What is wrong with a batch's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    /// In which line, from 1.
    pub(crate) line: Option<u64>,
}

/// What is kept of a batch. It is JSON on disk and is read by every later version: fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) endpoint: String,
    pub(crate) input_file: String,
    pub(crate) window: String,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    /// The key that made it, by which its lines ask.
    pub(crate) key: Option<KeyId>,
    /// Who is told when it has ended.
    pub(crate) webhook: Option<String>,
    /// How long its files stay, in seconds.
    pub(crate) stays: Option<i64>,
    pub(crate) status: Status,
    pub(crate) errors: Vec<Problem>,
    pub(crate) output_file: Option<String>,
    pub(crate) error_file: Option<String>,
    pub(crate) expires_at: UnixMillis,
    pub(crate) in_progress_at: Option<UnixMillis>,
    pub(crate) finalizing_at: Option<UnixMillis>,
    pub(crate) completed_at: Option<UnixMillis>,
    pub(crate) failed_at: Option<UnixMillis>,
    pub(crate) expired_at: Option<UnixMillis>,
    pub(crate) cancelling_at: Option<UnixMillis>,
    pub(crate) cancelled_at: Option<UnixMillis>,
    /// Requests in its file.
    pub(crate) total: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// Requests that are runs by now, at least; the line that the last of them stands in, and where in the file that ends.
    pub(crate) fed: u64,
    pub(crate) line: u64,
    pub(crate) offset: u64,
    /// How long its lines might be when its file was found sound, in bytes: they are read by that to the end.
    #[serde(default)]
    pub(crate) longest: Option<usize>,
}

impl Batch {
    /// What was kept.
    pub(crate) fn read(text: &str) -> Result<Batch, Error> {
        serde_json::from_str(text).map_err(|e| {
            tracing::error!(error = %e, "failed to read a batch");
            Error::new(Code::Internal, "the batch cannot be read: see the server's log")
        })
    }

    pub(crate) fn written(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| {
            Error::new(Code::Internal, format!("the batch cannot be written: {e}; this is a defect"))
        })
    }

    /// When it ended, if it has.
    pub(crate) fn ended_at(&self) -> Option<UnixMillis> {
        match self.status {
            Status::Failed => self.failed_at,
            Status::Completed => self.completed_at,
            Status::Expired => self.expired_at,
            Status::Cancelled => self.cancelled_at,
            Status::Validating | Status::InProgress | Status::Finalizing | Status::Cancelling => None,
        }
    }

    /// Whether its time is what ends it.
    pub(crate) fn is_late(&self) -> bool {
        self.expired_at.is_some()
    }
}

/// The object on the wire.
pub(crate) fn shown(id: RunId, created_at: UnixMillis, b: &Batch) -> Json {
    let at = |t: Option<UnixMillis>| t.map(|t| t.0 / 1_000);
    let errors = (!b.errors.is_empty()).then(|| json!({"object": "list", "data": b.errors}));
    json!({
        "id": name(id), "object": "batch", "endpoint": b.endpoint, "errors": errors,
        "input_file_id": b.input_file, "completion_window": b.window, "status": b.status.as_str(),
        "output_file_id": b.output_file, "error_file_id": b.error_file,
        "created_at": created_at.0 / 1_000, "in_progress_at": at(b.in_progress_at), "expires_at": b.expires_at.0 / 1_000,
        "finalizing_at": at(b.finalizing_at), "completed_at": at(b.completed_at), "failed_at": at(b.failed_at),
        "expired_at": at(b.expired_at), "cancelling_at": at(b.cancelling_at), "cancelled_at": at(b.cancelled_at),
        "request_counts": {"total": b.total, "completed": b.completed, "failed": b.failed},
        "metadata": b.metadata,
    })
}
