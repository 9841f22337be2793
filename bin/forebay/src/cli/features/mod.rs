//! `forebay features …`: the project's feature views, as they are now and as they were.
//!
//! `get`, `push` and `materialize` act on the folder, or by `--server` on the server that serves it: while one runs, it alone
//! writes what is online. The others read the folder, whether a server runs or not.

mod get;
mod list;
mod materialize;
mod parity;
mod push;
mod train;

use std::io::Write as _;
use std::sync::Arc;

use clap::Subcommand;
use contract::{Clock, SystemClock};
use data::features::online::{Mode, Online};
use data::{Source, Warehouse};
use serde_json::Value as Json;

use super::{Global, project};
use crate::config::{self, Config, Env, FILE, problem};
use crate::{Error, datasets, features, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the feature views and how fresh they are.
    List,
    /// Show a feature view: what it is, and how fresh.
    Show {
        /// The view.
        view: String,
    },
    /// Show features of entities, as they are now.
    Get(get::Args),
    /// Serve what is new in the datasets.
    Materialize(materialize::Args),
    /// Push rows of a file to a view.
    Push(push::Args),
    /// Compare what is online with what the datasets say at this moment. Exit code 1 when something differs.
    Parity(parity::Args),
    /// Make a training set: features beside rows of entities, each as it was at that row's time.
    Train(Box<train::Args>),
}

/// A project whose features are looked at.
struct Project {
    config: Config,
    env: Env,
    clock: Arc<dyn Clock>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| {
        Error::new(format!("cannot start: {e}"), "check the limits on open files and threads (`ulimit -a`)")
    })?;
    runtime.block_on(async {
        match &args.command {
            Command::List => Box::pin(list::all(global, &Project::of(global)?)).await,
            Command::Show { view } => Box::pin(list::one(global, &Project::of(global)?, view)).await,
            Command::Get(args) => Box::pin(get::run(global, args)).await,
            Command::Materialize(args) => Box::pin(materialize::run(global, args)).await,
            Command::Push(args) => Box::pin(push::run(global, args)).await,
            Command::Parity(args) => Box::pin(parity::run(global, &Project::of(global)?, args)).await,
            Command::Train(args) => Box::pin(train::run(global, &Project::of(global)?, args)).await,
        }
    })
}

impl Project {
    fn of(global: &Global) -> Result<Project, Error> {
        let env = Env::of_process(&global.project);
        let registry = wiring::kinds_for_check(&global.project);
        let checked = config::load_sections(&global.project, &env, &registry, &features::SECTIONS)
            .map_err(|e| project::unread(global, &e))?;
        let clock = Arc::new(SystemClock::default());
        match checked.config {
            Some(config) if checked.problems.is_empty() => Ok(Project { config, env, clock }),
            _ => {
                let text = problem::render(FILE, &checked.shown, &checked.problems);
                let _ = std::io::stderr().write_all(text.as_bytes());
                Err(Error::Invalid)
            }
        }
    }

    async fn online(&self, global: &Global, mode: Mode) -> Result<Online, Error> {
        features::open(&global.project, &self.config, &self.env, self.clock.clone(), mode).await
    }

    fn warehouse(&self, global: &Global) -> Result<Warehouse, Error> {
        datasets::open(&global.project, &self.config, &self.env, self.clock.clone())
    }
}

/// Rows of a file, or of a dataset's version, which `name` or `name@version` names.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Rows {
    /// The entities: a file of CSV, JSON, Parquet or Arrow.
    #[arg(long, value_name = "FILE")]
    entities: Option<std::path::PathBuf>,
    /// The entities: a dataset, or a version of it (`flights@7`).
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
}

impl Rows {
    fn given(&self) -> Result<Option<data::features::Entities>, Error> {
        use data::features::Entities;
        if let Some(file) = &self.entities {
            return Ok(Some(Entities::Source(Source::file(file))));
        }
        let Some(text) = &self.dataset else { return Ok(None) };
        let (name, at) = text.split_once('@').unwrap_or((text, ""));
        let at = at.parse().map_err(datasets::failed)?;
        Ok(Some(Entities::Dataset { name: name.to_owned(), at }))
    }
}

/// `weather@3, flights@1`.
fn versions(of: &[(String, u64)]) -> String {
    of.iter().map(|(name, version)| format!("{name}@{version}")).collect::<Vec<_>>().join(", ")
}

fn versions_json(of: &[(String, u64)]) -> Json {
    Json::Object(of.iter().map(|(name, version)| (name.clone(), (*version).into())).collect())
}
