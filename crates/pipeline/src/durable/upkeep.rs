//! What is removed of durable runs, and when: folders of attempts that died, with the end of their run; logs, when the run is not
//! kept any more; what stages made, when its time is over; files and versions of tables, when neither a kept run nor a kept
//! result names them.

use std::collections::HashMap;
use std::time::Duration;

use contract::{Code, Error, RunId, UnixMillis};

use super::folders;
use super::host::{Durable, KIND};
use super::named::Named;
use crate::task;

/// How often it is looked for what is over its time.
const SWEEP: Duration = Duration::from_secs(600);
/// How often what nobody names is looked for: everything that is kept is read for it.
const COLLECT: Duration = Duration::from_secs(6 * 3_600);
/// What was made less long ago may be a stage's that has not ended yet.
const YOUNG: Duration = Duration::from_secs(24 * 3_600);
/// Runs that are read at once.
const PAGE: u32 = 200;
/// Facts of lineage that are removed at a time.
const FACTS: u32 = 5_000;

impl Durable {
    /// Removes what attempts at a run left that has ended.
    pub(super) fn clear(&self, run: RunId) {
        let root = self.inner.root.clone();
        task::spawn("clear", async move {
            let cleared = task::reading("clear", move || folders::clear(&root, run)).await;
            if let Ok(Err(e)) = cleared {
                tracing::warn!(%run, error = %e, "failed to remove the folders of attempts that died");
            }
        })
        .detach();
    }

    /// Removes what attempts left that died with the process before this one, also at runs that another server has brought to
    /// their end meanwhile. Before anything is taken here.
    pub async fn clear_dead(&self) {
        let root = self.inner.root.clone();
        if let Err(e) = self.on_disk(move || folders::clear_all(&root)).await {
            tracing::warn!(error = %e, "failed to remove the folders of attempts that died");
        }
    }

    /// Removes what is over its time, for ever; what a process left that died comes first.
    pub async fn sweep(self) {
        let mut collected = None;
        loop {
            if let Err(e) = self.sweep_once().await {
                tracing::warn!(error = %e, "failed to remove what runs left");
            }
            let now = self.inner.clock.now();
            if collected.is_none_or(|at| now.since(at) >= COLLECT) {
                collected = Some(now);
                if let Err(e) = self.collect(YOUNG).await {
                    tracing::warn!(error = %e, "failed to remove what no run names any more");
                }
            }
            task::sleep(SWEEP).await;
        }
    }

    /// Removes files and versions of tables that neither a kept run nor a kept result names, and that are older than `young`.
    ///
    /// # Errors
    /// The storage's, and the disk's; nothing goes unless all that is kept could be read.
    pub async fn collect(&self, young: Duration) -> Result<(), Error> {
        if self.inner.keepers.is_empty() {
            return Ok(());
        }
        let young = i64::try_from(young.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(self.inner.clock.wall().0.saturating_sub(young));
        let named = self.named().await?;
        for keeper in &self.inner.keepers {
            keeper.collect(&named, before).await?;
        }
        Ok(())
    }

    /// All that is named by what is kept.
    async fn named(&self) -> Result<Named, Error> {
        let store = self.scheduler()?.store();
        let (mut named, mut after) = (Named::default(), None);
        // Results behind runs: a run that ends meanwhile leaves its outputs in both.
        for run in self.known().await?.into_keys() {
            let outputs = store.outputs(run).await.map_err(Error::from)?;
            outputs.iter().for_each(|output| named.add(&output.value));
        }
        loop {
            let page = self.inner.results.page(after.as_ref(), PAGE).await.map_err(Error::from)?;
            page.iter().for_each(|(_, value)| named.add(value));
            after = page.last().map(|(key, _)| *key);
            if page.len() < PAGE as usize {
                return Ok(named);
            }
        }
    }

    /// Once.
    ///
    /// # Errors
    /// The storage's, and the disk's.
    pub async fn sweep_once(&self) -> Result<(), Error> {
        let keep = i64::try_from(self.inner.keep.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(self.inner.clock.wall().0.saturating_sub(keep));
        self.inner.results.expire(before).await.map_err(Error::from)?;
        self.expire_lineage().await?;
        // The folders first: what a run leaves that is asked for meanwhile is not among them.
        let root = self.inner.root.clone();
        let left = self.on_disk(move || folders::runs(&root)).await?;
        if left.is_empty() {
            return Ok(());
        }
        let known = self.known().await?;
        let root = self.inner.root.clone();
        self.on_disk(move || {
            left.into_iter().try_for_each(|run| match known.get(&run) {
                None => folders::remove(&root, run),
                Some(true) => folders::clear(&root, run),
                Some(false) => Ok(()),
            })
        })
        .await
    }

    /// Removes facts of lineage that are over their time, some thousands at a time.
    async fn expire_lineage(&self) -> Result<(), Error> {
        let Some((facts, keep)) = &self.inner.lineage else { return Ok(()) };
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(self.inner.clock.wall().0.saturating_sub(keep));
        while facts.expire(before, FACTS).await.map_err(Error::from)? == u64::from(FACTS) {}
        Ok(())
    }

    /// The runs of pipelines that are kept, and whether each has ended.
    async fn known(&self) -> Result<HashMap<RunId, bool>, Error> {
        let store = self.scheduler()?.store();
        let (mut known, mut after) = (HashMap::new(), None);
        loop {
            let heads = store.list(KIND, None, after, PAGE).await.map_err(Error::from)?;
            known.extend(heads.iter().map(|head| (head.id, head.ended_at.is_some())));
            after = heads.last().map(|head| head.id);
            if heads.len() < PAGE as usize {
                return Ok(known);
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let said = |e: &dyn std::fmt::Display| {
            Error::new(Code::StorageUnavailable, format!("the folder of runs: {e}"))
        };
        task::reading("sweep", work).await.map_err(|e| said(&e))?.map_err(|e| said(&e))
    }
}
