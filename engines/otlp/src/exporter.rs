//! What the server holds: a handle that takes ended requests and never waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use contract::{ModelName, RequestRecord, Trace};
use tokio::sync::{Notify, mpsc};

use crate::worker::{Parts, Worker};
use crate::{Error, Settings, Upstream};

/// Requests that were not told to the collector, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// The queue was full: neither spans nor metrics.
    pub queue_full: u64,
    /// The collector was too slow, and too many spans waited: metrics, but no spans.
    pub backlog: u64,
    /// The collector could not be reached or refused: metrics, but no spans.
    pub export_failed: u64,
}

/// The counters behind [`Dropped`].
#[derive(Debug, Default)]
pub(crate) struct Drops {
    pub(crate) queue_full: AtomicU64,
    pub(crate) backlog: AtomicU64,
    pub(crate) export_failed: AtomicU64,
}

/// The models' upstreams, as the configuration in force names them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstreams(Arc<RwLock<Arc<HashMap<ModelName, Upstream>>>>);

impl Upstreams {
    pub(crate) fn get(&self) -> Arc<HashMap<ModelName, Upstream>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds these; a name that was there has what it is given here.
    fn add(&self, more: HashMap<ModelName, Upstream>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).extend(more);
    }
}

/// One request that has ended.
pub(crate) type Ended = (Box<RequestRecord>, Trace);

/// Where ended requests go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exporter {
    queue: mpsc::Sender<Ended>,
    drops: Arc<Drops>,
    stop: Arc<Notify>,
    upstreams: Upstreams,
}

impl Exporter {
    /// Hands an ended request over. Never waits: when the queue is full the request is dropped and counted.
    pub fn offer(&self, record: Box<RequestRecord>, trace: Trace) {
        if self.queue.try_send((record, trace)).is_err() {
            self.drops.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says who answers for models from now on. Those of before are still known: their last requests have not ended.
    pub fn name(&self, upstreams: HashMap<ModelName, Upstream>) {
        self.upstreams.add(upstreams);
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let d = &self.drops;
        Dropped {
            queue_full: of(&d.queue_full),
            backlog: of(&d.backlog),
            export_failed: of(&d.export_failed),
        }
    }

    /// Tells the worker to send what it has and end. Returns at once; wait for the worker, with a limit.
    pub fn close(&self) {
        self.stop.notify_one();
    }
}

/// An exporter and the work behind it, which the caller runs as a task.
///
/// # Errors
/// An address or a setting of the environment that cannot be used.
pub fn start(settings: Settings) -> Result<(Exporter, Worker), Error> {
    let (queue, ended) = mpsc::channel(settings.queue);
    let stop = Arc::new(Notify::new());
    let drops = Arc::new(Drops::default());
    let upstreams = Upstreams::default();
    upstreams.add(settings.upstreams.clone());
    let parts = Parts { ended, stop: stop.clone(), drops: drops.clone(), upstreams: upstreams.clone() };
    let worker = Worker::new(settings, parts)?;
    Ok((Exporter { queue, drops, stop, upstreams }, worker))
}
