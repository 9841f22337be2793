//! What can go wrong with storage, each with what to do about it.

use std::path::PathBuf;

use contract::Code;

use crate::tracking::Why;

/// A failure of storage. Messages fit "failed to …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be written.
    #[error("write `{}`: {source}; give this user write access to the folder, or choose another", path.display())]
    Unwritable {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database file holds something else.
    #[error("open `{}`: it is not a Forebay database; move it away, and a new one is created", .0.display())]
    NotADatabase(PathBuf),
    /// A newer Forebay wrote the database.
    #[error(
        "open `{}`: its schema is version {found}, this program knows up to {known}; upgrade forebay", path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// A database server cannot be reached, or lets nobody in.
    #[error("reach the database `{url}`: {source}; see that it runs, and that `storage.url` is right")]
    Unreachable {
        /// Where it is, without a password.
        url: String,
        /// What went wrong.
        source: sqlx::Error,
    },
    /// The address of a database is none.
    #[error("read `storage.url`: {0}; it reads postgres://user:password@host:5432/database")]
    Address(String),
    /// Another process is the writer of this folder.
    #[error(
        "lock `{}`: another forebay process{} writes to this folder; stop it, or talk to it with --server",
        path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// The journal cannot take a record, and nothing was acknowledged.
    #[error("append to the ledger's journal: {0}; free disk space, the server resumes by itself")]
    Journal(String),
    /// The record does not fit a frame of the journal.
    #[error("append to the ledger's journal: a record of {0} bytes is too large")]
    TooLarge(usize),
    /// The database has not caught up within the time allowed.
    #[error("bring the database up to date within {0:?}; the disk is slow or full, nothing is lost")]
    Lagging(std::time::Duration),
    /// Acknowledged records could not be written anywhere before the end.
    #[error("write {0} acknowledged records to disk before shutting down; free disk space")]
    Unsaved(usize),
    /// No key of that id.
    #[error("find the key `{0}`; `forebay key list` shows those there are")]
    UnknownKey(String),
    /// The tenant's files take all that they may.
    #[error("keep the file: those of its tenant may take {limit} bytes together")]
    FilesFull {
        /// In bytes.
        limit: u64,
    },
    /// As many runs wait as may.
    #[error("keep the run: {runs} with {bytes} bytes wait already")]
    RunsFull {
        /// Whose; `None` when it is all of them together.
        tenant: Option<contract::TenantId>,
        /// How many wait.
        runs: u64,
        /// Their inputs together.
        bytes: u64,
    },
    /// The database refused.
    #[error("use the database: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored record cannot be read.
    #[error("read a stored record: {0}")]
    Decode(#[from] serde_json::Error),
    /// Others changed the same thing, again and again.
    #[error("change a run that others change at the same time; try again")]
    Contended,
    /// Tracking does not do that, in words for whoever asked.
    #[error("{0}")]
    Refused(#[from] crate::tracking::Refused),
    /// The system gave no randomness.
    #[error("get random bytes from the system: {0}")]
    Random(String),
}

impl Error {
    /// Whether a change was not made because what it was decided on is so no more: a row would have come into the table `expected`.
    pub(crate) fn is_off(&self) -> bool {
        let Error::Database(e) = self else { return false };
        e.as_database_error()
            .is_some_and(|e| e.is_check_violation() && e.message().contains("what_is_decided_on"))
    }
}

impl From<Error> for contract::Error {
    fn from(e: Error) -> Self {
        let code = match &e {
            Error::UnknownKey(_) => Code::NotFound,
            Error::Refused(r) => match r.why {
                Why::Missing => Code::NotFound,
                Why::Invalid | Why::Exists | Why::State => Code::InvalidRequest,
                Why::Internal => Code::Internal,
            },
            Error::FilesFull { .. } => Code::TooLarge,
            Error::RunsFull { .. } => Code::Overloaded,
            _ => Code::StorageUnavailable,
        };
        contract::Error::new(code, e.to_string())
    }
}
