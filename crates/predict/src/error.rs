//! What can go wrong between a request and a prediction.

use std::time::Duration;

use contract::{Code, RetryHint};

/// A failure, by who can do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is not what the protocol or the model takes. The message says what would be.
    #[error("{message}")]
    Invalid {
        /// Where in the request.
        param: Option<String>,
        /// What is wrong and what would be right.
        message: String,
    },
    /// There is no model or version of that name.
    #[error("{0}")]
    NotFound(String),
    /// The model is there, and nothing of it can answer now.
    #[error("{0}")]
    NotReady(String),
    /// As many rows wait for the model as may.
    #[error("the model `{model}` has a full queue: ask again in a moment")]
    Full {
        /// Its name.
        model: String,
        /// When there is likely to be room.
        after: Duration,
    },
    /// The deadline passed before the model was free.
    #[error("the deadline passed before the model answered")]
    Deadline,
    /// The model found the request wrong, or broke. Neither is told apart by every backend.
    #[error("the model failed to run: {0}")]
    Run(String),
    /// The model cannot be loaded; the message says what to do.
    #[error("{0}")]
    Load(String),
    /// A defect of ours.
    #[error("{0}; this is a defect")]
    Defect(String),
}

/// How long a caller waits before it comes again to a model that is being loaded.
const LOADING: Duration = Duration::from_secs(1);

impl Error {
    /// A request that is wrong as a whole.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { param: None, message: message.into() }
    }

    /// A request that is wrong in one place.
    pub fn wrong(param: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Invalid { param: Some(param.into()), message: message.into() }
    }
}

impl From<Error> for contract::Error {
    fn from(e: Error) -> Self {
        let said = e.to_string();
        match e {
            Error::Invalid { param, .. } => {
                let e = contract::Error::new(Code::InvalidRequest, said);
                match param {
                    Some(param) => e.param(param),
                    None => e,
                }
            }
            Error::NotFound(_) => contract::Error::new(Code::NotFound, said).param("model"),
            Error::NotReady(_) => {
                contract::Error::new(Code::UpstreamUnreachable, said).retry(RetryHint::After(LOADING))
            }
            Error::Full { model, after } => contract::Error::new(Code::Overloaded, said)
                .retry(RetryHint::After(after))
                .limit_source(format!("model:{model}")),
            Error::Deadline => contract::Error::new(Code::DeadlineExceeded, said),
            // What a runtime says may quote what was sent: the caller alone is told.
            Error::Run(why) => {
                contract::Error::new(Code::UpstreamError, "the model failed to run").detail(why)
            }
            Error::Load(_) => contract::Error::new(Code::InvalidRequest, said),
            Error::Defect(_) => contract::Error::new(Code::Internal, said),
        }
    }
}
