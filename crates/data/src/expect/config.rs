//! Expectations as a person writes them: this is the manual.
//!
//! ```yaml
//! expectations:
//!   - schema: {columns: {carrier: text, dep_delay: float}, extra: forbid}
//!   - not_null: {column: carrier}
//!   - range: {column: dep_delay, min: -120, max: 2000}
//!     severity: warn
//!   - name: arrivals come after departures
//!     sql: {condition: "arr_time > dep_time"}
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A file of expectations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is expected, in any order: all of it is looked at.
    #[serde(default)]
    pub expectations: Vec<Expectation>,
}

/// One expectation: exactly one of the checks below, and what a failure means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// What reports call it; unique. Made from the check when it is not given, as `range of dep_delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a failure means. `error` unless given.
    #[serde(default)]
    pub severity: Severity,
    /// The columns and their types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaCheck>,
    /// Values are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_null: Option<NotNull>,
    /// Values are not smaller or larger than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// No two rows are the same in these columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Values are among these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// Texts match a regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Texts have so many characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    /// The newest row is not older than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// There are about as many rows as there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Values are distributed as they were in another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// A condition over the columns of a row, in SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<Sql>,
    /// Values are those of a column of another dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<References>,
}

/// What a failed expectation means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The data is not to be used: rows go to quarantine, or the change is refused.
    #[default]
    Error,
    /// It is reported, and stops nothing.
    Warn,
}

/// `schema`: the columns and their types. Their order does not count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaCheck {
    /// The type of each column: `bool`, `int`, `float`, `decimal(p, s)`, `text`, `binary`, `date`, `timestamp`, `datetime`,
    /// `list<…>`; or `any`.
    pub columns: BTreeMap<String, String>,
    /// Whether there may be columns that are not named here. `allow` unless given.
    #[serde(default)]
    pub extra: Extra,
}

/// Columns that a `schema` does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Extra {
    /// They may be there.
    #[default]
    Allow,
    /// They fail the check.
    Forbid,
}

/// `not_null`: values are there. A NaN counts as missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotNull {
    /// The column.
    pub column: String,
    /// The share of rows, 0 to 1, that may lack it. With 0, which it is unless given, each row without it fails; with more,
    /// the rows are judged together and none is quarantined for it.
    #[serde(default)]
    pub max_share: f64,
}

/// `range`: `min ≤ value ≤ max`. A null passes, a NaN is in no range. Numbers, dates, times (as ISO 8601 text) and texts (by
/// code points).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The column.
    pub column: String,
    /// The smallest value, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The largest value, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
}

/// `unique`: no two rows are the same in all of these columns. A row with a null among them is like no other, as in SQL.
/// Rows that are appended are compared with those already there, too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// The columns, together.
    pub columns: Vec<String>,
}

/// `set`: values are among these. A null passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The column.
    pub column: String,
    /// The values; dates and times as ISO 8601 text.
    pub values: Vec<Value>,
}

/// `pattern`: texts match. A null passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The column, of type text.
    pub column: String,
    /// A regular expression in Rust's syntax. It may match anywhere: anchor it by `^` and `$`.
    pub regex: String,
}

/// `length`: texts have so many characters (code points). A null passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// The column, of type text.
    pub column: String,
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// `freshness`: the newest value of a time column is not older than that, by the warehouse's clock. Rows without any time
/// fail, and so do those with a time more than five minutes in the future, which would hide how old the others are. A `datetime` counts as UTC, a `date` as its midnight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// The column: a `timestamp`, `datetime` or `date`.
    pub column: String,
    /// A number and its unit: `90s`, `30m`, `36h`, `7d`.
    pub max_age: String,
}

/// `volume`: how many rows there are. Of a version, all of its rows; of a change, those it adds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// About as many as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// A number of rows against those before. Without any history it passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How many versions before are averaged.
    pub versions: u32,
    /// How far from their mean it may be, as a share of it: 0.5 is half as many to half as many again.
    pub within: f64,
}

/// `distribution`: the population stability index against another version stays below a limit. Numbers are binned by the
/// deciles of that version; nulls, NaN and values it never had have bins of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The column: a number, a date or a time, which are binned; or a text or bool of at most 10,000 different values.
    pub column: String,
    /// The version of this dataset: `@7`, `@2026-01-01`, `@a-tag`.
    pub against: String,
    /// The largest index that passes. 0.1 is a small shift, 0.2, which it is unless given, one to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_psi: Option<f64>,
}

/// `sql`: a condition over the columns of one row, as `arr_time > dep_time or diverted`. A row fails when it is false; when it
/// is null the row passes, as in a `CHECK` of SQL. Columns with capitals are quoted: `"Name"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// The condition. No queries, aggregates, windows, and no functions whose answer depends on more than the row.
    pub condition: String,
}

/// `references`: values are those of a column of another dataset. A null passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// The column.
    pub column: String,
    /// The other dataset.
    pub dataset: String,
    /// Its column, of at most 1,000,000 different values.
    pub key: String,
    /// Its version; the newest unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}
