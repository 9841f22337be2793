//! What a check found, where, and what to do about it.

use std::fmt;

/// One problem. Printed as `path:line: message — remedy`, which editors turn into a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the repository's root, with `/`.
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
    /// A warning is printed and does not fail the run.
    pub(crate) warning: bool,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Finding {
    /// A problem that fails the run.
    pub(crate) fn error(
        path: &str,
        line: usize,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line, warning: false, message: message.into(), remedy: remedy.into() }
    }

    /// A problem that is only said.
    pub(crate) fn warning(
        path: &str,
        line: usize,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::error(path, line, message, remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}: {kind}{} — {}", self.path, self.line, self.message, self.remedy)
    }
}
