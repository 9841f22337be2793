//! The reading end of the journal: by the process that writes it, by the next one, or by another beside it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Position, frame, path};

/// Some records, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The payloads; padding is left out.
    pub payloads: Vec<Vec<u8>>,
    /// Where to read on.
    pub end: Position,
    /// Damaged stretches that were skipped.
    pub damaged: usize,
}

/// The numbers of the segments in `folder`, ascending. Blocks.
pub fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".journal")) {
            found.extend(number.parse::<u64>().ok());
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn read_range(file: &File, from: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, from + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads one segment from `from` to `end` (to its end when `None`), about `limit` bytes at most.
pub(super) fn segment(folder: &Path, from: Position, end: Option<u64>, limit: usize) -> io::Result<Batch> {
    let mut batch = Batch { end: from, ..Batch::default() };
    if end.is_some_and(|e| e <= from.offset) {
        return Ok(batch);
    }
    let file = File::open(path(folder, from.segment))?;
    let end = match end {
        Some(end) => end,
        None => file.metadata()?.len(),
    };
    let all = usize::try_from(end.saturating_sub(from.offset)).unwrap_or(usize::MAX);
    let mut length = all.min(limit.max(frame::HEADER));
    loop {
        let bytes = read_range(&file, from.offset, length)?;
        let found = frame::scan(&bytes);
        let whole = length == all;
        if found.payloads.is_empty() && !whole {
            // One frame longer than the limit, or a damaged stretch: look further.
            length = length.saturating_mul(2).min(all);
            continue;
        }
        let payload = |r: &std::ops::Range<usize>| bytes.get(r.clone()).unwrap_or_default().to_vec();
        batch.payloads =
            found.payloads.iter().map(payload).filter(|p| !p.iter().all(|b| *b == b' ')).collect();
        batch.damaged = found.damaged;
        batch.end.offset += found.end as u64;
        return Ok(batch);
    }
}

/// Reads one segment of a dead process, from a place to its end. Blocks.
pub fn read_one(folder: &Path, from: Position) -> io::Result<Batch> {
    segment(folder, from, None, usize::MAX)
}

/// Reads everything after `from` without being the writer: what a dead process left, or what a living one has not yet
/// brought to the database. A segment that disappears meanwhile was consumed, and is passed over. Torn tails are cut,
/// damaged stretches skipped and counted. Blocks.
pub fn read_after(folder: &Path, from: Position) -> io::Result<Batch> {
    let mut all = Batch { end: from, ..Batch::default() };
    if !folder.exists() {
        return Ok(all);
    }
    for number in segments(folder)? {
        if number < from.segment {
            continue;
        }
        let offset = if number == from.segment { from.offset } else { 0 };
        match segment(folder, Position { segment: number, offset }, None, usize::MAX) {
            Ok(mut batch) => {
                all.payloads.append(&mut batch.payloads);
                all.damaged += batch.damaged;
                all.end = batch.end;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}
