//! What can go wrong with datasets: cases a caller can act on, each naming the place and a remedy.

use std::path::PathBuf;

use contract::Code;

/// Where in a source something is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file; empty when the source is not a file.
    pub file: PathBuf,
    /// The line the row begins on, counted from 1, where the format has lines.
    pub line: Option<u64>,
    /// The column, by name.
    pub column: Option<String>,
}

impl Place {
    pub(crate) fn file(file: impl Into<PathBuf>) -> Place {
        Place { file: file.into(), line: None, column: None }
    }

    pub(crate) fn line(mut self, line: u64) -> Place {
        self.line = Some(line);
        self
    }

    pub(crate) fn column(mut self, column: impl Into<String>) -> Place {
        self.column = Some(column.into());
        self
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        Ok(())
    }
}

/// A failure of the data layer. Messages fit "failed to …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The warehouse's URL, a dataset's name, a tag or a type is not well formed.
    #[error("understand {what}: {why}")]
    Invalid {
        /// What was given, with its kind.
        what: String,
        /// Why it cannot be taken, and what can.
        why: String,
    },
    /// No dataset of that name.
    #[error("find the dataset `{name}`; {hint}")]
    NoDataset {
        /// The name asked for.
        name: String,
        /// The names there are.
        hint: String,
    },
    /// No feature view of that name.
    #[error("find the feature view `{name}`; {hint}")]
    NoView {
        /// The name asked for.
        name: String,
        /// The names there are.
        hint: String,
    },
    /// Another process writes what is online.
    #[error("open `{}`: another forebay process writes it; stop it, or talk to it with --server", folder.display())]
    Locked {
        /// Its folder.
        folder: PathBuf,
    },
    /// No version, tag or time of that kind in the dataset.
    #[error("find {at} of `{dataset}`; {hint}")]
    NoVersion {
        /// The dataset.
        dataset: String,
        /// What was asked for, as text.
        at: String,
        /// What there is.
        hint: String,
    },
    /// A version is in the log, and files of it are gone.
    #[error("read version {version} of `{dataset}`: {why}; {hint}")]
    Gone {
        /// The dataset.
        dataset: String,
        /// The version.
        version: u64,
        /// What became of the files.
        why: String,
        /// Which versions can be read.
        hint: String,
    },
    /// A source cannot be read as what it claims to be; nothing of it was added.
    #[error("read {at}: {problem}; {remedy}")]
    Source {
        /// Where.
        at: Place,
        /// What is wrong there.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Somebody else committed between this writer's read and its commit, and the change depends on what it read.
    #[error(
        "commit to `{dataset}`: another writer committed version {theirs} after version {base} was read; \
         look at it with `forebay data diff`, then do it again"
    )]
    Conflict {
        /// The dataset.
        dataset: String,
        /// The version this change was made against.
        base: u64,
        /// The version that is current now.
        theirs: u64,
    },
    /// The work needs more memory than it was given.
    #[error("{doing} within the memory limit: {why}; raise the limit, or take fewer columns or rows")]
    Memory {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        why: String,
    },
    /// The disk or the object store does not take or give what it should. The versions there were are intact.
    #[error("{doing}: {why}; the previous version is intact")]
    Storage {
        /// What was being done, as a fragment.
        doing: &'static str,
        /// What the store said.
        why: String,
    },
    /// The table's files were written by something whose features are not known here.
    #[error("{doing} `{dataset}`: {why}")]
    Table {
        /// What was being done.
        doing: &'static str,
        /// The dataset.
        dataset: String,
        /// What the table layer said.
        why: String,
    },
    /// A file of expectations does not make sense; every problem in it is told.
    #[error("understand the expectations: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Expectations {
        /// What is wrong, in the order of the file.
        problems: Vec<crate::expect::Problem>,
    },
    /// A SQL text cannot be planned or run.
    #[error("run the query: {0}")]
    Query(String),
}

impl Error {
    /// The documented code of this failure.
    pub fn code(&self) -> Code {
        match self {
            Error::Invalid { .. } | Error::Expectations { .. } | Error::Query(_) => Code::InvalidRequest,
            Error::NoDataset { .. } | Error::NoView { .. } | Error::NoVersion { .. } | Error::Gone { .. } => {
                Code::NotFound
            }
            Error::Source { .. } => Code::InvalidDocument,
            Error::Conflict { .. } => Code::Overloaded,
            Error::Memory { .. } => Code::TooLarge,
            Error::Storage { .. } | Error::Locked { .. } => Code::StorageUnavailable,
            Error::Table { .. } => Code::Internal,
        }
    }

    pub(crate) fn source(at: Place, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Source { at, problem: problem.into(), remedy: remedy.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), why: why.into() }
    }
}
