//! The best row so far of every slot.
//!
//! Rows are offered in any order and the better one stays, by a total order: so what was offered to several of these, merged,
//! is what would have been offered to one.
//!
//! **Invariant.** At most two rows of features are kept per filled slot, and a few thousand more: rows that lost are dropped
//! when there are more of them than of those that stay.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::error::ArrowError;

use crate::features::order;
use crate::source::BATCH_ROWS;

/// What decides between rows before their content does: the later event, then the later ingest. In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) event: i64,
    pub(super) ingest: i64,
}

/// Where a row of features is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) chunk: u32,
    pub(super) row: u32,
}

/// The chunk of a slot that nothing was offered to.
const NOWHERE: u32 = u32::MAX;
/// The chunk of a row that is in the batch being offered.
const HERE: u32 = u32::MAX - 1;
/// Chunks there may be, whatever their size, before they are put together.
const CHUNKS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Best {
    stamp: Stamp,
    at: At,
}

const EMPTY: Best =
    Best { stamp: Stamp { event: i64::MIN, ingest: i64::MIN }, at: At { chunk: NOWHERE, row: 0 } };

/// See the module.
pub(super) struct Latest {
    best: Vec<Best>,
    /// Columns of features, some thousand rows each.
    chunks: Vec<Vec<ArrayRef>>,
    /// Rows in `chunks`.
    kept: usize,
    /// Slots with a row.
    filled: usize,
    /// Slots whose best row is in the batch being offered.
    touched: Vec<u32>,
}

impl Latest {
    pub(super) fn new(slots: usize) -> Latest {
        Latest { best: vec![EMPTY; slots], chunks: Vec::new(), kept: 0, filled: 0, touched: Vec::new() }
    }

    /// Offers a row of a batch to a slot. [`Latest::settle`] has to come before rows of another batch.
    pub(super) fn offer(&mut self, slot: u32, stamp: Stamp, row: u32, batch: &[ArrayRef]) {
        let Some(best) = self.best.get(slot as usize).copied() else { return };
        let order = match best.at.chunk {
            NOWHERE => Ordering::Greater,
            HERE => stamp
                .cmp(&best.stamp)
                .then_with(|| order::rows(batch, row as usize, batch, best.at.row as usize)),
            _ => stamp
                .cmp(&best.stamp)
                .then_with(|| order::rows(batch, row as usize, self.columns(best.at), best.at.row as usize)),
        };
        if order == Ordering::Greater {
            if best.at.chunk != HERE {
                self.touched.push(slot);
                self.filled += usize::from(best.at.chunk == NOWHERE);
            }
            if let Some(best) = self.best.get_mut(slot as usize) {
                *best = Best { stamp, at: At { chunk: HERE, row } };
            }
        }
    }

    /// Copies what stays of a batch, so that the batch can go.
    pub(super) fn settle(&mut self, batch: &[ArrayRef]) -> Result<(), ArrowError> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return Ok(());
        }
        let chunk = self.next_chunk()?;
        let mut rows: Vec<u32> = Vec::with_capacity(touched.len());
        for (row, slot) in (0..).zip(&touched) {
            if let Some(best) = self.best.get_mut(*slot as usize) {
                rows.push(best.at.row);
                best.at = At { chunk, row };
            }
        }
        self.kept += rows.len();
        let rows = UInt32Array::from(rows);
        self.chunks.push(batch.iter().map(|c| take(c, &rows, None)).collect::<Result<_, _>>()?);
        if self.chunks.len() > CHUNKS || self.kept > 2 * self.filled + BATCH_ROWS {
            self.compact()?;
        }
        self.touched = touched;
        self.touched.clear();
        Ok(())
    }

    /// What both were offered.
    pub(super) fn merge(&mut self, other: Latest) -> Result<(), ArrowError> {
        let offset = self.next_chunk()?;
        self.kept += other.kept;
        self.chunks.extend(other.chunks);
        for (slot, theirs) in other.best.into_iter().enumerate() {
            if theirs.at.chunk == NOWHERE {
                continue;
            }
            let at = At { chunk: theirs.at.chunk + offset, row: theirs.at.row };
            let Some(best) = self.best.get(slot).copied() else { continue };
            let order = match best.at.chunk {
                NOWHERE => Ordering::Greater,
                _ => theirs.stamp.cmp(&best.stamp).then_with(|| {
                    let (a, b) = (self.columns(at), self.columns(best.at));
                    order::rows(a, at.row as usize, b, best.at.row as usize)
                }),
            };
            if order == Ordering::Greater
                && let Some(best) = self.best.get_mut(slot)
            {
                *best = Best { stamp: theirs.stamp, at };
            }
        }
        self.compact()
    }

    /// The best row of a slot and when it happened.
    pub(super) fn get(&self, slot: usize) -> Option<(Stamp, At)> {
        let best = self.best.get(slot)?;
        (best.at.chunk != NOWHERE).then_some((best.stamp, best.at))
    }

    /// Rows of features that are in memory.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// The rows that stay, which the slots' places are in.
    pub(super) fn into_chunks(self) -> Vec<Vec<ArrayRef>> {
        self.chunks
    }

    /// Drops the rows that lost.
    pub(super) fn compact(&mut self) -> Result<(), ArrowError> {
        let filled: Vec<usize> = (0..self.best.len()).filter(|slot| self.get(*slot).is_some()).collect();
        let mut chunks = Vec::with_capacity(filled.len() / BATCH_ROWS + 1);
        for slots in filled.chunks(BATCH_ROWS) {
            let rows: Vec<(usize, usize)> = slots
                .iter()
                .filter_map(|slot| self.get(*slot))
                .map(|(_, at)| (at.chunk as usize, at.row as usize))
                .collect();
            let width = self.chunks.first().map_or(0, Vec::len);
            let mut columns = Vec::with_capacity(width);
            for column in 0..width {
                let arrays: Vec<_> =
                    self.chunks.iter().filter_map(|chunk| chunk.get(column)).map(AsRef::as_ref).collect();
                columns.push(interleave(&arrays, &rows)?);
            }
            chunks.push(columns);
        }
        for (chunk, slots) in (0..).zip(filled.chunks(BATCH_ROWS)) {
            for (row, slot) in (0..).zip(slots) {
                if let Some(best) = self.best.get_mut(*slot) {
                    best.at = At { chunk, row };
                }
            }
        }
        self.chunks = chunks;
        self.kept = filled.len();
        self.filled = filled.len();
        Ok(())
    }

    fn columns(&self, at: At) -> &[ArrayRef] {
        self.chunks.get(at.chunk as usize).map_or(&[], Vec::as_slice)
    }

    fn next_chunk(&self) -> Result<u32, ArrowError> {
        u32::try_from(self.chunks.len()).ok().filter(|n| *n < HERE).ok_or_else(|| {
            ArrowError::ComputeError("there are more rows of features than can be counted".to_owned())
        })
    }
}
