//! Pipelines that can be run, and what a run of one is asked to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{PipelineName, RunId, StageName, TenantId, UnixMillis, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::nested::Parent;
use crate::runs::Lane;
use crate::{Graph, PipelineSpec, Registry};

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name.
    pub name: PipelineName,
    /// As it was written.
    pub spec: PipelineSpec,
    /// The same, checked.
    pub graph: Arc<Graph>,
    /// The hash of what was written, in short.
    pub version: String,
}

/// All pipelines of a configuration, and the kinds of their stages.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// The kinds.
    pub registry: Registry,
    /// The pipelines, by name.
    pub pipelines: BTreeMap<PipelineName, Arc<Definition>>,
}

/// A stretch of time or another part of the data that a run is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name: `2013-01`.
    pub key: String,
    /// Where it begins, as a date or an instant.
    pub start: String,
    /// Where it ends; that is not in it.
    pub end: String,
}

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The run's id.
    pub id: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// What it is given; what is not named is as the pipeline says.
    pub params: Map<String, Json>,
    /// The pipeline's input, where a stage takes it.
    pub input: Option<Value>,
    /// What part of the data it is about.
    pub partition: Option<Partition>,
    /// Who goes first.
    pub lane: Lane,
    /// Nothing starts before.
    pub not_before: Option<UnixMillis>,
    /// What started it, for people and for the record: `{"cron": …}`, `{"by": "ann"}`.
    pub cause: Json,
    /// What makes a second request the same one.
    pub key: Option<String>,
    /// A bound on its stages under way together with those of other runs that name the same.
    pub bound: Option<(String, u32)>,
    /// Work of one name holds up none of another; the pipeline's name, without.
    pub target: Option<String>,
    /// The run whose finished stages are not done again, where they are the same.
    pub resumes: Option<RunId>,
    /// The run and the stage that called it: it ends when that run does.
    pub parent: Option<Parent>,
}

impl Asked {
    /// A run of that pipeline, given nothing.
    pub fn of(id: RunId, tenant: TenantId, pipeline: PipelineName) -> Asked {
        Asked {
            id,
            tenant,
            pipeline,
            params: Map::new(),
            input: None,
            partition: None,
            lane: Lane::Normal,
            not_before: None,
            cause: Json::Null,
            key: None,
            bound: None,
            target: None,
            resumes: None,
            parent: None,
        }
    }
}

/// What is kept beside a run: what it is of, and why it is. Lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) pipeline: PipelineName,
    pub(super) version: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) params: Map<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<Partition>,
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub(super) cause: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resumes: Option<RunId>,
    /// The run and the stage that called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Parent>,
    /// The stages whose outputs are its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) result: Vec<StageName>,
    /// They are the variants of a matrix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) many: bool,
}
