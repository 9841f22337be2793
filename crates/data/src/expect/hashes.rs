//! Which rows may be the same, by a hash of each, within a bound of memory.
//!
//! 64 bits of every row are kept while batches go by. Rows that are the same have the same hash, so when no hash comes twice no row
//! does, and that is exact; the few hashes that do come twice are looked at once more by value. A column of ten million different
//! values takes 80 MB. Beyond the room there is, the hashes are let go, and whoever asks groups the rows on disk.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::hash_utils::{QualityRandomState, create_hashes};

/// Hashes lie apart by their highest bits, so that a part fits the processor's cache.
const PARTS: usize = 256;
/// Room is taken for so many hashes at once.
const STEP: usize = 512;
/// More hashes than these that come twice are not looked up one by one.
pub(crate) const MOST: usize = 100_000;

/// Hashes in pieces of [`STEP`]: what grows is not copied, so the memory touched is the memory held.
#[derive(Debug, Clone, Default)]
struct Part {
    full: Vec<Vec<u64>>,
    open: Vec<u64>,
}

/// The hashes of the rows so far, or nothing when there was no room for them.
#[derive(Debug, Clone)]
pub(crate) struct Hashes {
    parts: Option<Vec<Part>>,
    /// Those of rows that others looked at.
    others: Vec<Vec<Part>>,
}

impl Default for Hashes {
    fn default() -> Hashes {
        Hashes { parts: Some(vec![Part::default(); PARTS]), others: Vec::new() }
    }
}

impl Part {
    fn pieces(&self) -> impl Iterator<Item = &Vec<u64>> {
        self.full.iter().chain([&self.open])
    }
}

/// The hashes of rows in these columns, and which of them count: a row with a null is like no other.
pub(crate) fn of(columns: &[ArrayRef], into: &mut Vec<u64>) -> Result<Option<NullBuffer>, String> {
    let rows = columns.first().map_or(0, |c| c.len());
    into.clear();
    into.resize(rows, 0);
    // -0 is 0, and a NaN like any other.
    let plain = |column: &ArrayRef| -> ArrayRef {
        if *column.data_type() != DataType::Float64 {
            return ArrayRef::clone(column);
        }
        let one = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
        std::sync::Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
    };
    let columns: Vec<ArrayRef> = columns.iter().map(plain).collect();
    create_hashes(&columns, &QualityRandomState::with_seed(7), into).map_err(|e| e.to_string())?;
    Ok(columns.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.nulls())))
}

impl Hashes {
    /// Takes in a batch of the columns, as far as there is room, in bytes.
    pub(crate) fn add(&mut self, columns: &[ArrayRef], room: &AtomicUsize) -> Result<(), String> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let mut hashes = Vec::new();
        let nulls = of(columns, &mut hashes)?;
        let mut full = false;
        for (row, hash) in hashes.into_iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let Some(part) = parts.get_mut((hash >> 56) as usize) else { continue };
            if part.open.len() == part.open.capacity() {
                let take = |left: usize| left.checked_sub(STEP * size_of::<u64>());
                if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                    full = true;
                    break;
                }
                let before = std::mem::replace(&mut part.open, Vec::with_capacity(STEP));
                part.full.push(before);
            }
            part.open.push(hash);
        }
        if full {
            *self = Hashes { parts: None, others: Vec::new() };
        }
        Ok(())
    }

    /// Adds the hashes of other rows.
    pub(crate) fn merge(&mut self, other: Hashes) {
        match other.parts {
            Some(parts) if self.parts.is_some() => {
                self.others.push(parts);
                self.others.extend(other.others);
            }
            _ => *self = Hashes { parts: None, others: Vec::new() },
        }
    }

    /// The hashes that came more than once; `None` when they are not known or too many. Goes over all of them: not for a thread
    /// that serves.
    pub(crate) fn twice(self) -> Option<Vec<u64>> {
        let mut found = HashSet::new();
        let mut table: Vec<u64> = Vec::new();
        let all: Vec<Vec<Part>> = self.others.into_iter().chain([self.parts?]).collect();
        for part in 0..PARTS {
            let pieces = || all.iter().filter_map(|parts| parts.get(part)).flat_map(Part::pieces);
            // Open addressing: a part and its table fit the processor's cache, which a sort goes through many times.
            let size = (pieces().map(Vec::len).sum::<usize>() * 2).next_power_of_two().max(2);
            table.clear();
            table.resize(size, 0);
            for hash in pieces().flatten().copied() {
                // An empty place is 0, so a hash of 0 is kept as 1, and both are looked up when either comes twice.
                let key = hash.max(1);
                let mut at = key as usize & (size - 1);
                while let Some(place) = table.get_mut(at) {
                    if *place == key {
                        found.insert(hash);
                        break;
                    }
                    if *place == 0 {
                        *place = key;
                        break;
                    }
                    at = (at + 1) & (size - 1);
                }
            }
            if found.len() > MOST {
                return None;
            }
        }
        if found.contains(&0) || found.contains(&1) {
            found.extend([0, 1]);
        }
        Some(found.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn twice(columns: &[ArrayRef], room: usize) -> Option<usize> {
        let (mut hashes, room) = (Hashes::default(), AtomicUsize::new(room));
        hashes.add(columns, &room).unwrap();
        hashes.twice().map(|found| found.len())
    }

    #[test]
    fn what_is_the_same_has_one_hash_and_what_is_null_has_none() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(0.0),
            Some(-0.0),
            None,
            None,
            Some(f64::NAN),
            Some(-f64::NAN),
            Some(1.0),
        ]));
        assert_eq!(twice(&[floats], 1 << 20), Some(2));
        let (a, b): (ArrayRef, ArrayRef) = (
            Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(2), None])),
            Arc::new(StringArray::from(vec![Some("x"), Some("y"), Some("x"), Some("x")])),
        );
        assert_eq!(twice(&[a.clone(), b.clone()], 1 << 20), Some(0));
        assert_eq!(twice(&[b], 1 << 20), Some(1));
    }

    #[test]
    fn without_room_nothing_is_claimed() {
        let all: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        assert_eq!(twice(std::slice::from_ref(&all), 1 << 21), Some(0));
        assert_eq!(twice(&[all], 1 << 19), None);
    }

    #[test]
    fn many_that_come_twice_are_left_to_a_grouping() {
        let all: ArrayRef = Arc::new(Int64Array::from_iter_values((0..300_000).map(|n| n / 2)));
        assert_eq!(twice(&[all], 1 << 24), None);
    }
}
