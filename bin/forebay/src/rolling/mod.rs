//! Rollouts at work: who answers whom, what is seen of it, and what follows.
//!
//! ```text
//! request ─▶ [Table] who answers ─▶ answer ─▶ [Watcher] counts it, hands a copy to the [shadow] ─▶ look: saves what came, and
//!              ▲                                                                                  does what the machine decides
//!              └──────────────────── the state as it is in the database, a look ago ◀──────────────────────┘
//! ```
//!
//! Every server looks at the state of its models' rollouts ([`models::rolling`]) as often as at their aliases, loads the versions that
//! come, divides its own traffic as the state says, and adds what it saw. None leads. A version that this server has not in memory
//! answers nobody here, and nobody is counted for it.
//!
//! What is seen since the last save is in memory, and so are predictions that wait for their labels: a server that is killed loses
//! these, and nothing that was decided.

mod look;
mod shadow;
mod table;
mod watcher;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use contract::{Clock, Tick};
use gateway::{RolloutState, Rollouts};
use models::rolling::{Collector, Kept};
use models::stages::Tracked;
use parking_lot::Mutex;
use pipeline::task::Task;
use predict::Models;
use predict::observe::Observers;
use tokio::sync::mpsc;

pub(crate) use look::Stands;
use shadow::Copy;
use table::Table;

/// The rollouts of a model that is served.
struct OfModel {
    name: String,
    collector: Mutex<Collector>,
    /// Who answers whom, as the router sees it too.
    table: ArcSwapOption<Table>,
    looked: Mutex<Looked>,
    copies: mpsc::Sender<Copy>,
    /// Copies that found no room, by version.
    dropped: Mutex<HashMap<String, u64>>,
    _shadow: Task<()>,
}

/// What the last look found.
#[derive(Default)]
struct Looked {
    kept: Option<Kept>,
    /// When something was saved last.
    saved: Tick,
    /// Looks in a row in which another answered than the rollouts think.
    astray: u32,
    /// What went wrong last, so that it is said once.
    failed: Option<String>,
    /// Versions that cannot be loaded here.
    unloadable: BTreeSet<String>,
}

struct Inner {
    models: Models,
    tracked: Tracked,
    clock: Arc<dyn Clock>,
    observers: Observers,
    of: Mutex<HashMap<String, Arc<OfModel>>>,
    /// Whether any model has a rollout under way.
    busy: AtomicBool,
}

/// The rollouts of a server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Rolling(Arc<Inner>);

impl Rolling {
    /// None yet.
    pub(crate) fn new(models: Models, tracked: Tracked, clock: Arc<dyn Clock>, observers: Observers) -> Self {
        let (of, busy) = (Mutex::default(), AtomicBool::new(false));
        Rolling(Arc::new(Inner { models, tracked, clock, observers, of, busy }))
    }

    /// What is known of a model's rollouts; made when it is asked for first.
    fn of(&self, name: &str) -> Arc<OfModel> {
        let mut all = self.0.of.lock();
        if let Some(known) = all.get(name) {
            return known.clone();
        }
        let made = Arc::new_cyclic(|own| {
            let (copies, task) =
                shadow::start(self.0.models.clone(), self.0.observers.clone(), own.clone(), &self.0.clock);
            OfModel {
                name: name.to_owned(),
                collector: Mutex::default(),
                table: ArcSwapOption::empty(),
                looked: Mutex::default(),
                copies,
                dropped: Mutex::default(),
                _shadow: task,
            }
        });
        all.insert(name.to_owned(), made.clone());
        made
    }

    fn known(&self, name: &str) -> Option<Arc<OfModel>> {
        self.0.of.lock().get(name).cloned()
    }

    /// Forgets the models that are not kept.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.of.lock().retain(|name, _| keep(name));
        self.count();
    }

    fn count(&self) {
        let busy = self.0.of.lock().values().any(|of| of.table.load().is_some());
        self.0.busy.store(busy, Ordering::Relaxed);
    }
}

impl Rollouts for Rolling {
    fn states(&self) -> Vec<RolloutState> {
        let all: Vec<Arc<OfModel>> = self.0.of.lock().values().cloned().collect();
        let tables = all.iter().filter_map(|of| Some((of, of.table.load_full()?)));
        let states = tables.flat_map(|(of, table)| {
            let one = |r: &models::rollout::Rollout| RolloutState {
                model: of.name.clone(),
                version: r.challenger().to_owned(),
                share: f64::from(r.split().canary) / 10_000.0,
                shadow: r.shadows(),
                held: r.held().is_some(),
                dropped: of.dropped.lock().get(r.challenger()).copied().unwrap_or_default(),
            };
            table.releases.rollouts().iter().map(one).collect::<Vec<_>>()
        });
        states.collect()
    }
}
