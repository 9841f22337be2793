//! What can go wrong with the fake itself, as opposed to what it fakes.

/// An error of the fake upstream itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The script cannot be used; the text names the field.
    #[error("read the script: {0}")]
    Script(String),
    /// The address cannot be parsed.
    #[error("parse the address {0:?}: give host:port or unix:/path")]
    Address(String),
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Bind {
        /// The address as given.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The request was not recorded, or its record left the ring.
    #[error("find request {no} in the log")]
    NotLogged {
        /// Its number.
        no: u64,
    },
}
