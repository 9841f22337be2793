//! The project's datasets: where they are kept, and how a configured one is read.
//!
//! Nothing here runs unless a command or a run works with data: opening a warehouse is what first starts the query engine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use contract::Clock;
use data::{Settings, Source, Warehouse};

use crate::Error;
use crate::config::dataset::DatasetConfig;
use crate::config::{Config, Env};

/// Where datasets are kept in a project that says nothing.
pub const WAREHOUSE: &str = ".forebay/data";

/// The sections of the configuration that work on data reads.
pub const SECTIONS: [&str; 2] = ["warehouse", "datasets"];

/// Where a project's datasets are kept: a full URL, or the path of a folder.
///
/// # Errors
/// Why what is configured is no such place.
pub fn root(project: &Path, configured: Option<&str>) -> Result<String, String> {
    let configured = configured.unwrap_or(WAREHOUSE);
    match url::Url::parse(configured) {
        Ok(url) if url.scheme() == "s3" => match url.host_str() {
            Some(_) => Ok(configured.to_owned()),
            None => Err(format!("`{configured}` names no bucket")),
        },
        Ok(url) if url.scheme() == "file" => Ok(configured.to_owned()),
        Ok(url) if url.scheme().len() > 1 => {
            Err(format!("`{}:` is no place that datasets can be kept in", url.scheme()))
        }
        _ if configured.trim().is_empty() => Err("this names no folder".into()),
        _ => Ok(project.join(configured).to_string_lossy().into_owned()),
    }
}

/// Opens the project's warehouse. Cheap: nothing of it is read.
///
/// # Errors
/// When the folder cannot be created, or what is configured is no such place.
pub fn open(project: &Path, config: &Config, env: &Env, clock: Arc<dyn Clock>) -> Result<Warehouse, Error> {
    open_beside(project, config, env, clock, None)
}

/// The same; what does not fit into memory goes into that folder. Unless given: the system's for temporary files.
///
/// # Errors
/// As [`open`].
pub fn open_beside(
    project: &Path,
    config: &Config,
    env: &Env,
    clock: Arc<dyn Clock>,
    spill: Option<PathBuf>,
) -> Result<Warehouse, Error> {
    let help = "correct `warehouse` in forebay.yaml: a folder, or `s3://BUCKET/PREFIX`";
    let root = root(project, config.warehouse.as_deref()).map_err(|why| Error::new(why, help))?;
    let settings = Settings { store: env.beginning_with("AWS_"), spill, ..Settings::default() };
    Warehouse::open(&root, clock, settings).map_err(failed)
}

/// The project's warehouse, opened when it is asked for the first time, and tried again when it could not be: a server that works
/// on no data has none.
pub struct Lazily {
    open: Box<dyn Fn() -> Result<Warehouse, Error> + Send + Sync>,
    opened: OnceLock<Warehouse>,
}

impl Lazily {
    /// Where this configuration keeps it.
    pub fn of(project: PathBuf, config: &Config, env: Env, clock: Arc<dyn Clock>) -> Lazily {
        let config = config.clone();
        let open = Box::new(move || open(&project, &config, &env, clock.clone()));
        Lazily { open, opened: OnceLock::new() }
    }

    /// The warehouse.
    ///
    /// # Errors
    /// As [`open`].
    pub fn get(&self) -> Result<&Warehouse, Error> {
        if let Some(open) = self.opened.get() {
            return Ok(open);
        }
        let opened = (self.open)()?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

/// Whether there may be datasets: a folder that is not there holds none. Of a bucket nobody knows without asking.
pub fn is_there(project: &Path, config: &Config) -> bool {
    match root(project, config.warehouse.as_deref()) {
        Ok(root) if root.contains("://") => true,
        Ok(root) => Path::new(&root).is_dir(),
        Err(_) => true,
    }
}

/// What separates fields, of a configured text: one ASCII character that is no quote and no line break.
pub fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [b'\\', b't'] => Some(b'\t'),
        [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r' | 0) => Some(*one),
        _ => None,
    }
}

/// A database that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, as its address says.
    Postgres,
}

/// The database of a configured address, files relative to the project; `None` when it is none that can be asked.
pub fn database(project: &Path, address: &str) -> Option<Database> {
    if let Some(file) = address.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        return (!file.is_empty()).then(|| Database::Sqlite(project.join(file)));
    }
    let server = ["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme));
    server.then_some(Database::Postgres)
}

/// What a configured dataset says about its files, all but where they are.
///
/// # Errors
/// What a checked configuration does not have: an unknown encoding, delimiter or type.
pub fn options(config: &DatasetConfig) -> Result<Source, Error> {
    let mut source = Source { format: config.format.map(Into::into), ..Source::default() };
    source.nulls.clone_from(&config.nulls);
    if let Some(label) = &config.encoding {
        source.encoding = Some(label.parse().map_err(failed)?);
    }
    if let Some(text) = &config.delimiter {
        let none = || Error::new(format!("`{text}` separates no fields"), "write one ASCII character");
        source.delimiter = Some(delimiter(text).ok_or_else(none)?);
    }
    for (name, ty) in &config.columns {
        source.types.insert(name.clone(), ty.parse().map_err(failed)?);
    }
    Ok(source)
}

/// A failure of the data layer: its message and, behind the last semicolon, its remedy.
pub fn failed(error: data::Error) -> Error {
    // The table of a query has no name that anybody gave it.
    let text = error.to_string().replace("\"?table?\".", "").replace("?table?.", "");
    let own = match &error {
        data::Error::Storage { .. } => Some("make room, or check the disk and the rights on it"),
        data::Error::Query(_) => Some("correct the query; names with capitals stand in double quotes"),
        data::Error::Table { .. } => Some("look at it with another reader of Delta tables, or report this"),
        _ => None,
    };
    let (message, help) = match own {
        Some(help) => (text.as_str(), help),
        None => text.rsplit_once("; ").unwrap_or((&text, "see `forebay data --help`")),
    };
    Error::new(format!("cannot {message}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warehouse_is_a_folder_of_the_project_or_a_bucket() {
        let project = Path::new("/p");
        assert_eq!(root(project, None).as_deref(), Ok("/p/.forebay/data"));
        assert_eq!(root(project, Some("lake")).as_deref(), Ok("/p/lake"));
        assert_eq!(root(project, Some("/lake")).as_deref(), Ok("/lake"));
        assert_eq!(root(project, Some("s3://b/p")).as_deref(), Ok("s3://b/p"));
        for wrong in ["gs://b/p", "s3://", ""] {
            assert!(root(project, Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_database_is_a_file_of_the_project_or_a_server() {
        let of = |text: &str| database(Path::new("/p"), text);
        assert_eq!(of("sqlite:a.db"), Some(Database::Sqlite("/p/a.db".into())));
        assert_eq!(of("sqlite:///x/a.db"), Some(Database::Sqlite("/x/a.db".into())));
        assert_eq!(of("postgres://ann@h/d"), Some(Database::Postgres));
        assert_eq!((of("mysql://h/d"), of("sqlite:"), of("x")), (None, None, None));
    }
}
