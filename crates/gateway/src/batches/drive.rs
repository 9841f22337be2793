//! What brings batches on: one task, which looks whose turn it is. A step that may take long is made beside it.

use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Code, Error, RunId, UnixMillis};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pipeline::task;
use store::FileStore;

use super::object::{Batch, Status};
use super::places::Places;
use super::{Batches, name, storage};
use crate::current::Latest;
use crate::jobs::Jobs;

/// Lines that end within this long are counted once.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often it is looked while something goes on or failed, and while nothing does.
const SOON: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(30);

/// Brings the batches of a server on.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) batches: Batches,
    pub(crate) jobs: Jobs,
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) gateway: Latest,
    /// How long a batch is kept when it has ended.
    pub(crate) keep: Duration,
}

/// Long steps under way; they end with this.
pub(super) type Steps = FuturesUnordered<BoxFuture<'static, (RunId, Result<(), Error>)>>;

impl Driver {
    /// Works until it is dropped, which may be at any point.
    pub(crate) async fn work(self) {
        let (mut places, mut steps) = (Places::default(), Steps::new());
        loop {
            let pause = match self.round(&mut places, &mut steps).await {
                Ok(true) => SOON,
                Ok(false) => LOOK,
                Err(e) => {
                    tracing::error!(error = %e, "failed to look for batches");
                    SOON
                }
            };
            tokio::select! {
                () = self.batches.wake.notified() => task::sleep(TOGETHER).await,
                () = task::sleep(pause) => {}
                Some((id, done)) = steps.next() => self.ended(&mut places, id, done),
            }
        }
    }

    /// A step of each; whether any goes on. Long ones are begun, and not waited for.
    pub(super) async fn round(&self, places: &mut Places, steps: &mut Steps) -> Result<bool, Error> {
        let open = self.batches.store.open().await.map_err(storage)?;
        places.forget_all_but(&open);
        let going_on = !open.is_empty();
        for stored in open {
            let id = stored.id;
            if places.is_held(id, self.batches.clock.now()) {
                continue;
            }
            let batch = match Batch::read(&stored.about) {
                Ok(batch) => batch,
                Err(e) => {
                    self.ended(places, id, Err(e));
                    continue;
                }
            };
            if batch.status == Status::InProgress {
                let done = self.feed(&stored, batch).await;
                self.ended(places, id, done);
            } else if places.take(&stored) {
                let driver = self.clone();
                let step = task::spawn("batch", async move { driver.step(stored).await });
                steps.push(Box::pin(async move {
                    let crashed = |e| Err(Error::new(Code::Internal, format!("{e}; this is a defect")));
                    (id, step.await.unwrap_or_else(crashed))
                }));
            }
        }
        Ok(going_on)
    }

    /// Notes what came of a step. One that failed holds no other batch up, and is made again after a pause.
    fn ended(&self, places: &mut Places, id: RunId, done: Result<(), Error>) {
        let pause = places.ended(id, done.is_ok(), self.batches.clock.now());
        if let Err(e) = done {
            let batch = name(id);
            tracing::warn!(%batch, error = %e.message, ?pause, "a step of a batch is to be made again");
        }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.batches.clock.wall()
    }
}
