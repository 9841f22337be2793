//! A project put together: what outlives its configuration, and the parts that each configuration makes anew.
//!
//! Nothing is changed by making parts, so that a configuration that cannot be used changes nothing. What is the same in two
//! configurations is kept: a model that is asked where it was keeps its endpoints, with their connections, what is known of their
//! health, and its worker; counters
//! of rates and budgets, queues and what was learned of a model's limits are admission's, and stay.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admission::{Gate, Room, Scope};
use contract::{Clock, ModelName, Surface, TenantId};
use gateway::{App, Current, FairSlots, Fits, MovedBy, PipelineChoice};
use llm::{Hedge, Models};
use models::stages::Tracked;
use pipeline::durable::{Definitions, Durable};
use pipeline::exec::Notes;
use store::{Reader, Store};

use crate::Error;
use crate::choosing::{Choices, Options};
use crate::config::Config;
use crate::config::choice::{ChoiceOf, PipelineChoiceConfig};
use crate::config::model::{ModelConfig, RatesConfig, ReplayConfig, TimeoutsConfig};
use crate::config::pool::HedgeConfig;
use crate::config::units::{Size, Time};
use crate::inventory::{self, Running};
use crate::noting::Noting;
use crate::stages::Reach;
use crate::telemetry::{self, Sink};
use crate::worker::LocalModel;
use crate::{pipelines, upstreams, wiring};

/// What the parts are put together with besides the configuration and the store.
pub struct Means {
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// What a call of a pipeline is recorded as.
    pub surface: Surface,
    /// Callers need no key unless the configuration says so.
    pub open: bool,
    /// Who is told of requests that ended, if anybody.
    pub export: Option<Sink>,
    /// Where runs and models are noted.
    pub tracked: Tracked,
}

/// Where a model is asked, as long as nothing about that changes.
#[derive(Clone)]
struct Kept {
    /// The part of its configuration that says where and how.
    from: ModelConfig,
    identity: String,
    endpoints: Vec<llm::Endpoint>,
    /// What they bear together.
    room: Room,
    worker: Option<Arc<LocalModel>>,
    /// Second attempts, and what was spent on them.
    hedge: (Option<HedgeConfig>, Option<Arc<Hedge>>),
}

type Endpoints = BTreeMap<String, Kept>;

/// The most requests at once of each endpoint, by the name of its model.
type Caps = HashMap<String, Vec<u32>>;

fn caps(config: &Config, limits: &admission::Settings) -> Caps {
    let of = |(name, m): (&String, &ModelConfig)| {
        let most = limits.model(&name.as_str().into()).max_concurrency;
        (name.clone(), upstreams::caps(m, most))
    };
    config.models.iter().filter(|(_, m)| m.is_chat()).map(of).collect()
}

/// What outlives a configuration.
#[derive(Clone)]
pub struct Assembly {
    project: PathBuf,
    means: Arc<Means>,
    gate: Gate,
    /// Knows no model: what all registries share.
    models: Models,
    cache: Arc<wiring::Parts>,
    reader: Reader,
    /// Runs of pipelines that outlive the process.
    durable: Durable,
    /// Where their commands note what they try.
    noting: Noting,
    /// Of the configuration in force.
    endpoints: Arc<Endpoints>,
    /// Who answers to names that several models answer to.
    choices: Choices,
    /// End users are counted only where something limits them.
    users: bool,
}

/// What one configuration makes, not yet in use.
pub struct Made {
    parts: gateway::Parts,
    limits: admission::Settings,
    caps: Caps,
    endpoints: Endpoints,
    definitions: Definitions,
    upstreams: HashMap<ModelName, otlp::Upstream>,
    /// What an operator should know of it.
    notes: Vec<String>,
}

impl Assembly {
    /// Puts all parts together over an open store.
    ///
    /// # Errors
    /// A model whose address is none, a pipeline that does not check, a ledger that cannot be read.
    pub async fn start(
        project: &Path,
        config: &Config,
        store: &Store,
        means: Means,
    ) -> Result<(Assembly, App), Error> {
        let clock = means.clock.clone();
        let limits = wiring::limits(config);
        let users = !limits.each_user.is_unlimited();
        let caps = caps(config, &limits);
        let gate = Gate::new(limits, clock.clone());
        for (scope, period, amount) in wiring::spent(&store.reader, clock.wall()).await? {
            if users || !matches!(scope, Scope::User(..)) {
                gate.restore(scope, period, amount);
            }
        }
        let mut assembly = Assembly {
            project: project.to_owned(),
            means: Arc::new(means),
            models: Models::new(Arc::new(FairSlots::new(gate.clone(), clock.clone()))),
            gate: gate.clone(),
            cache: Arc::new(wiring::Parts { cache: store.cache.clone(), clock: clock.clone() }),
            reader: store.reader.clone(),
            durable: Durable::new(pipeline::durable::Means {
                project: project.to_owned(),
                root: gateway::runs_root(project),
                clock: clock.clone(),
                results: store.reader.results.clone(),
                keep: config.runs.results.0,
                keepers: crate::stages::keepers(project, config, clock.clone()),
                lineage: Some((store.reader.lineage.clone(), config.lineage.keep.0)),
            }),
            noting: Noting::new(store.reader.tracking.clone(), clock.clone()),
            endpoints: Arc::default(),
            choices: Choices::default(),
            users,
        };
        let made = assembly.make(config)?;
        made.notes.iter().for_each(|note| tracing::warn!("{note}"));
        assembly.bind(&made.endpoints, &caps);
        assembly.durable.replace(made.definitions);
        assembly.endpoints = Arc::new(made.endpoints);
        let mut seed = [0; 8];
        store::os_random(&mut seed)
            .map_err(|e| Error::new(e.to_string(), "check the system's random source"))?;
        made.parts.models.keep_answers();
        let app = App::new(made.parts, clock, gate, store, u64::from_le_bytes(seed));
        Ok((assembly, app))
    }

    /// Makes the parts of a configuration. Reads the files that it names; changes nothing.
    ///
    /// # Errors
    /// A price table that cannot be read, a model whose address is none, a pipeline that does not check.
    pub fn make(&self, config: &Config) -> Result<Made, Error> {
        let now = self.means.clock.wall();
        // A table of its own: whoever began under another configuration goes on with that one's models.
        let models = self.models.beside();
        let table = inventory::table(&self.project, config)?;
        let notes = inventory::uncounted(config, &table, now);
        let (mut settings, mut infos, mut workers) = (Vec::new(), Vec::new(), HashMap::new());
        let mut endpoints = Endpoints::new();
        for (name, m) in &config.models {
            // What predicts is asked elsewhere: see `predictions`. A choice is a word for another model.
            if !m.is_chat() {
                infos.push(inventory::info(&self.project, name, m, inventory::known(m, &table, now)));
                continue;
            }
            let known = inventory::known(m, &table, now);
            let mut kept = self.kept(name, m)?;
            let mut model = upstreams::model(m, kept.endpoints.clone(), &known);
            model.identity.clone_from(&kept.identity);
            if kept.hedge.0 == m.hedge {
                model.hedge.clone_from(&kept.hedge.1);
            }
            kept.hedge = (m.hedge, model.hedge.clone());
            settings.push((name.as_str().into(), model));
            workers.extend(kept.worker.clone().map(|w| (name.as_str().into(), w)));
            infos.push(inventory::info(&self.project, name, m, known));
            endpoints.insert(name.clone(), kept);
        }
        let choice = |(name, m): (&String, &ModelConfig)| {
            let options = m.choice.iter().map(|option| option.as_str().into()).collect();
            (name.as_str().into(), llm::Choice { options, chooser: self.choices.of(name) as _ })
        };
        models.prepare_with(settings, config.models.iter().filter(|(_, m)| m.is_choice()).map(choice));
        let outside = wiring::outside(config, self.reader.runs.clone(), &self.means.clock)?;
        let noting: Arc<dyn Notes> = Arc::new(self.noting.clone());
        let tracked = Some(self.means.tracked.clone());
        let reach = Reach { outside, tracked, notes: Some(noting), choices: Some(self.choices.clone()) };
        let cache: Arc<dyn llm::PartCache> = self.cache.clone();
        let calls = self.durable.calls();
        let registry = wiring::kinds(&models, &self.project, Some(config), Some(cache), reach, calls);
        let pipelines = pipelines::all(config, &models, &registry)?;
        let several = |(name, c): (&String, &PipelineChoiceConfig)| {
            let options = c.pipelines.iter().map(|option| option.as_str().into()).collect();
            let chooser: Arc<dyn llm::Chooser> = self.choices.of(name);
            (name.as_str().into(), PipelineChoice { options, chooser, path: c.http.clone() })
        };
        let choices = config.choices.iter().map(several).collect();
        let definitions = pipelines::durable(config, &registry)?;
        let inventory = Some(Arc::new(Running { models: infos, workers }) as _);
        let settings = self.settings(config);
        let parts = gateway::Parts { settings, models, pipelines, choices, inventory };
        let upstreams = telemetry::upstreams(config).collect();
        let limits = wiring::limits(config);
        let caps = caps(config, &limits);
        Ok(Made { parts, limits, caps, endpoints, definitions, upstreams, notes })
    }

    /// Who answers to names that several models answer to.
    pub(crate) fn choices(&self) -> &Choices {
        &self.choices
    }

    /// Where commands of stages note what they try.
    pub(crate) fn noting(&self) -> &Noting {
        &self.noting
    }

    /// Runs of pipelines that outlive the process.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Puts made parts in place: for every request that comes from now on.
    ///
    /// # Errors
    /// The ledger cannot be read to count what end users have spent, whom nobody counted so far. Nothing is changed then.
    pub async fn put(&mut self, made: Made, current: &Current) -> Result<(), Error> {
        let users = !made.limits.each_user.is_unlimited();
        let mut spent = Vec::new();
        if users && !self.users {
            spent = wiring::spent_by_users(&self.reader, self.means.clock.wall()).await?;
        }
        made.notes.iter().for_each(|note| tracing::warn!("{note}"));
        if let Some(export) = &self.means.export {
            export.name(made.upstreams);
        }
        self.gate.reconfigure(made.limits);
        self.bind(&made.endpoints, &made.caps);
        for (scope, period, amount) in spent {
            self.gate.restore(scope, period, amount);
        }
        made.parts.models.keep_answers();
        self.durable.replace(made.definitions);
        current.replace(current.app().next(made.parts));
        // What nobody uses any more ends here: connections, and the workers of models that are gone.
        (self.endpoints, self.users) = (Arc::new(made.endpoints), users);
        Ok(())
    }

    /// The endpoints that there are when they are the same, else new ones.
    fn kept(&self, name: &str, m: &ModelConfig) -> Result<Kept, Error> {
        let (from, identity) = (place(m), wiring::identity(&self.project, m));
        if let Some(kept) = self.endpoints.get(name)
            && kept.from == from
            && kept.identity == identity
        {
            return Ok(kept.clone());
        }
        let (endpoints, worker) = upstreams::endpoints(&self.project, name, m)?;
        Ok(Kept { from, identity, endpoints, room: Room::default(), worker, hedge: (None, None) })
    }

    /// Gives each endpoint of several a limit of its own; together they are the limit of their model. A single endpoint's is
    /// the model's.
    fn bind(&self, endpoints: &Endpoints, caps: &Caps) {
        let now = self.means.clock.now();
        for (name, kept) in endpoints {
            let several = kept.endpoints.len() > 1;
            for (e, cap) in kept.endpoints.iter().zip(caps.get(name).into_iter().flatten()) {
                if several {
                    e.health.bind(*cap, &kept.room, now);
                }
            }
            self.gate.pool(&name.as_str().into(), several.then(|| kept.room.clone()));
        }
    }

    /// Which versions may answer as a choice or a prompt of the configuration.
    fn fits(&self, of: ChoiceOf<'_>) -> Option<((String, String), Arc<dyn Fits>)> {
        let options: Arc<dyn Fits> = Arc::new(Options::of(&self.project, of.among).ok()?);
        Some(((of.name.to_owned(), of.alias.to_owned()), options))
    }

    fn settings(&self, config: &Config) -> gateway::Settings {
        let Means { surface, open, export, .. } = &*self.means;
        let limits = &config.server.limits;
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        gateway::Settings {
            surface: *surface,
            // Who may run commands in the project's folder needs no key for it.
            auth_required: *surface != Surface::Cli && config.auth.required.unwrap_or(!open),
            limits: gateway::Limits {
                body_bytes: bytes(limits.body.0),
                bodies_bytes: bytes(limits.bodies.0),
                files_bytes: limits.files.0,
                header_bytes: usize::try_from(limits.header.0).unwrap_or(64 << 10).max(8 << 10),
                read: config.server.read_timeout.0.max(Duration::from_millis(1)),
                ..gateway::Limits::default()
            },
            send_timeout: config.server.send_timeout.0,
            replay: replay(&config.server.replay),
            documents: text::extract::Limits {
                max_bytes: bytes(limits.body.0),
                max_text_bytes: bytes(limits.document.0),
                ..text::extract::Limits::default()
            },
            tenants: config
                .tenants
                .keys()
                .map(|t| t.as_str().into())
                .chain([TenantId::of_the_project()])
                .collect(),
            upstreams: telemetry::upstreams(config)
                .map(|(name, u)| {
                    let (provider, model) = (u.provider.as_str().into(), u.model.as_str().into());
                    (name, gateway::Upstream { provider, model })
                })
                .collect(),
            usage_counters: otlp::Settings::usage_counters(|name| std::env::var(name).ok()),
            tracing: export.as_ref().map(|e| e.tracing(config)),
            drain: config.server.drain.0,
            lineage: config.lineage.namespace.clone(),
            gated: {
                let stages = config.pipelines.values().flat_map(|p| &p.stages).map(|s| &s.0);
                let gates = stages.filter_map(|s| models::stages::gated(&s.kind, &s.config));
                let rollouts = config.all_choices().filter(|of| of.rollout.is_some());
                let rollouts = rollouts.map(|of| (of.name.to_owned(), of.alias.to_owned()));
                let gates = gates.map(|alias| (alias, MovedBy::Gate));
                gates.chain(rollouts.map(|alias| (alias, MovedBy::Rollout))).collect()
            },
            fits: config.all_choices().filter_map(|of| self.fits(of)).collect(),
            heard: {
                let predicts = |name: &str| config.models.get(name).is_some_and(ModelConfig::predicts);
                let written = config.capture.iter().filter(|(name, _)| !predicts(name));
                written.map(|(name, capture)| (name.clone(), capture.texts)).collect()
            },
            lookups: {
                let looks = config.models.iter().filter(|(_, m)| !m.features.is_empty());
                looks.map(|(name, m)| (name.clone(), config.features.lookup(&m.features))).collect()
            },
            ..gateway::Settings::default()
        }
    }
}

/// The bounds of what is kept of answers.
fn replay(c: &ReplayConfig) -> gateway::Replay {
    let bytes = |s: Size| usize::try_from(s.0).unwrap_or(usize::MAX);
    let memory = bytes(c.memory).max(1_000_000);
    gateway::Replay { memory, answer: bytes(c.answer).min(memory), keep: c.keep.0, resume: c.resume.0 }
}

/// What decides where and how a model is asked. Whatever is not blanked here makes another endpoint when it changes.
fn place(m: &ModelConfig) -> ModelConfig {
    ModelConfig {
        fallback: Vec::new(),
        hedge: None,
        price: None,
        context_window: None,
        max_output_tokens: None,
        limits: RatesConfig::default(),
        max_concurrency: None,
        timeouts: TimeoutsConfig { connect: Some(Time(m.timeouts().connect)), ..TimeoutsConfig::default() },
        ..m.clone()
    }
}
