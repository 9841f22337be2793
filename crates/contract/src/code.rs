//! The closed list of error codes. Each has a page `docs/errors/<code>.md` that says what happened and what to do.

use serde::{Deserialize, Serialize};

/// A stable, documented name for one kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The body is not what the surface takes: broken JSON, a wrong type, a missing field.
    InvalidRequest,
    /// The document cannot be read as the type it claims to be.
    InvalidDocument,
    /// The body or the document is larger than the limit.
    TooLarge,
    /// No model, pipeline, run or record of that name.
    NotFound,
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// What a reader wants to read on from is not kept.
    NotResumable,
    /// The prompt does not fit the window of any model that may answer.
    ContextLengthExceeded,
    /// No key, an unknown key or a revoked key.
    InvalidKey,
    /// The key is known but may not do this.
    Forbidden,
    /// Requests, tokens or streams a minute are used up.
    RateLimited,
    /// A token or money budget is used up.
    BudgetExhausted,
    /// The queue cannot serve this in time.
    Overloaded,
    /// A latency budget ran out.
    DeadlineExceeded,
    /// The caller left or said stop.
    Cancelled,
    /// The provider filtered the content.
    ContentFiltered,
    /// The provider answered with an error or an answer that makes no sense.
    UpstreamError,
    /// The provider cannot be reached.
    UpstreamUnreachable,
    /// The provider fell silent.
    UpstreamTimeout,
    /// The stream ended before it was complete.
    UpstreamTruncated,
    /// The provider refused our credentials.
    UpstreamCredentials,
    /// The model's worker process died.
    WorkerCrashed,
    /// A part of a fan-out failed.
    PartFailed,
    /// Somebody who was asked did not approve it.
    NotApproved,
    /// A gate does not let a model answer.
    GateRefused,
    /// The data is not what is expected of it.
    ExpectationsFailed,
    /// A command that a stage runs ended badly.
    CommandFailed,
    /// The server is shutting down.
    Draining,
    /// The disk or the database cannot take a record.
    StorageUnavailable,
    /// A defect of ours.
    Internal,
}

impl Code {
    /// Every code, for documentation and for the check that each has a page.
    pub const ALL: &[Code] = &[
        Code::InvalidRequest,
        Code::InvalidDocument,
        Code::TooLarge,
        Code::NotFound,
        Code::IdempotencyKeyReused,
        Code::NotResumable,
        Code::ContextLengthExceeded,
        Code::InvalidKey,
        Code::Forbidden,
        Code::RateLimited,
        Code::BudgetExhausted,
        Code::Overloaded,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::ContentFiltered,
        Code::UpstreamError,
        Code::UpstreamUnreachable,
        Code::UpstreamTimeout,
        Code::UpstreamTruncated,
        Code::UpstreamCredentials,
        Code::WorkerCrashed,
        Code::PartFailed,
        Code::NotApproved,
        Code::GateRefused,
        Code::ExpectationsFailed,
        Code::CommandFailed,
        Code::Draining,
        Code::StorageUnavailable,
        Code::Internal,
    ];

    /// The name on the wire and of the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidDocument => "invalid_document",
            Self::TooLarge => "too_large",
            Self::NotFound => "not_found",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::NotResumable => "not_resumable",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::InvalidKey => "invalid_key",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::ContentFiltered => "content_filtered",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::UpstreamCredentials => "upstream_credentials",
            Self::WorkerCrashed => "worker_crashed",
            Self::PartFailed => "part_failed",
            Self::NotApproved => "not_approved",
            Self::GateRefused => "gate_refused",
            Self::ExpectationsFailed => "expectations_failed",
            Self::CommandFailed => "command_failed",
            Self::Draining => "draining",
            Self::StorageUnavailable => "storage_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The class every error of this code belongs to.
    pub const fn class(self) -> crate::Class {
        use crate::Class;
        match self {
            Self::InvalidRequest
            | Self::InvalidDocument
            | Self::TooLarge
            | Self::NotFound
            | Self::IdempotencyKeyReused
            | Self::NotResumable
            | Self::ContextLengthExceeded
            | Self::ExpectationsFailed => Class::Invalid,
            Self::InvalidKey
            | Self::Forbidden
            | Self::BudgetExhausted
            | Self::ContentFiltered
            | Self::NotApproved
            | Self::GateRefused => Class::Denied,
            Self::RateLimited | Self::Overloaded | Self::Draining => Class::Overloaded,
            Self::DeadlineExceeded | Self::Cancelled => Class::Deadline,
            Self::UpstreamError
            | Self::UpstreamUnreachable
            | Self::UpstreamTimeout
            | Self::UpstreamTruncated
            | Self::UpstreamCredentials
            | Self::WorkerCrashed
            | Self::PartFailed
            | Self::CommandFailed => Class::Upstream,
            Self::StorageUnavailable | Self::Internal => Class::Internal,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
