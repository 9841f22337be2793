//! Models in memory: several versions of each, one of which answers whoever names none.
//!
//! ```text
//! load ──→ loaded, tried, warm ──→ ready ──(serve: a pointer)──→ served
//!             └─ failed: why is kept       │ least used, and memory is short, or unload
//!                                          └──→ known, not in memory ──(asked for)──→ load
//! ```
//!
//! To serve another version is to store a pointer: the one before stays in memory, so that the way back is another store.
//! Requests under way keep the version that they found. Memory is bounded by what models say they take: when it is short, the
//! least used goes, those that are served last. Invariant: looking up a version that is in memory takes no lock that a load
//! holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwap;
use contract::Clock;
use parking_lot::Mutex;

use crate::backend::Backend;
use crate::error::Error;

mod load;
mod route;
mod slot;

pub use load::{Instances, Sharing, Source};
pub use route::{Routed, Router};
pub use slot::{Listed, State, Version};

use route::Way;
use slot::{Named, Slot};

type Table = HashMap<String, Arc<Named>, RandomState>;

struct Inner {
    backend: Arc<dyn Backend>,
    limit: u64,
    clock: Arc<dyn Clock>,
    table: ArcSwap<Table>,
    /// Models that are to come, whether or not they are here yet.
    expected: ArcSwap<BTreeSet<String>>,
    /// Held by whoever changes what there is; never over a load.
    changes: Mutex<()>,
}

/// All models. Clones are the same.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list().iter().map(|l| (&l.model, &l.version))).finish()
    }
}

impl Models {
    /// None yet. `limit` is how many bytes of models may be in memory.
    pub fn new(backend: Arc<dyn Backend>, limit: u64, clock: Arc<dyn Clock>) -> Self {
        let table = ArcSwap::from_pointee(Table::default());
        let expected = ArcSwap::default();
        Models(Arc::new(Inner { backend, limit, clock, table, expected, changes: Mutex::new(()) }))
    }

    /// These models are to come: who asks for one before it is here is told so, and not that there is none.
    pub fn expect(&self, models: BTreeSet<String>) {
        self.0.expected.store(Arc::new(models));
    }

    /// What runs them.
    pub fn platform(&self) -> &'static str {
        self.0.backend.platform()
    }

    /// Makes a version known, loads it, tries it and warms it up. The first of a model is served at once. Known already with
    /// another source, it is put in the place of that one when it is ready.
    ///
    /// # Errors
    /// [`Error::Load`]: the version is known with this reason, and what was served is still.
    pub async fn load(&self, model: &str, version: &str, source: Source) -> Result<Arc<Version>, Error> {
        let known = self.named(model).and_then(|n| n.slot(version)).filter(|s| s.source == source);
        let slot = match known {
            Some(slot) => slot,
            None => Arc::new(Slot::new(model, version, source)),
        };
        let loaded = self.ready(&slot).await;
        let _change = self.0.changes.lock();
        let named = self.named(model).unwrap_or_else(|| self.add(model));
        // What cannot be loaded does not take the place of what can.
        if loaded.is_ok() || named.slot(version).is_none() {
            named.put(slot);
        }
        loaded
    }

    fn add(&self, model: &str) -> Arc<Named> {
        let named = Arc::new(Named::new(model));
        let mut table = Table::clone(&self.0.table.load());
        table.insert(model.to_owned(), named.clone());
        self.0.table.store(Arc::new(table));
        named
    }

    fn named(&self, model: &str) -> Option<Arc<Named>> {
        self.0.table.load().get(model).cloned()
    }

    fn known(&self, model: &str) -> Result<Arc<Named>, Error> {
        self.named(model).ok_or_else(|| match self.0.expected.load().contains(model) {
            true => Error::NotReady(format!(
                "the model `{model}` is not loaded yet, or nothing stands for it yet"
            )),
            false => {
                Error::NotFound(format!("there is no model `{model}`: POST /v2/repository/index lists them"))
            }
        })
    }

    fn slot(&self, model: &str, version: Option<&str>) -> Result<Arc<Slot>, Error> {
        let named = self.known(model)?;
        match version.filter(|v| !v.is_empty()) {
            None => named
                .served()
                .ok_or_else(|| Error::NotReady(format!("no version of the model `{model}` is served"))),
            Some(version) => named
                .slot(version)
                .ok_or_else(|| Error::NotFound(format!("the model `{model}` has no version `{version}`"))),
        }
    }

    /// The version that answers: the one that is named, or the one that is served. One that is not in memory is loaded.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotReady`] of one that was unloaded on purpose; [`Error::Load`].
    pub async fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Version>, Error> {
        if let Some(found) = self.try_find(model, version)? {
            return Ok(found);
        }
        let slot = self.slot(model, version)?;
        if slot.is_unloaded() {
            let m = format!("the version {} of the model `{model}` is unloaded", slot.version);
            return Err(Error::NotReady(m));
        }
        self.ready(&slot).await
    }

    /// The same, without a wait: nothing when it is not in memory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotReady`].
    pub fn try_find(&self, model: &str, version: Option<&str>) -> Result<Option<Arc<Version>>, Error> {
        let slot = self.slot(model, version)?;
        slot.touch(self.0.clock.now());
        Ok(slot.version())
    }

    /// From now on this says who answers whoever names no version; nothing leaves it to what is served. A model that nobody knows has
    /// no traffic to divide.
    pub fn route_by(&self, model: &str, router: Option<Arc<dyn Router>>) {
        if let Some(named) = self.named(model) {
            named.route_by(router.map(|r| Arc::new(Way(r))));
        }
    }

    /// Who answers an entity, where a router says so.
    pub fn route(&self, model: &str, entity: impl FnOnce() -> String) -> Option<Routed> {
        let table = self.0.table.load();
        let way = table.get(model)?.way()?;
        way.0.route(&entity())
    }

    /// A version in memory, without a mark that it was used.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn peek(&self, model: &str, version: &str) -> Result<Option<Arc<Version>>, Error> {
        Ok(self.slot(model, Some(version))?.version())
    }

    /// From now on this version answers whoever names none. Returns the one that did. Waits for nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotReady`] when it is not in memory: then what was served is still.
    pub fn serve(&self, model: &str, version: &str) -> Result<Option<String>, Error> {
        let _change = self.0.changes.lock();
        let (named, slot) = (self.known(model)?, self.slot(model, Some(version))?);
        if slot.version().is_none() {
            let m = format!("the version {version} of the model `{model}` is not loaded");
            return Err(Error::NotReady(m));
        }
        slot.touch(self.0.clock.now());
        Ok(named.serve(slot).map(|before| before.version.clone()))
    }

    /// Takes a version out of memory, or all of a model. It stays known, and requests under way go on with
    /// what they found.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn unload(&self, model: &str, version: Option<&str>) -> Result<(), Error> {
        let _change = self.0.changes.lock();
        let named = self.known(model)?;
        match version {
            Some(version) => {
                let m = || Error::NotFound(format!("the model `{model}` has no version `{version}`"));
                named.slot(version).ok_or_else(m)?.unload();
            }
            None => named.slots().iter().for_each(|slot| slot.unload()),
        }
        Ok(())
    }

    /// Loads what is known of a model: the version, or all that were unloaded.
    ///
    /// # Errors
    /// As [`Models::find`].
    pub async fn reload(&self, model: &str, version: Option<&str>) -> Result<(), Error> {
        let slots = match version {
            Some(version) => vec![self.slot(model, Some(version))?],
            None => self.known(model)?.slots(),
        };
        for slot in slots {
            self.ready(&slot).await?;
        }
        Ok(())
    }

    /// Forgets the models that are not kept.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let _change = self.0.changes.lock();
        let mut table = Table::clone(&self.0.table.load());
        table.retain(|name, _| keep(name));
        self.0.table.store(Arc::new(table));
    }

    /// All versions, by model and version.
    pub fn list(&self) -> Vec<Listed> {
        let table = self.0.table.load();
        let mut all: Vec<Listed> = table.values().flat_map(|named| named.list()).collect();
        all.sort_by(|a, b| (&a.model, &a.version).cmp(&(&b.model, &b.version)));
        all
    }

    /// Bytes of models in memory.
    pub fn bytes(&self) -> u64 {
        self.list().iter().map(|l| l.state.bytes()).sum()
    }

    /// The version of a slot, loaded if it is not; whoever asks meanwhile waits for the same load.
    async fn ready(&self, slot: &Arc<Slot>) -> Result<Arc<Version>, Error> {
        let _alone = slot.loading.lock().await;
        if let Some(ready) = slot.version() {
            return Ok(ready);
        }
        let loaded = load::load(self.0.backend.clone(), self.0.clock.clone(), slot).await;
        let loaded = loaded.and_then(|version| {
            if version.bytes > self.0.limit {
                let m = format!(
                    "the model `{}` takes {} bytes, and all models together may take {}",
                    slot.model, version.bytes, self.0.limit
                );
                return Err(Error::Load(m));
            }
            Ok(Arc::new(version))
        });
        slot.touch(self.0.clock.now());
        slot.is(&loaded);
        if let Ok(version) = &loaded {
            self.make_room(version);
        }
        loaded
    }

    /// Takes versions out of memory until all are within the limit: the least used first, those that are served last.
    fn make_room(&self, new: &Arc<Version>) {
        let _change = self.0.changes.lock();
        let table = self.0.table.load();
        let mut held: Vec<(bool, u64, Arc<Slot>, u64)> = Vec::new();
        for named in table.values() {
            let served = named.served();
            for slot in named.slots() {
                let Some(version) = slot.version().filter(|v| !Arc::ptr_eq(v, new)) else { continue };
                let is_served = served.as_ref().is_some_and(|s| Arc::ptr_eq(s, &slot));
                held.push((is_served, slot.used(), slot, version.bytes));
            }
        }
        let mut total = new.bytes.saturating_add(held.iter().map(|h| h.3).sum());
        held.sort_by_key(|h| (h.0, h.1));
        for (_, _, slot, bytes) in held {
            if total <= self.0.limit {
                break;
            }
            tracing::info!(model = %slot.model, version = %slot.version, bytes, "a model makes room for another");
            slot.evict();
            total = total.saturating_sub(bytes);
        }
    }
}
