//! The bodies of `/v1/feedback`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What turned out to be true of an answer, or what somebody thinks of it: a `label`, a `score` or a `comment` at least.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Feedback {
    /// The `x-request-id` of the answer.
    id: String,
    /// Which row of the request, from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u32>,
    /// What was true: a value, or a class.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<FeedbackLabel>,
    /// How good it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// What the score is of: `thumbs_up`, `judge`; `score` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// When it became known: RFC 3339, or milliseconds since the epoch. Now unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<FeedbackTime>,
}

/// A value, a class, or a truth.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum FeedbackLabel {
    Number(f64),
    Truth(bool),
    Text(String),
}

/// A time.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum FeedbackTime {
    Milliseconds(i64),
    Text(String),
}

/// One, or a list.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openapi) enum FeedbackBody {
    One(Feedback),
    List(Vec<Feedback>),
}

/// How much was taken.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FeedbackTaken {
    taken: u64,
}
