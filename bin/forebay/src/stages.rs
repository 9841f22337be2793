//! What the stages of durable pipelines are given of the project: its datasets and views, its files, who writes tables for
//! commands, who asks addresses.
//!
//! Nothing is read before a stage asks for it: a server whose pipelines work on no data opens no warehouse.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use contract::{BoxFuture, Clock, Code, Error as Refusal, SystemClock};
use data::features::FeatureView;
use data::stages::{Configured, Means, place};
use data::{Format, Source, Warehouse};
use pipeline::Registry;
use pipeline::artifacts::Artifacts;
use pipeline::exec::{ExecParts, Place, TableFormat};
use pipeline::outside::Outside;

use crate::config::{Config, Env, load_sections};
use crate::{Error, datasets, features, sources};

/// The project as stages see it.
pub(crate) struct Project {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// Its configuration; read when it is first asked for, where it was not given.
    config: OnceLock<Config>,
    warehouse: OnceLock<Warehouse>,
}

impl Project {
    /// Of that folder. Without a configuration the sections on data are read when a stage first asks for them.
    pub(crate) fn new(folder: &Path, config: Option<&Config>, clock: Arc<dyn Clock>) -> Arc<Project> {
        let known = OnceLock::new();
        if let Some(config) = config {
            let _ = known.set(config.clone());
        }
        Arc::new(Project { folder: folder.to_owned(), clock, config: known, warehouse: OnceLock::new() })
    }

    fn config(&self) -> &Config {
        self.config.get_or_init(|| {
            let env = Env::of_process(&self.folder);
            let read = load_sections(&self.folder, &env, &Registry::default(), &features::SECTIONS);
            // What is wrong in them is told by whoever checks the file.
            read.ok().and_then(|checked| checked.config).unwrap_or_default()
        })
    }
}

/// A failure in words for a run.
fn refusal(e: &Error) -> Refusal {
    let text = match e {
        Error::Failed { message, help } => format!("{message}: {help}"),
        other => other.to_string(),
    };
    Refusal::new(Code::InvalidRequest, text)
}

impl Means for Project {
    fn warehouse(&self) -> Result<Warehouse, Refusal> {
        if let Some(open) = self.warehouse.get() {
            return Ok(open.clone());
        }
        let env = Env::of_process(&self.folder);
        let opened = datasets::open(&self.folder, self.config(), &env, self.clock.clone());
        let opened = opened.map_err(|e| refusal(&e))?;
        Ok(self.warehouse.get_or_init(|| opened).clone())
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn dataset(&self, name: &str) -> Option<Configured> {
        let of = self.config().datasets.get(name)?;
        Some(Configured {
            how: of.how(),
            expectations: of.expectations.as_ref().map(PathBuf::from),
            policy: of.policy(),
            has_source: sources::Place::configured(of).is_some(),
        })
    }

    fn view(&self, name: &str) -> Option<FeatureView> {
        let view = self.config().features.views.get(name)?;
        FeatureView::new(name, view.view()).ok()
    }

    fn files(&self, patterns: &[String]) -> Result<Vec<PathBuf>, String> {
        sources::files(&self.folder, patterns).map_err(|e| refusal(&e).message)
    }

    fn fetch<'a>(&'a self, dataset: &'a str, folder: &'a Path) -> BoxFuture<'a, Result<Source, Refusal>> {
        Box::pin(async move {
            let none = || Refusal::new(Code::NotFound, format!("no dataset `{dataset}` is configured"));
            let of = self.config().datasets.get(dataset).ok_or_else(none)?;
            let place = sources::Place::configured(of).ok_or_else(|| {
                let m = format!(
                    "nothing says where the rows of `{dataset}` are: add `files`, `url` or `sql` to it"
                );
                Refusal::new(Code::InvalidRequest, m)
            })?;
            let options = datasets::options(of).map_err(|e| refusal(&e))?;
            let fetched = sources::fetch_into(&self.folder, &place, options, folder).await;
            Ok(fetched.map_err(|e| refusal(&e))?.0)
        })
    }
}

/// Writes tables for commands.
struct Tables(Arc<Project>);

impl Place for Tables {
    fn place<'a>(
        &'a self,
        table: &'a str,
        folder: &'a Path,
        format: TableFormat,
    ) -> BoxFuture<'a, Result<PathBuf, Refusal>> {
        let format = match format {
            TableFormat::Csv => Format::Csv,
            TableFormat::Parquet => Format::Parquet,
            TableFormat::Arrow => Format::Arrow,
        };
        Box::pin(async move { place(&*self.0, table, folder, format).await })
    }
}

/// Adds the kinds of stages that only durable runs have. `outside`: who asks addresses and brings webhooks, where anything runs.
pub(crate) fn register(registry: &mut Registry, folder: &Path, config: Option<&Config>, outside: Outside) {
    let project = Project::new(folder, config, Arc::new(SystemClock::default()));
    let exec = ExecParts {
        project: folder.to_owned(),
        artifacts: Artifacts::new(folder.join(".forebay/artifacts")),
        place: Some(Arc::new(Tables(project.clone()))),
        env: Vec::new(),
    };
    pipeline::register(registry, pipeline::Parts { exec, outside });
    data::stages::register(registry, project);
}
