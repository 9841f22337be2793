//! The few things the journal asks of a disk, as a trait, so that a full or failing one can be tested.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// One segment, opened for writing.
pub trait SegmentFile: Send + Sync {
    /// Writes all of `bytes` at `offset`, or fails; a failure may leave any part of them behind. Blocks.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Waits until what was written survives a power cut. Blocks.
    fn sync(&self) -> io::Result<()>;
}

/// Where segments are created.
pub trait Disk: Send + Sync {
    /// Creates the file; fails when it exists. Blocks.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Arc::new(file))
    }
}

impl SegmentFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
