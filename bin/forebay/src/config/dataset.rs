//! The section `datasets`.

use contract::Secret;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::units::{Size, Time};

/// A dataset: where its rows come from, how they are read, and what is expected of them. At most one of `files`, `url`, `sql`
/// and `documents`; without any of them `forebay data add` is told where the rows are.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetConfig {
    /// Files or folders relative to this file. In names `*` stands for any text and `?` for one character. Together they are one
    /// change. A file may be packed: `.gz`, `.zst`, or a `.zip` of one file.
    #[schemars(length(min = 1))]
    pub files: Option<Vec<String>>,
    /// A file on the web.
    pub url: Option<UrlConfig>,
    /// A query over a database.
    pub sql: Option<SqlConfig>,
    /// A folder of documents relative to this file, with all folders below it: a row for each, with the columns `path`,
    /// `bytes`, `hash`, `media_type`, `text` and `modified`.
    pub documents: Option<String>,
    /// How files are written. Unless given: what their names end in.
    pub format: Option<FormatConfig>,
    /// The encoding of text, such as `latin1`, `windows-1252` or `utf-16le`. Unless given: UTF-8, or what a byte order mark says.
    pub encoding: Option<String>,
    /// What separates the fields of a CSV, one character. Unless given: a comma, or a tab in files that end in `.tsv`.
    #[schemars(length(min = 1))]
    pub delimiter: Option<String>,
    /// Texts that mean that nothing is there, in every column. Unless given: the empty text, and `NA`, `N/A`, `null` and `NULL` in
    /// columns that are not text.
    pub nulls: Vec<String>,
    /// The types of some columns, which correct what would be inferred: `bool`, `int`, `float`, `decimal(p, s)`, `text`, `binary`,
    /// `date`, `timestamp`, `datetime` or `list<…>`.
    pub columns: IndexMap<String, String>,
    /// How new rows go together with those there are. Unless given: `append`, and `overwrite` for `documents`.
    pub mode: Option<ModeConfig>,
    /// The columns that tell rows apart: a merge needs them, and `forebay data diff` compares by them.
    pub key: Vec<String>,
    /// A file of expectations relative to this file: every change is held against them.
    pub expectations: Option<String>,
    /// What becomes of rows that break an expectation of severity `error`.
    pub bad_rows: BadRowsConfig,
    /// With `bad_rows: quarantine`: the share of bad rows (0 to 1) up to which the others are added.
    #[schemars(range(min = 0, max = 1))]
    pub max_bad_share: f64,
    /// How long versions can be read that are neither the newest nor tagged: `forebay data gc` removes what only older ones need.
    pub retention: Time,
}

impl Default for DatasetConfig {
    fn default() -> Self {
        DatasetConfig {
            files: None,
            url: None,
            sql: None,
            documents: None,
            format: None,
            encoding: None,
            delimiter: None,
            nulls: Vec::new(),
            columns: IndexMap::new(),
            mode: None,
            key: Vec::new(),
            expectations: None,
            bad_rows: BadRowsConfig::Refuse,
            max_bad_share: 0.1,
            retention: Time(std::time::Duration::from_secs(30 * 86_400)),
        }
    }
}

/// A file on the web.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlConfig {
    /// Its address, `https://…`.
    pub get: String,
    /// Whether it may lie in a private network or on this machine.
    #[serde(default)]
    pub allow_private: bool,
    /// The most it may have, packed as it is. Unless given: 4gb.
    pub max_size: Option<Size>,
}

/// A query over a database.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlConfig {
    /// The database: `sqlite:FILE`, relative to this file, or `postgres://USER@HOST/DATABASE` (`?sslmode=verify-full` as libpq has it).
    /// Write `${NAME}` where the password is, not the password itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub database: Secret,
    /// The query, one statement that gives rows. It is run in a transaction that can only read, and sees one state of the database.
    pub query: String,
    /// How long a PostgreSQL server may take for it.
    #[serde(default = "ten_minutes")]
    pub timeout: Time,
}

fn ten_minutes() -> Time {
    Time(crate::sources::TIMEOUT)
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
    Ok(Secret::new(String::deserialize(d)?))
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatConfig {
    /// Delimited text with a header line.
    Csv,
    /// An object a line, or one array of objects.
    Json,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file (Feather).
    Arrow,
}

impl From<FormatConfig> for data::Format {
    fn from(format: FormatConfig) -> Self {
        match format {
            FormatConfig::Csv => data::Format::Csv,
            FormatConfig::Json => data::Format::Json,
            FormatConfig::Parquet => data::Format::Parquet,
            FormatConfig::Arrow => data::Format::Arrow,
        }
    }
}

/// How new rows go together with those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeConfig {
    /// Below them.
    Append,
    /// In their place.
    Overwrite,
    /// A row takes the place of the one with the same `key`, or comes below.
    Merge,
}

/// What becomes of rows that break an expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadRowsConfig {
    /// The change is refused as a whole.
    #[default]
    Refuse,
    /// They are put aside with the reasons (`forebay data quarantine`), and the others are added.
    Quarantine,
}

impl DatasetConfig {
    /// How a change goes in.
    pub fn how(&self) -> data::How {
        match self.mode {
            None if self.documents.is_some() => data::How::Overwrite,
            None | Some(ModeConfig::Append) => data::How::Append,
            Some(ModeConfig::Overwrite) => data::How::Overwrite,
            Some(ModeConfig::Merge) => data::How::Merge { key: self.key.clone() },
        }
    }

    /// What becomes of a change with bad rows.
    pub fn policy(&self) -> data::Policy {
        match self.bad_rows {
            BadRowsConfig::Refuse => data::Policy::Fail,
            BadRowsConfig::Quarantine => data::Policy::Quarantine { max_share: self.max_bad_share },
        }
    }
}
