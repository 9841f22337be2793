//! The bodies of `/v1/events`.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// An event (CloudEvents 1.0). Further attributes, of lower-case letters and digits, may be there.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CloudEvent {
    /// `1.0`.
    specversion: String,
    /// What tells it from others of its source.
    id: String,
    /// Where it comes from.
    source: String,
    /// What happened.
    #[serde(rename = "type")]
    kind: String,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json>,
    /// The same as bytes, in place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Events, at most a thousand.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct CloudEvents(Vec<CloudEvent>);

/// What became of events.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct EventsTaken {
    /// `list`.
    object: String,
    data: Vec<EventTaken>,
}

/// What became of an event.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct EventTaken {
    id: String,
    source: String,
    /// The pipelines that it fits.
    started: Vec<Started>,
}

/// What an event did to a pipeline.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Started {
    pipeline: String,
    /// `started`; `waiting`: a run starts when the one that goes on has ended; `known`: it was sent before.
    status: String,
    /// The run that it started at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}
