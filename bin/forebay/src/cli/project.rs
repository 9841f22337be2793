//! The project as `up` and `run` open it: its configuration checked, its storage locked, every part put together.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{Clock, Surface, SystemClock};
use data::features::online::Mode;
use gateway::{App, Current, EndedRequests, Jobs};
use models::stages::Tracked;
use pipeline::task::Behind;
use store::Store;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Global;
use super::storage::failed;
use crate::assembly::{Assembly, Means};
use crate::capture::Capture;
use crate::config::{self, Config, Env, FILE, problem};
use crate::features::{self, Served};
use crate::learning;
use crate::lineage::{self, Telling};
use crate::predictions::Predictions;
use crate::starting::{self, Starting, Versions};
use crate::telemetry::{self, Export};
use crate::watching::{self, Watching};
use crate::wiring;
use crate::{Error, aside};

/// How much the part cache may hold.
const CACHE_BYTES: u64 = 256 << 20;

/// The configuration, or all its problems.
pub(super) fn checked(global: &Global) -> Result<Config, Error> {
    read(global, false)
}

/// The same, also when files of models are absent.
pub(super) fn checked_but_for_models(global: &Global) -> Result<Config, Error> {
    read(global, true)
}

fn read(global: &Global, models_may_be_absent: bool) -> Result<Config, Error> {
    let env = Env::of_process(&global.project);
    let registry = wiring::kinds_for_check(&global.project);
    let checked = config::load(&global.project, &env, &registry).map_err(|e| unread(global, &e))?;
    match checked.config {
        Some(config) if checked.problems.is_empty() || models_may_be_absent => Ok(config),
        _ => {
            let text = problem::render(FILE, &checked.shown, &checked.problems);
            let _ = std::io::stderr().write_all(text.as_bytes());
            Err(Error::Invalid)
        }
    }
}

/// A configuration that cannot be read.
pub(super) fn unread(global: &Global, e: &std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            format!("there is no {FILE} in {}", global.project.display()),
            "run `forebay init`, or name the project's folder with --project",
        ),
        _ => Error::file("read", &global.project.join(FILE), e),
    }
}

/// A project at work: what is to be closed. The gateway over it is not kept here, since another configuration replaces it.
pub(super) struct Opened {
    project: PathBuf,
    store: Store,
    background: JoinHandle<Result<(), store::Error>>,
    export: Option<Export>,
    clock: Arc<dyn Clock>,
    ended: EndedRequests,
    jobs: Option<Jobs>,
    /// What keeps features fresh, while there are any.
    features: Option<pipeline::task::Task<()>>,
    /// What starts pipelines.
    starting: Option<Arc<Starting>>,
    /// What is kept of answers.
    capture: Option<Arc<Capture>>,
    /// What is watched.
    watching: Option<Arc<Watching>>,
    /// Who else is told of lineage.
    telling: Option<Telling>,
    tracked: Tracked,
}

impl Opened {
    /// Takes the folder's lock and puts everything together. `open`: callers need no key unless the configuration says
    /// so. The ledger works on the runtime `behind`. With it come the gateway, and what makes it another one.
    pub(super) async fn open(
        global: &Global,
        config: &Config,
        surface: Surface,
        open: bool,
        behind: &Handle,
    ) -> Result<(Opened, Assembly, App), Error> {
        let project = global.project.clone();
        let url = config.storage.url.clone();
        let opening = behind.spawn(async move {
            let settings = store::Settings::default();
            match url {
                None => Store::open(&project, settings, CACHE_BYTES).await,
                Some(url) => {
                    let database = wiring::database(&project, &url).await?;
                    Store::open_with(&project, settings, CACHE_BYTES, database).await
                }
            }
        });
        let opened = opening.await.map_err(|e| Error::new(e.to_string(), "start again"))?;
        let store = opened.map_err(failed)?;
        if store.recovery.lost > 0 || store.recovery.replayed > 0 {
            let (replayed, lost) = (store.recovery.replayed, store.recovery.lost);
            tracing::info!(
                replayed,
                lost,
                "the last server did not end by itself; its ledger is complete again"
            );
        }
        let background = behind.spawn(store.background());
        let export = telemetry::start(config)?;
        let sink = export.as_ref().map(Export::sink);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let env = Env::of_process(&global.project);
        let artifacts = config.storage.artifacts.as_deref();
        let tracked = learning::tracked(&global.project, artifacts, &env, store.reader.tracking.clone())?;
        let means = Means { clock: clock.clone(), surface, open, export: sink, tracked: tracked.clone() };
        let (assembly, app) = Assembly::start(&global.project, config, &store, means).await?;
        assembly.choices().look(&global.project, config, &tracked).await;
        let ended = app.ended();
        let telling = lineage::start(&global.project, config, clock.clone())?;
        if let Some(telling) = &telling {
            assembly.durable().emitting(telling.emitter());
        }
        let (jobs, features, starting, watching, capture) = (None, None, None, None, None);
        let project = global.project.clone();
        let opened = Opened {
            project,
            store,
            background,
            export,
            clock,
            ended,
            jobs,
            features,
            starting,
            capture,
            watching,
            telling,
            tracked,
        };
        Ok((opened, assembly, app))
    }

    /// Serves the features of the project, if it has any, and keeps them fresh.
    pub(super) async fn serve_features(
        &mut self,
        global: &Global,
        config: &Config,
        app: &App,
        behind: &Behind,
    ) -> Result<(), Error> {
        if config.features.views.is_empty() {
            return Ok(());
        }
        let env = Env::of_process(&global.project);
        let online = features::open(&global.project, config, &env, self.clock.clone(), Mode::Write).await?;
        let online = Arc::new(online);
        app.serve_features(Arc::new(Served::new(online.clone(), &config.features)));
        self.features = Some(features::refresh(online, config.features.refresh.0, behind));
        Ok(())
    }

    /// Keeps artifacts of runs and models. What a process that died had half written goes first.
    fn keep_artifacts(&self, app: &App) -> Result<(), Error> {
        let artifacts = &self.tracked.artifacts;
        let unwritable =
            |e: models::Error| Error::new(format!("cannot {e}"), "give this user write access to the folder");
        artifacts.clear().map_err(unwritable)?;
        app.keep_artifacts(artifacts.clone());
        Ok(())
    }

    /// Serves the project's predictive models, and loads them meanwhile.
    pub(super) fn serve_predictions(
        &self,
        config: &Config,
        app: &App,
        capture: Option<&Capture>,
        assembly: &Assembly,
    ) -> Predictions {
        let tracked = self.tracked.clone();
        let seen = (app.observers().clone(), assembly.choices().clone());
        let predictions = Predictions::new(&self.project, self.clock.clone(), tracked, seen);
        app.serve_predictions(predictions.models());
        let rolling = Arc::new(predictions.rolling());
        let all = capture.map(Capture::observer).into_iter().chain([rolling.clone() as _]);
        app.observers().watch(all.collect());
        app.show_rollouts(rolling);
        predictions.apply(config);
        predictions
    }

    /// Begins to work on jobs and runs, on the current runtime. What attempts left that died with their process ends first.
    pub(super) fn work_on_runs(
        &mut self,
        global: &Global,
        config: &Config,
        current: &Current,
        assembly: &Assembly,
    ) -> Result<(), Error> {
        let ended = pipeline::exec::reap(&global.project);
        if ended > 0 {
            tracing::warn!(ended, "processes of stages were left by a server that died, and were ended");
        }
        if let Err(error) = aside::sweep(&global.project) {
            tracing::warn!(%error, "failed to remove temporary files that a server left that died");
        }
        if let Err(error) = crate::stages::artifacts(&global.project, Some(config)).sweep() {
            tracing::warn!(%error, "failed to remove files that a server left half written");
        }
        self.keep_artifacts(&current.app())?;
        assembly.noting().serve(current);
        self.jobs =
            Some(wiring::jobs(&global.project, config, current, assembly.durable(), self.clock.clone())?);
        Ok(())
    }

    /// Begins to work on jobs and runs, and to start what triggers start, on the current runtime.
    pub(super) fn work(
        &mut self,
        global: &Global,
        config: &Config,
        current: &Current,
        assembly: &Assembly,
    ) -> Result<Arc<Starting>, Error> {
        self.work_on_runs(global, config, current, assembly)?;
        let env = Env::of_process(&global.project);
        let means = starting::Means {
            store: self.store.reader.triggers.clone(),
            start: Arc::new(assembly.durable().clone()),
            watch: Arc::new(Versions::of(global.project.clone(), config, env, self.clock.clone())),
            clock: self.clock.clone(),
        };
        let starting = Arc::new(Starting::begin(config, global.project.clone(), current, means));
        let driver = starting.driver().clone();
        assembly.durable().telling(Box::new(move || driver.look()));
        self.starting = Some(starting.clone());
        Ok(starting)
    }

    /// Keeps answers of predictive models, and what is told of them, where the configuration says so.
    pub(super) fn capture(
        &mut self,
        global: &Global,
        config: &Config,
        behind: &Behind,
    ) -> Option<Arc<Capture>> {
        if config.capture.is_empty() {
            return None;
        }
        let env = Env::of_process(&global.project);
        let capture = Capture::begin(config, global.project.clone(), env, self.clock.clone(), behind);
        let capture = Arc::new(capture);
        self.capture = Some(capture.clone());
        Some(capture)
    }

    /// Begins to watch what the configuration names, on threads that yield to callers.
    pub(super) fn watch(
        &mut self,
        (global, config): (&Global, &Config),
        app: &App,
        starting: &Starting,
        behind: &Behind,
    ) -> Arc<Watching> {
        let means = watching::Means {
            store: self.store.reader.watching.clone(),
            triggers: self.store.reader.triggers.clone(),
            runs: self.store.reader.runs.clone(),
            driver: starting.driver().clone(),
            clock: self.clock.clone(),
        };
        let env = Env::of_process(&global.project);
        let watching = Arc::new(Watching::begin(config, global.project.clone(), env, means, behind));
        self.watching = Some(watching.clone());
        let seen = Seen { watching: watching.clone(), capture: self.capture.clone() };
        app.keep_monitors(Arc::new(seen));
        watching
    }

    /// Brings the jobs and the ledger to their end, then the export.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        drop(self.features.take());
        if let Some(capture) = self.capture.take() {
            capture.stop();
        }
        if let Some(watching) = self.watching.take() {
            watching.stop();
        }
        // Nothing more is started; what is decided is started by the next server.
        if let Some(starting) = self.starting.take() {
            starting.stop();
        }
        if let Some(jobs) = &self.jobs {
            jobs.close().await;
        }
        if let Some(telling) = self.telling.take() {
            telling.close().await;
        }
        self.store.ledger.close();
        aside::end(&self.project);
        let closed = self.background.await;
        // Of what ended when nobody was served any more, too.
        self.ended.count();
        // The ledger first: a collector that hangs must not stand between a record and its database.
        if let Some(export) = self.export {
            export.close().await;
        }
        let help = "start again: the journal is replayed";
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Error::new(format!("the ledger did not close: {e}"), help)),
            Err(e) => Err(Error::new(e.to_string(), help)),
        }
    }
}

/// What metrics are told of monitors and of what is kept for them.
struct Seen {
    watching: Arc<Watching>,
    capture: Option<Arc<Capture>>,
}

impl gateway::Monitors for Seen {
    fn states(&self) -> Vec<gateway::MonitorState> {
        self.watching.states()
    }

    fn dropped(&self) -> u64 {
        self.capture.as_ref().map_or(0, |capture| capture.dropped())
    }
}
