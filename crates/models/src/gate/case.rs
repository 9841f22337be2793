//! What a gate decides on: two models' answers to the same rows, what was measured of them, what they were made of, and who agreed.

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use super::lineage::{Lineage, ModelSignature};
use crate::evaluate::{Kept, Rows};

/// The rows that are asked: frozen by a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdout {
    /// The dataset.
    pub dataset: String,
    /// Its version.
    pub version: String,
    /// The time of the first row, where rows have times.
    pub from: Option<UnixMillis>,
    /// The time of the last row.
    pub until: Option<UnixMillis>,
}

/// A model with its answers to the holdout.
#[derive(Debug, Clone)]
pub struct Contender<'a> {
    /// Its id.
    pub id: String,
    /// What it said of the holdout's rows, and what was true.
    pub rows: &'a Rows,
    /// The time of the last row that it learned from.
    pub trained_until: Option<UnixMillis>,
    /// What was measured of it.
    pub measured: Measured,
    /// What it takes and gives.
    pub signature: Option<ModelSignature>,
    /// What it was made of.
    pub lineage: Lineage,
    /// How it did on the rows that must be right.
    pub kept: Option<Kept>,
}

/// What was measured on a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// The 99th percentile of one answer, in milliseconds.
    pub latency_p99_ms: Option<f64>,
    /// The size of the artifact in bytes.
    pub artifact_bytes: Option<u64>,
    /// The memory it takes while it answers, in bytes.
    pub memory_bytes: Option<u64>,
}

/// Somebody said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Who.
    pub by: String,
    /// In which roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When.
    pub at: UnixMillis,
    /// What they said.
    #[serde(default)]
    pub said: String,
}

/// All that a decision depends on.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Under which name they answer.
    pub model: String,
    /// The rows.
    pub holdout: Holdout,
    /// The one that wants to answer.
    pub challenger: Contender<'a>,
    /// The one that answers now.
    pub champion: Option<Contender<'a>>,
    /// Who agreed.
    pub approvals: Vec<Approved>,
}
