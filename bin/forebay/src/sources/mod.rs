//! Where rows come from: files of the project, and what is fetched into files first (an address, a query, a folder of documents).
//!
//! What is fetched lies in a folder for temporary files until it was added, so that finding its types and reading it see the same
//! rows, in bounded memory. The data layer reads files and nothing else.

pub mod documents;
mod files;
pub mod http;
mod postgres;
pub mod sql;

use std::path::Path;
use std::time::Duration;

use contract::Secret;
use data::Source;
use tempfile::TempDir;

use crate::Error;
use crate::config::dataset::DatasetConfig;

pub use files::files;

/// The most that is fetched from an address unless something else is said.
pub const MOST: u64 = 4_000_000_000;

/// How long a query may take unless something else is said.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// Where rows are.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// Files, folders and patterns of them, relative to a folder.
    Files(Vec<String>),
    /// An address.
    Url {
        /// It.
        url: String,
        /// Whether it may lie in a private network.
        allow_private: bool,
        /// The most bytes.
        most: u64,
    },
    /// The rows of a query.
    Sql {
        /// The database's address.
        database: Secret,
        /// The query.
        query: String,
        /// How long a server may take.
        timeout: Duration,
    },
    /// A folder of documents.
    Documents(String),
}

impl Place {
    /// Where the rows of a configured dataset are, if it says so.
    pub fn configured(config: &DatasetConfig) -> Option<Place> {
        if let Some(files) = &config.files {
            return Some(Place::Files(files.clone()));
        }
        if let Some(url) = &config.url {
            let most = url.max_size.map_or(MOST, |s| s.0);
            return Some(Place::Url { url: url.get.clone(), allow_private: url.allow_private, most });
        }
        if let Some(sql) = &config.sql {
            return Some(Place::Sql {
                database: sql.database.clone(),
                query: sql.query.clone(),
                timeout: sql.timeout.0,
            });
        }
        config.documents.clone().map(Place::Documents)
    }
}

/// Rows that can be read.
#[derive(Debug)]
pub struct Fetched {
    /// Where from.
    pub source: Source,
    /// What a person should know of it.
    pub notes: Vec<String>,
    /// The folder of what was fetched; removed when this is dropped.
    _spool: Option<TempDir>,
}

impl Fetched {
    /// Where from, what a person should know of it, and what has to live until it was read.
    pub fn into_parts(self) -> (Source, Vec<String>, Option<TempDir>) {
        (self.source, self.notes, self._spool)
    }
}

/// Makes rows readable: fetches what is elsewhere, into the folder `aside`; unless given, the system's for temporary files. `options` is
/// what is known of the files.
///
/// # Errors
/// What cannot be found, reached or asked, with what to do about it.
pub async fn fetch(
    folder: &Path,
    place: &Place,
    options: Source,
    aside: Option<&Path>,
) -> Result<Fetched, Error> {
    let mut source = options;
    let mut notes = Vec::new();
    let spool = match place {
        Place::Files(patterns) => {
            source.paths = files(folder, patterns)?;
            None
        }
        Place::Url { url, allow_private, most } => {
            let spool = spool(aside)?;
            let got = http::get(url, *allow_private, *most, spool.path()).await?;
            source.paths = vec![got.file];
            source.origin = Some(got.origin);
            Some(spool)
        }
        Place::Sql { database, query, timeout } => {
            let spool = spool(aside)?;
            let file = spool.path().join("rows.jsonl");
            let asked = sql::ask(folder, database, (query, *timeout), &source.types, &file).await?;
            for (name, ty) in asked.types {
                source.types.entry(name).or_insert(ty);
            }
            source.paths = vec![file];
            source.format = Some(data::Format::Json);
            source.origin = Some(asked.origin);
            Some(spool)
        }
        Place::Documents(root) => {
            let spool = spool(aside)?;
            let file = spool.path().join("documents.jsonl");
            let root = folder.join(root);
            let read = {
                let (root, file) = (root.clone(), file.clone());
                ::pipeline::task::blocking("documents", move || documents::list(&root, &file)).await
            };
            let read = read.map_err(|e| Error::new(e.to_string(), "try again, and report this"))??;
            if read.without_text > 0 {
                notes.push(format!("{} of {} files gave no text", read.without_text, read.files));
            }
            source.paths = vec![file];
            source.format = Some(data::Format::Json);
            source.types = documents::types();
            source.origin =
                Some(data::Origin { name: root.display().to_string(), ..data::Origin::default() });
            Some(spool)
        }
    };
    Ok(Fetched { source, notes, _spool: spool })
}

fn spool(aside: Option<&Path>) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("forebay-data-");
    let made = aside.map_or_else(|| builder.tempdir(), |folder| builder.tempdir_in(folder));
    made.map_err(|e| {
        let help = "make room in the folder for temporary files, or name another by TMPDIR";
        Error::new(format!("cannot make a temporary folder: {e}"), help)
    })
}
