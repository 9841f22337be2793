//! A store of runs in memory, under tokio's paused clock: what it is asked is done at once, and what it answers may be held
//! back, as by a disk that has written and does not say so yet.

use std::collections::BTreeMap;
use std::sync::Mutex;

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use store::{
    Change, Delivery, DueDelivery, Error, LaneCount, NewRun, Output, Room, RunHead, RunStore, SecretNumber,
    StoredRun, Submitted, Tried,
};
use tokio::sync::watch;

struct Kept {
    new: NewRun,
    head: RunHead,
    as_of: Option<UnixMillis>,
    entries: Vec<String>,
    outputs: Vec<Output>,
}

pub(crate) struct Memory {
    runs: Mutex<BTreeMap<RunId, Kept>>,
    /// Whether a change that is done is told.
    tells: watch::Sender<bool>,
    /// Changes that are done.
    pub(crate) done: watch::Sender<usize>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { runs: Mutex::default(), tells: watch::Sender::new(true), done: watch::Sender::new(0) }
    }
}

impl Memory {
    /// From now on what is done is told, or held back.
    pub(crate) fn tell(&self, tells: bool) {
        self.tells.send_replace(tells);
    }

    pub(crate) fn count(&self, id: RunId, entry: &str) -> usize {
        let word = format!(r#""entry":"{entry}""#);
        self.runs.lock().unwrap()[&id].entries.iter().filter(|e| e.contains(&word)).count()
    }

    pub(crate) fn status(&self, id: RunId) -> String {
        self.runs.lock().unwrap()[&id].head.status.clone()
    }

    async fn changed<T>(&self, done: T) -> Result<T, Error> {
        self.done.send_modify(|n| *n += 1);
        self.tells.subscribe().wait_for(|tells| *tells).await.unwrap();
        Ok(done)
    }

    fn heads(&self, which: impl Fn(&Kept) -> bool) -> Vec<RunHead> {
        let runs = self.runs.lock().unwrap();
        runs.values().filter(|k| k.head.ended_at.is_none() && which(k)).map(|k| k.head.clone()).collect()
    }
}

fn now<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, Error>> {
    Box::pin(async move { Ok(value) })
}

impl RunStore for Memory {
    fn submit<'a>(&'a self, new: &'a [NewRun], _: &'a Room) -> BoxFuture<'a, Result<Vec<Submitted>, Error>> {
        let mut runs = self.runs.lock().unwrap();
        for new in new {
            let head = RunHead {
                id: new.id,
                tenant: new.tenant.clone(),
                kind: new.kind.clone(),
                about: new.about.clone(),
                target: new.target.clone(),
                lane: new.lane,
                status: new.status.clone(),
                submitted_at: new.at,
                due_at: Some(new.due_at),
                ended_at: None,
                entries: new.entries.len() as u64,
            };
            let entries = new.entries.clone();
            runs.insert(
                new.id,
                Kept { new: new.clone(), head, as_of: new.as_of, entries, outputs: new.outputs.clone() },
            );
        }
        drop(runs);
        Box::pin(self.changed(vec![Submitted::New; new.len()]))
    }

    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<bool, Error>> {
        let mut runs = self.runs.lock().unwrap();
        let Some(kept) = runs.get_mut(&change.id).filter(|k| k.head.entries == change.after) else {
            return now(false);
        };
        kept.entries.extend(change.entries.iter().cloned());
        kept.head.entries = kept.entries.len() as u64;
        kept.head.status.clone_from(&change.status);
        (kept.head.due_at, kept.head.ended_at, kept.as_of) = (change.due_at, change.ended_at, change.as_of);
        kept.outputs.extend(change.output.clone());
        drop(runs);
        Box::pin(self.changed(true))
    }

    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredRun>, Error>> {
        let runs = self.runs.lock().unwrap();
        now(runs.get(&id).map(|k| StoredRun { head: k.head.clone(), entries: k.entries.clone() }))
    }

    fn input(&self, id: RunId) -> BoxFuture<'_, Result<Option<Vec<u8>>, Error>> {
        now(self.runs.lock().unwrap().get(&id).map(|k| k.new.input.clone()))
    }

    fn output<'a>(&'a self, id: RunId, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        let runs = self.runs.lock().unwrap();
        let output = runs.get(&id).and_then(|k| k.outputs.iter().find(|o| o.key == key));
        now(output.map(|o| o.value.clone()))
    }

    fn outputs(&self, id: RunId) -> BoxFuture<'_, Result<Vec<Output>, Error>> {
        now(self.runs.lock().unwrap().get(&id).map(|k| k.outputs.clone()).unwrap_or_default())
    }

    fn due(&self, at: UnixMillis, _: u32) -> BoxFuture<'_, Result<Vec<RunHead>, Error>> {
        now(self.heads(|k| k.head.due_at.is_some_and(|t| t <= at) || k.as_of.is_some_and(|t| t > at)))
    }

    fn overdue(&self, at: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        let late = self.heads(|k| k.new.deadline.is_some_and(|t| t <= at));
        now(late.into_iter().map(|h| h.id).take(limit as usize).collect())
    }

    fn next_due(&self, at: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        let runs = self.runs.lock().unwrap();
        let open = runs.values().filter(|k| k.head.ended_at.is_none());
        now(open.flat_map(|k| [k.head.due_at, k.new.deadline]).flatten().filter(|t| *t > at).min())
    }

    fn in_state<'a>(&'a self, status: &'a str) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        now(self.heads(|k| k.head.status == status))
    }

    fn lanes(&self) -> BoxFuture<'_, Result<Vec<LaneCount>, Error>> {
        now(Vec::new())
    }

    fn open(&self) -> BoxFuture<'_, Result<u64, Error>> {
        now(self.heads(|_| true).len() as u64)
    }

    fn held<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(u64, u64), Error>> {
        now((self.heads(|k| k.head.tenant == *tenant).len() as u64, 0))
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        _: Option<&'a TenantId>,
        _: Option<RunId>,
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        now(self.heads(|_| true))
    }

    fn ended<'a>(
        &'a self,
        _: &'a str,
        (at, _): (UnixMillis, Option<RunId>),
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        now(self.heads(|kept| kept.head.ended_at.is_some_and(|ended| ended >= at)))
    }

    fn remove(&self, _: RunId) -> BoxFuture<'_, Result<bool, Error>> {
        now(false)
    }

    fn expire(&self, _: UnixMillis, _: u32, _: u64) -> BoxFuture<'_, Result<u64, Error>> {
        now(0)
    }

    fn shrink(&self, _: u32) -> BoxFuture<'_, Result<u64, Error>> {
        now(0)
    }

    fn deliveries_due(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<Vec<DueDelivery>, Error>> {
        now(Vec::new())
    }

    fn delivery<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Delivery>, Error>> {
        now(None)
    }

    fn next_delivery(&self, _: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        now(None)
    }

    fn deliveries(&self, _: RunId) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        now(Vec::new())
    }

    fn tried<'a>(&'a self, _: &'a str, _: u32, _: &'a Tried) -> BoxFuture<'a, Result<bool, Error>> {
        now(true)
    }

    fn redeliver(&self, _: RunId, _: UnixMillis) -> BoxFuture<'_, Result<u64, Error>> {
        now(0)
    }

    fn secret<'a>(&'a self, _: &'a TenantId) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        now(SecretNumber::default())
    }

    fn next_secret<'a>(
        &'a self,
        _: &'a TenantId,
        _: UnixMillis,
    ) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        now(SecretNumber::default())
    }
}
