//! The journal in front of the database: append-only segment files that survive `kill -9` of the process.
//!
//! An append is one positional `write(2)` into the page cache, under a lock held for nothing else. A failed write leaves
//! the end where it was, so that the retry overwrites what it left behind. Segments are never appended to by a later
//! process: each start opens a new one. Deleting them is the business of whoever consumed them.
//!
//! It never parses what it keeps, never waits for the disk's platter in an append, and never blocks a reader.

mod disk;
pub mod frame;
mod read;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use disk::{Disk, RealDisk, SegmentFile};
pub use read::{Batch, read_after, read_one, segments};

use crate::Error;

/// A place in the journal. Places are ordered as the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The number of the segment file.
    pub segment: u64,
    /// Bytes from its start.
    pub offset: u64,
}

/// The limits of a journal.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A segment that has grown to this many bytes is closed.
    pub segment_bytes: u64,
    /// How many acknowledged records may wait in memory for a full disk.
    pub backlog_records: usize,
    /// How many bytes of them.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { segment_bytes: 16 << 20, backlog_records: 16_384, backlog_bytes: 64 << 20 }
    }
}

struct Active {
    file: Arc<dyn SegmentFile>,
    segment: u64,
    end: u64,
    /// Files that were written since they were last synced, the active one aside.
    closed_unsynced: Vec<Arc<dyn SegmentFile>>,
    dirty: bool,
    /// Segments of this process that are closed, with their ends.
    closed: BTreeMap<u64, u64>,
    /// Acknowledged frames that the disk did not take, oldest first.
    backlog: VecDeque<Box<[u8]>>,
    backlog_bytes: usize,
}

/// The writing end of a journal. One per folder: the folder's lock is the caller's business.
pub struct Journal {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    limits: Limits,
    active: Mutex<Active>,
    failing: AtomicBool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The file of a segment.
pub(crate) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.journal"))
}

impl Journal {
    /// Opens a new segment in `folder`, with a number above `after` and above all that exist. Blocks.
    pub fn open(folder: &Path, after: u64, disk: Arc<dyn Disk>, limits: Limits) -> Result<Journal, Error> {
        let unwritable = |source| Error::Unwritable { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let newest = segments(folder).map_err(unwritable)?.last().copied().unwrap_or(0);
        let segment = newest.max(after) + 1;
        let file = disk.create(&path(folder, segment)).map_err(unwritable)?;
        let active = Active {
            file,
            segment,
            end: 0,
            closed_unsynced: Vec::new(),
            dirty: false,
            closed: BTreeMap::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        };
        let active = Mutex::new(active);
        Ok(Journal { folder: folder.to_owned(), disk, limits, active, failing: AtomicBool::new(false) })
    }

    /// Where the segments are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Behind the last record written.
    pub fn end(&self) -> Position {
        let a = self.active.lock();
        Position { segment: a.segment, offset: a.end }
    }

    /// Whether the disk refused the last write.
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether somebody removed the file that is written to: the system takes what is written, and nobody will find it.
    pub fn gone(&self) -> bool {
        let segment = self.active.lock().segment;
        std::fs::metadata(path(&self.folder, segment))
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    }

    /// How many acknowledged records wait in memory for the disk.
    pub fn backlog(&self) -> usize {
        self.active.lock().backlog.len()
    }

    /// Writes a sealed frame, or acknowledges nothing and says why.
    pub fn append(&self, sealed: &[u8]) -> Result<(), Error> {
        let mut a = self.active.lock();
        if !a.backlog.is_empty() {
            return Err(Error::Journal("earlier records still wait for the disk".to_owned()));
        }
        self.write(&mut a, sealed).map_err(|e| Error::Journal(e.to_string()))
    }

    /// Writes a sealed frame, or keeps it in memory until the disk takes it: either way it is acknowledged. Fails only
    /// when the backlog is full.
    pub fn append_or_keep(&self, sealed: &[u8]) -> Result<(), Error> {
        let mut a = self.active.lock();
        if a.backlog.is_empty() && self.write(&mut a, sealed).is_ok() {
            return Ok(());
        }
        if a.backlog.len() >= self.limits.backlog_records
            || a.backlog_bytes + sealed.len() > self.limits.backlog_bytes
        {
            return Err(Error::Journal("the disk is full and so is the backlog".to_owned()));
        }
        a.backlog_bytes += sealed.len();
        a.backlog.push_back(sealed.into());
        Ok(())
    }

    /// Tries the backlog again, or, when there is none but the last write failed, whether the disk takes writes again.
    /// Blocks as long as a write does.
    pub fn retry(&self) -> Result<(), Error> {
        if !self.failing() {
            return Ok(());
        }
        let journal = |e: std::io::Error| Error::Journal(e.to_string());
        let mut a = self.active.lock();
        if a.backlog.is_empty() {
            let mut probe = Vec::new();
            frame::begin(&mut probe);
            probe.resize(frame::HEADER + 4096, b' ');
            frame::seal(&mut probe);
            return self.write(&mut a, &probe).map_err(journal);
        }
        while let Some(next) = a.backlog.pop_front() {
            if let Err(e) = self.write(&mut a, &next) {
                a.backlog.push_front(next);
                return Err(journal(e));
            }
            a.backlog_bytes -= next.len();
        }
        Ok(())
    }

    fn write(&self, a: &mut Active, sealed: &[u8]) -> std::io::Result<()> {
        let result = self.roll_if_full(a).and_then(|()| a.file.write_all_at(sealed, a.end));
        self.failing.store(result.is_err(), Ordering::Relaxed);
        result?;
        a.end += sealed.len() as u64;
        a.dirty = true;
        Ok(())
    }

    fn roll_if_full(&self, a: &mut Active) -> std::io::Result<()> {
        if a.end < self.limits.segment_bytes {
            return Ok(());
        }
        let file = self.disk.create(&path(&self.folder, a.segment + 1))?;
        let old = std::mem::replace(&mut a.file, file);
        a.closed_unsynced.push(old);
        a.closed.insert(a.segment, a.end);
        a.segment += 1;
        a.end = 0;
        Ok(())
    }

    /// Makes all that was appended survive a power cut. Blocks for as long as the disk takes.
    pub fn sync(&self) -> Result<(), Error> {
        let (mut closed, active) = {
            let mut a = self.active.lock();
            let closed = std::mem::take(&mut a.closed_unsynced);
            (closed, std::mem::take(&mut a.dirty).then(|| a.file.clone()))
        };
        while let Some(file) = closed.first() {
            if let Err(e) = file.sync() {
                // What could not be synced is still to be: the next try begins with it.
                let mut a = self.active.lock();
                a.dirty |= active.is_some();
                a.closed_unsynced.splice(0..0, closed);
                return Err(Error::Journal(e.to_string()));
            }
            closed.remove(0);
        }
        if let Some(Err(e)) = active.as_ref().map(|f| f.sync()) {
            let mut a = self.active.lock();
            // The segment may have been closed meanwhile: then it waits among the closed ones.
            let file = active.into_iter();
            a.closed_unsynced.splice(0..0, file);
            return Err(Error::Journal(e.to_string()));
        }
        Ok(())
    }

    /// Reads on from `from`: at most about `limit` bytes, never past the end, never across segments. Blocks.
    pub fn read(&self, from: Position, limit: usize) -> Result<Batch, Error> {
        let (end, next) = {
            let a = self.active.lock();
            if from.segment >= a.segment {
                (a.end, None)
            } else {
                (a.closed.get(&from.segment).copied().unwrap_or(0), Some(from.segment + 1))
            }
        };
        let io = |e: std::io::Error| Error::Journal(e.to_string());
        let mut batch = read::segment(&self.folder, from, Some(end), limit).map_err(io)?;
        if batch.end == from && end > from.offset {
            // Bytes that were written as whole frames and no longer are: a failing disk.
            batch.damaged += 1;
            batch.end.offset = end;
        }
        if let Some(next) = next
            && batch.end.offset >= end
        {
            batch.end = Position { segment: next, offset: 0 };
        }
        Ok(batch)
    }

    /// Bytes of frames between two places that lie at most one segment apart.
    pub(crate) fn distance(&self, from: Position, to: Position) -> u64 {
        if from.segment == to.segment {
            return to.offset.saturating_sub(from.offset);
        }
        let end = self.active.lock().closed.get(&from.segment).copied().unwrap_or(from.offset);
        end.saturating_sub(from.offset) + to.offset
    }

    /// Deletes the segments that lie wholly before `consumed`. A segment that was found damaged is the caller's to keep.
    /// Blocks.
    pub fn delete_before(&self, consumed: Position) -> Result<(), Error> {
        self.active.lock().closed.retain(|segment, _| *segment >= consumed.segment);
        let unwritable = |source| Error::Unwritable { path: self.folder.clone(), source };
        for segment in segments(&self.folder).map_err(unwritable)? {
            if segment < consumed.segment {
                std::fs::remove_file(path(&self.folder, segment)).map_err(unwritable)?;
            }
        }
        Ok(())
    }
}
