//! What a command fails with. Every failure says what to do.

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be done.
    #[error("{message}")]
    Failed {
        /// What, as a sentence without a full stop.
        message: String,
        /// What to do about it.
        help: String,
    },
    /// The configuration has problems; they were shown already.
    #[error("the configuration has problems")]
    Invalid,
}

impl Error {
    /// A failure and what to do about it.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Failed { message: message.into(), help: help.into() }
    }

    /// A file that could not be read or written.
    pub fn file(verb: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check who owns it and its permissions",
            std::io::ErrorKind::StorageFull => "make room on the disk",
            _ => "check the disk and the path",
        };
        Error::new(format!("cannot {verb} {}: {error}", path.display()), help)
    }
}
