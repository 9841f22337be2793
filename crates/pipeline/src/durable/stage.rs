//! A stage as its plan has it: all that an attempt needs to build it and to give it its inputs.

use contract::StageName;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::kept::Kept;
use crate::Collect;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StageWork {
    /// The kind of stage.
    pub(super) kind: String,
    /// Its version when this was planned.
    pub(super) version: u32,
    /// The kind's configuration, filled in.
    pub(super) config: Json,
    /// Where its inputs come from.
    pub(super) inputs: Vec<(String, From)>,
    /// The input that is one element of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) each: Option<(String, From)>,
    /// How many elements at a time.
    #[serde(default)]
    pub(super) parallel: usize,
    /// Whether an earlier run's output of the same is taken.
    pub(super) cached: bool,
    /// The value of the contract `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<Kept>,
    /// The files that the kind reads, with their hashes when this was planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<(String, String)>,
    /// What else it is made of, by name, with hashes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made_of: Vec<(String, String)>,
    /// The table that it gives, of a stage that is run for each element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collect: Option<Collect>,
    /// What a run may spend on it, of a stage that is run for each element: tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<u64>,
    /// The same in nanodollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nanousd: Option<i64>,
    /// What the stage asks somebody before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approval: Option<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    /// What the run was given.
    Input,
    /// The output of a stage.
    Stage(StageName),
    /// The outputs of stages, as a list.
    Stages(Vec<StageName>),
}

impl From {
    pub(super) fn stages(&self) -> &[StageName] {
        match self {
            From::Input => &[],
            From::Stage(one) => std::slice::from_ref(one),
            From::Stages(all) => all,
        }
    }
}
