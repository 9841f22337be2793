//! What the scheduler does beside the work: removes what is over, and counts what is not.

use std::time::Duration;

use contract::UnixMillis;

use super::scheduler::Scheduler;
use crate::task;

/// How often ended runs are looked for whose time is over; how many, and how many bytes, are removed in one transaction.
const SWEEP: Duration = Duration::from_secs(600);
const SWEPT: u32 = 200;
const SWEPT_BYTES: u64 = 8 << 20;
/// How many pages the file shrinks by in one transaction, and the pause behind each that leaves the disk to others.
const PAGES: u32 = 256;
const BETWEEN: Duration = Duration::from_millis(200);
/// How often open runs are counted.
const COUNTED: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Removes runs whose time is over, for ever, and gives their room back to the system, a little at a time.
    pub async fn sweep(self) {
        let inner = &*self.inner;
        let keep = i64::try_from(inner.settings.keep.as_millis()).unwrap_or(i64::MAX);
        loop {
            let before = UnixMillis(inner.clock.wall().0.saturating_sub(keep));
            let swept = async {
                while inner.store.expire(before, SWEPT, SWEPT_BYTES).await? > 0 {
                    task::sleep(BETWEEN).await;
                }
                while inner.store.shrink(PAGES).await? > 0 {
                    task::sleep(BETWEEN).await;
                }
                Ok::<_, store::Error>(())
            };
            if let Err(e) = swept.await {
                tracing::warn!(error = %e, "failed to remove runs whose time is over");
            }
            task::sleep(SWEEP).await;
        }
    }

    /// Counts open runs, for ever.
    pub async fn count(self) {
        let inner = &*self.inner;
        loop {
            match inner.store.lanes().await {
                Ok(lanes) => inner.counts.see(lanes),
                Err(e) => tracing::debug!(error = %e, "failed to count runs"),
            }
            task::sleep(COUNTED).await;
        }
    }
}
