//! Runs that stages of other runs call: made once for each attempt that may count, waited for, and ended with their parents.
//!
//! A child's id is made of the key of its parent's effect and of how often it failed before, so whoever asks for it asks for the
//! same run: an attempt that died, or was made twice, leaves one child. A child that failed counts as a failure of its stage; the
//! next attempt makes another, which resumes it.
//!
//! A child ends with its parent: at once, where the parent ended in this process or was waited for in it; else before its next
//! stage begins.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Attempt, Code, Context, Error, Outcome, PipelineName, RequestId, RunId, StageName, UnixMillis, Value,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use tokio::sync::Notify;

use crate::durable::{Asked, Durable, Kept};
use crate::runs::{Run, Status, unavailable};
use crate::task;

/// How long a wait for a child that another process works on goes on without a look.
const LOOK: Duration = Duration::from_secs(2);

/// How often is looked whether a stage failed whose wait was dropped.
const LEFT: u32 = 10;

/// What a stage wants of a child.
pub(super) struct Wanted {
    pub(super) pipeline: PipelineName,
    pub(super) params: Map<String, Json>,
    pub(super) input: Option<Value>,
}

/// Whose child a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run that called it.
    pub run: RunId,
    /// The stage.
    pub stage: StageName,
}

/// Children that somebody in this process waits for, by their parents.
#[derive(Default)]
pub(crate) struct Children(Mutex<Waited>);

#[derive(Default)]
struct Waited {
    of: HashMap<RunId, HashSet<RunId>>,
    ends: HashMap<RunId, (usize, Arc<Notify>)>,
}

impl Children {
    fn wait(&self, parent: RunId, child: RunId) -> Arc<Notify> {
        let mut waited = self.0.lock();
        waited.of.entry(parent).or_default().insert(child);
        let (n, ended) = waited.ends.entry(child).or_default();
        *n += 1;
        ended.clone()
    }

    fn leave(&self, parent: RunId, child: RunId) {
        let mut waited = self.0.lock();
        if let Some((n, _)) = waited.ends.get_mut(&child) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                waited.ends.remove(&child);
                if let Some(of) = waited.of.get_mut(&parent) {
                    of.remove(&child);
                    if of.is_empty() {
                        waited.of.remove(&parent);
                    }
                }
            }
        }
    }

    /// A run has ended: who waits for it is told, and its own children are named.
    pub(crate) fn ended(&self, run: RunId) -> Vec<RunId> {
        let waited = self.0.lock();
        if let Some((_, ended)) = waited.ends.get(&run) {
            ended.notify_waiters();
        }
        waited.of.get(&run).into_iter().flatten().copied().collect()
    }
}

/// A wait for a child. When it is dropped because the parent has ended, or because the stage has run out of its time, the child is
/// ended too.
struct Waiting {
    durable: Durable,
    parent: RunId,
    stage: StageName,
    /// Failures of the stage when the wait began.
    failures: u32,
    child: RunId,
    /// The child has ended.
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.durable.inner.children.leave(self.parent, self.child);
        if !self.over {
            let (durable, parent, child) = (self.durable.clone(), self.parent, self.child);
            let (stage, failures) = (self.stage.clone(), self.failures);
            // Not waited for: whoever drops this cannot.
            task::beside("orphan", async move {
                durable.end_orphan(parent, child).await;
                durable.end_left(parent, (&stage, failures), child).await;
            });
        }
    }
}

/// The id of a stage's child: of the same time as its parent, so that it sorts beside it. `again`: how often it was called anew
/// within the attempt.
fn id(parent: RunId, effect: &str, failures: u32, again: u32) -> RunId {
    let within = if again == 0 { String::new() } else { format!(" {again}") };
    let hash = blake3::hash(format!("child {effect} {failures}{within}").as_bytes());
    let random = hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
    RunId::of(RequestId::from_parts(parent.made_at().unwrap_or(UnixMillis(0)), random))
}

impl Durable {
    /// Calls a durable pipeline: asks for the child that this attempt is to have, and waits for its end.
    pub(super) async fn child(&self, cx: &Context, attempt: &Attempt, wanted: Wanted) -> Outcome<Value> {
        match self.called(cx, attempt, wanted).await {
            Ok(value) => Outcome::Complete(value),
            Err(e) => Outcome::Failed(e),
        }
    }

    async fn called(&self, cx: &Context, attempt: &Attempt, wanted: Wanted) -> Result<Value, Error> {
        let scheduler = self.scheduler()?;
        let stage = cx.stage.clone().unwrap_or_else(|| StageName::from("stage"));
        let parent = scheduler.load(attempt.run).await.map_err(unavailable)?;
        let failures = parent.as_ref().and_then(|run| run.stage(&stage)).map_or(0, |(_, s)| s.failures);
        let own = id(attempt.run, &attempt.effect, failures, attempt.again);
        let before = match (attempt.again.checked_sub(1), failures.checked_sub(1)) {
            (Some(again), _) => Some(id(attempt.run, &attempt.effect, failures, again)),
            (None, Some(n)) => Some(id(attempt.run, &attempt.effect, n, 0)),
            (None, None) => None,
        };
        // What the child before it had done is not done again; and never do two of them work at once.
        let before = match before {
            Some(before) => self.ended_before(before).await?,
            None => None,
        };
        let asked = Asked {
            params: wanted.params,
            input: wanted.input,
            cause: json!({"run": attempt.run, "stage": stage}),
            key: Some(format!("child {own}")),
            parent: Some(Parent { run: attempt.run, stage: stage.clone() }),
            resumes: before,
            ..Asked::of(own, cx.tenant.clone(), wanted.pipeline.clone())
        };
        // It is registered before it is there, so that none is forgotten.
        let mut waiting = Waiting {
            durable: self.clone(),
            parent: attempt.run,
            stage: stage.clone(),
            failures,
            child: own,
            over: false,
        };
        let ended = self.inner.children.wait(attempt.run, own);
        let child = self.submit(asked).await?;
        let name = &wanted.pipeline;
        attempt.log.line(&format!("waits for {child} of `{name}`"));
        cx.meter.fact("run", json!(child));
        cx.meter.fact("note", json!(format!("called `{name}`: {child}")));
        // Its own stages need places; this one needs none while it waits.
        scheduler.rest(attempt.run, &stage, attempt.number);
        let run = loop {
            let told = ended.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            match scheduler.load(child).await {
                Ok(Some(run)) if run.status().is_end() => break run,
                Ok(Some(run)) => {
                    let done = run.stages().filter(|(_, s)| s.phase.is_end()).count() as u64;
                    attempt.log.progress(done, Some(run.stages().count() as u64));
                }
                Ok(None) => {
                    waiting.over = true;
                    let m = format!("the run {child} of `{name}` is gone");
                    return Err(Error::new(Code::Internal, m));
                }
                Err(e) => tracing::warn!(run = %child, error = %e, "failed to look at a child"),
            }
            tokio::select! {
                () = told => {}
                () = task::sleep(LOOK) => {}
            }
        };
        waiting.over = true;
        attempt.log.line(&format!("{child} has {}", run.status().as_str()));
        self.outcome(name, &run).await
    }

    /// A run that is there, once it has ended: it is told to when it has not.
    async fn ended_before(&self, id: RunId) -> Result<Option<RunId>, Error> {
        let scheduler = self.scheduler()?;
        let mut told = false;
        loop {
            match scheduler.load(id).await.map_err(unavailable)? {
                None => return Ok(None),
                Some(run) if run.status().is_end() => return Ok(Some(id)),
                Some(_) if told => task::sleep(LOOK).await,
                Some(_) => drop(scheduler.cancel(id).await?),
            }
            told = true;
        }
    }

    /// What a child that has ended gives.
    async fn outcome(&self, name: &PipelineName, run: &Run) -> Result<Value, Error> {
        let id = run.id();
        let own = |e: Error| Error { message: format!("`{name}` ({id}): {}", e.message), ..e };
        match run.status() {
            Status::Succeeded => {}
            Status::Cancelled => {
                return Err(Error::new(Code::Cancelled, format!("the run {id} of `{name}` was cancelled")));
            }
            _ => {
                let unknown = || Error::new(Code::Internal, "it failed");
                return Err(own(run.error().cloned().unwrap_or_else(unknown)));
            }
        }
        let store = self.scheduler()?.store();
        let head = store.get(id).await.map_err(unavailable)?.map(|stored| stored.head);
        let about = head.as_ref().map(Durable::about).unwrap_or_default();
        let stages: Vec<StageName> =
            about.get("result").and_then(|r| serde_json::from_value(r.clone()).ok()).unwrap_or_default();
        let many = about.get("many").is_some_and(|m| m == true);
        let mut values = Vec::with_capacity(stages.len());
        for stage in &stages {
            let bytes = store.output(id, &run.key(stage)).await.map_err(unavailable)?;
            values.push(bytes.map(|b| Kept::value(&b)).transpose()?);
        }
        match (many, values.as_slice()) {
            (false, [Some(value)]) => Ok(value.clone()),
            (true, _) => Ok(Value::List(values.into())),
            _ => {
                let m = format!("the last stage of `{name}` ({id}) was skipped, so that it gives nothing");
                Err(Error::new(Code::PartFailed, m))
            }
        }
    }

    /// Ends a child whose parent has ended.
    async fn end_orphan(&self, parent: RunId, child: RunId) {
        let ended = async {
            let scheduler = self.scheduler()?;
            let over = match scheduler.load(parent).await.map_err(unavailable)? {
                Some(run) => run.status().is_end(),
                None => true,
            };
            if over {
                scheduler.cancel(child).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(e) = ended.await {
            tracing::warn!(run = %child, error = %e, "failed to end a run whose parent has ended");
        }
    }

    /// Ends a child that nobody waits for any more, if its stage failed without it: that is in the journal only after the wait was
    /// dropped. An attempt that was given back, as at the end of a server, is no failure, and the next one finds its child.
    async fn end_left(&self, parent: RunId, (stage, failures): (&StageName, u32), child: RunId) {
        for _ in 0..LEFT {
            task::sleep(LOOK / 4).await;
            let Ok(scheduler) = self.scheduler() else { return };
            let Ok(Some(run)) = scheduler.load(parent).await else { return };
            let Some((_, state)) = run.stage(stage) else { return };
            if state.phase.is_end() || state.failures > failures {
                if let Err(e) = scheduler.cancel(child).await {
                    tracing::warn!(run = %child, error = %e, "failed to end a run that nobody waits for");
                }
                return;
            }
        }
    }

    /// A run has ended here: who waits for it is told, and its children end.
    pub(crate) fn family(&self, run: RunId) {
        for child in self.inner.children.ended(run) {
            let durable = self.clone();
            task::beside("orphan", async move { durable.end_orphan(run, child).await });
        }
    }

    /// Whether the parent of a run has ended. Then the run is ended.
    pub(crate) async fn is_orphan(&self, parent: &Parent, child: RunId) -> bool {
        let Ok(scheduler) = self.scheduler() else { return false };
        match scheduler.load(parent.run).await {
            Ok(run) if run.as_ref().is_none_or(|run| run.status().is_end()) => {
                // To its end before the attempt fails: cancelled, and not failed.
                self.end_orphan(parent.run, child).await;
                true
            }
            _ => false,
        }
    }
}
