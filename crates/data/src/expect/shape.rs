//! What columns look like, beside what is expected of them: nulls, counted, and the shape of values, from a sample.
//!
//! The sample takes values of every batch, one from each of equal stretches, and when it grows too large keeps every second one and
//! skips every second batch, so that it lies evenly over the rows whatever their number. It is for the eye: no outcome depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use crate::expect::numbers;
use crate::{ColumnType, Schema};

/// Values taken of a batch.
const OF_BATCH: usize = 512;
/// Values kept of a column, at most.
const KEPT: usize = 4096;
/// Bars of a histogram.
const BARS: usize = 24;
/// Values of a text that are shown.
const SHOWN: usize = 8;
/// The longest value that is shown, in characters.
const LONGEST: usize = 40;

/// What a column looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSeen {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: String,
    /// Nulls in it.
    pub nulls: u64,
    /// How many values `values` is of.
    pub sampled: u64,
    /// How they are spread; `None` when there is none, when it has no meaning, and for a column that is redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Spread>,
}

/// How the values of a sample are spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Of numbers, dates and times: counts in stretches of equal width.
    Numbers {
        /// The smallest, as text of the column's type.
        low: String,
        /// The largest.
        high: String,
        /// From the smallest to the largest.
        counts: Vec<u64>,
    },
    /// Of texts and bools: the most frequent values and how often each came.
    Values {
        /// The most frequent first.
        most: Vec<(String, u64)>,
        /// How often others came.
        others: u64,
    },
}

/// What was seen of a column so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    nulls: u64,
    numbers: Vec<f64>,
    texts: Vec<String>,
}

/// What was seen of all columns so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    batches: u64,
    /// A sample is taken of one batch in so many.
    every: u64,
    seen: Vec<Seen>,
}

impl Shapes {
    pub(crate) fn new(columns: usize) -> Shapes {
        Shapes { batches: 0, every: 1, seen: vec![Seen::default(); columns] }
    }

    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        let sampled = self.batches.is_multiple_of(self.every.max(1));
        self.batches += 1;
        let rows = batch.num_rows();
        let step = rows.div_ceil(OF_BATCH).max(1);
        // Within a stretch now here, now there: rows often have a rhythm of their own.
        let place = |row: usize| row + (row / step).wrapping_mul(2_654_435_761) % step;
        let places = (0..rows).step_by(step).map(place).filter(|row| *row < rows);
        let places: UInt32Array = places.filter_map(|row| u32::try_from(row).ok()).collect();
        for (seen, column) in self.seen.iter_mut().zip(batch.columns()) {
            seen.nulls += column.null_count() as u64;
            if sampled && let Ok(values) = take(column, &places, None) {
                seen.take(&values);
            }
        }
        self.thin();
    }

    pub(crate) fn merge(&mut self, other: Shapes) {
        self.batches += other.batches;
        for (seen, other) in self.seen.iter_mut().zip(other.seen) {
            seen.nulls += other.nulls;
            seen.numbers.extend(other.numbers);
            seen.texts.extend(other.texts);
        }
        self.thin();
    }

    fn thin(&mut self) {
        while self.seen.iter().any(|s| s.numbers.len().max(s.texts.len()) > KEPT) {
            self.every = self.every.max(1) * 2;
            for seen in &mut self.seen {
                let mut keep = false;
                let mut second = || {
                    keep = !keep;
                    keep
                };
                seen.numbers.retain(|_| second());
                seen.texts.retain(|_| second());
            }
        }
    }

    pub(crate) fn columns(self, schema: &Schema) -> Vec<ColumnSeen> {
        let column = |(column, seen): (&crate::Column, Seen)| ColumnSeen {
            name: column.name.clone(),
            ty: column.ty.to_string(),
            nulls: seen.nulls,
            sampled: seen.numbers.len().max(seen.texts.len()) as u64,
            values: seen.spread(&column.ty),
        };
        schema.columns.iter().zip(self.seen).map(column).collect()
    }
}

impl Seen {
    fn take(&mut self, values: &ArrayRef) {
        match values.data_type() {
            DataType::Utf8 | DataType::Utf8View | DataType::Boolean => {
                let Ok(texts) = cast(values, &DataType::Utf8) else { return };
                let short = |text: &str| text.chars().take(LONGEST).collect();
                self.texts.extend(texts.as_string::<i32>().iter().flatten().map(short));
            }
            DataType::Binary | DataType::List(_) | DataType::Struct(_) => {}
            _ => {
                let Ok(found) = numbers(values) else { return };
                self.numbers.extend(found.iter().flatten().filter(|x| x.is_finite()));
            }
        }
    }

    fn spread(&self, ty: &ColumnType) -> Option<Spread> {
        if !self.texts.is_empty() {
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for text in &self.texts {
                *counts.entry(text).or_default() += 1;
            }
            let mut most: Vec<(String, u64)> = counts.into_iter().map(|(t, n)| (t.to_owned(), n)).collect();
            most.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            let others = most.iter().skip(SHOWN).map(|(_, n)| n).sum();
            most.truncate(SHOWN);
            return Some(Spread::Values { most, others });
        }
        let low = self.numbers.iter().copied().reduce(f64::min)?;
        let high = self.numbers.iter().copied().reduce(f64::max)?;
        let mut counts = vec![0_u64; BARS];
        for x in &self.numbers {
            // Halved, so that the largest doubles do not overflow.
            let part = (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            let bar = if part.is_finite() { (part * BARS as f64) as usize } else { 0 };
            if let Some(count) = counts.get_mut(bar.min(BARS - 1)) {
                *count += 1;
            }
        }
        Some(Spread::Numbers { low: shown(low, ty), high: shown(high, ty), counts })
    }
}

/// A number as its column shows it: times and dates in ISO 8601.
pub(crate) fn shown(x: f64, ty: &ColumnType) -> String {
    let array: ArrayRef = match ty {
        ColumnType::Date => Arc::new(Date32Array::from(vec![x as i32])),
        ColumnType::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from(vec![x as i64]).with_timezone("UTC"))
        }
        ColumnType::DateTime => Arc::new(TimestampMicrosecondArray::from(vec![x as i64])),
        ColumnType::Float | ColumnType::Decimal(..) if x.abs() < 1e9 => {
            let text = format!("{x:.4}");
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        _ => return format!("{x}"),
    };
    cast(&array, &DataType::Utf8).map_or_else(|_| x.to_string(), |t| t.as_string::<i32>().value(0).to_owned())
}
