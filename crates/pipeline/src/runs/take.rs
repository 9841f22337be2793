//! What is to be done now: what is due begins, what is over its time ends.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{RunId, StageName};

use super::active::Changed;
use super::scheduler::{Held, Scheduler, Tasks};
use super::state::{Here, Input};
use super::turns::{Busy, Places, choose};
use crate::task;

/// At least this often it is looked whether something is due: the wall clock may jump, another process may have written.
const LOOK: Duration = Duration::from_secs(30);
/// Runs ended in one go because their time is over.
const OVERDUE: u32 = 64;
/// So many targets may hang with all their places taken before work for others waits.
const HANGING: usize = 16;

impl Scheduler {
    /// Ends what did not end within its time, whether it waits or is under way, and whether there is a place or not. Whether
    /// there may be more.
    pub(super) async fn end_overdue(&self) -> Result<bool, store::Error> {
        let inner = &*self.inner;
        let unreadable = inner.unreadable.lock().clone();
        let limit = OVERDUE.saturating_add(u32::try_from(unreadable.len()).unwrap_or(u32::MAX));
        let mut overdue = inner.store.overdue(inner.clock.wall(), limit).await?;
        overdue.retain(|id| !unreadable.contains(id));
        for id in &overdue {
            self.change_or_leave(*id, Input::Tick).await?;
        }
        Ok(!overdue.is_empty())
    }

    /// Begins what is due, as far as there is room. How long nothing more will be.
    pub(super) async fn take_due(&self, tasks: &mut Tasks) -> Result<Duration, store::Error> {
        let inner = &*self.inner;
        let of_target = inner.settings.parallel;
        let places = Places { of_target, all: of_target.saturating_mul(HANGING) };
        // Due, and yet nothing of theirs could begin: their groups are full.
        let mut idle = HashSet::new();
        loop {
            let now = inner.clock.wall();
            let busy = self.busy();
            let unreadable = inner.unreadable.lock().clone();
            // Behind those that are under way, and may be due as well.
            let resting = self.inner.running.lock().values().filter(|held| held.rests).count();
            let behind = unreadable.len() + idle.len() + resting;
            let each = of_target.saturating_add(busy.most()).saturating_add(behind);
            let mut due = inner.store.due(now, u32::try_from(each).unwrap_or(u32::MAX)).await?;
            due.retain(|head| !unreadable.contains(&head.id) && !idle.contains(&head.id));
            let waiting = due.len();
            let chosen = choose(due, busy, places);
            inner.pressed.store(waiting > chosen.len(), Ordering::Relaxed);
            if chosen.is_empty() {
                let next = inner.store.next_due(now).await?;
                let until =
                    next.map_or(LOOK.as_millis(), |t| u128::from(t.0.saturating_sub(now.0).unsigned_abs()));
                return Ok(Duration::from_millis(u64::try_from(until).unwrap_or(u64::MAX)).min(LOOK));
            }
            for head in chosen {
                if inner.stopping.is_cancelled() {
                    return Ok(Duration::ZERO);
                }
                let id = head.id;
                inner.active.saw(id, head.entries).await;
                let changed = self.change_or_leave(id, Input::Take).await?;
                if changed.as_ref().is_none_or(|c| c.actions.is_empty()) {
                    idle.insert(id);
                }
                if let Some(begun) = changed.and_then(|c| c.begun) {
                    let work = task::spawn("run", self.clone().attempts(begun));
                    tasks.push(Box::pin(async move { work.await.is_err().then_some(id) }));
                }
            }
        }
    }

    /// What is under way here.
    fn busy(&self) -> Busy {
        let mut busy = Busy::default();
        let running = self.inner.running.lock();
        let at_work = running.values().filter(|held| !held.rests);
        at_work.for_each(|held| busy.add(&held.target, &held.tenant));
        drop(running);
        busy
    }

    /// This worker, and what of a run it has in its hands.
    pub(super) fn here(&self, run: RunId) -> Here {
        let running = self.inner.running.lock();
        let own = running.iter().filter(|((id, _), _)| *id == run);
        let (groups, busy) = self.places(&running);
        Here {
            worker: self.inner.settings.worker.clone(),
            lease: self.inner.settings.lease,
            attempts: own.map(|((_, stage), held)| (stage.clone(), held.attempt)).collect(),
            living: self.inner.living.lock().clone(),
            grouped: true,
            groups,
            busy,
        }
    }

    /// The places that concurrency groups have left, and how many are taken.
    fn places(
        &self,
        running: &HashMap<(RunId, StageName), Held>,
    ) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
        let (mut left, mut busy) = (self.inner.settings.groups.clone(), BTreeMap::new());
        for group in running.values().filter(|held| !held.rests).filter_map(|held| held.group.as_ref()) {
            if let Some(n) = left.get_mut(group) {
                *n = n.saturating_sub(1);
            }
            *busy.entry(group.clone()).or_default() += 1;
        }
        (left, busy)
    }

    /// A change of a run that is due or is to stop. One that cannot be read holds nobody up; what the storage itself refuses, all wait for.
    pub(super) async fn change_or_leave(
        &self,
        id: RunId,
        input: fn(Here) -> Input,
    ) -> Result<Option<Changed>, store::Error> {
        let inner = &*self.inner;
        match self.change(id, |here| vec![input(here)], None).await {
            Ok(changed) => Ok(changed),
            Err(e) if self.load(id).await.is_err() && inner.store.open().await.is_ok() => {
                tracing::error!(run = %id, error = %e, "failed to read a run's journal; it is left as it is");
                inner.unreadable.lock().insert(id);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}
