//! The newest row of every entity, as far as rows were offered.
//!
//! Rows may be offered in any order and any number of times: by event time, then ingest time, then content, the greatest
//! stays. So a table is what its rows are, and two that were offered the same are equal.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::Schema;
use crate::features::entities::Micros;
use crate::features::keys::{Keys, NO_KEY};
use crate::features::latest::Stamp;
use crate::features::online::Value;
use crate::features::online::column::Cells;
use crate::source::BATCH_ROWS;

/// The columns of a view and what they are: `keys` keys, the event time, the ingest time if there is one, the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: Schema,
    pub(super) keys: usize,
    pub(super) has_ingest: bool,
}

/// The names of the times in what is kept on disk, where they are always there and always in microseconds.
const EVENT: &str = "__event";
const INGEST: &str = "__ingest";

impl Shape {
    pub(super) fn first_feature(&self) -> usize {
        self.keys + 1 + usize::from(self.has_ingest)
    }

    pub(super) fn feature(&self, name: &str) -> Option<usize> {
        self.columns.columns.iter().skip(self.first_feature()).position(|column| column.name == name)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &crate::Column> {
        self.columns.columns.iter().take(self.keys)
    }

    fn features(&self) -> impl Iterator<Item = &crate::Column> {
        self.columns.columns.iter().skip(self.first_feature())
    }

    /// Rows of the view as rows of a table: keys, both times, features. Those without a key or a time are left out.
    pub(super) fn rows(&self, batch: &RecordBatch) -> Result<Offers, ArrowError> {
        let columns = batch.columns();
        let column = |at: usize| {
            columns.get(at).ok_or_else(|| ArrowError::ComputeError("a column of the view is missing".into()))
        };
        let event = Micros::of(column(self.keys)?);
        let ingest = if self.has_ingest { Some(Micros::of(column(self.keys + 1)?)) } else { None };
        let keys = columns.get(..self.keys).unwrap_or_default();
        let mut stamps = Vec::with_capacity(batch.num_rows());
        let mut kept = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let event = event.get(row);
            let ingest = ingest.as_ref().map_or(event, |ingest| ingest.get(row));
            let stamp = match (event, ingest) {
                (Some(event), Some(ingest))
                    if keys.iter().all(|key| !arrow::array::Array::is_null(key, row)) =>
                {
                    Some(Stamp { event, ingest })
                }
                _ => None,
            };
            kept.push(stamp.is_some());
            stamps.extend(stamp);
        }
        let mut rows = batch.clone();
        if stamps.len() < kept.len() {
            rows = filter_record_batch(batch, &BooleanArray::from(kept))?;
        }
        let keys = rows.columns().get(..self.keys).unwrap_or_default().to_vec();
        let features = rows.columns().get(self.first_feature()..).unwrap_or_default().to_vec();
        Ok(Offers { keys, stamps, features })
    }

    /// The columns of what is kept on disk.
    pub(super) fn kept(&self) -> Arc<ArrowSchema> {
        let field = |column: &crate::Column| Field::new(&column.name, column.ty.to_arrow(), true);
        let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        let mut fields: Vec<Field> = self.keys().map(field).collect();
        fields.extend([time(EVENT), time(INGEST)]);
        fields.extend(self.features().map(field));
        Arc::new(ArrowSchema::new(fields))
    }
}

/// Rows that are offered: all of them have a key and times.
#[derive(Debug, Clone)]
pub(super) struct Offers {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) stamps: Vec<Stamp>,
    pub(super) features: Vec<ArrayRef>,
}

impl Offers {
    /// From what is kept on disk.
    pub(super) fn kept(batch: &RecordBatch, keys: usize) -> Option<Offers> {
        let columns = batch.columns();
        let time =
            |at: usize| Some(columns.get(at)?.as_primitive_opt::<TimestampMicrosecondType>()?.values());
        let (event, ingest) = (time(keys)?, time(keys + 1)?);
        let stamps = event.iter().zip(ingest).map(|(event, ingest)| Stamp { event: *event, ingest: *ingest });
        Some(Offers {
            keys: columns.get(..keys)?.to_vec(),
            stamps: stamps.collect(),
            features: columns.get(keys + 2..)?.to_vec(),
        })
    }

    pub(super) fn batch(&self, shape: &Shape) -> Result<RecordBatch, ArrowError> {
        let time = |of: fn(&Stamp) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(self.stamps.iter().map(of).collect::<Vec<i64>>()))
        };
        let mut columns = self.keys.clone();
        columns.extend([time(|stamp| stamp.event), time(|stamp| stamp.ingest)]);
        columns.extend(self.features.iter().cloned());
        RecordBatch::try_new(shape.kept(), columns)
    }

    /// When the first of those that are not known at a time will be, and the others.
    pub(super) fn known(self, at: i64, shape: &Shape) -> Result<(Offers, Option<i64>), ArrowError> {
        let (known, later) = self.split(at, shape)?;
        Ok((known, later.and_then(|later| later.stamps.iter().map(|stamp| stamp.known()).min())))
    }

    /// Those that are known at a time, and those that are not yet.
    pub(super) fn split(self, at: i64, shape: &Shape) -> Result<(Offers, Option<Offers>), ArrowError> {
        let known: Vec<bool> = self.stamps.iter().map(|stamp| stamp.known() <= at).collect();
        if known.iter().all(|known| *known) {
            return Ok((self, None));
        }
        let batch = self.batch(shape)?;
        let later: BooleanArray = known.iter().map(|known| Some(!known)).collect();
        let of = |mask: &BooleanArray| {
            let batch = filter_record_batch(&batch, mask)?;
            Offers::kept(&batch, shape.keys)
                .ok_or_else(|| ArrowError::ComputeError("rows lost their times".into()))
        };
        Ok((of(&BooleanArray::from(known))?, Some(of(&later)?)))
    }
}

impl Stamp {
    /// From when on a row can be seen: when it has happened and is known.
    pub(super) fn known(self) -> i64 {
        self.event.max(self.ingest)
    }
}

/// See the module.
pub(super) struct Table {
    keys: Keys,
    /// The keys again, in the order of the entities, to be written.
    named: Vec<Cells>,
    stamps: Vec<Stamp>,
    features: Vec<Cells>,
    newest: Option<i64>,
}

impl Table {
    pub(super) fn new(shape: &Shape) -> Table {
        let types: Vec<DataType> = shape.keys().map(|column| column.ty.to_arrow()).collect();
        Table {
            keys: Keys::new(&types),
            named: shape.keys().map(|column| Cells::new(&column.ty)).collect(),
            stamps: Vec::new(),
            features: shape.features().map(|column| Cells::new(&column.ty)).collect(),
            newest: None,
        }
    }

    /// Entities.
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    /// The latest event time that was offered, in microseconds.
    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Takes rows; says which of them made an entity.
    pub(super) fn offer(&mut self, rows: &Offers) -> Result<Vec<usize>, ArrowError> {
        let mut made = Vec::new();
        let mut entities = Vec::with_capacity(rows.stamps.len());
        self.keys.intern(&rows.keys, rows.stamps.len(), &mut entities);
        for (row, (entity, stamp)) in entities.into_iter().zip(&rows.stamps).enumerate() {
            if entity == NO_KEY {
                continue;
            }
            let at = entity as usize;
            self.newest = self.newest.max(Some(stamp.event));
            let order = match self.stamps.get(at) {
                None => {
                    made.push(row);
                    for (cells, from) in self.named.iter_mut().zip(&rows.keys) {
                        cells.put(at, from, row)?;
                    }
                    Ordering::Greater
                }
                Some(held) => {
                    let pairs = self.features.iter().zip(&rows.features);
                    stamp.cmp(held).then_with(|| {
                        let mut each = pairs.map(|(cells, from)| cells.order(from, row, at));
                        each.find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
                    })
                }
            };
            if order == Ordering::Greater {
                for (cells, from) in self.features.iter_mut().zip(&rows.features) {
                    cells.put(at, from, row)?;
                }
                match self.stamps.get_mut(at) {
                    Some(held) => *held = *stamp,
                    None => self.stamps.push(*stamp),
                }
            }
        }
        Ok(made)
    }

    /// How many of these rows are of an entity that is here.
    pub(super) fn has(&self, rows: &Offers, which: &[usize]) -> usize {
        if which.is_empty() {
            return 0;
        }
        let places = self.find(&rows.keys, rows.stamps.len());
        which.iter().filter(|row| places.get(**row).is_some_and(|place| *place != NO_KEY)).count()
    }

    /// The places of entities: [`NO_KEY`] for one that is not here.
    pub(super) fn find(&self, keys: &[ArrayRef], rows: usize) -> Vec<u32> {
        self.keys.find(keys, rows)
    }

    pub(super) fn stamp(&self, place: u32) -> Option<Stamp> {
        self.stamps.get(place as usize).copied()
    }

    pub(super) fn value(&self, place: u32, feature: usize) -> Value {
        self.features.get(feature).map_or(Value::Null, |cells| cells.value(place as usize))
    }

    /// Which of two rows of different tables is the greater.
    pub(super) fn order(&self, place: u32, other: &Table, theirs: u32) -> Ordering {
        let stamps = self.stamp(place).cmp(&other.stamp(theirs));
        stamps.then_with(|| {
            for (ours, cells) in self.features.iter().zip(&other.features) {
                if let Ok(one) = ours.array(&[place]) {
                    let order = cells.order(&one, 0, theirs as usize);
                    if order != Ordering::Equal {
                        return order;
                    }
                }
            }
            Ordering::Equal
        })
    }

    /// The keys of some entities, the first there are.
    pub(super) fn first_keys(&self, limit: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let count = u32::try_from(self.len().min(limit)).unwrap_or(u32::MAX);
        let places: Vec<u32> = (0..count).collect();
        self.named.iter().map(|cells| cells.array(&places)).collect()
    }

    /// How many pieces [`Table::piece`] has.
    pub(super) fn pieces(&self) -> usize {
        self.len().div_ceil(BATCH_ROWS)
    }

    /// A piece of all rows, as they are written and offered to another table.
    pub(super) fn piece(&self, piece: usize) -> Result<Offers, ArrowError> {
        let end = ((piece + 1) * BATCH_ROWS).min(self.len());
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let places: Vec<u32> = (number(piece * BATCH_ROWS)..number(end)).collect();
        Ok(Offers {
            keys: self.named.iter().map(|cells| cells.array(&places)).collect::<Result<_, _>>()?,
            stamps: places.iter().filter_map(|at| self.stamp(*at)).collect(),
            features: self.features.iter().map(|cells| cells.array(&places)).collect::<Result<_, _>>()?,
        })
    }
}
