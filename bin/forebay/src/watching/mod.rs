//! The monitors of a server: looked at by and by on threads that yield to callers, each with what is known of it in the database.
//!
//! A round of a monitor reads what is kept, looks at the data when it is time, lets time pass, and writes all of it down in one step,
//! only if nobody else did meanwhile; then it sends what is to be sent and starts what is to be started. So a server that dies goes on
//! where it was, two servers on one database are as one, and what was not written down has not happened.
//!
//! What to do is decided by [`watch::monitor`]; runs are started by the triggers of their pipelines alone.

mod alertmanager;
pub mod look;
pub mod performance;
pub mod settings;
pub mod tell;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, RunId, UnixMillis};
use gateway::MonitorState;
use parking_lot::Mutex;
use pipeline::runs::Status;
use pipeline::task::{self, Behind, Task};
use pipeline::triggers::{Came, Driver, LastStart, Memory, Took, Trigger};
use store::{MemoryStore, RunStore};
use watch::alert::{Silence, State};
use watch::monitor::{Figure, Monitor, MonitorSettings, Pending, Window};
use watch::retrain::{Ended, Inputs, Start};

use crate::config::monitor::MonitorConfig;
use crate::config::{Config, Env};
use crate::datasets::Lazily;
use tell::Tell;

/// How often time passes.
const TICK: Duration = Duration::from_secs(1);
/// Messages that are sent in one round of a monitor.
const MESSAGES: usize = 20;
/// How long an answer is on its way to the file where it waits, in milliseconds.
const ON_ITS_WAY: i64 = 2_000;
/// Under which name silences are kept.
pub const SILENCES: &str = "silences";

/// Under which name a monitor is kept.
pub fn kept(monitor: &str) -> String {
    format!("monitor/{monitor}")
}

/// Under which name the last report of a monitor is kept.
pub fn reported(monitor: &str) -> String {
    format!("report/{monitor}")
}

/// What there is to watch with.
pub struct Means {
    /// Where it is kept how what is watched stands.
    pub store: Arc<dyn MemoryStore>,
    /// Where triggers keep which runs they started.
    pub triggers: Arc<dyn MemoryStore>,
    /// Where runs are.
    pub runs: Arc<dyn RunStore>,
    /// Who starts runs.
    pub driver: Driver,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
}

/// A monitor of a configuration.
struct Plan {
    name: String,
    config: MonitorConfig,
    settings: MonitorSettings,
    /// What the pipeline that it starts is, by a sum.
    code: String,
    /// Whether it is of what is captured here.
    captured: bool,
}

struct Plans {
    all: Vec<Plan>,
    tell: Tell,
}

/// The monitors of a server. They end with this.
pub struct Watching {
    inner: Arc<Inner>,
    work: Mutex<Option<Task<()>>>,
}

struct Inner {
    means: Means,
    project: PathBuf,
    warehouse: Lazily,
    plans: Mutex<Arc<Plans>>,
    /// How each stood in its last round.
    states: Mutex<BTreeMap<String, MonitorState>>,
}

impl Watching {
    /// Begins to watch what a configuration names.
    pub fn begin(config: &Config, project: PathBuf, env: Env, means: Means, behind: &Behind) -> Watching {
        let plans = Mutex::new(Arc::new(Plans::of(config, means.clock.clone())));
        let warehouse = Lazily::of(project.clone(), config, env, means.clock.clone());
        let inner = Arc::new(Inner { means, project, warehouse, plans, states: Mutex::default() });
        let work = behind.spawn("monitors", inner.clone().work());
        Watching { inner, work: Mutex::new(Some(work)) }
    }

    /// Another configuration is in force.
    pub fn replan(&self, config: &Config) {
        let plans = Arc::new(Plans::of(config, self.inner.means.clock.clone()));
        *self.inner.plans.lock() = plans;
    }

    /// How each monitor stood in its last round.
    pub fn states(&self) -> Vec<MonitorState> {
        let plans = self.inner.plans.lock().clone();
        let states = self.inner.states.lock();
        plans.all.iter().filter_map(|plan| states.get(&plan.name).cloned()).collect()
    }

    /// Looks at nothing more.
    pub fn stop(&self) {
        drop(self.work.lock().take());
    }
}

impl Plans {
    fn of(config: &Config, clock: Arc<dyn Clock>) -> Plans {
        let plan = |(name, monitor): (&String, &MonitorConfig)| Plan {
            name: name.clone(),
            config: settings::of_dataset(config, monitor),
            settings: settings::settings(name, monitor, &config.alerts),
            code: monitor.then.run.as_ref().map(|run| code(config, run)).unwrap_or_default(),
            captured: config.capture.contains_key(&monitor.watch),
        };
        Plans { all: config.monitors.iter().map(plan).collect(), tell: Tell::of(config, clock) }
    }
}

/// What a pipeline is, by a sum of how it is written.
fn code(config: &Config, pipeline: &str) -> String {
    let written = config.pipelines.get(pipeline).map(|p| format!("{p:?}")).unwrap_or_default();
    blake3::hash(written.as_bytes()).to_hex().to_string()
}

impl Inner {
    async fn work(self: Arc<Self>) {
        let mut looked: BTreeMap<String, UnixMillis> = BTreeMap::new();
        loop {
            let plans = self.plans.lock().clone();
            for plan in &plans.all {
                let now = self.means.clock.wall();
                let last = looked.get(&plan.name);
                let every = i64::try_from(settings::every(&plan.config).as_millis()).unwrap_or(i64::MAX);
                let due = last.is_none_or(|last| now.0 >= last.0.saturating_add(every));
                if due {
                    looked.insert(plan.name.clone(), now);
                }
                if let Err(error) = Box::pin(self.round(plan, &plans.tell, due)).await {
                    tracing::warn!(monitor = %plan.name, %error, "a monitor cannot go on; it is tried again");
                }
            }
            task::sleep(TICK).await;
        }
    }

    /// What is kept of a monitor, with its version.
    async fn load(&self, plan: &Plan) -> Result<(u64, Monitor), String> {
        let stored = self.means.store.get(&kept(&plan.name)).await.map_err(|e| format!("failed to {e}"))?;
        let (version, mut monitor) = match stored {
            None => (0, Monitor::new(&plan.name)),
            Some(stored) => {
                let read = serde_json::from_str(&stored.memory);
                (stored.version, read.map_err(|e| format!("what is kept of it cannot be read: {e}"))?)
            }
        };
        monitor.set(&plan.settings).map_err(|e| format!("failed to {e}"))?;
        monitor.silence(&silences(&*self.means.store).await?.1);
        Ok((version, monitor))
    }

    /// Keeps a monitor; `false` when somebody else decided meanwhile.
    async fn keep(&self, plan: &Plan, after: u64, monitor: &Monitor) -> Result<bool, String> {
        let text = serde_json::to_string(monitor).map_err(|e| e.to_string())?;
        self.means.store.set(&kept(&plan.name), after, &text).await.map_err(|e| format!("failed to {e}"))
    }

    async fn round(&self, plan: &Plan, tell: &Tell, due: bool) -> Result<(), String> {
        let (version, mut monitor) = self.load(plan).await?;
        let before = monitor.clone();
        let report = if due { self.look(plan, &mut monitor).await } else { None };
        self.follow(plan, &mut monitor).await?;
        let now = self.means.clock.wall();
        let data = |(_, v)| Inputs { data: format!("{}@{v}", plan.config.watch), code: plan.code.clone() };
        let inputs = monitor.looked().map(data);
        let to = if plan.config.then.notify { tell.names() } else { Vec::new() };
        let start = monitor.tick(now, &to, inputs.as_ref());
        self.stands(&monitor);
        let mut version = version;
        if monitor.differs(&before) {
            // Who lost looks again in the next round, at what the winner left.
            if !self.keep(plan, version, &monitor).await? {
                return Ok(());
            }
            version += 1;
        }
        if let Some(report) = report {
            self.report(plan, &report).await?;
        }
        // A start that waits, or cannot be asked for, holds no message up.
        let mut started = Ok(());
        if let Some(start) = start {
            started = self.start(plan, &start, (version, &mut monitor)).await;
            (version, monitor) = self.load(plan).await?;
        }
        self.send(plan, tell, (version, monitor)).await?;
        started
    }

    /// Notes how a monitor stands, for metrics.
    fn stands(&self, monitor: &Monitor) {
        let mut state = MonitorState {
            monitor: monitor.name().to_owned(),
            newest: monitor.newest(),
            problem: monitor.problem().is_some(),
            lost: monitor.lost(),
            ..MonitorState::default()
        };
        for (listed, _) in monitor.list() {
            match listed.state {
                State::Firing => state.firing += 1,
                State::Pending => state.pending += 1,
                State::Inactive => state.inactive += 1,
            }
            if listed.key.rule == monitor.name() {
                state.drift = [state.drift, listed.value].into_iter().flatten().reduce(f64::max);
            }
        }
        let mut states = self.states.lock();
        states.insert(monitor.name().to_owned(), state);
    }

    /// Looks at the data, and at how old they are.
    async fn look(&self, plan: &Plan, monitor: &mut Monitor) -> Option<String> {
        let now = self.means.clock.wall();
        let found = match self.warehouse.get().map_err(|e| e.to_string()) {
            Ok(warehouse) => look::look(warehouse, &plan.config, monitor, now).await,
            Err(why) => Err(why),
        };
        let report = match found {
            Ok(None) => None,
            Ok(Some(found)) => {
                monitor.observe(now, (found.version, found.newest), &found.windows);
                found.report.and_then(|report| serde_json::to_string(&report).ok())
            }
            Err(why) => {
                if monitor.problem() != Some(&why) {
                    tracing::warn!(monitor = %plan.name, "{why}");
                }
                monitor.failed(why);
                None
            }
        };
        self.perform(plan, monitor, now).await;
        if let (Some(_), Some(newest)) = (plan.config.freshness, monitor.newest()) {
            let age = (now.0.saturating_sub(newest.0)).max(0) / 1000;
            let figure = Figure {
                rule: settings::rule(&plan.name, "freshness"),
                labels: BTreeMap::new(),
                value: Some(age as f64),
                samples: 1,
                said: format!("the newest row is of {}", newest.rfc3339()),
            };
            monitor.figures(now, now, &Window { end: now, rows: 0, figures: vec![figure] });
        }
        report
    }

    /// Looks at how right the model was in windows whose labels are in.
    async fn perform(&self, plan: &Plan, monitor: &mut Monitor, now: UnixMillis) {
        let Some(performance) = &plan.config.performance else { return };
        let found = match self.warehouse.get() {
            Ok(warehouse) => {
                let of = (&plan.config, performance);
                // What waits to be a version is yet to come, however long that takes.
                let waits = || crate::capture::waiting(&self.project, &plan.config.watch);
                let upto = match plan.captured {
                    true => waits().map_or(now, |since| since.min(now)).0.saturating_sub(ON_ITS_WAY),
                    false => now.0,
                };
                Box::pin(performance::look(warehouse, of, monitor, (now, upto))).await
            }
            Err(why) => Err(why.to_string()),
        };
        match found {
            Ok(all) => {
                all.into_iter()
                    .for_each(|found| monitor.performed(now, found.performed, found.window.as_ref()));
            }
            Err(why) => {
                if monitor.problem() != Some(&why) {
                    tracing::warn!(monitor = %plan.name, "{why}");
                }
                monitor.failed(why);
            }
        }
    }

    async fn report(&self, plan: &Plan, report: &str) -> Result<(), String> {
        let (name, store) = (reported(&plan.name), &self.means.store);
        let failed = |e: store::Error| format!("failed to {e}");
        let version = store.get(&name).await.map_err(failed)?.map_or(0, |stored| stored.version);
        // Of two who look at once either is right.
        store.set(&name, version, report).await.map(drop).map_err(failed)
    }

    /// Whether the run under way has ended.
    async fn follow(&self, plan: &Plan, monitor: &mut Monitor) -> Result<(), String> {
        let Some(running) = monitor.running().cloned() else { return Ok(()) };
        let now = self.means.clock.wall();
        let Some(run) = running.run.and_then(|run| run.parse::<RunId>().ok()) else { return Ok(()) };
        let found = self.means.runs.get(run).await.map_err(|e| format!("failed to {e}"))?;
        let ended = match found.map(|stored| (stored.head.status.clone(), stored)) {
            None => Some(Ended::Failed),
            Some((status, stored)) => match serde_json::from_value(status.into()).ok() {
                Some(Status::Succeeded) => Some(Ended::Promoted),
                Some(Status::Failed) => {
                    Some(match stored.entries.iter().any(|e| e.contains("\"gate_refused\"")) {
                        true => Ended::Rejected,
                        false => Ended::Failed,
                    })
                }
                Some(Status::Cancelled) => Some(Ended::Failed),
                _ => None,
            },
        };
        if let Some(how) = ended {
            tracing::info!(monitor = %plan.name, %run, ?how, "a run that a monitor started has ended");
            monitor.ended(now, &running.start.key, how);
        }
        Ok(())
    }

    /// Starts a run, once for each decision: the trigger knows the key.
    async fn start(
        &self,
        plan: &Plan,
        start: &Start,
        (version, monitor): (u64, &mut Monitor),
    ) -> Result<(), String> {
        let Some(pipeline) = &plan.config.then.run else { return Ok(()) };
        let failed = |e: &dyn std::fmt::Display| format!("failed to start `{pipeline}`: {e}");
        let came = self.means.driver.alert(&plan.name, &start.key).await.map_err(|e| failed(&e))?;
        let ours = came.into_iter().find(|came| came.pipeline.as_str() == pipeline);
        let run = match ours {
            Some(came) if came.refused.is_some() => {
                let why = came.refused.unwrap_or_default();
                tracing::warn!(monitor = %plan.name, "failed to start `{pipeline}`: {why}");
                monitor.ended(self.means.clock.wall(), &start.key, Ended::Failed);
                None
            }
            Some(Came { run: Some(run), .. }) => Some(run),
            // It was started by a server that died before it said so; what was started before the decision is another's.
            Some(Came { took: Took::Known, .. }) => {
                let last = self.started(plan, pipeline).await?;
                let decided = monitor.running().map_or(UnixMillis(i64::MAX), |running| running.since);
                last.filter(|last| last.at >= decided).map(|last| last.run)
            }
            Some(_) | None => None,
        };
        if let Some(run) = run {
            tracing::info!(monitor = %plan.name, %run, reasons = ?start.reasons, "a monitor has started `{pipeline}`");
            monitor.started(&start.key, &run.to_string());
        }
        self.keep(plan, version, monitor).await.map(drop)
    }

    /// The run that the trigger of a monitor started last.
    async fn started(&self, plan: &Plan, pipeline: &str) -> Result<Option<LastStart>, String> {
        let stored = self.means.triggers.get(pipeline).await.map_err(|e| format!("failed to {e}"))?;
        let memory = stored.and_then(|stored| serde_json::from_str::<Memory>(&stored.memory).ok());
        let trigger = Trigger::Alert { alert: plan.name.clone() };
        Ok(memory.and_then(|memory| memory.last(&trigger.id())))
    }

    /// Sends what is to be sent: claimed first, so that nobody else sends it meanwhile.
    async fn send(
        &self,
        plan: &Plan,
        tell: &Tell,
        (mut version, mut monitor): (u64, Monitor),
    ) -> Result<(), String> {
        for _ in 0..MESSAGES {
            let Some(pending) = monitor.claim(self.means.clock.wall()) else { return Ok(()) };
            if !self.keep(plan, version, &monitor).await? {
                return Ok(());
            }
            version += 1;
            version = self.told(plan, tell, &pending, (version, &mut monitor)).await?;
        }
        Ok(())
    }

    async fn told(
        &self,
        plan: &Plan,
        tell: &Tell,
        pending: &Pending,
        (version, monitor): (u64, &mut Monitor),
    ) -> Result<u64, String> {
        let how = tell.send(&plan.name, pending).await;
        monitor.sent(self.means.clock.wall(), &pending.id(), how);
        if self.keep(plan, version, monitor).await? {
            return Ok(version + 1);
        }
        // Somebody else went on meanwhile: what came of it is told to what they left.
        let (version, mut theirs) = self.load(plan).await?;
        theirs.sent(self.means.clock.wall(), &pending.id(), how);
        let kept = self.keep(plan, version, &theirs).await?;
        *monitor = theirs;
        Ok(version + u64::from(kept))
    }
}

/// The silences that are kept, with the version of the list.
///
/// # Errors
/// The storage's, in words.
pub async fn silences(store: &dyn MemoryStore) -> Result<(u64, Vec<Silence>), String> {
    match store.get(SILENCES).await.map_err(|e| format!("failed to {e}"))? {
        None => Ok((0, Vec::new())),
        Some(stored) => {
            let read = serde_json::from_str(&stored.memory);
            Ok((stored.version, read.map_err(|e| format!("the silences cannot be read: {e}"))?))
        }
    }
}
