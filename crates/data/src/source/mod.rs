//! Where rows come from: files that are read once through, a batch at a time, into the types of a dataset.
//!
//! A source is planned before it is read: its columns are found and, where nobody has declared them, their types are inferred
//! from *every* value, so that what is inferred always fits the file it was inferred from. (That reads text twice. Whoever
//! appends to a dataset reads it once: the dataset says the types.) Reading never guesses: a value that does not fit its
//! column is an error with file, line, column and value.
//!
//! **Bound.** At most [`BATCH_ROWS`] rows or about [`BATCH_BYTES`] of text are in memory at once, and a single row of text may
//! be at most [`ROW_BYTES`] long: an unclosed quote ends in an error and not in memory. Parquet and Arrow files are read a row
//! group's page and a record batch at a time.

mod blank;
mod cells;
mod columnar;
mod csv;
mod decode;
mod guess;
mod json;
mod packed;
mod starts;
mod time;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::Place;
use crate::source::guess::Found;
use crate::{ColumnType, Error, Schema};

pub(crate) use cells::Cells as Growing;
pub use decode::Encoding;
pub(crate) use time::{parse_date, parse_datetime, parse_timestamp};

/// Rows in a batch, at most.
pub(crate) const BATCH_ROWS: usize = 8192;
/// Text that is turned into one batch, about, at most.
pub(crate) const BATCH_BYTES: usize = 8 << 20;
/// The longest row of text.
pub(crate) const ROW_BYTES: u64 = 16 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Delimited text with a header line.
    Csv,
    /// An object a line, or one array of objects. Nested values are kept as JSON text.
    Json,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file (also called Feather 2).
    Arrow,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format, Error> {
        Ok(match text {
            "csv" | "tsv" => Format::Csv,
            "json" | "jsonl" | "ndjson" => Format::Json,
            "parquet" => Format::Parquet,
            "arrow" | "ipc" | "feather" => Format::Arrow,
            _ => {
                return Err(Error::invalid(
                    format!("the format `{text}`"),
                    "the formats are csv, json (lines or an array), parquet and arrow",
                ));
            }
        })
    }
}

/// Files with the same columns, and what a person knows about them.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The files, read in this order. A folder stands for the data files in it, in the order of their names. A file may be
    /// packed: `.gz`, `.zst`, or a `.zip` of one file.
    pub paths: Vec<PathBuf>,
    /// The format; by the ending of each file's name, or of what is packed in it, when it is not given.
    pub format: Option<Format>,
    /// The encoding of text; UTF-8, or what a byte order mark says, when it is not given.
    pub encoding: Option<Encoding>,
    /// What separates fields of a CSV: a comma, or a tab in `.tsv`, when it is not given.
    pub delimiter: Option<u8>,
    /// Texts that mean null in every column. Without them: the empty text everywhere, and `NA`, `N/A`, `null` and `NULL`
    /// in columns that are not text.
    pub nulls: Vec<String>,
    /// The types of some columns, by name: they correct what would be inferred.
    pub types: BTreeMap<String, ColumnType>,
    /// Where the files were fetched from, when they are copies: the log tells this and not their names.
    pub origin: Option<Origin>,
    /// How many rows were read, for whoever shows how far it is.
    pub rows_read: Arc<AtomicU64>,
}

/// Where rows were fetched from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address or the query's database, without secrets.
    pub name: String,
    /// The entity tag that the server gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was last changed, as the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Source {
    /// One file, everything about it inferred.
    pub fn file(path: impl Into<PathBuf>) -> Source {
        Source { paths: vec![path.into()], ..Source::default() }
    }

    /// The files, folders replaced by what is in them.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = Vec::new();
        for path in &self.paths {
            if path.is_dir() {
                let before = files.len();
                files.extend(folder(path, self.format.is_some())?);
                if files.len() == before {
                    let remedy = "put csv, json, parquet or arrow files there, or name the format";
                    return Err(Error::source(Place::file(path), "the folder holds no data files", remedy));
                }
            } else {
                files.push(path.clone());
            }
        }
        if files.is_empty() {
            return Err(Error::invalid("the source", "it names no file"));
        }
        Ok(files)
    }

    fn format_of(&self, file: &Path) -> Result<Format, Error> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let inner = packed::inner(file)?;
        let ending = inner.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        ending.parse().map_err(|_| {
            let remedy = "name its format: csv, json, parquet or arrow";
            Error::source(
                Place::file(file),
                format!("the ending `.{ending}` says nothing about its format"),
                remedy,
            )
        })
    }

    /// The columns and types of the source: what is declared, and what every value fits.
    ///
    /// # Errors
    /// A file that cannot be read as its format, files that differ in their columns, a declared column that is not there.
    pub(crate) fn infer(&self) -> Result<Schema, Error> {
        let mut found: Option<Found> = None;
        for file in self.files()? {
            let here = match self.format_of(&file)? {
                Format::Csv => csv::find(self, &file)?,
                Format::Json => json::find(self, &file)?,
                Format::Parquet => columnar::find_parquet(&file)?,
                Format::Arrow => columnar::find_arrow(&file)?,
            };
            match &mut found {
                Some(found) => found.join(here, &file)?,
                None => found = Some(here),
            }
        }
        found.unwrap_or_default().schema(&self.types)
    }

    /// Reads the source as `schema`.
    pub(crate) fn open(&self, schema: &Schema) -> Result<Reader, Error> {
        Ok(Reader {
            source: self.clone(),
            schema: schema.clone(),
            files: self.files()?.into(),
            current: None,
            file: PathBuf::new(),
        })
    }

    /// What the source is, for a log: the names of its files without their folders.
    pub(crate) fn describe(&self) -> String {
        if let Some(origin) = &self.origin {
            return origin.name.clone();
        }
        let names: Vec<_> =
            self.paths.iter().map(|p| p.file_name().unwrap_or(p.as_os_str()).to_string_lossy()).collect();
        match names.as_slice() {
            [] => String::new(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first} … {last} ({} paths)", names.len()),
        }
    }
}

fn folder(path: &Path, any: bool) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| Error::source(Place::file(path), e.to_string(), "check the folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with(['.', '_']));
        let plain = if packed::is_packed(&file) { file.with_extension("") } else { file.clone() };
        let ending = plain.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let known = any || packed::is_archive(&file) || ending.parse::<Format>().is_ok();
        if !hidden && known && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// An instant or a day in ISO 8601, in milliseconds since the epoch; what has no zone is in UTC.
pub(crate) fn instant(text: &str) -> Option<i64> {
    let day = || time::parse_date(text).map(|days| i64::from(days) * 86_400_000_000);
    let micros = time::parse_timestamp(text).or_else(|| time::parse_datetime(text)).or_else(day)?;
    Some(micros.div_euclid(1000))
}

/// Batches of one file.
pub(crate) trait Batches: Send {
    /// The next batch, `None` after the last. After an error the file is not read further.
    fn next(&mut self) -> Result<Option<RecordBatch>, Error>;

    /// The lines that the rows of the last batch begin on, where the format has lines and they are known.
    fn lines(&self) -> &[u64] {
        &[]
    }
}

/// Batches of a source, file after file. It blocks, so it runs aside from the runtime.
pub(crate) struct Reader {
    source: Source,
    schema: Schema,
    files: VecDeque<PathBuf>,
    current: Option<Box<dyn Batches>>,
    /// The file that is being read.
    file: PathBuf,
}

impl Reader {
    /// The file that the last batch is from.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl Batches for Reader {
    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(batch) = current.next()?
            {
                self.source.rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                return Ok(Some(batch));
            }
            let Some(file) = self.files.pop_front() else { return Ok(None) };
            self.file.clone_from(&file);
            self.current = Some(match self.source.format_of(&file)? {
                Format::Csv => Box::new(csv::open(&self.source, &file, &self.schema)?),
                Format::Json => Box::new(json::open(&self.source, &file, &self.schema)?),
                Format::Parquet => Box::new(columnar::open_parquet(&file, &self.schema)?),
                Format::Arrow => Box::new(columnar::open_arrow(&file, &self.schema)?),
            });
        }
    }

    fn lines(&self) -> &[u64] {
        self.current.as_ref().map(|current| current.lines()).unwrap_or_default()
    }
}

/// The error of a file whose columns are not the wanted ones.
fn differing(file: &Path, missing: &[&str], extra: &[&str]) -> Option<Error> {
    let list = |names: &[&str]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let problem = match (missing, extra) {
        ([], []) => return None,
        (missing, []) => format!("it lacks the column {}", list(missing)),
        ([], extra) => format!("it has the column {} that the others lack", list(extra)),
        (missing, extra) => format!("it lacks the column {} and has {} instead", list(missing), list(extra)),
    };
    let remedy = "bring the file to the same columns, or overwrite the dataset with the new ones";
    Some(Error::source(Place::file(file), problem, remedy))
}
