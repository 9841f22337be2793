//! Expectations that make sense in themselves: what is wrong without looking at any data is said here, all of it at once.

use crate::expect::config::{self, Config};
use crate::expect::sense::checked;
use crate::expect::{Fault, Severity};
use crate::{At, ColumnType, Error};

/// Validated expectations.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    pub(crate) expected: Vec<Expected>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) check: Check,
}

/// What is checked; the parts that are texts in the file are what they mean here.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Schema { columns: Vec<(String, Option<ColumnType>)>, closed: bool },
    NotNull(config::NotNull),
    Range(config::Range),
    Unique(config::Unique),
    Set(config::Set),
    Pattern(config::Pattern),
    Length(config::Length),
    Freshness { column: String, max_age_ms: i64, said: String },
    Volume(config::Volume),
    Distribution { column: String, against: At, max_psi: f64 },
    Sql(String),
    References { column: String, dataset: String, key: String, at: At },
}

impl Check {
    /// The name of the check, as it is written.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Check::Schema { .. } => "schema",
            Check::NotNull(_) => "not_null",
            Check::Range(_) => "range",
            Check::Unique(_) => "unique",
            Check::Set(_) => "set",
            Check::Pattern(_) => "pattern",
            Check::Length(_) => "length",
            Check::Freshness { .. } => "freshness",
            Check::Volume(_) => "volume",
            Check::Distribution { .. } => "distribution",
            Check::Sql(_) => "sql",
            Check::References { .. } => "references",
        }
    }

    fn title(&self) -> String {
        let of = match self {
            Check::Schema { .. } | Check::Volume(_) => return self.kind().to_owned(),
            Check::NotNull(c) => c.column.clone(),
            Check::Range(c) => c.column.clone(),
            Check::Unique(c) => c.columns.join(", "),
            Check::Set(c) => c.column.clone(),
            Check::Pattern(c) => c.column.clone(),
            Check::Length(c) => c.column.clone(),
            Check::Sql(condition) => condition.clone(),
            Check::Freshness { column, .. }
            | Check::Distribution { column, .. }
            | Check::References { column, .. } => column.clone(),
        };
        format!("{} of {of}", self.kind())
    }
}

impl Suite {
    /// Validates what somebody wrote.
    ///
    /// # Errors
    /// [`Error::Expectations`] with every problem there is.
    pub fn new(config: &Config) -> Result<Suite, Error> {
        let mut problems = Vec::new();
        let mut suite = Suite::default();
        for (at, expectation) in config.expectations.iter().enumerate() {
            match checked(expectation) {
                Ok(check) => {
                    let name = expectation.name.clone().unwrap_or_else(|| check.title());
                    if suite.expected.iter().any(|other| other.name == name) {
                        let key = if expectation.name.is_some() { "name" } else { "" };
                        let what = format!("the name `{name}` is taken");
                        problems.push(Fault::new(key, what, "give each expectation its own `name`").at(at));
                    } else {
                        suite.expected.push(Expected { name, severity: expectation.severity, check });
                    }
                }
                Err(found) => problems.extend(found.into_iter().map(|fault| fault.at(at))),
            }
        }
        if problems.is_empty() { Ok(suite) } else { Err(Error::Expectations { problems }) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// Whether what comes of them depends on the rows alone: not on versions before, other datasets or the clock.
    pub fn of_rows_alone(&self) -> bool {
        self.expected.iter().all(|expected| match &expected.check {
            Check::Freshness { .. } | Check::Distribution { .. } | Check::References { .. } => false,
            Check::Volume(volume) => volume.history.is_none(),
            _ => true,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }
}
