//! Expectations: what data has to be like before anything else is done with it.
//!
//! A [`Config`] is what somebody wrote, a [`Suite`] what of it makes sense, a [`Report`] what came of looking. In between a
//! suite is bound to the columns of a dataset (`plan`), and a [`tally`](self) is kept over batches: the same plan and the same
//! tally serve a version that is scanned ([`Dataset::validate`](crate::Dataset::validate)) and rows that are about to be added
//! ([`Dataset::add_checked`](crate::Dataset::add_checked)).
//!
//! **One pass.** Conditions of rows are compiled to the query engine's vectorised expressions, everything else is counted
//! beside them, so that the columns concerned are read once, a batch at a time, by as many partitions as the scan has. What needs
//! more: `unique`, when some rows may be the same, reads its own columns once more (`hashes`), and of a change always, because it
//! is held against the rows already there; `distribution` and `references` read the *other* version or dataset first.
//!
//! **Bounds.** A tally holds counts, bins, samples of at most 4096 values per column and at most [`EXAMPLES`] rows per expectation; a
//! set of another dataset's values at most a million digests; the categories of a distribution at most 10,000 texts; the hashes
//! of rows half as many bytes as the warehouse may sort and group by, and beyond it a grouping spills to files.
//!
//! **Invariants.** An expectation that cannot be looked at has not passed: a missing column, a wrong type and an expression that
//! fails are outcomes with a problem, never errors and never silence. Nulls pass every check of values, as in SQL: `not_null`
//! is the one that is about them. Comparing floats, -0 is 0, and a NaN is in no range and no set.

mod bind;
mod config;
mod file;
mod form;
mod hashes;
mod literal;
mod matcher;
mod outcome;
mod page;
mod plan;
mod profile;
mod psi;
mod quick;
mod report;
mod sense;
mod shape;
mod sql;
mod suggest;
mod suite;
mod tally;

pub use config::{
    Config, Distribution, Expectation, Extra, Freshness, History, Length, NotNull, Pattern, Range,
    References, SchemaCheck, Set, Severity, Sql, Unique, Volume,
};
pub use file::{Written, json_schema};
pub use profile::{ColumnProfile, Profile};
pub use report::{Counted, Outcome, Report};
pub use shape::{ColumnSeen, Spread};
pub use suite::Suite;

pub(crate) use bind::{plain, present};
pub(crate) use hashes::{Hashes, of as hashed};
pub(crate) use outcome::Ends;
pub(crate) use plan::{Given, Kind, Plan, Scope};

pub(crate) use profile::{Sketch, propose};
pub(crate) use psi::{CATEGORIES, Reference, numbers};
pub(crate) use shape::shown;
pub(crate) use suite::Check;
pub(crate) use tally::{Duplicates, Keys, Tally, Verdict, row};

/// How many failing rows a report shows for an expectation.
pub(crate) const EXAMPLES: usize = 5;

/// Something that is wrong with expectations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a JSON pointer: `/expectations/3/range/min`, counted from 0.
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.pointer.trim_start_matches('/'), self.what, self.remedy)
    }
}

/// Something that is wrong with one expectation: `key` is the place in it, `range/min`.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    key: String,
    what: String,
    remedy: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { key: key.into(), what: what.into(), remedy: remedy.into() }
    }

    /// The problem of the expectation that stands there.
    pub(crate) fn at(self, at: usize) -> Problem {
        let key = if self.key.is_empty() { String::new() } else { format!("/{}", self.key) };
        Problem { pointer: format!("/expectations/{at}{key}"), what: self.what, remedy: self.remedy }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}
