//! What the stages of durable pipelines are given of the project: its datasets and views, its files, who writes tables for
//! commands, who asks addresses.
//!
//! Nothing is read before a stage asks for it: a server whose pipelines work on no data opens no warehouse.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Context, Error as Refusal, SystemClock, UnixMillis, Value};
use data::features::FeatureView;
use data::stages::{Configured, Fetched, Means, place};
use data::{Format, Gc, Warehouse};
use models::stages::Tracked;
use pipeline::Registry;
use pipeline::artifacts::Artifacts;
use pipeline::durable::{Keeper, Named};
use pipeline::exec::Notes;
use pipeline::exec::{ExecParts, Place, TableFormat};
use pipeline::outside::Outside;

use crate::choosing::Choices;
use crate::config::{Config, Env, load_sections};
use crate::learning::{self, Learning};
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

    /// Where its stages put what they need for a while.
    fn aside(&self) -> Result<PathBuf, Refusal> {
        let failed = |e| {
            Refusal::new(
                Code::StorageUnavailable,
                format!("no temporary folder can be made in .forebay: {e}"),
            )
        };
        crate::aside::folder(&self.folder).map_err(failed)
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

/// A failure in words for a run, which tries again what another system may answer later.
fn refusal(e: &Error) -> Refusal {
    match e {
        Error::Failed { message, help } => Refusal::new(Code::InvalidRequest, format!("{message}: {help}")),
        Error::Unreachable { message, help } => {
            Refusal::new(Code::UpstreamUnreachable, format!("{message}: {help}"))
        }
        other => Refusal::new(Code::InvalidRequest, other.to_string()),
    }
}

impl Means for Project {
    fn warehouse(&self) -> Result<Warehouse, Refusal> {
        if let Some(open) = self.warehouse.get() {
            return Ok(open.clone());
        }
        let env = Env::of_process(&self.folder);
        let aside = Some(self.aside()?);
        let opened = datasets::open_beside(&self.folder, self.config(), &env, self.clock.clone(), aside);
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

    fn documents<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Fetched, Refusal>> {
        Box::pin(async move {
            // A parameter of a run may have said it, and whoever starts one may not read what lies elsewhere.
            let own = Path::new(folder).components().any(|c| c.as_os_str() == ".forebay");
            if own || !pipeline::is_below(folder) {
                let m = format!("`{folder}` is no folder below that of the configuration");
                return Err(Refusal::new(Code::InvalidRequest, m).param("documents"));
            }
            let place = sources::Place::Documents(folder.to_owned());
            self.fetched(&place, data::Source::default()).await
        })
    }

    fn fetch<'a>(&'a self, dataset: &'a str) -> BoxFuture<'a, Result<Fetched, Refusal>> {
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
            self.fetched(&place, options).await
        })
    }
}

impl Project {
    async fn fetched(&self, place: &sources::Place, options: data::Source) -> Result<Fetched, Refusal> {
        let fetched = sources::fetch(&self.folder, place, options, Some(&self.aside()?)).await;
        let fetched = fetched.map_err(|e| refusal(&e))?;
        let (source, notes, spool) = fetched.into_parts();
        Ok(Fetched { source, notes, held: spool.map(|s| Box::new(s) as _) })
    }
}

/// Who keeps what results of runs name: files that commands left, and versions of tables between stages.
pub(crate) fn keepers(folder: &Path, config: &Config, clock: Arc<dyn Clock>) -> Vec<Arc<dyn Keeper>> {
    let project = Project::new(folder, Some(config), clock.clone());
    vec![Arc::new(artifacts(folder, Some(config))), Arc::new(Staging { project, clock })]
}

/// Versions of tables between stages.
struct Staging {
    project: Arc<Project>,
    clock: Arc<dyn Clock>,
}

impl Keeper for Staging {
    fn collect<'a>(&'a self, named: &'a Named, before: UnixMillis) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            // Where no run has ever made a table there may be no warehouse either.
            if named.tables.is_empty() {
                return Ok(());
            }
            let warehouse = self.project.warehouse()?;
            let kept: Vec<String> = named.tables.iter().cloned().collect();
            let older = self.clock.wall().0.saturating_sub(before.0);
            let older_than = Duration::from_millis(u64::try_from(older).unwrap_or(0));
            let collected =
                data::stages::collect(&warehouse, &kept, &Gc { older_than, dry_run: false }).await;
            for (dataset, collected) in collected? {
                if !collected.files.is_empty() {
                    tracing::info!(
                        dataset,
                        files = collected.files.len(),
                        "removed versions that no run names any more"
                    );
                }
            }
            Ok(())
        })
    }
}

/// Writes tables for commands, and reads and writes them for stages that are run for each row.
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

impl pipeline::Tables for Tables {
    fn rows<'a>(&'a self, table: &'a str, folder: &'a Path) -> BoxFuture<'a, Result<PathBuf, Refusal>> {
        Box::pin(async move { data::stages::rows(&*self.0, table, folder).await })
    }

    fn table<'a>(
        &'a self,
        cx: &'a Context,
        rows: &'a Path,
        types: &'a [(String, &'static str)],
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        Box::pin(async move { data::stages::gather(&*self.0, cx, rows, types).await })
    }
}

/// Where the files are that commands left.
pub(crate) fn artifacts(folder: &Path, config: Option<&Config>) -> Artifacts {
    let configured = config.and_then(|c| c.runs.artifacts.as_deref());
    Artifacts::new(folder.join(configured.unwrap_or(".forebay/artifacts")))
}

/// What stages reach beyond the project's files, where anything runs.
#[derive(Default)]
pub(crate) struct Reach {
    /// Who asks addresses and brings webhooks.
    pub(crate) outside: Outside,
    /// Who notes runs and models, and keeps their artifacts.
    pub(crate) tracked: Option<Tracked>,
    /// Where commands note theirs.
    pub(crate) notes: Option<Arc<dyn Notes>>,
    /// Which texts prompts have.
    pub(crate) choices: Option<Choices>,
}

/// Adds the kinds of stages that only durable runs have.
pub(crate) fn register(registry: &mut Registry, folder: &Path, config: Option<&Config>, reach: Reach) {
    let project = Project::new(folder, config, Arc::new(SystemClock::default()));
    let tables = Arc::new(Tables(project.clone()));
    registry.set_tables(tables.clone());
    let exec = ExecParts {
        project: folder.to_owned(),
        artifacts: artifacts(folder, config),
        place: Some(tables.clone()),
        notes: reach.notes,
    };
    pipeline::register(registry, pipeline::Parts { exec, outside: reach.outside });
    let learning = Learning {
        folder: folder.to_owned(),
        project: project.clone(),
        files: artifacts(folder, config),
        models: config.map(learning::configured).unwrap_or_default(),
        tracked: reach.tracked,
    };
    data::stages::register(registry, project);
    models::stages::register(registry, &(Arc::new(learning) as Arc<dyn models::stages::Means>));
}
