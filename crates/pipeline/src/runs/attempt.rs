//! One attempt in this process: the work beside its heartbeats, until it is over or nobody waits for it any more.

use contract::{RunId, StageName};
use store::RunHead;
use tokio_util::sync::CancellationToken;

use super::scheduler::{STORAGE, Scheduler, unavailable};
use super::state::{Input, Report};
use super::work::{Finished, Task};
use crate::task;

/// A lease of this process, until its attempt is over.
struct Running {
    scheduler: Scheduler,
    key: (RunId, StageName),
    attempt: u32,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.scheduler.inner.running.lock();
        if running.get(&self.key).is_some_and(|(attempt, _)| *attempt == self.attempt) {
            running.remove(&self.key);
        }
    }
}

impl Scheduler {
    /// One attempt, from its lease to its report.
    pub(super) async fn attempt(self, head: RunHead, stage: StageName, attempt: u32) {
        let inner = self.inner.clone();
        let RunHead { id: run, tenant, about, .. } = head;
        let stop = inner.give_back.child_token();
        let key = (run, stage.clone());
        inner.running.lock().insert(key.clone(), (attempt, stop.clone()));
        let held = Running { scheduler: self.clone(), key, attempt, stop: stop.clone() };
        let work = async {
            let look = async {
                // Who stopped it since the lease did not find it among those that run.
                let wanted = self.load(run).await?.is_some_and(|r| r.leased(&stage, attempt));
                if !wanted {
                    held.stop.cancel();
                }
                inner.store.input(run).await
            };
            let input = match look.await {
                Ok(input) => input.unwrap_or_default(),
                Err(e) => return Finished { output: Vec::new(), result: Err(unavailable(e)) },
            };
            if held.stop.is_cancelled() {
                return std::future::pending().await;
            }
            let task = Task { run, tenant, stage: stage.clone(), attempt, about, input };
            inner.execute.execute(task).await
        };
        let beats = async {
            loop {
                task::sleep(inner.settings.lease / 3).await;
                let beat = Input::Beat { stage: stage.clone(), attempt, lease: inner.settings.lease };
                if let Err(e) = self.change(run, beat, None).await {
                    tracing::warn!(%run, error = %e, "failed to renew a lease");
                }
            }
        };
        let finished = tokio::select! {
            // What is finished is paid for: it counts though it was to stop.
            biased;
            finished = work => Some(finished),
            () = held.stop.cancelled() => None,
            () = beats => None,
        };
        let (report, output) = match finished {
            Some(Finished { output, result: Ok(()) }) => {
                (Report::Done(blake3::hash(&output).to_hex().to_string()), Some(output))
            }
            Some(Finished { output, result: Err(e) }) => (Report::Failed(e), Some(output)),
            // Whoever told it to stop has recorded why; else the lease goes back.
            None => (Report::Returned, None),
        };
        self.report(run, stage, attempt, report, output).await;
        drop(held);
        inner.wake.notify_one();
    }

    /// Brings a report to disk, however long that takes: until then the lease holds, or a later attempt does the same again.
    async fn report(
        &self,
        run: RunId,
        stage: StageName,
        attempt: u32,
        report: Report,
        output: Option<Vec<u8>>,
    ) {
        loop {
            let input = Input::Report { stage: stage.clone(), attempt, report: report.clone() };
            match self.change(run, input, output.as_deref()).await {
                Ok(_) => return,
                Err(e) => tracing::error!(%run, error = %e, "failed to keep what came of an attempt"),
            }
            tokio::select! {
                () = task::sleep(STORAGE) => {}
                // One try more, and no more.
                () = self.inner.give_back.cancelled() => {
                    let input = Input::Report { stage, attempt, report };
                    let _ = self.change(run, input, output.as_deref()).await;
                    return;
                }
            }
        }
    }
}
