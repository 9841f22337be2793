//! One attempt in this process: the work beside its heartbeats, until it is over or nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{Code, Deadline, Error, RunId, StageName};
use store::RunHead;
use tokio_util::sync::CancellationToken;

use super::active::{Begun, Left, Needed};
use super::entry::StagePlan;
use super::scheduler::{Held, STORAGE, Scheduler, unavailable};
use super::state::{Here, Input, Made, Report};
use super::work::{Finished, Given, Task};
use crate::task;

/// An attempt in the hands of this process, until it is over: as long as this is there, it is under way.
pub(super) struct Running {
    scheduler: Scheduler,
    key: (RunId, StageName),
    attempt: u32,
    stop: CancellationToken,
}

impl Running {
    pub(super) fn new(scheduler: &Scheduler, head: &RunHead, stage: &StagePlan, attempt: u32) -> Self {
        let key = (head.id, stage.name.clone());
        let stop = scheduler.inner.give_back.child_token();
        let held = Held {
            attempt,
            stop: stop.clone(),
            tenant: head.tenant.clone(),
            target: head.target.clone(),
            group: stage.group.clone(),
            rests: false,
        };
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
    /// An attempt waits for another run from now on, and gives its place to others: else runs that wait could take all the places
    /// that those need which they wait for.
    pub(crate) fn rest(&self, run: RunId, stage: &StageName, attempt: u32) {
        let mut running = self.inner.running.lock();
        if let Some(held) = running.get_mut(&(run, stage.clone()))
            && held.attempt == attempt
        {
            held.rests = true;
        }
        drop(running);
        self.inner.wake.notify_one();
    }

    /// Attempts at the stages of a run, one behind the other on one place, as long as nobody else waits for it.
    pub(super) async fn attempts(self, first: Begun) {
        let mut next = Some(first);
        while let Some(begun) = next {
            next = self.attempt(begun).await;
        }
        self.inner.wake.notify_one();
    }

    /// One attempt, from its lease to its report. The next one on the same place, if there is any.
    async fn attempt(&self, begun: Begun) -> Option<Begun> {
        let inner = self.inner.clone();
        let (run, stage, attempt) = (begun.head.id, begun.stage.name.clone(), begun.attempt);
        let held = begun.held;
        let timeout = begun.stage.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let work = async {
            let given = async {
                let input = match begun.input {
                    Some(input) => input,
                    None => self.input(run).await?,
                };
                Ok::<_, store::Error>((input, self.given(run, begun.given).await?))
            };
            let (input, given) = match given.await {
                Ok(given) => given,
                Err(e) => return Finished::failed(unavailable(e)),
            };
            let task = Task {
                run,
                kind: begun.head.kind,
                tenant: begun.head.tenant,
                stage: begun.stage,
                key: begun.key,
                attempt,
                about: begun.head.about,
                input,
                given,
            };
            inner.execute.execute(task).await
        };
        let work = async {
            let Some(timeout) = timeout else { return work.await };
            let deadline = Deadline::NEVER.within(inner.clock.now(), Some(timeout));
            match task::within(&*inner.clock, deadline, work).await {
                Ok(finished) => finished,
                Err(task::Elapsed) => {
                    let m = format!("stage `{stage}` ran out of its time of {} s", timeout.as_secs_f64());
                    Finished::failed(Error::new(Code::DeadlineExceeded, m))
                }
            }
        };
        let beats = async {
            let mut told = None;
            loop {
                task::sleep(inner.settings.lease / 3).await;
                let beat =
                    |_| vec![Input::Beat { stage: stage.clone(), attempt, lease: inner.settings.lease }];
                if let Err(e) = self.change(run, beat, None).await {
                    tracing::warn!(%run, error = %e, "failed to renew a lease");
                }
                let come = inner.execute.progress(run, &stage);
                if let Some((done, of)) = come.filter(|_| come != told) {
                    let report = Report::Progress(done, of);
                    let far =
                        |_| vec![Input::Report { stage: stage.clone(), attempt, report: report.clone() }];
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
        let hash = |output: &[u8]| blake3::hash(output).to_hex().to_string();
        let (report, left) = match finished {
            Some(Finished { output, result: Ok(()), reused, note, result_of, lineage, .. }) => {
                let made = Made { output: hash(&output), reused, partial: None, note };
                (Report::Made(made), Some(Left { output: output.into(), result_of, lineage }))
            }
            Some(Finished { output, result: Err(e), partial: true, note, lineage, .. }) => {
                let made = Made { output: hash(&output), reused: None, partial: Some(e), note };
                (Report::Made(made), Some(Left { output: output.into(), result_of: None, lineage }))
            }
            Some(Finished { output, result: Err(e), .. }) => {
                (Report::Failed(e), Some(Left { output: output.into(), result_of: None, lineage: None }))
            }
            // Whoever told it to stop has recorded why; else the lease goes back.
            None => (Report::Returned, None),
        };
        self.report(run, stage, attempt, report, left).await
        // `held` is dropped behind this: until then the attempt is ours.
    }

    /// What a stage is given of those that it needs.
    async fn given(
        &self,
        run: RunId,
        needed: Vec<(StageName, Needed)>,
    ) -> Result<Vec<(StageName, Given)>, store::Error> {
        let mut given = Vec::with_capacity(needed.len());
        for (name, needed) in needed {
            let value = match needed {
                Needed::Output(key) => {
                    let output = self.inner.store.output(run, &key).await?;
                    Given::Output(Arc::from(output.unwrap_or_default()))
                }
                Needed::Here(output) => Given::Output(output),
                Needed::Default(stage) => Given::Default(stage),
                Needed::Nothing => Given::Nothing,
            };
            given.push((name, value));
        }
        Ok(given)
    }

    /// Brings a report to disk, however long that takes: until then the lease holds, or a later attempt does the same again.
    /// Where something came of it, the run's next stage begins in the same transaction, if nobody else waits for the place.
    async fn report(
        &self,
        run: RunId,
        stage: StageName,
        attempt: u32,
        report: Report,
        left: Option<Left>,
    ) -> Option<Begun> {
        let goes_on = report != Report::Returned;
        let said = || Input::Report { stage: stage.clone(), attempt, report: report.clone() };
        let inputs = |here: Here| {
            let stopping = self.inner.stopping.is_cancelled() || self.inner.pressed.load(Ordering::Relaxed);
            let next = (goes_on && !stopping).then(|| Input::Take(Here { grouped: false, ..here }));
            std::iter::once(said()).chain(next).collect()
        };
        loop {
            match self.change(run, inputs, left.as_ref()).await {
                Ok(changed) => {
                    let changed = changed?;
                    if changed.more {
                        self.inner.wake.notify_one();
                    }
                    return changed.begun;
                }
                Err(e) => tracing::error!(%run, error = %e, "failed to keep what came of an attempt"),
            }
            tokio::select! {
                () = task::sleep(STORAGE) => {}
                // One try more, and no more.
                () = self.inner.give_back.cancelled() => {
                    let _ = self.change(run, |_| vec![said()], left.as_ref()).await;
                    return None;
                }
            }
        }
    }
}
