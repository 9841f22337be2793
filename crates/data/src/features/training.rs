//! Training sets: rows of entities with the features of views beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use contract::UnixMillis;

use crate::dataset::Rows;
use crate::features::entities::{EntityRows, Slots};
use crate::features::join::{Matches, Plan, join};
use crate::features::keys::{Keys, NO_KEY};
use crate::features::rows::Resolved;
use crate::features::view::{FeatureView, Kind};
use crate::{At, Column, Error, Schema, Source, Warehouse};

/// The rows that features are wanted for.
#[derive(Debug, Clone)]
pub enum Entities {
    /// The rows of a dataset's version; a dataset has no order, and so neither has the training set.
    Dataset {
        /// Its name.
        name: String,
        /// The version.
        at: At,
    },
    /// The rows of files, in their order.
    Source(Source),
}

/// Which of the rows that the cut lets through an entity row sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AsOf {
    /// All of them: what is known today of that time.
    #[default]
    Cut,
    /// Those that were ingested by its own time: what was known *at* that time, as a model in production would have seen it.
    Event,
}

/// A view in a training set.
#[derive(Debug, Clone)]
pub struct Use {
    /// The view.
    pub view: FeatureView,
    /// The version of its dataset.
    pub at: At,
    /// What the view is called here: a view may be used twice, by two names. Its own name when nothing is said.
    pub alias: Option<String>,
    /// The entity column for a key of the view, where they are called differently: key → column.
    pub keys: BTreeMap<String, String>,
}

impl Use {
    /// The newest version of the view, its keys called as they are.
    pub fn of(view: FeatureView) -> Use {
        Use { view, at: At::Newest, alias: None, keys: BTreeMap::new() }
    }

    fn name(&self) -> &str {
        self.alias.as_deref().unwrap_or(self.view.name())
    }
}

/// A training set, as somebody wants it.
#[derive(Debug, Clone)]
pub struct TrainingSetSpec {
    /// The rows.
    pub entities: Entities,
    /// Their column that says as of when features are wanted.
    pub time: String,
    /// The views, in the order their features are wanted.
    pub views: Vec<Use>,
    /// Rows that were ingested later are not seen. All are when it is not given.
    pub cut: Option<UnixMillis>,
    /// Which rows before the cut are seen.
    pub as_of: AsOf,
}

/// What came of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// What the view is called here.
    pub name: String,
    /// The datasets that were read, and the version of each.
    pub versions: Vec<(String, u64)>,
    /// Rows that were read of it; those that its files could leave out by their statistics are not counted.
    pub read: u64,
    /// Entity rows for which it had a valid row.
    pub matched: u64,
}

/// A training set: the columns of the entities, then the features of each view. A feature whose name comes more than once
/// among all columns is called `view__feature`; other names stay as they are.
pub struct TrainingSet {
    /// How many rows there are: as many as of entities.
    pub count: u64,
    /// What was joined, in the order of the views.
    pub views: Vec<Joined>,
    /// The rows, made as they are read.
    pub rows: Rows,
}

impl Warehouse {
    /// Puts the features of views beside rows of entities, each as it was at that row's time: see [`crate::features`] for
    /// which row of a view is valid. There is exactly one row per entity row.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a column that is not there or of the wrong type, times that cannot be compared, a cut of a view
    /// without ingest times, and names that come twice; [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Source`],
    /// [`Error::Storage`] and [`Error::Memory`] as for reading.
    pub async fn training_set(&self, spec: &TrainingSetSpec) -> Result<TrainingSet, Error> {
        let mut versions = Vec::with_capacity(spec.views.len());
        for used in &spec.views {
            versions.push(self.versions_of(&used.view, &used.at).await?);
        }
        self.training_set_at(spec, &versions).await
    }

    /// The same of these versions, view by view, whatever is said of theirs.
    pub(crate) async fn training_set_at(
        &self,
        spec: &TrainingSetSpec,
        versions: &[Vec<(String, u64)>],
    ) -> Result<TrainingSet, Error> {
        let entities = match &spec.entities {
            Entities::Dataset { name, at } => EntityRows::of_dataset(&self.dataset(name)?, at).await?,
            Entities::Source(source) => {
                let source = source.clone();
                let reading = pipeline::task::blocking("data-read", move || EntityRows::of_source(&source));
                reading.await.map_err(|e| Error::Query(e.to_string()))??
            }
        };
        self.training_set_of(Arc::new(entities), spec, versions).await
    }

    /// The same for rows that are in memory: `spec.entities` is not looked at.
    pub(super) async fn training_set_of(
        &self,
        entities: Arc<EntityRows>,
        spec: &TrainingSetSpec,
        versions: &[Vec<(String, u64)>],
    ) -> Result<TrainingSet, Error> {
        let count = entities.count as u64;
        let mut columns = entities.schema.columns.clone();
        let names = names(&entities.schema, &spec.views)?;
        let (mut views, mut parts) = (Vec::new(), Vec::new());
        for ((used, names), versions) in spec.views.iter().zip(names).zip(versions) {
            let resolved = self.view_at(&used.view, versions.clone()).await?;
            let (joined, part, schema) = self.used(&entities, used, resolved, spec).await?;
            let features = used.view.config().features.iter().filter_map(|name| schema.column(name));
            columns.extend(features.zip(names).map(|(c, name)| Column { name, ty: c.ty.clone() }));
            views.push(joined);
            parts.push(part);
        }
        let schema = Schema { columns };
        let arrow = schema.to_arrow();
        let mut first = 0;
        let batches = (0..entities.batches.len()).map(move |i| {
            let batch = entities.batches.get(i).ok_or_else(|| ArrowError::ComputeError("no batch".into()))?;
            let rows = first..first + batch.num_rows();
            first = rows.end;
            beside(batch, &parts, rows, &arrow)
        });
        Ok(TrainingSet { count, views, rows: Rows::made(schema.clone(), batches) })
    }

    /// Joins a view.
    async fn used(
        &self,
        entities: &Arc<EntityRows>,
        used: &Use,
        resolved: Resolved,
        spec: &TrainingSetSpec,
    ) -> Result<(Joined, Part, Schema), Error> {
        let (view, config) = (&used.view, used.view.config());
        let columns = resolved.columns.clone();
        check_times(entities, used, spec, &columns)?;
        let key_columns = check_keys(entities, used, &columns)?;
        let (plan, entities) = (columns.clone(), Arc::clone(entities));
        let (time, ttl) = (spec.time.clone(), config.ttl_seconds.map(|_| view.ttl_micros()));
        let has_ingest = config.ingest_time.is_some();
        let (cut, by_event) = (spec.cut, spec.as_of == AsOf::Event);
        let planning = pipeline::task::blocking("features-plan", move || {
            let types: Vec<_> =
                plan.columns.iter().take(key_columns.len()).map(|c| c.ty.to_arrow()).collect();
            let mut keys = Keys::new(&types);
            let (ids, times) = entities.numbered(&mut keys, &key_columns, &time);
            let (slots, of_row) = Slots::new(keys.len(), &ids, &times);
            let cut = cut.map(|at| at.0.saturating_mul(1000));
            let key_columns = key_columns.len();
            (Plan { keys, slots, columns: plan, key_columns, has_ingest, ttl, cut, by_event }, of_row)
        });
        let (plan, of_row) = planning.await.map_err(|e| Error::Query(e.to_string()))?;
        let matches = join(self, view, &resolved, Arc::new(plan)).await?;
        let skipped = config.keys.len() + 1 + usize::from(has_ingest);
        let nulls =
            columns.columns.iter().skip(skipped).map(|c| new_null_array(&c.ty.to_arrow(), 1)).collect();
        let part = Part { matches, of_row, nulls };
        let joined = Joined {
            name: used.name().to_owned(),
            versions: resolved.versions,
            read: part.matches.read,
            matched: part.matched(),
        };
        Ok((joined, part, columns))
    }
}

/// The times that are compared have to be comparable.
fn check_times(
    entities: &EntityRows,
    used: &Use,
    spec: &TrainingSetSpec,
    columns: &Schema,
) -> Result<(), Error> {
    let (view, config) = (&used.view, used.view.config());
    let Some(time) = entities.schema.column(&spec.time) else {
        return Err(no_column(&format!("the time `{}`", spec.time), &entities.schema));
    };
    let kind = |name: &str| columns.column(name).map(Kind::of).transpose();
    let time = Kind::of(time)?;
    if let Some(event) = kind(&config.event_time)? {
        time.comparable(event, view, "the entities' time beside the event time")?;
    }
    let cut = spec.cut.is_some() || spec.as_of == AsOf::Event;
    match &config.ingest_time {
        None if cut => Err(Error::invalid(
            format!("the cut of the feature view `{}`", view.name()),
            "it has no ingest time, so nobody knows which rows came late; name the column as `ingest_time`, or take the \
             version of the dataset that was current then",
        )),
        None => Ok(()),
        Some(ingest) => {
            let Some(ingest) = kind(ingest)? else { return Ok(()) };
            if spec.cut.is_some() {
                ingest.comparable(Kind::Instant, view, "the ingest time beside the cut")?;
            }
            if spec.as_of == AsOf::Event {
                ingest.comparable(time, view, "the ingest time beside the entities' time")?;
            }
            Ok(())
        }
    }
}

/// The entity columns of the view's keys, which have to be of the same types.
fn check_keys(entities: &EntityRows, used: &Use, columns: &Schema) -> Result<Vec<String>, Error> {
    let (view, keys) = (used.view.name(), &used.view.config().keys);
    if let Some(unknown) = used.keys.keys().find(|key| !keys.contains(key)) {
        let why = format!("its keys are {}", keys.join(", "));
        return Err(Error::invalid(format!("the key `{unknown}` of the feature view `{view}`"), why));
    }
    let mut names = Vec::with_capacity(keys.len());
    for key in keys {
        let name = used.keys.get(key).unwrap_or(key);
        let Some(column) = entities.schema.column(name) else {
            let what = format!("the key `{key}` of the feature view `{view}` as the entity column `{name}`");
            return Err(no_column(&what, &entities.schema));
        };
        if let Some(theirs) = columns.column(key)
            && theirs.ty != column.ty
        {
            let why = format!(
                "it is {} there and {} in the entities; declare or cast one of them",
                theirs.ty, column.ty
            );
            return Err(Error::invalid(format!("the key `{key}` of the feature view `{view}`"), why));
        }
        names.push(name.clone());
    }
    Ok(names)
}

fn no_column(what: &str, schema: &Schema) -> Error {
    let names: Vec<_> = schema.names().collect();
    Error::invalid(what.to_owned(), format!("the entities have {}", names.join(", ")))
}

/// What the features of each view are called.
fn names(entities: &Schema, views: &[Use]) -> Result<Vec<Vec<String>>, Error> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let features = views.iter().flat_map(|used| used.view.config().features.iter().map(String::as_str));
    for name in entities.names().chain(features) {
        *times.entry(name).or_default() += 1;
    }
    let mut names: Vec<Vec<String>> = Vec::with_capacity(views.len());
    for used in views {
        let features = used.view.config().features.iter();
        let named = features.map(|feature| match times.get(feature.as_str()) {
            Some(1) => feature.clone(),
            _ => format!("{}__{feature}", used.name()),
        });
        names.push(named.collect());
    }
    let mut all: Vec<&str> = entities.names().chain(names.iter().flatten().map(String::as_str)).collect();
    all.sort_unstable();
    match all.windows(2).find(|pair| matches!(pair, [a, b] if a == b)).and_then(<[_]>::first) {
        None => Ok(names),
        Some(twice) => {
            let why = "two columns would be called so; give one of the views an alias, or rename the entities' column";
            Err(Error::invalid(format!("the column `{twice}` of the training set"), why))
        }
    }
}

/// A view's part of the result.
struct Part {
    matches: Matches,
    /// The slot of every entity row.
    of_row: Vec<u32>,
    /// A null of each feature.
    nulls: Vec<ArrayRef>,
}

impl Part {
    fn valid(&self, slot: u32) -> Option<crate::features::latest::At> {
        if slot == NO_KEY { None } else { self.matches.of_slot.get(slot as usize).copied().flatten() }
    }

    fn matched(&self) -> u64 {
        self.of_row.iter().filter(|slot| self.valid(**slot).is_some()).count() as u64
    }
}

/// A batch of entities with the features of every view beside it.
fn beside(
    batch: &RecordBatch,
    parts: &[Part],
    rows: std::ops::Range<usize>,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    for part in parts {
        let slots = part.of_row.get(rows.clone()).unwrap_or_default();
        let from: Vec<(usize, usize)> = slots
            .iter()
            .map(|slot| part.valid(*slot).map_or((0, 0), |at| (at.chunk as usize + 1, at.row as usize)))
            .collect();
        for (feature, null) in part.nulls.iter().enumerate() {
            let chunks = part.matches.chunks.iter().filter_map(|chunk| chunk.get(feature));
            let arrays: Vec<_> = std::iter::once(null).chain(chunks).map(AsRef::as_ref).collect();
            columns.push(interleave(&arrays, &from)?);
        }
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}
