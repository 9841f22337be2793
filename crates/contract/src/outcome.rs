//! How a stage or a request ended. A partial result is a result.

use crate::Error;

/// The three ways to end.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    /// Everything that was asked for.
    Complete(T),
    /// Something usable, and why it is not everything.
    Partial(T, Error),
    /// Nothing usable.
    Failed(Error),
}

impl<T> Outcome<T> {
    /// The value, complete or partial.
    pub fn value(&self) -> Option<&T> {
        match self {
            Outcome::Complete(v) | Outcome::Partial(v, _) => Some(v),
            Outcome::Failed(_) => None,
        }
    }

    /// The error, partial or failed.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Complete(_) => None,
            Outcome::Partial(_, e) | Outcome::Failed(e) => Some(e),
        }
    }

    /// Applies `f` to the value, keeping how it ended.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Outcome::Complete(v) => Outcome::Complete(f(v)),
            Outcome::Partial(v, e) => Outcome::Partial(f(v), e),
            Outcome::Failed(e) => Outcome::Failed(e),
        }
    }
}

impl<T> From<Result<T, Error>> for Outcome<T> {
    fn from(r: Result<T, Error>) -> Self {
        match r {
            Ok(v) => Outcome::Complete(v),
            Err(e) => Outcome::Failed(e),
        }
    }
}
