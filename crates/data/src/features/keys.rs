//! Keys of entities as small numbers.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};

use crate::canonical::Cells;

/// The number of a key that is not known, or has a null in it.
pub(super) const NO_KEY: u32 = u32::MAX;

/// The keys that are known, each with a number from 0 on. One column of integers or texts is looked up as it is, anything else
/// by its canonical bytes. Hashed under a random seed: keys come from outside.
pub(super) enum Keys {
    Int(HashMap<i64, u32>),
    Text(HashMap<Box<str>, u32>),
    Bytes(HashMap<Box<[u8]>, u32>),
}

impl Keys {
    /// For columns of these types.
    pub(super) fn new(types: &[DataType]) -> Keys {
        match types {
            [DataType::Int64] => Keys::Int(HashMap::default()),
            [DataType::Utf8] => Keys::Text(HashMap::default()),
            _ => Keys::Bytes(HashMap::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Keys::Int(map) => map.len(),
            Keys::Text(map) => map.len(),
            Keys::Bytes(map) => map.len(),
        }
    }

    /// Appends the number of every row's key, new keys getting the next.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize, out: &mut Vec<u32>) {
        let next = u32::try_from(self.len()).unwrap_or(NO_KEY);
        match (self, columns) {
            (Keys::Int(map), [column]) => {
                let array = column.as_primitive::<Int64Type>();
                let mut next = next;
                out.extend(array.iter().map(|key| {
                    key.map_or(NO_KEY, |key| *map.entry(key).or_insert_with(|| counted(&mut next)))
                }));
            }
            (Keys::Text(map), [column]) => {
                let mut next = next;
                out.extend(column.as_string::<i32>().iter().map(|key| match key {
                    None => NO_KEY,
                    Some(key) => match map.get(key) {
                        Some(number) => *number,
                        None => *map.entry(key.into()).or_insert_with(|| counted(&mut next)),
                    },
                }));
            }
            (Keys::Bytes(map), columns) => {
                let mut next = next;
                encoded(columns, rows, |key| {
                    out.push(key.map_or(NO_KEY, |key| match map.get(key) {
                        Some(number) => *number,
                        None => *map.entry(key.into()).or_insert_with(|| counted(&mut next)),
                    }));
                });
            }
            (Keys::Int(_) | Keys::Text(_), _) => out.extend(std::iter::repeat_n(NO_KEY, rows)),
        }
    }

    /// The number of every row's key.
    pub(super) fn find(&self, columns: &[ArrayRef], rows: usize) -> Vec<u32> {
        let number = |found: Option<&u32>| found.copied().unwrap_or(NO_KEY);
        match (self, columns) {
            (Keys::Int(map), [column]) => {
                let array = column.as_primitive::<Int64Type>();
                array.iter().map(|key| number(key.and_then(|key| map.get(&key)))).collect()
            }
            (Keys::Text(map), [column]) => {
                let array = column.as_string::<i32>();
                array.iter().map(|key| number(key.and_then(|key| map.get(key)))).collect()
            }
            (Keys::Bytes(map), columns) => {
                let mut out = Vec::with_capacity(rows);
                encoded(columns, rows, |key| out.push(number(key.and_then(|key| map.get(key)))));
                out
            }
            (Keys::Int(_) | Keys::Text(_), _) => vec![NO_KEY; rows],
        }
    }
}

fn counted(next: &mut u32) -> u32 {
    let number = *next;
    *next = next.saturating_add(1);
    number
}

/// Every row's key as bytes, `None` where there is a null in it.
fn encoded(columns: &[ArrayRef], rows: usize, mut each: impl FnMut(Option<&[u8]>)) {
    let cells: Vec<Cells<'_>> = columns.iter().map(Cells::of).collect();
    let mut key = Vec::with_capacity(64);
    for row in 0..rows {
        if columns.iter().any(|column| column.is_null(row)) {
            each(None);
            continue;
        }
        key.clear();
        for column in &cells {
            column.encode(row, &mut key);
        }
        each(Some(&key));
    }
}
