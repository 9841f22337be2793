//! What a stage of a durable run is given beside what every stage is.

use std::path::PathBuf;
use std::sync::Arc;

use crate::lineage::Lineage;
use crate::{PipelineName, RunId};

/// The attempt that a stage works for. Attempts are at-least-once: another may have done the same before it and died, or may
/// be at it still. An effect outside of the run is therefore made under [`Attempt::effect`], so that it happens once.
#[derive(Clone)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// The pipeline that runs.
    pub pipeline: PipelineName,
    /// Which attempt of the stage, from 1.
    pub number: u32,
    /// The key of the stage's effect: equal for all its attempts on the same input, and for nothing else.
    pub effect: String,
    /// How often this attempt began the same effect anew within itself: an element that is tried again. 0 at first.
    pub again: u32,
    /// Where a folder of its own may be: there is nothing when it begins, whoever needs one makes it, and it is removed when it is over.
    pub folder: PathBuf,
    /// Where it says what it does.
    pub log: Arc<dyn StageLog>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt")
            .field("run", &self.run)
            .field("number", &self.number)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

/// Where a stage of a durable run says what it does and how far it is. Bounded: what is too much is left out of the middle, and
/// counted. Never waits.
pub trait StageLog: Send + Sync {
    /// One line of text, without its end.
    fn line(&self, line: &str);
    /// Units done so far, and how many there are when that is known.
    fn progress(&self, done: u64, of: Option<u64>);
    /// What it made of what, where it knows more of that than whoever gives it values and takes its own. What several calls say
    /// is taken together.
    fn lineage(&self, lineage: Lineage) {
        let _ = lineage;
    }
}
