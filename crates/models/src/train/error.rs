//! What can go wrong in a training: cases that whoever configured it can act on.

use std::path::PathBuf;

use super::worker::protocol::Broken;
use crate::onnx;

/// A training came to nothing. Messages fit "failed to …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A column that the configuration names is not in the table, or is not what it is used as.
    #[error("use the column `{column}`: {why}")]
    Column {
        /// The column.
        column: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The table is not well formed.
    #[error("read the table: {0}")]
    Table(String),
    /// There are too few rows, classes or periods for what was asked.
    #[error("split the rows: {what}; {remedy}")]
    TooFew {
        /// What there is too little of.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// More rows than a training takes.
    #[error("train on {rows} rows: at most 2^31 are possible; take a sample")]
    TooMany {
        /// How many there are.
        rows: usize,
    },
    /// The worker's program does not start.
    #[error(
        "start the worker `{}`: {why}; build it with `make build`, it lies beside `forebay`", program.display()
    )]
    NoWorker {
        /// The program.
        program: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The worker needs more memory than it may take.
    #[error(
        "grow the trees within {} MiB: raise `memory`, or train on fewer rows, columns or `bins`", limit >> 20
    )]
    Memory {
        /// What it may take, in bytes.
        limit: u64,
    },
    /// The worker ended in the middle.
    #[error("grow the trees: the worker ended ({how}); its log says why, and the run may be tried again")]
    WorkerDied {
        /// How it ended.
        how: String,
    },
    /// LightGBM refused.
    #[error("grow the trees: {what}")]
    Trainer {
        /// In its words.
        what: String,
    },
    /// The worker is of another release.
    #[error("talk to the worker: {0}; build both programs from one release")]
    Protocol(#[from] Broken),
    /// The solver did not come to an end that is one.
    #[error("fit the linear model: {0}")]
    Diverged(String),
    /// A checkpoint is not one, or of another configuration.
    #[error("go on from the checkpoint: {0}")]
    Checkpoint(String),
    /// The model cannot be written.
    #[error("{0}")]
    Onnx(#[from] onnx::Error),
    /// Whoever asked has gone.
    #[error("finish: it was cancelled")]
    Cancelled,
}
