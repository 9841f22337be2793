//! What can be wrong with an endpoint before it is ever called; a call's own failures are [`contract::Error`]s.

/// An endpoint cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("`{0}` is not an http or https address")]
    Url(String),
    /// A header cannot be sent.
    #[error("the header `{0}` has a name or a value that cannot be sent")]
    Header(String),
}
