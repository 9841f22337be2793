//! `ingest`: files, or what a configured dataset is read from, as a version of the stage's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{BoxFuture, Code, Inputs, Value};
use indexmap::IndexMap;
use pipeline::Problem;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value as Json;

use super::config::{dataset, open, problem, tables};
use super::job::Job;
use super::kind::{Config, Made, Work};
use super::{Fetched, Means, table};
use crate::{ColumnType, Encoding, Format, How, Source};

/// Reads rows into a table: of files, or from where a configured dataset comes from. It looks at its source in every run; a
/// source that has the same rows gives the same table, and what depends on it is not run again.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IngestConfig {
    /// A dataset of the configuration: its `files`, `url`, `sql` or `documents` are read as it says. Columns that the dataset has
    /// already are read as what they are there. Instead of `files`.
    dataset: Option<String>,
    /// Files or folders relative to the configuration, one or a list. In names `*` stands for any text and `?` for one character. A
    /// run's parameter that is a list of names stands for all of them: `files: "{{ params.files }}"`.
    #[serde(deserialize_with = "names")]
    #[schemars(schema_with = "names_schema")]
    files: Option<Vec<String>>,
    /// A folder of documents relative to the configuration: a row for each file in it and in the folders below, with `path`,
    /// `bytes`, `hash`, `media_type`, `text` and `modified`. Instead of `dataset` and `files`.
    documents: Option<String>,
    /// How the files are written. Unless given: what their names end in.
    format: Option<FormatConfig>,
    /// The encoding of text, such as `latin1`. Unless given: UTF-8, or what a byte order mark says.
    encoding: Option<String>,
    /// What separates the fields of a CSV, one character. Unless given: a comma, or a tab in files that end in `.tsv`.
    #[schemars(length(min = 1))]
    delimiter: Option<String>,
    /// Texts that mean that nothing is there, in every column. Unless given: the empty text, and `NA`, `N/A`, `null` and `NULL` in
    /// columns that are not text.
    nulls: Vec<String>,
    /// The types of some columns, which correct what would be inferred: `bool`, `int`, `float`, `decimal(p, s)`, `text`, `binary`,
    /// `date`, `timestamp`, `datetime` or `list<…>`.
    columns: IndexMap<String, String>,
}

/// One name or a list of them; in a list, what stands for several names is these.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let given = Json::deserialize(from)?;
    let mut names = Vec::new();
    let items = match &given {
        Json::Null => return Ok(None),
        Json::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    for item in items {
        let each = item.as_array().map_or(std::slice::from_ref(item), Vec::as_slice);
        for name in each {
            let wrong = || {
                D::Error::custom(format!("`files` is the name of a file or a list of names, and not {name}"))
            };
            names.push(name.as_str().ok_or_else(wrong)?.to_owned());
        }
    }
    if names.is_empty() { Err(D::Error::custom("`files` names no file")) } else { Ok(Some(names)) }
}

fn names_schema(_: &mut SchemaGenerator) -> JsonSchemaOf {
    schemars::json_schema!({
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "null"}],
    })
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FormatConfig {
    /// Delimited text with a header line.
    Csv,
    /// An object a line, or one array of objects.
    Json,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file (Feather).
    Arrow,
}

impl From<FormatConfig> for Format {
    fn from(format: FormatConfig) -> Format {
        match format {
            FormatConfig::Csv => Format::Csv,
            FormatConfig::Json => Format::Json,
            FormatConfig::Parquet => Format::Parquet,
            FormatConfig::Arrow => Format::Arrow,
        }
    }
}

impl Config for IngestConfig {
    const NAME: &'static str = "ingest";
    const PATHS: &'static [&'static str] = &["files"];

    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>> {
        let mut problems = Vec::new();
        let from = match (&self.dataset, &self.files, &self.documents) {
            (Some(name), None, None) => {
                problems.extend(configured(&**means, name));
                if self != (IngestConfig { dataset: self.dataset.clone(), ..IngestConfig::default() }) {
                    let remedy = "say it in `datasets`, where the dataset says how it is read";
                    problems.push(problem("/dataset", "a dataset says itself how it is read", remedy));
                }
                Rows::Dataset(name.clone())
            }
            (None, None, Some(folder)) => {
                if self != (IngestConfig { documents: Some(folder.clone()), ..IngestConfig::default() }) {
                    let remedy = "remove what is said of columns and formats";
                    problems.push(problem("/documents", "the rows of documents are what they are", remedy));
                }
                Rows::Documents(folder.clone())
            }
            (None, Some(files), None) => {
                let (source, wrong) = self.source();
                problems.extend(wrong);
                Rows::Files(files.clone(), source)
            }
            _ => {
                let remedy = "name a dataset of the configuration by `dataset`, files by `files`, or a folder by `documents`";
                return Err(vec![problem("", "it says nothing to read, or two things", remedy)]);
            }
        };
        if problems.is_empty() {
            Ok(Made { inputs: tables([]), work: Box::new(Ingest { from }) })
        } else {
            Err(problems)
        }
    }

    fn cached(&self, _means: &dyn Means) -> bool {
        false
    }
}

/// What is wrong with reading a configured dataset.
fn configured(means: &dyn Means, name: &str) -> Option<Problem> {
    if open(name) {
        return None;
    }
    if let Err(wrong) = dataset(name, "/dataset") {
        return Some(wrong);
    }
    match means.dataset(name) {
        None => {
            let remedy = "add it to `datasets`, or name files here by `files`";
            Some(problem("/dataset", &format!("there is no dataset `{name}` in the configuration"), remedy))
        }
        Some(known) if !known.has_source => {
            let remedy = "add `files`, `url`, `sql` or `documents` to it, or name files here by `files`";
            Some(problem(
                "/dataset",
                &format!("the dataset `{name}` does not say where rows come from"),
                remedy,
            ))
        }
        Some(_) => None,
    }
}

impl IngestConfig {
    /// What is said about files, and everything that is wrong with it.
    fn source(&self) -> (Source, Vec<Problem>) {
        let mut source = Source { format: self.format.map(Into::into), ..Source::default() };
        let mut problems = Vec::new();
        source.nulls.clone_from(&self.nulls);
        if let Some(label) = &self.encoding {
            match label.parse::<Encoding>() {
                Ok(encoding) => source.encoding = Some(encoding),
                Err(_) => {
                    let remedy = "take a label such as `utf-8`, `utf-16le`, `latin1` or `windows-1252`";
                    problems.push(problem("/encoding", &format!("there is no encoding `{label}`"), remedy));
                }
            }
        }
        if let Some(text) = &self.delimiter {
            source.delimiter = match text.as_bytes() {
                [b'\\', b't'] => Some(b'\t'),
                [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r' | 0) => Some(*one),
                _ => {
                    let remedy = "write one ASCII character, such as \";\", \"|\" or \"\\t\"";
                    problems.push(problem("/delimiter", "this separates no fields", remedy));
                    None
                }
            };
        }
        let mut types: BTreeMap<String, ColumnType> = BTreeMap::new();
        for (name, ty) in &self.columns {
            match ty.parse() {
                Ok(ty) => drop(types.insert(name.clone(), ty)),
                Err(_) => {
                    let remedy = "it is one of bool, int, float, decimal(p, s), text, binary, date, timestamp, datetime and list<…>";
                    let own = format!("/columns/{}", name.replace('~', "~0").replace('/', "~1"));
                    problems.push(problem(&own, &format!("there is no type `{ty}`"), remedy));
                }
            }
        }
        source.types = types;
        (source, problems)
    }
}

enum Rows {
    Dataset(String),
    /// A folder of them.
    Documents(String),
    /// The patterns, and what is known of the files.
    Files(Vec<String>, Source),
}

struct Ingest {
    from: Rows,
}

impl Ingest {
    async fn source(&self, job: &Job<'_>) -> Result<Fetched, contract::Error> {
        match &self.from {
            Rows::Files(patterns, about) => {
                let found = job.means.files(patterns);
                let paths: Vec<PathBuf> = found.map_err(|why| contract::Error::new(Code::NotFound, why))?;
                Ok(Fetched { source: Source { paths, ..about.clone() }, notes: Vec::new(), held: None })
            }
            Rows::Documents(folder) => job.means.documents(folder).await,
            Rows::Dataset(name) => {
                let mut fetched = job.means.fetch(name).await?;
                let held = job.dataset(name)?;
                // A month of which nothing is known in a column must not make another column of it.
                let grows = job.means.dataset(name).is_none_or(|known| known.how != How::Overwrite);
                if grows && let Some(table) = held.current().await.map_err(|e| job.failed(e))? {
                    let schema = held.schema_of(&table).map_err(|e| job.failed(e))?;
                    for column in schema.columns {
                        fetched.source.types.entry(column.name).or_insert(column.ty);
                    }
                }
                Ok(fetched)
            }
        }
    }
}

impl Work for Ingest {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        _inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let staging = job.staging()?;
            if let Some(done) = job.done(&staging).await? {
                return Ok(done);
            }
            let fetched = self.source(job).await?;
            let source = &fetched.source;
            job.say(format!("reading {}", source.describe()));
            fetched.notes.iter().for_each(|note| job.say(note));
            let made_of = source.lineage(job.means.folder()).await.map_err(|e| job.failed(e))?;
            let change = job.change(How::Overwrite, None, made_of);
            let added = Box::pin(staging.add(source, &change)).await.map_err(|e| job.failed(e))?;
            let same = if added.new { "" } else { ", the same as before" };
            job.attempt.log.progress(added.read, Some(added.read));
            job.say(format!("{} rows{same}: {}", added.rows, added.name.short()));
            job.trace(&staging, &added).await?;
            Ok(table::value(&staging, &added))
        })
    }
}
