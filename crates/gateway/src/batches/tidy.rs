//! What is removed when its time is over: files of callers, the lines of batches that have ended, and batches.

use std::time::Duration;

use contract::{Error, UnixMillis};
use pipeline::task;

use super::drive::Driver;
use super::storage;

/// How often it is looked.
const SWEEP: Duration = Duration::from_secs(600);
/// How much is removed in one transaction, and the pause behind each that leaves the disk to others.
const SWEPT: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(200);

impl Driver {
    /// Removes what is over, for ever, a little at a time.
    pub(crate) async fn tidy(self) {
        loop {
            if let Err(e) = self.sweep().await {
                tracing::warn!(error = %e.message, "failed to remove files and batches whose time is over");
            }
            task::sleep(SWEEP).await;
        }
    }

    /// Removes what is over now.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let store = &self.batches.store;
        while self.files.expire(self.now(), SWEPT).await.map_err(storage)? > 0 {
            task::sleep(BETWEEN).await;
        }
        while store.clear(SWEPT).await.map_err(storage)? > 0 {
            task::sleep(BETWEEN).await;
        }
        let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(self.now().0.saturating_sub(keep));
        while store.expire(before, SWEPT).await.map_err(storage)? > 0 {
            task::sleep(BETWEEN).await;
        }
        Ok(())
    }
}
