//! The section `runs`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Count, Time};

/// Durable runs of pipelines. How many stages are worked on at the same time, and how long ended runs are kept, says `jobs`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunsConfig {
    /// Concurrency groups: how many stages that name one (`group`) may be under way at the same time, over all runs.
    pub concurrency: IndexMap<String, Count>,
    /// How long what a stage made is kept for later runs that would make it of the same.
    pub results: Time,
    /// The folder of the files that commands leave (`exec`), relative to this file. Several servers that share a database share
    /// such a folder too, so that any of them can go on with what another made. Unless given: `.forebay/artifacts`.
    #[schemars(length(min = 1))]
    pub artifacts: Option<String>,
}

impl Default for RunsConfig {
    fn default() -> Self {
        RunsConfig {
            concurrency: IndexMap::new(),
            results: Time(std::time::Duration::from_secs(30 * 86_400)),
            artifacts: None,
        }
    }
}
