//! A version as it is known, in memory or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use contract::Tick;
use parking_lot::{Mutex, RwLock};

use super::load::Source;
use crate::batch::Batcher;
use crate::error::Error;

/// A version that can be asked.
#[derive(Debug)]
pub struct Version {
    /// Its model.
    pub model: Arc<str>,
    /// Its name.
    pub version: Arc<str>,
    /// What its model is called in the registry, if it is of one.
    pub registered: Option<Arc<str>>,
    /// Where requests go.
    pub batcher: Batcher,
    /// About how much memory it takes, all instances together.
    pub bytes: u64,
    /// How long it took to load and to warm up.
    pub loaded_in: Duration,
    /// How often it is in memory, and so may run at once.
    pub instances: usize,
}

/// How a version is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// In memory.
    Ready {
        /// About how much memory it takes.
        bytes: u64,
    },
    /// Being loaded.
    Loading,
    /// Not in memory; it is loaded when it is asked for.
    Known,
    /// Unloaded on purpose.
    Unloaded,
    /// Not to be loaded, and why.
    Failed(String),
}

impl State {
    /// Memory that it takes.
    pub fn bytes(&self) -> u64 {
        if let State::Ready { bytes } = self { *bytes } else { 0 }
    }
}

/// A line of the list of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// How it is doing.
    pub state: State,
    /// Whether it answers whoever names no version.
    pub served: bool,
}

/// A version's place.
pub(super) struct Slot {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) source: Source,
    /// Held by whoever loads it.
    pub(super) loading: tokio::sync::Mutex<()>,
    ready: ArcSwapOption<Version>,
    used: AtomicU64,
    unloaded: AtomicBool,
    failed: Mutex<Option<String>>,
}

impl Slot {
    pub(super) fn new(model: &str, version: &str, source: Source) -> Self {
        Slot {
            model: model.to_owned(),
            version: version.to_owned(),
            source,
            loading: tokio::sync::Mutex::new(()),
            ready: ArcSwapOption::empty(),
            used: AtomicU64::new(0),
            unloaded: AtomicBool::new(false),
            failed: Mutex::new(None),
        }
    }

    pub(super) fn version(&self) -> Option<Arc<Version>> {
        self.ready.load_full()
    }

    pub(super) fn touch(&self, now: Tick) {
        self.used.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What came of a load.
    pub(super) fn is(&self, loaded: &Result<Arc<Version>, Error>) {
        *self.failed.lock() = loaded.as_ref().err().map(Error::to_string);
        if let Ok(version) = loaded {
            self.unloaded.store(false, Ordering::Relaxed);
            self.ready.store(Some(version.clone()));
        }
    }

    pub(super) fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Relaxed)
    }

    pub(super) fn evict(&self) {
        self.ready.store(None);
    }

    pub(super) fn unload(&self) {
        self.unloaded.store(true, Ordering::Relaxed);
        self.ready.store(None);
    }

    fn state(&self) -> State {
        if let Some(version) = &*self.ready.load() {
            return State::Ready { bytes: version.bytes };
        }
        if self.loading.try_lock().is_err() {
            return State::Loading;
        }
        match &*self.failed.lock() {
            Some(why) => State::Failed(why.clone()),
            None if self.is_unloaded() => State::Unloaded,
            None => State::Known,
        }
    }
}

/// A model.
pub(super) struct Named {
    model: String,
    served: ArcSwapOption<Slot>,
    slots: RwLock<BTreeMap<String, Arc<Slot>>>,
}

impl Named {
    pub(super) fn new(model: &str) -> Self {
        Named { model: model.to_owned(), served: ArcSwapOption::empty(), slots: RwLock::default() }
    }

    pub(super) fn served(&self) -> Option<Arc<Slot>> {
        self.served.load_full()
    }

    pub(super) fn serve(&self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        self.served.swap(Some(slot))
    }

    pub(super) fn slot(&self, version: &str) -> Option<Arc<Slot>> {
        self.slots.read().get(version).cloned()
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().cloned().collect()
    }

    /// Puts a version in its place. It is served when nothing is, or when the one whose place it takes was.
    pub(super) fn put(&self, slot: Arc<Slot>) {
        let before = self.slots.write().insert(slot.version.clone(), slot.clone());
        let serves = match (self.served(), before) {
            (None, _) => true,
            (Some(served), Some(before)) => Arc::ptr_eq(&served, &before),
            (Some(_), None) => false,
        };
        if serves {
            self.served.store(Some(slot));
        }
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let served = self.served();
        let line = |slot: Arc<Slot>| Listed {
            model: self.model.clone(),
            version: slot.version.clone(),
            state: slot.state(),
            served: served.as_ref().is_some_and(|s| Arc::ptr_eq(s, &slot)),
        };
        self.slots().into_iter().map(line).collect()
    }
}
