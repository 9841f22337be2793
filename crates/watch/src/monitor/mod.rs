//! What is known of one thing that is watched, and what is to be done about it: series of figures become alerts, alerts become
//! messages and reasons to train, and whatever was decided is kept until it is done.
//!
//! ```text
//! figures of a window ─▶ alerts ─ fires, resolved ─▶ message ─ claimed ─▶ sent, given up
//!                           └───── fires ──────────▶ reason to train ─ quiet, budget, … ─▶ start ─▶ run ─▶ ended
//! ```
//!
//! A [`Monitor`] is one value: whoever has it looks at data, tells it the figures, lets time pass, and writes all of it down before
//! anything is done. What is done twice after a crash has the id that it had before: a message its own, a run its key.
//!
//! Pure: no clock, no I/O. Invariants: a message is there until it was sent, or could not be for so long that nobody wants it; at most
//! one claim of a message holds at a time; a window is looked at once.

mod message;
mod state;

use std::collections::BTreeMap;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

pub use message::{Text, figure, text};
pub use state::{Monitor, MonitorSettings, Pending, Performed, Running, Sent};

/// A figure of a window, of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The rule that it is held against.
    pub rule: String,
    /// What it is of: a column, a slice.
    pub labels: BTreeMap<String, String>,
    /// What was measured; none when it could not be.
    #[serde(with = "crate::exact::maybe")]
    pub value: Option<f64>,
    /// From how many rows.
    pub samples: u64,
    /// In a few words, for whoever is told of it.
    pub said: String,
}

/// All figures of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Where it ends, by the time of the data.
    pub end: UnixMillis,
    /// Its rows.
    pub rows: u64,
    /// Its figures.
    pub figures: Vec<Figure>,
}
