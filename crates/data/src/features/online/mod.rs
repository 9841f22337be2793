//! Online features: the newest row of every entity of a view, in memory, and there again after a restart.
//!
//! Rows come in two ways. **Materialised** ([`Online::materialize`]): those of the view's datasets, at a version and up to a
//! time; again and again, and then only what was added since, where nothing was taken away. **Pushed** ([`Online::push`]): by
//! whoever knows a value before a dataset does. What is asked for ([`Online::get`]) is the greatest of both, by the rule of the
//! point-in-time join at the time of the question: event time, then ingest time, then content; known by now; not older than the
//! TTL. So online is offline at *now*, which [`Online::parity`] proves of any entities.
//!
//! - A late row never takes the place of a newer one, whatever comes first.
//! - A row whose time has not come waits for it: in the datasets until the first materialisation after it, pushed in memory (at most
//!   [`PENDING`] of a view).
//! - What an overwrite took out of a dataset is gone with the next materialisation; what was pushed stays.
//! - An entity stays in memory when its row is older than the TTL: it is asked for as too old, not as unknown.
//!
//! **Bounds.** Of each view: a row of typed cells per entity (`column`), 16 bytes and the key beside it; and the same again for
//! entities that were pushed. A materialisation holds a batch and the entities it brings.
//!
//! **Disk**: see `disk`. One process writes; others may read.

mod column;
mod disk;
mod keep;
mod parity;
mod push;
mod refresh;
mod table;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{Clock, UnixMillis};
use parking_lot::{Mutex, RwLock};
use pipeline::task;

use crate::features::keys::NO_KEY;
use crate::features::latest::Stamp;
use crate::features::online::disk::{Disk, Taken};
use crate::features::online::table::{Offers, Shape, Table};
use crate::features::view::FeatureView;
use crate::{Error, Warehouse};

pub use parity::{Difference, Given, Parity};
pub use push::{Columns, columns};
pub use refresh::Materialized;

/// Pushed rows of a view that may wait for their time.
pub const PENDING: usize = 100_000;
/// Cells of an answer, at most.
const CELLS: usize = 1 << 21;

/// A value of a feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// None.
    Null,
    /// A flag.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double, perhaps not finite.
    Float(f64),
    /// A text; dates and times in ISO 8601, decimals with all their digits, binary in base64.
    Text(Arc<str>),
    /// A list or a struct.
    Json(serde_json::Value),
}

impl From<Value> for serde_json::Value {
    /// Floats that JSON has no number for are `"NaN"`, `"Infinity"` and `"-Infinity"`, as Protobuf writes them.
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(x) => x.into(),
            Value::Int(x) => x.into(),
            Value::Float(x) if x.is_finite() => x.into(),
            Value::Float(x) if x.is_nan() => "NaN".into(),
            Value::Float(x) => if x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            Value::Text(text) => (*text).into(),
            Value::Json(json) => json,
        }
    }
}

/// What is known of a feature of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its value.
    Present,
    /// Nothing: there is no row of the entity.
    NotFound,
    /// That it is null.
    Null,
    /// That its row is older than the TTL. There is no value then.
    OutsideMaxAge,
}

/// Features that are asked for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// View and feature, in the order of the answer.
    pub features: &'a [(String, String)],
    /// The keys of the entities.
    pub entities: &'a Columns,
}

/// A feature of every entity that was asked for, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct OnlineColumn {
    /// Null where the status is not [`Status::Present`].
    pub values: Vec<Value>,
    /// What is known of each.
    pub statuses: Vec<Status>,
    /// When each entity's row happened, in microseconds since the epoch; `None` where there is no row.
    pub events: Arc<[Option<i64>]>,
}

/// Where pushed rows go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum To {
    /// Into the online store.
    #[default]
    Online,
    /// Into the view's dataset.
    Offline,
    /// Into both: the dataset first.
    Both,
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Rows.
    pub rows: u64,
    /// The version of the dataset that has them, if they went there.
    pub version: Option<u64>,
}

/// How a view is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewState {
    /// The view.
    pub view: String,
    /// Entities that have a row, materialised or pushed or both.
    pub entities: u64,
    /// The event time of the newest row, in milliseconds since the epoch.
    pub newest_event: Option<UnixMillis>,
    /// When it was last materialised.
    pub materialized: Option<UnixMillis>,
    /// The versions of its datasets that were taken over then.
    pub versions: Vec<(String, u64)>,
    /// Pushed rows that wait for their time.
    pub pending: u64,
}

/// Who opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its one writer.
    Write,
    /// Somebody who looks at what was there when it was opened.
    Read,
}

/// The online store of some views. See the module.
pub struct Online {
    warehouse: Warehouse,
    views: BTreeMap<String, Arc<ViewStore>>,
    _lock: Option<File>,
}

impl std::fmt::Debug for Online {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Online").field("views", &self.views.keys()).finish_non_exhaustive()
    }
}

/// One view.
struct ViewStore {
    view: FeatureView,
    clock: Arc<dyn Clock>,
    /// `None` until the columns are known, which they are once the datasets are there.
    live: RwLock<Option<Live>>,
    /// What was taken over from the datasets, as `disk` has it.
    taken: RwLock<Option<Taken>>,
    /// Changes of what is kept; held for writes only, never while a dataset is read.
    disk: Mutex<Disk>,
    /// One materialisation at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What is asked.
struct Live {
    shape: Arc<Shape>,
    dataset: Table,
    pushed: Table,
    /// Entities that are in both.
    both: usize,
    /// Pushed rows that are not known yet, by when they will be.
    pending: BTreeMap<i64, Vec<Offers>>,
    waiting: usize,
}

fn lock(folder: &Path) -> Result<File, Error> {
    let doing = "open the online features";
    let failed = |e: std::io::Error| Error::Storage { doing, why: format!("`{}`: {e}", folder.display()) };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.join("writer.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn crashed(e: task::Crashed) -> Error {
    Error::Query(e.to_string())
}

impl Online {
    /// Opens what `folder` holds of these views; what it holds of others stays as it is.
    ///
    /// # Errors
    /// [`Error::Storage`] when the folder cannot be read or written, or another process writes it.
    pub async fn open(
        warehouse: &Warehouse,
        folder: &Path,
        views: Vec<FeatureView>,
        mode: Mode,
    ) -> Result<Online, Error> {
        let lock = match mode {
            Mode::Write => Some(lock(folder)?),
            Mode::Read => None,
        };
        let mut opened = BTreeMap::new();
        for view in views {
            let folder: PathBuf = folder.join(view.name());
            let shape = match warehouse.resolve_view(&view, &crate::At::Newest).await {
                Ok(resolved) => Some(Shape::of(&view, resolved.columns)),
                Err(error) => {
                    tracing::warn!(view = view.name(), %error, "the features are served as they were");
                    None
                }
            };
            let clock = Arc::clone(&warehouse.inner.clock);
            let store =
                task::blocking("features-open", move || ViewStore::open(view, clock, folder, shape, mode));
            let store = store.await.map_err(crashed)??;
            opened.insert(store.view.name().to_owned(), Arc::new(store));
        }
        Ok(Online { warehouse: warehouse.clone(), views: opened, _lock: lock })
    }

    /// The views, in the order of their names.
    pub fn views(&self) -> impl Iterator<Item = &FeatureView> {
        self.views.values().map(|store| &store.view)
    }

    fn view(&self, name: &str) -> Result<&Arc<ViewStore>, Error> {
        self.views.get(name).ok_or_else(|| {
            let names: Vec<_> = self.views.keys().map(String::as_str).collect();
            let hint = if names.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            Error::NoView { name: name.to_owned(), hint }
        })
    }

    /// The features of entities, as they are now. Does not wait.
    ///
    /// # Errors
    /// [`Error::NoView`]; [`Error::Invalid`] for a feature that a view does not have, entities without one of its keys or with one
    /// of another type, and more than two million values at once.
    pub fn get(&self, ask: &Ask<'_>) -> Result<Vec<OnlineColumn>, Error> {
        self.get_at(ask, micros(self.warehouse.inner.clock.wall()))
    }

    fn get_at(&self, ask: &Ask<'_>, now: i64) -> Result<Vec<OnlineColumn>, Error> {
        let rows = push::rows(ask.entities)?;
        if rows.saturating_mul(ask.features.len()) > CELLS {
            let why = format!("they are more than {CELLS} at once; ask for them in parts");
            return Err(Error::invalid("the values that are asked for", why));
        }
        let mut answer: Vec<Option<OnlineColumn>> = vec![None; ask.features.len()];
        for (at, (view, _)) in ask.features.iter().enumerate() {
            if answer.get(at).is_some_and(Option::is_some) {
                continue;
            }
            // All features of a view from the same row, although others are asked for in between.
            let wanted: Vec<(usize, &str)> = ask
                .features
                .iter()
                .enumerate()
                .filter(|(_, (other, _))| other == view)
                .map(|(at, (_, feature))| (at, feature.as_str()))
                .collect();
            let names: Vec<&str> = wanted.iter().map(|(_, name)| *name).collect();
            let columns = self.view(view)?.get(&names, ask.entities, rows, now)?;
            for ((at, _), column) in wanted.into_iter().zip(columns) {
                if let Some(slot) = answer.get_mut(at) {
                    *slot = Some(column);
                }
            }
        }
        Ok(answer.into_iter().flatten().collect())
    }

    /// Takes rows of a view: columns by name, the keys, the event time and every feature among them. What says nothing of when it
    /// became known did so now. Acknowledged rows survive a `kill -9`.
    ///
    /// # Errors
    /// [`Error::NoView`], [`Error::Invalid`] for rows that are not the view's, [`Error::Storage`] when they cannot be kept; then
    /// none of them counts. [`Error::NoDataset`] while nobody knows the view's columns.
    pub async fn push(&self, view: &str, rows: Columns, to: To) -> Result<Pushed, Error> {
        let store = Arc::clone(self.view(view)?);
        let count = push::rows(&rows)? as u64;
        store.learn(&self.warehouse).await?;
        let now = micros(self.warehouse.inner.clock.wall());
        // Looked at before anything is written anywhere.
        let offers = store.offers(&rows, now)?;
        let version = match to {
            To::Online => None,
            To::Offline | To::Both => Some(self.push_offline(&store.view, rows, now).await?),
        };
        if to != To::Offline {
            let kept = task::blocking("features-push", move || store.take(offers, now));
            kept.await.map_err(crashed)??;
        }
        Ok(Pushed { rows: count, version })
    }

    /// How each view is doing.
    pub fn states(&self) -> Vec<ViewState> {
        self.views.values().map(|store| store.state()).collect()
    }
}

fn micros(wall: UnixMillis) -> i64 {
    wall.0.saturating_mul(1000)
}

impl Shape {
    pub(super) fn of(view: &FeatureView, columns: crate::Schema) -> Shape {
        Shape { columns, keys: view.config().keys.len(), has_ingest: view.config().ingest_time.is_some() }
    }
}

impl Live {
    fn new(shape: Shape) -> Live {
        Live {
            dataset: Table::new(&shape),
            pushed: Table::new(&shape),
            both: 0,
            shape: Arc::new(shape),
            pending: BTreeMap::new(),
            waiting: 0,
        }
    }

    /// Takes pushed rows: those whose time has not come wait for it.
    fn take(&mut self, rows: Offers, now: i64) -> Result<(), arrow::error::ArrowError> {
        let shape = Arc::clone(&self.shape);
        let (known, later) = rows.split(now, &shape)?;
        let made = self.pushed.offer(&known)?;
        self.both += self.dataset.has(&known, &made);
        if let Some(later) = later
            && let Some(first) = later.stamps.iter().map(|stamp| stamp.known()).min()
        {
            self.waiting += later.stamps.len();
            self.pending.entry(first).or_default().push(later);
        }
        Ok(())
    }

    /// Takes rows of the datasets.
    fn bring(&mut self, rows: &Offers) -> Result<(), arrow::error::ArrowError> {
        let made = self.dataset.offer(rows)?;
        self.both += self.pushed.has(rows, &made);
        Ok(())
    }

    /// Takes a table in the place of all rows of the datasets. `both` is the number of its entities that are pushed too.
    fn replace(&mut self, table: Table, both: usize) {
        (self.dataset, self.both) = (table, both);
    }

    /// Entities.
    fn len(&self) -> usize {
        (self.dataset.len() + self.pushed.len()).saturating_sub(self.both)
    }

    /// Whether somebody's time has come.
    fn is_due(&self, now: i64) -> bool {
        self.pending.first_key_value().is_some_and(|(first, _)| *first <= now)
    }

    fn promote(&mut self, now: i64) -> Result<(), arrow::error::ArrowError> {
        while self.is_due(now) {
            let Some((_, due)) = self.pending.pop_first() else { break };
            for rows in due {
                self.waiting = self.waiting.saturating_sub(rows.stamps.len());
                self.take(rows, now)?;
            }
        }
        Ok(())
    }

    /// The row of an entity that is the greater: its time, and where it is.
    fn best(&self, dataset: u32, pushed: u32) -> Option<(Stamp, &Table, u32)> {
        let of = |table, place: u32| (place != NO_KEY).then_some((table, place));
        let (table, place) = match (of(&self.dataset, dataset), of(&self.pushed, pushed)) {
            (Some((ours, at)), Some((theirs, there))) if ours.order(at, theirs, there).is_lt() => {
                (theirs, there)
            }
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => return None,
        };
        Some((table.stamp(place)?, table, place))
    }
}

impl ViewStore {
    fn unknown(&self) -> Error {
        Error::NoDataset {
            name: self.view.origin().to_owned(),
            hint: format!(
                "the columns of the feature view `{}` are those it has; add to it first",
                self.view.name()
            ),
        }
    }

    fn get(
        &self,
        features: &[&str],
        entities: &Columns,
        rows: usize,
        now: i64,
    ) -> Result<Vec<OnlineColumn>, Error> {
        let failed = crate::features::join::failed;
        let mut live = self.live.read();
        if live.as_ref().is_some_and(|live| live.is_due(now)) {
            drop(live);
            if let Some(live) = self.live.write().as_mut() {
                live.promote(now).map_err(failed)?;
            }
            live = self.live.read();
        }
        let Some(live) = live.as_ref() else { return self.nothing(features, rows) };
        let mut numbers = Vec::with_capacity(features.len());
        for feature in features {
            numbers.push(live.shape.feature(feature).ok_or_else(|| self.no_feature(feature))?);
        }
        let mut keys = Vec::with_capacity(live.shape.keys);
        for column in live.shape.keys() {
            let values = push::named(entities, &column.name).ok_or_else(|| {
                let names: Vec<_> = entities.iter().map(|(name, _)| name.as_str()).collect();
                let why = format!("the entities have {}", names.join(", "));
                Error::invalid(
                    format!("the key `{}` of the feature view `{}`", column.name, self.view.name()),
                    why,
                )
            })?;
            keys.push(push::array(column, values)?);
        }
        let (dataset, pushed) = (live.dataset.find(&keys, rows), live.pushed.find(&keys, rows));
        let oldest = now.saturating_sub(self.view.ttl_micros());
        let best: Vec<_> =
            dataset.into_iter().zip(pushed).map(|(ours, theirs)| live.best(ours, theirs)).collect();
        let events: Arc<[Option<i64>]> =
            best.iter().map(|row| row.as_ref().map(|(stamp, ..)| stamp.event)).collect();
        let column = |number: usize| {
            let (mut values, mut statuses) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
            for row in &best {
                let (value, status) = match row {
                    None => (Value::Null, Status::NotFound),
                    Some((stamp, ..)) if stamp.event < oldest => (Value::Null, Status::OutsideMaxAge),
                    Some((_, table, place)) => match table.value(*place, number) {
                        Value::Null => (Value::Null, Status::Null),
                        value => (value, Status::Present),
                    },
                };
                values.push(value);
                statuses.push(status);
            }
            OnlineColumn { values, statuses, events: Arc::clone(&events) }
        };
        Ok(numbers.into_iter().map(column).collect())
    }

    fn no_feature(&self, feature: &str) -> Error {
        let what = format!("the feature `{feature}` of the feature view `{}`", self.view.name());
        Error::invalid(what, format!("it has {}", self.view.config().features.join(", ")))
    }

    /// The answer while there is not even a dataset.
    fn nothing(&self, features: &[&str], rows: usize) -> Result<Vec<OnlineColumn>, Error> {
        if let Some(unknown) =
            features.iter().find(|name| !self.view.config().features.iter().any(|f| f == **name))
        {
            return Err(self.no_feature(unknown));
        }
        let none = OnlineColumn {
            values: vec![Value::Null; rows],
            statuses: vec![Status::NotFound; rows],
            events: vec![None; rows].into(),
        };
        Ok(vec![none; features.len()])
    }

    fn state(&self) -> ViewState {
        let (taken, view) = (self.taken.read().clone(), self.view.name().to_owned());
        let live = self.live.read();
        let (entities, newest, pending) = live.as_ref().map_or((0, None, 0), |live| {
            let newest = live.dataset.newest().max(live.pushed.newest());
            (live.len(), newest, live.waiting)
        });
        ViewState {
            view,
            entities: entities as u64,
            newest_event: newest.map(|micros| UnixMillis(micros.div_euclid(1000))),
            materialized: taken.as_ref().map(|taken| UnixMillis(taken.wall)),
            versions: taken.map(|taken| taken.versions).unwrap_or_default(),
            pending: pending as u64,
        }
    }
}
