//! Why a training came to nothing.

/// A failure of the worker. It is said to whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// LightGBM's own words.
    #[error("LightGBM says: {0}")]
    Native(String),
    /// There is no memory for it.
    #[error("there is not enough memory for {0}")]
    Memory(&'static str),
    /// Whoever started it says what cannot be.
    #[error("the protocol was broken: {0}")]
    Broken(String),
}

impl Error {
    /// Whether more memory would help.
    pub(crate) fn is_memory(&self) -> bool {
        match self {
            Error::Memory(_) => true,
            Error::Native(what) => what.contains("bad_alloc") || what.contains("bad_array_new_length"),
            Error::Broken(_) => false,
        }
    }
}
