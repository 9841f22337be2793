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
    /// Another system did not answer, or not whole: the same may succeed later.
    #[error("{message}")]
    Unreachable {
        /// What, as a sentence without a full stop.
        message: String,
        /// What to do about it.
        help: String,
    },
    /// The configuration has problems; they were shown already.
    #[error("the configuration has problems")]
    Invalid,
    /// Data is not as expected; the report was shown already.
    #[error("the data is not as expected")]
    Refused,
    /// A run ended with a part of its answer, which was shown with the reason.
    #[error("the answer is not complete")]
    Partial,
    /// The user said stop.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    /// A failure and what to do about it.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Failed { message: message.into(), help: help.into() }
    }

    /// A failure of another system, which may pass, and what to do about it.
    pub fn unreachable(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Unreachable { message: message.into(), help: help.into() }
    }

    /// A file that could not be read or written.
    pub fn file(verb: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check who owns it and its permissions",
            std::io::ErrorKind::StorageFull => "make room on the disk",
            std::io::ErrorKind::ReadOnlyFilesystem => "choose a folder on a disk that can be written",
            std::io::ErrorKind::IsADirectory => "name a file, not a folder",
            _ => "check the disk and the path",
        };
        Error::new(format!("cannot {verb} {}: {error}", path.display()), help)
    }

    /// The exit code of a command that ends with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Failed { .. } | Error::Unreachable { .. } | Error::Invalid | Error::Refused => 1,
            Error::Partial => 3,
            // As a shell reports a command that Ctrl-C ended.
            Error::Cancelled => 130,
        }
    }
}
