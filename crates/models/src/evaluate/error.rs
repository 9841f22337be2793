//! What cannot be evaluated, and why.

/// Columns that cannot be evaluated. The message fits "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to evaluate.
    #[error("evaluate: there are no rows")]
    Empty,
    /// Two columns are not of one length.
    #[error("evaluate: the column `{column}` has {found} values for {rows} rows")]
    Length {
        /// Which column.
        column: String,
        /// How many values it has.
        found: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A value is not one.
    #[error("evaluate: row {row} of the column `{column}` {why}")]
    Value {
        /// Which column.
        column: String,
        /// Which row, from zero.
        row: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More rows than one evaluation takes.
    #[error("evaluate: {0} rows are more than 4 billion; evaluate a sample of them")]
    TooMany(usize),
    /// A column that a slice or a group is named by is not there.
    #[error("evaluate: there is no column `{column}`; there are: {known}")]
    NoColumn {
        /// Which one was asked for.
        column: String,
        /// Which ones there are.
        known: String,
    },
    /// A metric that this kind of prediction does not have.
    #[error("evaluate: a {task} has no `{metric}`; it has: {known}")]
    NoMetric {
        /// What was asked for.
        metric: String,
        /// What is predicted.
        task: &'static str,
        /// What can be asked for.
        known: String,
    },
}
