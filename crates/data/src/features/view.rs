//! What a feature view is: its configuration, and the check that it can be meant.

use serde::{Deserialize, Serialize};

use crate::{Column, ColumnType, Error, Schema};

/// A feature view, as it is written in a configuration.
///
/// ```yaml
/// dataset: weather
/// keys: [airport]
/// event_time: hour
/// ingest_time: received
/// ttl_seconds: 7200
/// features: [temp, wind, visibility]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureViewConfig {
    /// The dataset the features are columns of; empty when `sql` says where they come from.
    #[serde(default)]
    pub dataset: String,
    /// A query over datasets, by their names, whose result has the columns that the rest of the view names. Evaluated against one
    /// version of each dataset.
    #[serde(default)]
    pub sql: Option<String>,
    /// The columns that name the entity: one or several. Rows in which one of them is null belong to no entity.
    pub keys: Vec<String>,
    /// The column that says when a row happened: a `timestamp`, a `datetime` or a `date` (which counts as its midnight, so take
    /// care: what sums up a day is not known when the day begins).
    pub event_time: String,
    /// The column that says when a row became known, of the same kinds. Without it nothing is known of late rows, and a training
    /// set cannot be cut by ingest time.
    #[serde(default)]
    pub ingest_time: Option<String>,
    /// How long a row is valid after its event time, in seconds, the last instant included. For ever when it is not given.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The columns that are features, in the order they are wanted.
    pub features: Vec<String>,
    /// What times without a zone mean.
    #[serde(default)]
    pub naive_times: NaiveTimes,
}

/// What a time without a zone (`datetime`, `date`) means beside one that is an instant (`timestamp`, a cut).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NaiveTimes {
    /// Nobody knows: comparing the two is refused. Times without a zone can be compared among each other.
    #[default]
    Refuse,
    /// It is in UTC.
    Utc,
}

/// A feature view that can be meant: it has a name, a key and features, and none of its columns is used twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureView {
    name: String,
    config: FeatureViewConfig,
}

impl FeatureView {
    /// A view of that name.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem there is. Whether the dataset has the columns is seen when it is read.
    pub fn new(name: &str, config: FeatureViewConfig) -> Result<FeatureView, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let mut problems = Vec::new();
        if !begins || !name.bytes().all(plain) || name.contains("__") || name.len() > 64 {
            problems.push(
                "a name is up to 64 letters, digits and single `_`, and begins with a letter".to_owned(),
            );
        }
        if config.keys.is_empty() {
            problems.push("`keys` is empty: name the columns that tell entities apart".to_owned());
        }
        if config.features.is_empty() {
            problems.push("`features` is empty: name the columns that are wanted".to_owned());
        }
        match (&config.sql, config.dataset.as_str()) {
            (None, "") => {
                problems.push("neither `dataset` nor `sql` says where its rows come from".to_owned())
            }
            (Some(_), dataset) if !dataset.is_empty() => {
                problems.push("`dataset` and `sql` both say where its rows come from: keep one".to_owned());
            }
            _ => {}
        }
        let mut seen: Vec<&str> = Vec::new();
        let times = std::iter::once(&config.event_time).chain(&config.ingest_time);
        for column in config.keys.iter().chain(times).chain(&config.features) {
            if seen.contains(&column.as_str()) {
                problems.push(format!("the column `{column}` is named twice"));
            }
            seen.push(column);
        }
        if config.ttl_seconds.is_some_and(|ttl| i64::try_from(ttl).is_err()) {
            problems.push("`ttl_seconds` is longer than time is".to_owned());
        }
        if problems.is_empty() {
            Ok(FeatureView { name: name.to_owned(), config })
        } else {
            Err(Error::invalid(format!("the feature view `{name}`"), problems.join("; ")))
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was written.
    pub fn config(&self) -> &FeatureViewConfig {
        &self.config
    }

    /// The TTL in microseconds; the longest there is when it has none.
    pub(super) fn ttl_micros(&self) -> i64 {
        let seconds = self.config.ttl_seconds.and_then(|ttl| i64::try_from(ttl).ok());
        seconds.map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000_000))
    }

    /// Where its rows come from, for messages.
    pub(super) fn origin(&self) -> &str {
        if self.config.sql.is_some() { "the query" } else { &self.config.dataset }
    }

    /// The columns that are read: keys, event time, ingest time, features.
    pub(super) fn columns(&self, schema: &Schema) -> Result<Schema, Error> {
        let config = &self.config;
        let times = std::iter::once(&config.event_time).chain(&config.ingest_time);
        let mut columns = Vec::new();
        for name in config.keys.iter().chain(times).chain(&config.features) {
            let Some(column) = schema.column(name) else {
                let names: Vec<_> = schema.names().collect();
                let why = format!("`{}` has {}", self.origin(), names.join(", "));
                return Err(Error::invalid(
                    format!("the column `{name}` of the feature view `{}`", self.name),
                    why,
                ));
            };
            columns.push(column.clone());
        }
        Ok(Schema { columns })
    }
}

/// What kind of time a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A point in time.
    Instant,
    /// What a clock on a wall showed.
    Naive,
}

impl Kind {
    pub(super) fn of(column: &Column) -> Result<Kind, Error> {
        match column.ty {
            ColumnType::Timestamp => Ok(Kind::Instant),
            ColumnType::DateTime | ColumnType::Date => Ok(Kind::Naive),
            ref other => Err(Error::invalid(
                format!("the time `{}`", column.name),
                format!("it is of type {other}, and a time is a timestamp, a datetime or a date"),
            )),
        }
    }

    /// Whether the two can be compared, by what the view says of times without a zone.
    pub(super) fn comparable(self, other: Kind, view: &FeatureView, what: &str) -> Result<(), Error> {
        if self == other || view.config.naive_times == NaiveTimes::Utc {
            return Ok(());
        }
        Err(Error::invalid(
            format!("{what} of the feature view `{}`", view.name),
            "one is an instant and the other has no zone; convert one of them, or say `naive_times: utc` if that is so",
        ))
    }
}
