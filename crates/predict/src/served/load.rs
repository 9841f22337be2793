//! A source into a version: loaded, tried, warm.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use contract::Clock;
use pipeline::task;

use super::slot::{Slot, Version};
use crate::backend::{Artifact, Backend, LoadSettings, Model};
use crate::batch::probe::{self, Found};
use crate::batch::queue::Limits;
use crate::batch::{Batcher, Settings};
use crate::error::Error;

/// Whether requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// When a try shows that together is as apart.
    #[default]
    Tried,
    /// Whatever a try shows.
    Always,
    /// Never.
    Never,
}

/// How often a model is in memory, and so may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Instances {
    /// Once, or once for each core when a run is over sooner than a thread is woken.
    #[default]
    Measured,
    /// So often.
    Exactly(NonZeroUsize),
}

/// Where a version comes from, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The model itself.
    pub artifact: Artifact,
    /// What it is called in the registry, if it is of one.
    pub registered: Option<Arc<str>>,
    /// Threads that work on one run.
    pub load: LoadSettings,
    /// How often it is in memory.
    pub instances: Instances,
    /// Whether requests share runs.
    pub sharing: Sharing,
    /// How much is run and may wait.
    pub limits: Limits,
}

impl Source {
    /// The model of that file, with everything else as it is by default.
    pub fn file(path: impl Into<std::path::PathBuf>) -> Self {
        Source {
            artifact: Artifact::File(path.into()),
            registered: None,
            load: LoadSettings::default(),
            instances: Instances::default(),
            sharing: Sharing::default(),
            limits: Limits::default(),
        }
    }
}

/// A model that is larger is in memory once unless somebody says otherwise.
const SMALL: u64 = 64 << 20;

/// More instances than this are of no use to runs that are over at once.
const MOST: usize = 4;

/// How often the model is run for the time of a run.
const WARM_UP: usize = 8;

struct Loaded {
    models: Vec<Box<dyn Model>>,
    together: bool,
}

pub(super) async fn load(
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    slot: &Slot,
) -> Result<Version, Error> {
    let begun = clock.now();
    let (source, inside) = (slot.source.clone(), clock.clone());
    let loaded = task::blocking("load model", move || prepare(&*backend, &*inside, &source));
    let Loaded { models, together } = loaded.await.map_err(|e| Error::Load(e.to_string()))??;
    let (bytes, instances) = (models.iter().map(|m| m.bytes()).sum(), models.len());
    let settings = Settings { limits: slot.source.limits, together, ..Settings::default() };
    let batcher = Batcher::start(&slot.model, models, settings, clock.clone())?;
    let loaded_in = clock.now().since(begun);
    let (model, version) = (&slot.model, &slot.version);
    tracing::info!(%model, %version, bytes, instances, together, ?loaded_in, "a model is loaded");
    Ok(Version {
        model: model.as_str().into(),
        version: version.as_str().into(),
        registered: slot.source.registered.clone(),
        batcher,
        bytes,
        loaded_in,
        instances,
    })
}

fn prepare(backend: &dyn Backend, clock: &dyn Clock, source: &Source) -> Result<Loaded, Error> {
    let mut first = backend.load(&source.artifact, &source.load)?;
    let found = probe::shares(&mut *first);
    let together = match source.sharing {
        Sharing::Always => true,
        Sharing::Never => false,
        Sharing::Tried => found == Found::Shares,
    };
    let quickest = warm_up(&mut *first, clock);
    let count = match source.instances {
        Instances::Exactly(n) => n.get(),
        Instances::Measured => {
            let quick = quickest.is_some_and(|t| t <= Settings::default().inline);
            let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            if quick && first.bytes() <= SMALL { cores.min(MOST) } else { 1 }
        }
    };
    let mut models = vec![first];
    while models.len() < count {
        let mut next = backend.load(&source.artifact, &source.load)?;
        warm_up(&mut *next, clock);
        models.push(next);
    }
    Ok(Loaded { models, together })
}

/// Runs rows of made-up elements; how long the quickest run took, where the model takes them.
fn warm_up(model: &mut dyn Model, clock: &dyn Clock) -> Option<Duration> {
    let inputs = probe::made_up(model.signature(), 1, 1, 3)?;
    let outputs: Vec<usize> = (0..model.signature().outputs.len()).collect();
    let mut quickest: Option<Duration> = None;
    for _ in 0..WARM_UP {
        let begun = clock.now();
        model.run(&inputs, &outputs).ok()?;
        let took = clock.now().since(begun);
        quickest = Some(quickest.map_or(took, |q| q.min(took)));
        // A large model is warm after one.
        if took > Duration::from_millis(50) {
            break;
        }
    }
    quickest
}
