//! What is counted while batches go by. Tallies of partitions are added up at the end.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use serde_json::{Map, Value};

use crate::canonical::Cells;
use crate::expect::shape::Shapes;
use crate::expect::{EXAMPLES, Hashes, Kind, Plan};

/// The values of another dataset's column, as digests: equal digests are taken for equal values (2^-128).
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(HashSet<[u8; 16]>);

impl Keys {
    /// The most there may be.
    pub(crate) const MOST: usize = 1_000_000;

    /// Takes in a batch of the column; false when there are too many.
    pub(crate) fn extend(&mut self, column: &ArrayRef) -> bool {
        let cells = Cells::of(column);
        let mut bytes = Vec::new();
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            self.0.insert(digest(&cells, row, &mut bytes));
        }
        self.0.len() <= Keys::MOST
    }

    /// Which values are there, null for null.
    pub(crate) fn known(&self, column: &ArrayRef) -> BooleanArray {
        // Texts may come as views.
        let column = match column.data_type() {
            DataType::Utf8View => &cast(column, &DataType::Utf8).unwrap_or_else(|_| ArrayRef::clone(column)),
            _ => column,
        };
        let cells = Cells::of(column);
        let mut bytes = Vec::new();
        let known = |row| column.is_valid(row).then(|| self.0.contains(&digest(&cells, row, &mut bytes)));
        (0..column.len()).map(known).collect()
    }
}

fn digest(cells: &Cells<'_>, row: usize, bytes: &mut Vec<u8>) -> [u8; 16] {
    bytes.clear();
    cells.encode(row, bytes);
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(blake3::hash(bytes).as_bytes()) {
        *to = *from;
    }
    short
}

/// What a condition of rows says of a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The expectation is not about single rows.
    NotOfRows,
    /// The rows that break it.
    Fails(BooleanBuffer),
    /// It could not be worked out.
    Broken(String),
}

/// The counts of one expectation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) failed: u64,
    pub(crate) examples: Vec<Map<String, Value>>,
    /// The newest time, in microseconds since the epoch.
    pub(crate) newest: Option<i64>,
    pub(crate) bins: Vec<u64>,
    pub(crate) broken: Option<String>,
    /// The rows, for `unique` over a whole version.
    pub(crate) hashes: Option<Hashes>,
}

/// The counts of all expectations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Rows that conditions of rows looked at.
    pub(crate) rows: u64,
    /// Rows that the others looked at: fewer, when bad rows were taken out before.
    pub(crate) kept: u64,
    pub(crate) seen: Vec<Seen>,
    /// What the columns look like.
    pub(crate) shapes: Shapes,
}

/// What a grouping found of rows that are the same.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    /// Rows that have another like them.
    pub(crate) rows: u64,
    /// Of the values that come more than once, the first by their text, and how often.
    pub(crate) examples: BTreeMap<String, Map<String, Value>>,
}

impl Duplicates {
    /// Takes in values and how often they come.
    pub(crate) fn add(&mut self, count: u64, mut example: Map<String, Value>) {
        self.rows += count;
        let text = Value::Object(example.clone()).to_string();
        example.insert("rows".to_owned(), count.into());
        self.examples.insert(text, example);
        if self.examples.len() > EXAMPLES {
            self.examples.pop_last();
        }
    }
}

/// A row of a batch as JSON, of the columns given by their places.
pub(crate) fn row(batch: &RecordBatch, row: usize, columns: &[usize]) -> Map<String, Value> {
    let Ok(columns) = batch.project(columns) else { return Map::new() };
    crate::dataset::Batch::of(columns.slice(row, 1)).to_json().pop().unwrap_or_default()
}

impl Tally {
    pub(crate) fn new(plan: &Plan) -> Tally {
        let seen = plan.kinds().map(|kind| Seen {
            bins: match kind {
                Kind::Bins(_, reference) => vec![0; reference.len()],
                _ => Vec::new(),
            },
            hashes: (matches!(kind, Kind::Unique(_)) && plan.room.is_some()).then(Hashes::default),
            ..Seen::default()
        });
        Tally { rows: 0, kept: 0, seen: seen.collect(), shapes: Shapes::new(plan.schema.columns.len()) }
    }

    /// Counts what conditions of rows say of a batch.
    pub(crate) fn rows(&mut self, plan: &Plan, batch: &RecordBatch, verdicts: &[Verdict]) {
        self.rows += batch.num_rows() as u64;
        self.shapes.add(batch);
        for ((seen, verdict), columns) in self.seen.iter_mut().zip(verdicts).zip(plan.columns()) {
            match verdict {
                Verdict::NotOfRows => {}
                Verdict::Fails(rows) => seen.fail(batch, rows, columns),
                Verdict::Broken(why) => seen.broken = Some(why.clone()),
            }
        }
    }

    /// Counts for expectations of rows taken together.
    pub(crate) fn whole(&mut self, plan: &Plan, batch: &RecordBatch) {
        self.kept += batch.num_rows() as u64;
        for ((seen, kind), columns) in self.seen.iter_mut().zip(plan.kinds()).zip(plan.columns()) {
            let done = match kind {
                Kind::Share(holds, _) => {
                    plan.failing(holds, batch).map(|rows| seen.fail(batch, &rows, columns))
                }
                Kind::Newest(column, _) => {
                    seen.newest = seen.newest.max(newest(batch.column(*column)));
                    Ok(())
                }
                Kind::Bins(column, reference) => {
                    reference.count(batch.column(*column), &mut seen.bins).map_err(|e| e.to_string())
                }
                Kind::Unique(_) => match (&mut seen.hashes, &plan.room) {
                    (Some(hashes), Some(room)) => {
                        let columns: Vec<ArrayRef> =
                            columns.iter().filter_map(|at| batch.columns().get(*at).cloned()).collect();
                        hashes.add(&columns, room)
                    }
                    _ => Ok(()),
                },
                _ => Ok(()),
            };
            if let Err(why) = done {
                seen.broken = Some(why);
            }
        }
    }

    /// Takes out the hashes of rows, by the place of the expectation they are for.
    pub(crate) fn hashes(&mut self) -> BTreeMap<usize, Hashes> {
        let all = self.seen.iter_mut().enumerate();
        all.filter_map(|(at, seen)| Some((at, seen.hashes.take()?))).collect()
    }

    /// Adds another part of the same rows.
    pub(crate) fn merge(&mut self, other: Tally) {
        self.rows += other.rows;
        self.kept += other.kept;
        self.shapes.merge(other.shapes);
        for (seen, other) in self.seen.iter_mut().zip(other.seen) {
            seen.failed += other.failed;
            let room = EXAMPLES.saturating_sub(seen.examples.len());
            seen.examples.extend(other.examples.into_iter().take(room));
            seen.newest = seen.newest.max(other.newest);
            for (count, more) in seen.bins.iter_mut().zip(other.bins) {
                *count += more;
            }
            seen.broken = seen.broken.take().or(other.broken);
            if let (Some(mine), Some(theirs)) = (&mut seen.hashes, other.hashes) {
                mine.merge(theirs);
            }
        }
    }
}

impl Seen {
    fn fail(&mut self, batch: &RecordBatch, rows: &BooleanBuffer, columns: &[usize]) {
        self.failed += rows.count_set_bits() as u64;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(rows.set_indices().take(room).map(|at| row(batch, at, columns)));
    }
}

fn newest(column: &ArrayRef) -> Option<i64> {
    match column.data_type() {
        DataType::Timestamp(..) => max(column.as_primitive::<TimestampMicrosecondType>()),
        DataType::Date32 => max(column.as_primitive::<Date32Type>()).map(|d| i64::from(d) * 86_400_000_000),
        _ => None,
    }
}
