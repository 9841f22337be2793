//! What went wrong, in the terms a caller can act on: a code, a class, and whether to try again.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Code;

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The caller: the request is wrong.
    Invalid,
    /// The operator: a key, a policy or a budget says no.
    Denied,
    /// Time: there is no room now.
    Overloaded,
    /// Nobody: the time or the caller's interest ran out.
    Deadline,
    /// The provider.
    Upstream,
    /// Us.
    Internal,
}

/// Whether another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryHint {
    /// The same request will fail again.
    #[default]
    No,
    /// Here, after this long.
    After(Duration),
    /// At once, but not at the same endpoint.
    Elsewhere,
}

/// A failure as it travels through stages, into events and into the ledger.
///
/// The message is a fragment that fits "failed to answer: …" and says what to do. It never holds user text or secrets:
/// what may hold user text is the detail, which is told to the caller and never written into a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// Which failure.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Whether another try makes sense.
    #[serde(default)]
    pub retry: RetryHint,
    /// Whose limit it was, for limits and budgets: `key:…`, `tenant:gold`, `model:writer`, `pipeline:summarize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_source: Option<String>,
    /// The request parameter at fault, for invalid requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The HTTP status the provider answered with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// What a provider said of the request, which may quote it. Never serialized: the caller alone is told, by
    /// [`Error::told`].
    #[serde(skip)]
    pub detail: Option<String>,
}

impl Error {
    /// A failure of this code that should not be retried.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error {
            code,
            message: message.into(),
            retry: RetryHint::No,
            limit_source: None,
            param: None,
            upstream_status: None,
            detail: None,
        }
    }

    /// The same, with a hint.
    #[must_use]
    pub fn retry(mut self, hint: RetryHint) -> Self {
        self.retry = hint;
        self
    }

    /// The same, naming whose limit it was.
    #[must_use]
    pub fn limit_source(mut self, source: impl Into<String>) -> Self {
        self.limit_source = Some(source.into());
        self
    }

    /// The same, naming the parameter at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same, with the provider's status.
    #[must_use]
    pub fn upstream_status(mut self, status: u16) -> Self {
        self.upstream_status = Some(status);
        self
    }

    /// The same, with what a provider said of the request.
    #[must_use]
    pub fn detail(mut self, said: impl Into<String>) -> Self {
        self.detail = Some(said.into()).filter(|s: &String| !s.is_empty());
        self
    }

    /// The message for the caller who made the request, the detail included.
    pub fn told(&self) -> Cow<'_, str> {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.message).into(),
            None => self.message.as_str().into(),
        }
    }

    /// Who can do something about it.
    pub fn class(&self) -> Class {
        self.code.class()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_said_is_told_to_the_caller_and_kept_by_no_record() {
        let e =
            Error::new(Code::InvalidRequest, "the provider refused the request").detail("bad word: secret");
        assert_eq!(e.told(), "the provider refused the request: bad word: secret");
        let kept = serde_json::to_string(&e).unwrap();
        assert!(!kept.contains("secret") && !e.to_string().contains("secret"), "{kept}");
        let read: Error = serde_json::from_str(&kept).unwrap();
        assert_eq!(read, Error { detail: None, ..e });
        assert_eq!(Error::new(Code::Internal, "m").detail("").told(), "m");
    }
}
