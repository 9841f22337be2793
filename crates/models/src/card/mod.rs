//! What people read of a model: a card in Markdown and a report as one page, both made from the record and from nothing else.
//!
//! What the record does not say, they say is not known: a card never claims. Names and values that come from outside are escaped in
//! both. No I/O; the time is in the record.

mod markdown;
mod page;
mod plots;
mod view;

use contract::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::gate::{Decision, Holdout, Measured, ModelSignature};
use crate::reproduce::Description;

/// Everything that is recorded of a version of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Under which name it answers.
    pub model: String,
    /// Its version under that name.
    pub version: String,
    /// Its id, which names what it was made of.
    pub id: String,
    /// What it is for, in the words of whoever made it.
    pub purpose: String,
    /// What it is not for and where it fails, in the same words.
    pub limits: Vec<String>,
    /// Who answers for it.
    pub owner: String,
    /// What kind of model it is: `gradient-boosted trees, 400 × depth 6`.
    pub kind: String,
    /// When it was made.
    pub trained_at: Option<UnixMillis>,
    /// How long that took, in seconds.
    pub training_seconds: Option<f64>,
    /// What was measured of it.
    pub measured: Measured,
    /// What it takes and gives.
    pub signature: Option<ModelSignature>,
    /// What it was made of.
    pub made_of: Description,
    /// The rows it was evaluated on.
    pub holdout: Option<Holdout>,
    /// What it is worth on them.
    pub evaluation: Option<Evaluation>,
    /// What the champion was worth on them, when there was one.
    pub champion: Option<Evaluation>,
    /// How much each input matters, by the measure its trainer has; the most important first.
    pub importance: Vec<(String, f64)>,
    /// Whether it may answer.
    pub decision: Option<Decision>,
}

impl Record {
    /// The card, in Markdown.
    pub fn card(&self) -> String {
        markdown::of(self)
    }

    /// The report, as one page of HTML.
    pub fn page(&self) -> String {
        page::of(self)
    }
}
