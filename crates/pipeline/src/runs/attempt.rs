//! One attempt in this process: the work beside its heartbeats, until it is over or nobody waits for it any more.

use contract::{RunId, StageName};
use store::RunHead;
use tokio_util::sync::CancellationToken;

use super::scheduler::{Held, STORAGE, Scheduler, unavailable};
use super::state::{Input, Report};
use super::work::{Finished, Task};
use crate::task;

/// An attempt in the hands of this process, until it is over: as long as this is there, it is under way.
pub(super) struct Running {
    scheduler: Scheduler,
    key: (RunId, StageName),
    attempt: u32,
    stop: CancellationToken,
}

impl Running {
    pub(super) fn new(scheduler: &Scheduler, head: &RunHead, stage: &StageName, attempt: u32) -> Self {
        let key = (head.id, stage.clone());
        let stop = scheduler.inner.give_back.child_token();
        let held =
            Held { attempt, stop: stop.clone(), tenant: head.tenant.clone(), target: head.target.clone() };
        scheduler.inner.running.lock().insert(key.clone(), held);
        Running { scheduler: scheduler.clone(), key, attempt, stop }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.scheduler.inner.running.lock();
        if running.get(&self.key).is_some_and(|held| held.attempt == self.attempt) {
            running.remove(&self.key);
        }
    }
}

impl Scheduler {
    /// One attempt, from its lease to its report.
    pub(super) async fn attempt(self, head: RunHead, held: Running) {
        let inner = self.inner.clone();
        let RunHead { id: run, tenant, about, .. } = head;
        let (stage, attempt) = (held.key.1.clone(), held.attempt);
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
            let mut told = None;
            loop {
                task::sleep(inner.settings.lease / 3).await;
                let beat = |_| Input::Beat { stage: stage.clone(), attempt, lease: inner.settings.lease };
                if let Err(e) = self.change(run, beat, None).await {
                    tracing::warn!(%run, error = %e, "failed to renew a lease");
                }
                let come = inner.execute.progress(run);
                if let Some((done, of)) = come.filter(|_| come != told) {
                    let report = Report::Progress(done, of);
                    let far = |_| Input::Report { stage: stage.clone(), attempt, report: report.clone() };
                    // Others see how far it is by the journal.
                    match self.change(run, far, None).await {
                        Ok(_) => told = come,
                        Err(e) => tracing::warn!(%run, error = %e, "failed to note how far a run is"),
                    }
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
            let input = |_| Input::Report { stage: stage.clone(), attempt, report: report.clone() };
            match self.change(run, input, output.as_deref()).await {
                Ok(_) => return,
                Err(e) => tracing::error!(%run, error = %e, "failed to keep what came of an attempt"),
            }
            tokio::select! {
                () = task::sleep(STORAGE) => {}
                // One try more, and no more.
                () = self.inner.give_back.cancelled() => {
                    let _ = self.change(run, input, output.as_deref()).await;
                    return;
                }
            }
        }
    }
}
