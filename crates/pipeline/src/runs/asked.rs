//! What others ask of the scheduler: that runs be taken in, ended, told about again. It goes to its end once it was begun.

use std::time::Duration;

use contract::{Code, Error, RetryHint, RunId, StageName, TenantId, UnixMillis};
use store::{NewRun, Output, Room, Submitted};
use tokio::sync::oneshot;

use super::run::Run;
use super::scheduler::{Adopt, Scheduler, Submission, unavailable};
use super::state::{Action, Input};
use crate::task;

/// A tenant's waiting runs are at most all that may wait divided by this: one tenant's flood leaves room for the others'.
const SHARE: u64 = 2;
/// What the inputs of a tenant's waiting runs may be together, in bytes.
const MAX_INPUTS: u64 = 1 << 30;

impl Scheduler {
    /// Takes runs in: they are on disk when this resolves. What was submitted before is known also when there is no room.
    ///
    /// Dropped in the middle, it is done or not done; what is done takes effect at once.
    ///
    /// # Errors
    /// `overloaded` when there are too many, `storage_unavailable` when they cannot be kept, `internal` for a plan that is not
    /// sound. Nothing was taken in then.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let scheduler = self.clone();
        self.to_the_end("submit", async move { scheduler.take_in(submissions).await }).await?
    }

    /// How much may be open.
    fn bounds(&self) -> Room {
        let open = self.inner.settings.open;
        Room { runs: open, of_tenant: (open / SHARE).max(1), bytes_of_tenant: MAX_INPUTS }
    }

    /// How many runs a tenant could submit now within its share. Others may take of that in the next moment.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn room(&self, tenant: &TenantId) -> Result<u64, Error> {
        let (store, bounds) = (&self.inner.store, self.bounds());
        let all = store.open().await.map_err(unavailable)?;
        let (runs, bytes) = store.held(tenant).await.map_err(unavailable)?;
        if bytes >= bounds.bytes_of_tenant {
            return Ok(0);
        }
        Ok(bounds.of_tenant.saturating_sub(runs).min(bounds.runs.saturating_sub(all)))
    }

    async fn take_in(self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let inner = &*self.inner;
        let now = inner.clock.wall();
        let new: Option<Vec<NewRun>> = submissions.into_iter().map(|s| new_run(s, now)).collect();
        let new = new
            .ok_or_else(|| Error::new(Code::Internal, "the plan of a run is not sound; this is a defect"))?;
        let made = inner.store.submit(&new, &self.bounds()).await.map_err(refused)?;
        let fresh = made.iter().filter(|m| **m == Submitted::New).count();
        inner.counts.submitted_more(fresh as u64);
        inner.wake.notify_one();
        Ok(made)
    }

    /// Stops a run: it has ended when this resolves, unless it had before. `None` when there is no such run.
    ///
    /// Dropped in the middle, it is done or not done; what is done takes effect at once.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn cancel(&self, id: RunId) -> Result<Option<Run>, Error> {
        let scheduler = self.clone();
        let changed = self
            .to_the_end("cancel", async move {
                scheduler.inner.active.read_anew(id).await;
                match scheduler.change(id, |_| vec![Input::Cancel], None).await? {
                    Some(_) => scheduler.load(id).await,
                    None => Ok(None),
                }
            })
            .await?;
        changed.map_err(unavailable)
    }

    /// Says whether a stage may start that waits for that; `None` when there is no such run. Nothing is done about a stage that
    /// waits for nobody.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn decide(
        &self,
        id: RunId,
        stage: StageName,
        by: String,
        approved: bool,
        reason: Option<String>,
    ) -> Result<Option<Run>, Error> {
        let scheduler = self.clone();
        let decided = self.to_the_end("decide", async move {
            let input = |_| {
                let (stage, by, reason) = (stage.clone(), by.clone(), reason.clone());
                vec![Input::Decide { stage, by, approved, reason }]
            };
            // Another server may have brought it to the stage that waits.
            scheduler.inner.active.read_anew(id).await;
            let changed = scheduler.change(id, input, None).await?;
            scheduler.inner.wake.notify_one();
            match changed {
                Some(_) => scheduler.load(id).await,
                None => Ok(None),
            }
        });
        decided.await?.map_err(unavailable)
    }

    /// Stops a run whose journal may be unreadable: that one is left as it is, and is among [`Scheduler::unreadable`].
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn cancel_or_leave(&self, id: RunId) -> Result<(), Error> {
        let scheduler = self.clone();
        let cancel = async move { scheduler.change_or_leave(id, |_| Input::Cancel).await };
        self.to_the_end("cancel", cancel).await?.map(|_| ()).map_err(unavailable)
    }

    /// Sends the messages about a run once more.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn redeliver(&self, id: RunId) -> Result<u64, Error> {
        let inner = self.inner.clone();
        let sent = self.to_the_end("redeliver", async move {
            let sent = inner.store.redeliver(id, inner.clock.wall()).await;
            inner.told.notify_one();
            sent
        });
        sent.await?.map_err(unavailable)
    }

    /// Does what somebody asks for to its end, though he may leave in the middle: in a task of its own, as many at once as there
    /// are places.
    async fn to_the_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let defect =
            || Error::new(Code::Internal, format!("`{name}` stopped before its end; this is a defect"));
        let place = self.inner.changes.clone().acquire_owned().await.map_err(|_| defect())?;
        let (tell, told) = oneshot::channel();
        // The storage bounds its time, and places their number.
        task::spawn(name, async move {
            let _place = place;
            // Nobody may be there any more.
            let _ = tell.send(work.await);
        })
        .detach();
        told.await.map_err(|_| defect())
    }
}

fn new_run(s: Submission, now: UnixMillis) -> Option<NewRun> {
    let mut run = Run::new(s.id);
    let (lane, deadline) = (s.plan.lane.rank(), s.plan.deadline);
    let mut actions = run.step(now, Input::Submit(s.plan));
    let mut outputs = Vec::new();
    if let Some(Adopt { from, outputs: made }) = s.adopt {
        for (stage, value) in made {
            let output = blake3::hash(&value).to_hex().to_string();
            let adopted = run.step(now, Input::Adopt { stage, output, from });
            let kept = adopted.iter().find_map(|a| match a {
                Action::Keep { stage, key } => Some((stage.as_str().to_owned(), key.clone())),
                _ => None,
            });
            outputs.extend(kept.map(|(stage, key)| Output { key, stage, value }));
            actions.extend(adopted);
        }
    }
    let entry = |a: Action| match a {
        Action::Record(entry) => serde_json::to_string(&entry).ok(),
        _ => None,
    };
    let entries: Vec<String> = actions.into_iter().filter_map(entry).collect();
    Some(NewRun {
        id: s.id,
        tenant: s.tenant,
        kind: s.kind,
        about: s.about,
        target: s.target,
        status: run.status().as_str().to_owned(),
        lane,
        at: now,
        due_at: run.due()?,
        as_of: run.as_of(),
        deadline,
        entries,
        input: s.input,
        key: s.key,
        part: s.part,
        outputs,
    })
}

/// What a caller is told whose runs were not taken in.
fn refused(e: store::Error) -> Error {
    let store::Error::RunsFull { tenant, runs, bytes } = e else { return unavailable(e) };
    let later = RetryHint::After(Duration::from_secs(60));
    match tenant {
        None => {
            let m = format!("{runs} jobs are waiting already: try again when some have ended");
            Error::new(Code::Overloaded, m).retry(later)
        }
        Some(tenant) => {
            let m = format!(
                "{runs} jobs of this tenant with {bytes} bytes are waiting already: try again when some have ended"
            );
            Error::new(Code::Overloaded, m).retry(later).limit_source(format!("tenant:{tenant}"))
        }
    }
}
