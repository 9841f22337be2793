//! What tracking refuses, in the words that MLflow's clients know.

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Something in it is wrong.
    Invalid,
    /// What it is about is not there.
    Missing,
    /// What it would make is there already.
    Exists,
    /// What it is about is in no state for it.
    State,
    /// It asks for what is not done here.
    Internal,
}

/// A refusal. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The sort.
    pub why: Why,
    /// For whoever asked, as MLflow says it.
    pub message: String,
}

impl Refused {
    /// Something in the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Refused { why: Why::Invalid, message: message.into() }
    }

    /// What it is about is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Refused { why: Why::Missing, message: message.into() }
    }

    /// What it would make is there.
    pub fn exists(message: impl Into<String>) -> Self {
        Refused { why: Why::Exists, message: message.into() }
    }

    /// It is no time for it.
    pub fn state(message: impl Into<String>) -> Self {
        Refused { why: Why::State, message: message.into() }
    }
}
