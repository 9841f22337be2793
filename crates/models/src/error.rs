//! What can go wrong here.

use store::tracking::{Refused, Why};

/// A failure. Messages fit "failed to …", but for refusals, which are said to callers as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asks for what is not done.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed, or refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Artifacts cannot be read or written.
    #[error("keep or read an artifact: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// What is refused to the caller, if that is what it is.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(r) | Error::Store(store::Error::Refused(r)) => Some(r),
            _ => None,
        }
    }

    /// Whether it is that what was asked for is not there.
    pub fn is_missing(&self) -> bool {
        self.refused().is_some_and(|r| r.why == Why::Missing)
    }
}
