//! What the scheduler does beside the work: removes what is over, counts what is not, and keeps an eye on the other workers.
//!
//! Whether a worker lives is the store's to say, by the store's clock: on one that a single process works on, no other does.

use std::time::Duration;

use contract::UnixMillis;

use super::scheduler::{STORAGE, Scheduler};
use super::state::{Input, Status};
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
/// A worker that was silent for as long is dead; it is never longer than a lease. It says several times in that time that it lives.
const SILENT: Duration = Duration::from_secs(20);
const SAID: u32 = 4;

impl Scheduler {
    /// Says that this worker lives, takes over what those held that fell silent, and begins what others made due; for ever.
    pub async fn watch(self) {
        let said = async {
            loop {
                task::sleep(self.silent() / SAID).await;
                let before = self.inner.living.lock().clone();
                let seen = async {
                    let living = self.say_living().await?;
                    match before.iter().all(|w| living.contains(w)) {
                        true => Ok(()),
                        false => self.take_over().await,
                    }
                };
                if let Err(e) = seen.await {
                    // Tried again: whom nobody has seen since then is missed again.
                    *self.inner.living.lock() = before;
                    tracing::warn!(error = %e, "failed to look after other workers");
                }
            }
        };
        let woken = async {
            loop {
                match self.inner.store.woken().await {
                    Ok(()) => {
                        self.inner.wake.notify_one();
                        self.inner.told.notify_one();
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "failed to listen to other workers");
                        task::sleep(STORAGE).await;
                    }
                }
            }
        };
        let _: ((), ()) = tokio::join!(said, woken);
    }

    fn silent(&self) -> Duration {
        SILENT.min(self.inner.settings.lease)
    }

    /// Says that this worker lives. The others that do.
    async fn say_living(&self) -> Result<Vec<String>, store::Error> {
        let inner = &*self.inner;
        let living = inner.store.living(&inner.settings.worker, self.silent()).await?;
        *inner.living.lock() = living.clone();
        Ok(living)
    }

    /// What is leased to a worker that does not live is lost.
    pub(super) async fn take_over(&self) -> Result<(), store::Error> {
        let inner = &*self.inner;
        // Before anything is taken: nobody else takes that for lost then.
        self.say_living().await?;
        let mut held = Vec::new();
        for head in inner.store.in_state(Status::Running.as_str()).await? {
            let run = match self.load(head.id).await {
                Ok(Some(run)) => run,
                Ok(None) => continue,
                // One that cannot be read holds nobody up.
                Err(e) => {
                    tracing::error!(run = %head.id, error = %e, "failed to read a run's journal; it is left as it is");
                    continue;
                }
            };
            let mut workers: Vec<String> =
                run.stages().filter_map(|(_, s)| Some(s.held()?.worker.clone())).collect();
            workers.sort();
            workers.dedup();
            inner.active.saw(head.id, run.entries()).await;
            held.extend(workers.into_iter().map(|worker| (head.id, worker)));
        }
        // Asked behind the journals: a worker that came meanwhile, and holds something, lives.
        let living = self.say_living().await?;
        held.retain(|(_, w)| *w != inner.settings.worker && !living.contains(w));
        for (id, worker) in held {
            self.change(id, |_| vec![Input::Dead { worker: worker.clone() }], None).await?;
        }
        inner.wake.notify_one();
        Ok(())
    }

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
