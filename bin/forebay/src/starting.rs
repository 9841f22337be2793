//! What starts the pipelines of a server besides requests, put together: the loop, the folders it is told of, and the gateway's
//! way to it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use contract::{BoxFuture, Clock, Code, Error};
use gateway::Current;
use pipeline::task::{self, Task};
use pipeline::triggers::{Driver, Start, TriggerPlan, Watch};
use store::MemoryStore;

use crate::config::{Config, Env, triggers};
use crate::datasets::Lazily;
use crate::folders;

/// Versions of datasets, by the logs of their tables, where the configuration that the server began with keeps them.
pub struct Versions(Lazily);

impl Versions {
    /// Those of a project.
    pub fn of(project: PathBuf, config: &Config, env: Env, clock: Arc<dyn Clock>) -> Versions {
        Versions(Lazily::of(project, config, env, clock))
    }
}

impl Watch for Versions {
    fn version<'a>(&'a self, dataset: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(async move {
            let unseen = |e: data::Error| Error::new(Code::StorageUnavailable, e.to_string());
            let warehouse = self.0.get().map_err(|e| Error::new(Code::StorageUnavailable, e.to_string()))?;
            let dataset = warehouse.dataset(dataset).map_err(unseen)?;
            // What changes no rows starts nothing.
            dataset.newest_change().await.map_err(unseen)
        })
    }
}

/// What there is to start runs with.
pub struct Means {
    /// Where it is kept what triggers have seen.
    pub store: Arc<dyn MemoryStore>,
    /// Who starts runs.
    pub start: Arc<dyn Start>,
    /// Who knows versions of datasets.
    pub watch: Arc<dyn Watch>,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
}

/// The triggers of a server. They end with this.
#[derive(Debug)]
pub struct Starting {
    driver: Driver,
    project: PathBuf,
    clock: Arc<dyn Clock>,
    work: Mutex<Option<Task<()>>>,
    /// What is in force, and who follows its folders.
    plans: Mutex<(Vec<TriggerPlan>, Task<()>)>,
}

impl Starting {
    /// Begins to start the pipelines of a configuration; events that the gateway takes start them too. Needs a runtime.
    pub fn begin(config: &Config, project: PathBuf, current: &Current, means: Means) -> Starting {
        let driver = Driver::new(means.store, means.start, means.watch, means.clock.clone());
        let plans = triggers::plans(config);
        driver.plan(plans.clone());
        current.app().keep_triggers(driver.clone());
        let work = driver.clone();
        let work = task::kept("triggers", move || work.clone().work());
        let folders = follow(&driver, &project, &plans, &means.clock);
        let plans = Mutex::new((plans, folders));
        Starting { driver, project, clock: means.clock, work: Mutex::new(Some(work)), plans }
    }

    /// The way to the loop: to say that something was committed, or that a run ended.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Starts nothing more.
    pub fn stop(&self) {
        drop(self.work.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Another configuration is in force.
    pub fn replan(&self, config: &Config) {
        let plans = triggers::plans(config);
        let mut held = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans != held.0 {
            self.driver.plan(plans.clone());
            let folders = follow(&self.driver, &self.project, &plans, &self.clock);
            *held = (plans, folders);
        }
    }
}

fn follow(
    driver: &Driver,
    project: &std::path::Path,
    plans: &[TriggerPlan],
    clock: &Arc<dyn Clock>,
) -> Task<()> {
    let (driver, project, plans, clock) = (driver.clone(), project.to_owned(), plans.to_vec(), clock.clone());
    task::kept("folders", move || {
        folders::follow(driver.clone(), project.clone(), plans.clone(), clock.clone())
    })
}
