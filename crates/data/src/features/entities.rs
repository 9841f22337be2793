//! The rows that features are wanted for, and the slots their times make.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};

use crate::features::keys::{Keys, NO_KEY};
use crate::source::Batches;
use crate::{Dataset, Error, Schema, Source};

/// Rows of entities, in memory.
pub(super) struct EntityRows {
    pub(super) schema: Schema,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) count: usize,
}

impl EntityRows {
    pub(super) async fn of_dataset(dataset: &Dataset, at: &crate::At) -> Result<EntityRows, Error> {
        let mut rows = dataset.read(at, &crate::Select::default()).await?;
        let mut all = EntityRows { schema: rows.schema().clone(), batches: Vec::new(), count: 0 };
        while let Some(batch) = rows.next_arrow().await? {
            all.push(batch)?;
        }
        Ok(all)
    }

    /// In the order of the files. It blocks.
    pub(super) fn of_source(source: &Source) -> Result<EntityRows, Error> {
        let schema = source.infer()?;
        let mut reader = source.open(&schema)?;
        let mut all = EntityRows { schema, batches: Vec::new(), count: 0 };
        while let Some(batch) = reader.next()? {
            all.push(batch)?;
        }
        Ok(all)
    }

    fn push(&mut self, batch: RecordBatch) -> Result<(), Error> {
        self.count += batch.num_rows();
        if self.count >= NO_KEY as usize {
            let why = format!("there are more than {NO_KEY} of them; make the training set in parts");
            return Err(Error::invalid("the entity rows", why));
        }
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
        Ok(())
    }

    /// The number of every row's key by these columns, [`NO_KEY`] where it or the time is null; and every row's time.
    pub(super) fn numbered(&self, keys: &mut Keys, columns: &[String], time: &str) -> (Vec<u32>, Vec<i64>) {
        let (mut ids, mut times) = (Vec::with_capacity(self.count), Vec::with_capacity(self.count));
        for batch in &self.batches {
            let arrays: Vec<ArrayRef> =
                columns.iter().filter_map(|name| batch.column_by_name(name)).cloned().collect();
            let first = ids.len();
            keys.intern(&arrays, batch.num_rows(), &mut ids);
            let Some(column) = batch.column_by_name(time) else { continue };
            let micros = Micros::of(column);
            for (row, id) in ids.iter_mut().skip(first).enumerate() {
                let at = micros.get(row);
                if at.is_none() {
                    *id = NO_KEY;
                }
                times.push(at.unwrap_or_default());
            }
        }
        (ids, times)
    }
}

/// A column of times, in microseconds.
pub(super) struct Micros {
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl Micros {
    /// Of a timestamp, a datetime or a date (its midnight); all null of anything else.
    pub(super) fn of(array: &ArrayRef) -> Micros {
        const DAY: i64 = 86_400_000_000;
        let values = match array.data_type() {
            DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
            DataType::Date32 => {
                array.as_primitive::<Date32Type>().values().iter().map(|day| i64::from(*day) * DAY).collect()
            }
            _ => ScalarBuffer::from(Vec::new()),
        };
        Micros { values, nulls: array.nulls().cloned() }
    }

    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match &self.nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => self.values.get(row).copied(),
        }
    }
}

/// The distinct times of every key, in order. A slot is the place of a time in all of them.
pub(super) struct Slots {
    /// Where each key's times begin, and an end.
    starts: Vec<u32>,
    times: Vec<i64>,
}

impl Slots {
    /// The slots of rows, and the slot of each row ([`NO_KEY`] for one without a key).
    pub(super) fn new(keys: usize, ids: &[u32], times: &[i64]) -> (Slots, Vec<u32>) {
        let mut rows: Vec<(u32, i64, u32)> =
            (0u32..).zip(ids.iter().zip(times)).map(|(row, (id, time))| (*id, *time, row)).collect();
        rows.retain(|(id, ..)| *id != NO_KEY);
        rows.sort_unstable();
        let mut slots = Slots { starts: vec![0; keys + 1], times: Vec::new() };
        let mut of_row = vec![NO_KEY; ids.len()];
        let mut last = None;
        for (id, time, row) in rows {
            if last != Some((id, time)) {
                slots.times.push(time);
                last = Some((id, time));
            }
            let count = u32::try_from(slots.times.len()).unwrap_or(NO_KEY);
            if let Some(end) = slots.starts.get_mut(id as usize + 1) {
                *end = count;
            }
            if let Some(slot) = of_row.get_mut(row as usize) {
                *slot = count - 1;
            }
        }
        // A key without rows begins and ends where the one before it ends.
        let mut end = 0;
        for start in &mut slots.starts {
            end = end.max(*start);
            *start = end;
        }
        (slots, of_row)
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// The earliest and the latest time of all.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    /// The first slot of a key that is not before a time, and its time.
    pub(super) fn from(&self, key: u32, at: i64) -> Option<(u32, i64)> {
        let range = self.range(key as usize)?;
        let times = self.times.get(range.clone())?;
        let after = times.partition_point(|time| *time < at);
        Some((u32::try_from(range.start + after).ok()?, *times.get(after)?))
    }

    /// Every slot with its time, key after key: the inner iterators are one key's, in the order of its times.
    pub(super) fn by_key(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, i64)>> {
        let ranges = (0..self.starts.len()).filter_map(|key| self.range(key));
        ranges.map(|range| range.clone().zip(self.times.get(range).unwrap_or_default().iter().copied()))
    }

    fn range(&self, key: usize) -> Option<std::ops::Range<usize>> {
        Some(*self.starts.get(key)? as usize..*self.starts.get(key + 1)? as usize)
    }
}
