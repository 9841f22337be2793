//! What is shown of lineage.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::any;

/// What hangs together with a thing.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Lineage {
    /// `lineage`.
    object: String,
    /// As it was asked for.
    of: String,
    /// What it is: `dataset`, `foreign`, `file`, `address`, `artifact`, `value`, `model`, `job` or `run`.
    kind: String,
    depth: u32,
    /// Whether there is more behind what is shown.
    more: bool,
    /// The nodes that it began at.
    roots: Vec<u64>,
    nodes: Vec<LineageNode>,
    links: Vec<LineageLink>,
}

/// A thing, or a job that made one. Times are in milliseconds since the epoch.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageNode {
    id: u64,
    /// `job`, or what sort of thing it is.
    #[serde(rename = "type")]
    r#type: String,
    name: String,
    /// The state of a thing: a content name, a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The number of a dataset's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// Of a job: the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// Of a job: when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    /// Of a job: the kind of the stage, `data add` or `openlineage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// What the run was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    params: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    partition: Option<serde_json::Value>,
    /// The commit of the project, and whether its files differed from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    git: Option<serde_json::Value>,
    /// The hash of the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    /// The hash of the stage's configuration and files.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forebay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began: Option<i64>,
    /// The run that had made the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    /// Of an event: the program that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    producer: Option<String>,
    /// Of an event: what became of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Things that were too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
}

/// From what is read to what is written.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageLink {
    from: u64,
    to: u64,
    /// Of a column: what it is there for.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Vec<String>>,
    /// The columns of what is written, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<LineageColumn>>,
}

/// A column, and those that it is made of.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageColumn {
    name: String,
    from: Vec<LineageSource>,
}

/// A column of what was read.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageSource {
    #[serde(rename = "type")]
    r#type: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    column: String,
    /// `identity`, `transformation`, `aggregation`, `join`, `group_by`, `filter`, `sort`, `window` or `conditional`.
    via: String,
}

/// An event as OpenLineage has it; fields and facets beside these are taken, and what is not known of them is passed over.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageEvent {
    /// `START`, `RUNNING`, `COMPLETE`, `ABORT`, `FAIL` or `OTHER`.
    #[serde(rename = "eventType", skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// In RFC 3339.
    #[serde(rename = "eventTime")]
    event_time: String,
    producer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    run: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    job: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Vec<LineageDataset>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<LineageDataset>>,
}

/// A dataset of an event.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageDataset {
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any)]
    facets: Option<serde_json::Value>,
}

/// What became of an event.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct LineageTaken {
    /// `lineage_event`.
    object: String,
    /// Whether it is kept.
    kept: bool,
    /// Whether it was not there before.
    new: bool,
}
