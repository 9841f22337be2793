//! What all surfaces share: built by the wiring, cheap to clone.
//!
//! An [`App`] is one *generation* of the configuration (settings, models, pipelines), which never changes, over what
//! outlives every configuration: admission, ledger, metrics, the drain. Whoever holds an `App` goes on with its
//! generation; [`App::next`] makes another over the same rest, and [`crate::Current`] says which one is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::models::artifacts::Artifacts;
use admission::Gate;
use contract::{Clock, MidStream, ModelName, PipelineName, RequestId, Surface, TenantId, UnixMillis};
use llm::Models;
use pipeline::Graph;
use pipeline::triggers::Driver;
use predict::observe::Observers;
use store::tracking::ModelVersion;
use store::{FileStore, KeyRing, Ledger, Reader};

use crate::admin::Inventory;
use crate::choosing::PipelineChoice;
use crate::configuration::Configuration;
use crate::drain::Drain;
use crate::ended::{Ended, EndedRequests};
use crate::features::Features;
use crate::heard::Heard;
use crate::inference::Lookup;
use crate::jobs::Jobs;
use crate::ladder::{Rung, WhenBusy};
use crate::metrics::Metrics;
use crate::readers::Readers;
use crate::replay::{Replay, Replays};
use crate::rollouts::Rollouts;
use crate::room::Room;
use crate::sample::Sample;
use crate::telemetry::Tracing;

/// A pipeline that can be called.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The checked graph.
    pub graph: Arc<Graph>,
    /// The hash of its definition: equal pipelines, equal version.
    pub version: String,
    /// The models its stages name.
    pub models: Vec<ModelName>,
    /// The dearest model it may use, fallbacks included, for the reservation.
    pub price: contract::Price,
    /// A path of its own besides `/v1/pipelines/{name}`.
    pub path: Option<String>,
    /// What happens when its streamed answer breaks off, unless the caller says.
    pub mid_stream: MidStream,
    /// What it does when its models are busy.
    pub when_busy: Option<Arc<WhenBusy>>,
    /// How long a stream of it goes on without a reader, who may come back to it meanwhile.
    pub resume: Option<Duration>,
}

/// Limits of what is read from a caller.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A JSON body or an upload, in bytes.
    pub body_bytes: usize,
    /// All bodies together that are being read in more than one piece, in bytes. At least [`Limits::body_bytes`].
    pub bodies_bytes: usize,
    /// All files of a tenant together, in bytes.
    pub files_bytes: u64,
    /// All headers of a request together, in bytes.
    pub header_bytes: usize,
    /// How many headers.
    pub headers: usize,
    /// How long the head of a request may take, and how long its body may stand still.
    pub read: Duration,
}

impl Default for Limits {
    /// 32 MiB of a body, 512 MiB of all, 1 GiB of files, 64 KiB of headers, 100 of them, 15 s.
    fn default() -> Self {
        Limits {
            body_bytes: 32 << 20,
            bodies_bytes: 512 << 20,
            files_bytes: 1 << 30,
            header_bytes: 64 << 10,
            headers: 100,
            read: Duration::from_secs(15),
        }
    }
}

/// Who answers for a model: what OpenTelemetry's GenAI conventions call provider and request model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `openai`, `anthropic`, `forebay` for a model of our own.
    pub provider: Arc<str>,
    /// The model's name at the provider.
    pub model: Arc<str>,
}

/// By what alone an alias moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovedBy {
    /// The decisions of a gate.
    Gate,
    /// The rollout of a choice.
    Rollout,
}

/// Says which versions may answer as a choice or a prompt of the configuration.
pub trait Fits: std::fmt::Debug + Send + Sync {
    /// Whether this one may.
    ///
    /// # Errors
    /// Why not, in words.
    fn fits(&self, version: &ModelVersion) -> Result<(), String>;
}

/// What the gateway is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a call of `/v1/pipelines/…` is recorded as.
    pub surface: Surface,
    /// Whether a call needs a key. Without, callers are the tenant `default`.
    pub auth_required: bool,
    /// What is read from a caller.
    pub limits: Limits,
    /// A comment is sent to a streaming caller after this long without an event.
    pub ping: Duration,
    /// A reader that takes nothing for this long, although there is something to take, is given up.
    pub send_timeout: Duration,
    /// Until when a plain model call must end.
    pub total: Duration,
    /// What documents may be.
    pub documents: text::extract::Limits,
    /// The tenants that metrics name; all others together are `other`, so that the set of labels is closed.
    pub tenants: BTreeSet<TenantId>,
    /// Who answers for each model, as metrics name it.
    pub upstreams: BTreeMap<ModelName, Upstream>,
    /// Token usage as the counters of the latest GenAI conventions instead of the histogram.
    pub usage_counters: bool,
    /// How much is kept of answers for repeats and for readers that come back.
    pub replay: Replay,
    /// Who is told of requests that ended, if anybody.
    pub tracing: Option<Tracing>,
    /// How long answers under way may go on once the server is told to stop.
    pub drain: Duration,
    /// What OpenLineage calls the project: its datasets are those of this namespace.
    pub lineage: String,
    /// The project's registered models with an alias that a gate watches, or a rollout: nobody moves it through MLflow's surface.
    pub gated: BTreeMap<(String, String), MovedBy>,
    /// The project's choices and prompts by their registered names and aliases: no version that does not fit comes to stand for one.
    pub fits: BTreeMap<(String, String), Arc<dyn Fits>>,
    /// Of which models, pipelines and choices answers are kept, by name; whether with their texts.
    pub heard: BTreeMap<String, bool>,
    /// Where columns of predictive models are looked up that a request leaves out, by the model's name.
    pub lookups: BTreeMap<String, Lookup>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            surface: Surface::Native,
            auth_required: true,
            limits: Limits::default(),
            ping: Duration::from_secs(10),
            total: Duration::from_secs(600),
            send_timeout: Duration::from_secs(60),
            documents: text::extract::Limits::default(),
            tenants: BTreeSet::new(),
            upstreams: BTreeMap::new(),
            usage_counters: false,
            replay: Replay::default(),
            tracing: None,
            drain: Duration::from_secs(30),
            lineage: "forebay".to_owned(),
            gated: BTreeMap::new(),
            fits: BTreeMap::new(),
            heard: BTreeMap::new(),
            lookups: BTreeMap::new(),
        }
    }
}

/// What a configuration makes.
pub struct Parts {
    /// What the gateway is told.
    pub settings: Settings,
    /// The models that callers and stages may ask.
    pub models: Models,
    /// The pipelines, whose stages ask the same models.
    pub pipelines: BTreeMap<PipelineName, Pipeline>,
    /// Names that several of the pipelines answer to.
    pub choices: BTreeMap<PipelineName, PipelineChoice>,
    /// Who knows the models, if anybody.
    pub inventory: Option<Arc<dyn Inventory>>,
}

#[cfg(test)]
impl Parts {
    /// Models alone.
    pub(crate) fn of_models(settings: Settings, models: Models) -> Parts {
        let (pipelines, choices) = (BTreeMap::new(), BTreeMap::new());
        Parts { settings, models, pipelines, choices, inventory: None }
    }
}

/// The same, in use.
pub(crate) struct Generation {
    pub(crate) settings: Settings,
    pub(crate) models: Models,
    pub(crate) pipelines: BTreeMap<PipelineName, Pipeline>,
    pub(crate) choices: BTreeMap<PipelineName, PipelineChoice>,
    pub(crate) inventory: Option<Arc<dyn Inventory>>,
    /// For bodies that are being read.
    pub(crate) room: Room,
    /// Whether a pipeline makes jobs of its calls when it is busy.
    pub(crate) defers: bool,
}

impl Generation {
    fn new(parts: Parts, room: Room) -> Arc<Self> {
        let Parts { settings, models, pipelines, choices, inventory } = parts;
        let busy = pipelines.values().filter_map(|p| p.when_busy.as_ref());
        let defers = busy.flat_map(|b| &b.rungs).any(|r| matches!(r, Rung::Job));
        Arc::new(Generation { settings, models, pipelines, choices, inventory, room, defers })
    }

    /// Whether a pipeline, or several, answer to that name.
    pub(crate) fn is_pipeline(&self, name: &str) -> bool {
        self.pipelines.contains_key(name) || self.choices.contains_key(name)
    }

    /// The paths that pipelines have besides the general one.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&PipelineName, &str)> {
        let of = self.pipelines.iter().map(|(name, p)| (name, &p.path));
        let several = self.choices.iter().map(|(name, c)| (name, &c.path));
        of.chain(several).filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }
}

/// What outlives a configuration.
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gate: Gate,
    pub(crate) ledger: Ledger,
    pub(crate) reader: Reader,
    pub(crate) keys: KeyRing,
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) metrics: Metrics,
    pub(crate) ended: Ended,
    /// Of requests that a full queue refuses.
    pub(crate) sample: Sample,
    /// When it was put together: since when its models can be called.
    pub(crate) since: UnixMillis,
    pub(crate) drain: Drain,
    /// Of answers that are streamed.
    pub(crate) readers: Readers,
    configuration: OnceLock<Arc<dyn Configuration>>,
    /// Answers that are kept: by the settings of the first generation.
    pub(crate) replays: Replays,
    jobs: OnceLock<Jobs>,
    triggers: OnceLock<Driver>,
    features: OnceLock<Arc<dyn Features>>,
    artifacts: OnceLock<Arc<dyn Artifacts>>,
    predictions: OnceLock<predict::Models>,
    pub(crate) monitors: OnceLock<Arc<dyn crate::Monitors>>,
    /// Who looks at predictions.
    observers: Observers,
    rollouts: OnceLock<Arc<dyn Rollouts>>,
    /// The state of the id generator: seeded once, mixed for each id.
    seed: AtomicU64,
}

/// In bytes. A single body that may be read always finds room.
fn room_for(settings: &Settings) -> usize {
    settings.limits.bodies_bytes.max(settings.limits.body_bytes)
}

/// The gateway under one configuration.
#[derive(Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
    pub(crate) generation: Arc<Generation>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("settings", &self.generation.settings).finish_non_exhaustive()
    }
}

impl App {
    /// Puts the parts together. `seed` is random: request ids are made from it.
    pub fn new(parts: Parts, clock: Arc<dyn Clock>, gate: Gate, store: &store::Store, seed: u64) -> Self {
        let metrics = Metrics::new(&parts.settings);
        let room = Room::new(room_for(&parts.settings));
        let replays = Replays::new(parts.settings.replay);
        let inner = Inner {
            since: clock.wall(),
            clock,
            gate,
            ledger: store.ledger.clone(),
            reader: store.reader.clone(),
            keys: store.keys.clone(),
            files: store.files.clone(),
            metrics,
            ended: Ended::default(),
            sample: Sample::default(),
            drain: Drain::default(),
            readers: Readers::default(),
            configuration: OnceLock::new(),
            replays,
            jobs: OnceLock::new(),
            triggers: OnceLock::new(),
            features: OnceLock::new(),
            artifacts: OnceLock::new(),
            predictions: OnceLock::new(),
            monitors: OnceLock::new(),
            observers: Observers::default(),
            rollouts: OnceLock::new(),
            seed: AtomicU64::new(seed),
        };
        App { inner: Arc::new(inner), generation: Generation::new(parts, room) }
    }

    /// The same gateway under another configuration. Nothing is asked of it before it is [`crate::Current`].
    #[must_use]
    pub fn next(&self, parts: Parts) -> Self {
        let (own, new) = (room_for(&self.generation.settings), room_for(&parts.settings));
        // Bodies that are being read keep their places where they took them.
        let room = if own == new { self.generation.room.clone() } else { Room::new(new) };
        App { inner: self.inner.clone(), generation: Generation::new(parts, room) }
    }

    /// What is held now. What was counted and learned of models that are gone is forgotten first: of those that this
    /// generation does not name and where nothing is under way any more.
    pub(crate) fn present(&self) -> admission::Snapshot {
        self.inner.gate.forget_unlisted();
        let gate = self.inner.gate.snapshot();
        let held = |model: &ModelName| gate.models.iter().any(|m| m.model == *model);
        self.inner.metrics.keep(|model| self.model(model).is_some() || held(model));
        gate
    }

    /// What has ended of all generations.
    pub fn ended(&self) -> EndedRequests {
        EndedRequests(self.inner.clone())
    }

    /// Says who reads the configuration, for this generation and all others. The first one stays.
    pub fn configured_by(&self, configuration: Arc<dyn Configuration>) {
        let _ = self.inner.configuration.set(configuration);
    }

    pub(crate) fn configuration(&self) -> Option<&dyn Configuration> {
        self.inner.configuration.get().map(|c| &**c)
    }

    /// Counts an attempt to load another configuration.
    pub fn reloaded(&self, applied: bool) {
        self.inner.metrics.reloaded(applied);
    }

    /// Says who keeps jobs. The first one stays; an app without one answers every call at once.
    pub(crate) fn keep_jobs(&self, jobs: Jobs) {
        let _ = self.inner.jobs.set(jobs);
    }

    pub(crate) fn jobs(&self) -> Option<&Jobs> {
        self.inner.jobs.get()
    }

    /// Says who starts pipelines by events. The first one stays; without one an event starts nothing.
    pub fn keep_triggers(&self, driver: Driver) {
        let _ = self.inner.triggers.set(driver);
    }

    /// Says who watches. The first one stays; without one no monitor is told of.
    pub fn keep_monitors(&self, monitors: Arc<dyn crate::Monitors>) {
        let _ = self.inner.monitors.set(monitors);
    }

    pub(crate) fn triggers(&self) -> Option<&Driver> {
        self.inner.triggers.get()
    }

    /// Durable runs, where somebody works on them.
    pub fn runs(&self) -> Option<crate::runs::Runs> {
        self.jobs().and_then(Jobs::runs)
    }

    /// Says who keeps features, for this generation and all others. The first one stays.
    pub fn serve_features(&self, features: Arc<dyn Features>) {
        let _ = self.inner.features.set(features);
    }

    pub(crate) fn features(&self) -> Option<&dyn Features> {
        self.inner.features.get().map(|f| &**f)
    }

    /// Says where artifacts of runs and models are, for this generation and all others. The first one stays; without one none
    /// are kept.
    pub fn keep_artifacts(&self, artifacts: Arc<dyn Artifacts>) {
        let _ = self.inner.artifacts.set(artifacts);
    }

    pub(crate) fn artifacts(&self) -> Option<&dyn Artifacts> {
        self.inner.artifacts.get().map(|a| &**a)
    }

    /// Says where predictive models are, for this generation and all others. The first ones stay.
    pub fn serve_predictions(&self, models: predict::Models) {
        let _ = self.inner.predictions.set(models);
    }

    /// Says who rolls models out, for this generation and all others. The first one stays.
    pub fn show_rollouts(&self, rollouts: Arc<dyn Rollouts>) {
        let _ = self.inner.rollouts.set(rollouts);
    }

    pub(crate) fn rollouts(&self) -> Option<&dyn Rollouts> {
        self.inner.rollouts.get().map(|r| &**r)
    }

    /// Who looks at predictions, of this generation and all others: nobody until somebody is named there.
    pub fn observers(&self) -> &Observers {
        &self.inner.observers
    }

    pub(crate) fn predictions(&self) -> Option<&predict::Models> {
        self.inner.predictions.get()
    }

    /// From now on new requests are refused as `draining`.
    pub fn drain(&self) {
        self.inner.drain.start();
    }

    /// Whether it is about to end.
    pub fn is_draining(&self) -> bool {
        self.inner.drain.has_started()
    }

    /// What is to be remembered of an answer that is asked by one of these names, if anything.
    pub(crate) fn hears(
        &self,
        names: &[&str],
        heard: impl FnOnce(&[&str], bool) -> Heard,
    ) -> Option<Arc<Heard>> {
        let wanted = &self.generation.settings.heard;
        let texts: Vec<bool> = names.iter().filter_map(|name| wanted.get(*name).copied()).collect();
        (!texts.is_empty()).then(|| Arc::new(heard(names, texts.contains(&true))))
    }

    pub(crate) fn model(&self, name: &ModelName) -> Option<Arc<llm::ModelSettings>> {
        self.generation.models.get(name)
    }

    /// A fresh id: the wall clock and 128 bits of a splitmix64 sequence.
    pub(crate) fn request_id(&self) -> RequestId {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mix = |mut z: u64| {
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let state = self.inner.seed.fetch_add(STEP, Ordering::Relaxed);
        let random = (u128::from(mix(state)) << 64) | u128::from(mix(state ^ STEP.rotate_left(17)));
        RequestId::from_parts(self.inner.clock.wall(), random)
    }

    /// The tenant of callers without a key.
    pub(crate) fn open_tenant() -> TenantId {
        TenantId::of_the_project()
    }
}
