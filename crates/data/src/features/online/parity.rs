//! Whether online is offline: the values of entities online beside those of the point-in-time join at the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde_json::{Map, Value as Json};

use crate::dataset::cell;
use crate::features::entities::EntityRows;
use crate::features::join::failed;
use crate::features::online::{Ask, Online, Value, ViewStore, micros, push};
use crate::features::training::{AsOf, Entities, TrainingSetSpec, Use};
use crate::{At, Column, ColumnType, Error, Schema};

/// The column of the moment.
const NOW: &str = "__forebay_now";

/// Whose values are compared.
#[derive(Debug, Clone)]
pub enum Given {
    /// Those of these rows.
    Rows(Entities),
    /// Those that are online, the first so many.
    Online(usize),
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The entity.
    pub keys: Map<String, Json>,
    /// The feature.
    pub feature: String,
    /// What is online.
    pub online: Value,
    /// What the datasets say.
    pub offline: Value,
}

/// What a comparison of a view gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// The view.
    pub view: String,
    /// The newest versions of its datasets: those that were compared with.
    pub versions: Vec<(String, u64)>,
    /// The versions that were materialised.
    pub materialized: Vec<(String, u64)>,
    /// Entities that were compared.
    pub entities: u64,
    /// Values that were compared.
    pub values: u64,
    /// Values that differ.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl Online {
    /// Compares a view, online and offline, at this moment; `shown` differences are told in full. Pushed rows that no dataset has are
    /// differences, and so is what was added to a dataset and not materialised yet.
    ///
    /// # Errors
    /// [`Error::NoView`], and as for a training set.
    pub async fn parity(&self, view: &str, given: &Given, shown: usize) -> Result<Parity, Error> {
        let store = self.view(view)?;
        store.learn(&self.warehouse).await?;
        let entities = match given {
            Given::Online(limit) => store.first(*limit)?,
            Given::Rows(Entities::Dataset { name, at }) => {
                EntityRows::of_dataset(&self.warehouse.dataset(name)?, at).await?
            }
            Given::Rows(Entities::Source(source)) => {
                let source = source.clone();
                let reading = pipeline::task::blocking("data-read", move || EntityRows::of_source(&source));
                reading.await.map_err(super::crashed)??
            }
        };
        let wall = self.warehouse.inner.clock.wall();
        let now = micros(wall);
        let has_ingest = store.view.config().ingest_time.is_some();
        let spec = TrainingSetSpec {
            entities: Entities::Dataset { name: String::new(), at: At::Newest },
            time: NOW.to_owned(),
            views: vec![Use { at: At::Newest, alias: None, keys: BTreeMap::new(), view: store.view.clone() }],
            cut: has_ingest.then_some(wall),
            as_of: AsOf::Cut,
        };
        let entities = at_once(entities, now).map_err(failed)?;
        let versions = vec![self.warehouse.versions_of(&store.view, &At::Newest).await?];
        let mut set = Box::pin(self.warehouse.training_set_of(Arc::new(entities), &spec, &versions)).await?;
        let mut parity = Parity {
            view: view.to_owned(),
            versions: set.views.first().map(|joined| joined.versions.clone()).unwrap_or_default(),
            materialized: store.state().versions,
            entities: set.count,
            values: 0,
            differing: 0,
            differences: Vec::new(),
        };
        let names = &store.view.config().features;
        let features: Vec<(String, String)> =
            names.iter().map(|name| (view.to_owned(), name.clone())).collect();
        while let Some(batch) = set.rows.next_arrow().await? {
            let first = batch.num_columns().saturating_sub(names.len());
            let keys: Vec<(String, Vec<Json>)> = store
                .view
                .config()
                .keys
                .iter()
                .filter_map(|key| {
                    let array = batch.column_by_name(key)?;
                    Some((key.clone(), (0..batch.num_rows()).map(|row| push::written(array, row)).collect()))
                })
                .collect();
            let online = self.get_at(&Ask { features: &features, entities: &keys }, now)?;
            for ((name, online), offline) in names.iter().zip(online).zip(batch.columns().iter().skip(first))
            {
                parity.values += batch.num_rows() as u64;
                for (row, online) in online.values.into_iter().enumerate() {
                    let offline = value(offline, row);
                    if same(&online, &offline) {
                        continue;
                    }
                    parity.differing += 1;
                    if parity.differences.len() < shown {
                        let of_row = |(key, values): &(String, Vec<Json>)| {
                            (key.clone(), values.get(row).cloned().unwrap_or_default())
                        };
                        let keys = keys.iter().map(of_row).collect();
                        parity.differences.push(Difference { keys, feature: name.clone(), online, offline });
                    }
                }
            }
        }
        Ok(parity)
    }
}

impl ViewStore {
    /// Entities that are online.
    fn first(&self, limit: usize) -> Result<EntityRows, Error> {
        let live = self.live.read();
        let Some(live) = live.as_ref() else { return Err(self.unknown()) };
        let columns: Vec<Column> = live.shape.keys().cloned().collect();
        let (a, b) = (live.dataset.first_keys(limit), live.pushed.first_keys(limit));
        let (a, b) = (a.map_err(failed)?, b.map_err(failed)?);
        let both =
            a.iter().zip(&b).map(|(a, b)| concat(&[a, b])).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let schema = Schema { columns };
        let batch = RecordBatch::try_new(schema.to_arrow(), both).map_err(failed)?;
        Ok(EntityRows { schema, count: batch.num_rows(), batches: vec![batch] })
    }
}

/// Rows of entities, all of them at one moment.
fn at_once(mut entities: EntityRows, now: i64) -> Result<EntityRows, arrow::error::ArrowError> {
    entities.schema.columns.push(Column { name: NOW.to_owned(), ty: ColumnType::Timestamp });
    let schema = entities.schema.to_arrow();
    for batch in &mut entities.batches {
        let mut columns = batch.columns().to_vec();
        let moment = TimestampMicrosecondArray::from(vec![now; batch.num_rows()]).with_timezone("UTC");
        columns.push(Arc::new(moment));
        *batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    }
    Ok(entities)
}

/// A value of an array, as an online one.
fn value(array: &ArrayRef, row: usize) -> Value {
    if arrow::array::Array::is_null(array, row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        _ => match cell(array, row) {
            Json::Null => Value::Null,
            Json::String(text) => Value::Text(text.into()),
            json => Value::Json(json),
        },
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
        (a, b) => a == b,
    }
}
