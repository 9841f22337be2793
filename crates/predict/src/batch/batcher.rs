//! Where callers come in: a model that is loaded as often as it may run at once, with a thread for each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Clock, Deadline};
use parking_lot::{Condvar, Mutex};
use pipeline::task;
use tokio::sync::oneshot;

use super::counts::Counts;
use super::job::{self, Done, Job};
use super::pace::Pace;
use super::queue::{Limits, Queue};
use super::worker::{Shared, State, work};
use crate::backend::{Metadata, Model};
use crate::error::Error;
use crate::signature::Signature;
use crate::tensor::Tensor;

/// How requests to a model are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How much may be taken and may wait.
    pub limits: Limits,
    /// Whether requests may share a run.
    pub together: bool,
    /// A run that is likely to be shorter is done on the thread of its caller.
    pub inline: Duration,
}

impl Default for Settings {
    /// Together, and inline below 200 µs.
    fn default() -> Self {
        Settings { limits: Limits::default(), together: true, inline: Duration::from_micros(200) }
    }
}

/// A model that takes requests. Dropping it ends its threads with the run they are at; what waits fails.
pub struct Batcher(Arc<Shared>);

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Batcher").field(&self.0.name).finish()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        let (waiting, free) = {
            let mut state = self.0.state.lock();
            state.stopped = true;
            (state.queue.drain(), std::mem::take(&mut state.free))
        };
        self.0.wake.notify_all();
        for entry in waiting {
            let _ = entry.item.reply.send(Err(self.0.gone()));
        }
        drop(free);
    }
}

impl Batcher {
    /// Starts the threads: one for each instance of the model.
    ///
    /// # Errors
    /// There is no instance, or the system gives no thread.
    pub fn start(
        name: &str,
        instances: Vec<Box<dyn Model>>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let Some(first) = instances.first() else {
            return Err(Error::Defect("a model without an instance was to be started".to_owned()));
        };
        let (signature, metadata) = (first.signature().clone(), first.metadata().clone());
        let workers = instances.len();
        let state = State {
            queue: Queue::new(settings.limits),
            free: instances,
            pace: Pace::default(),
            counts: Counts::default(),
            stopped: false,
        };
        let batcher = Batcher(Arc::new(Shared {
            name: name.to_owned(),
            settings,
            clock,
            signature,
            metadata,
            state: Mutex::new(state),
            wake: Condvar::new(),
            apart: AtomicBool::new(!settings.together),
        }));
        for _ in 0..workers {
            let shared = batcher.0.clone();
            let started = task::thread("predict", move || work(&shared));
            started.map_err(|e| Error::Load(format!("no thread could be started for `{name}`: {e}")))?;
        }
        Ok(batcher)
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// What the model says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// What became of requests so far.
    pub fn counts(&self) -> Counts {
        self.0.state.lock().counts.clone()
    }

    /// Requests and rows that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.queue.len(), state.queue.rows())
    }

    /// Whether requests share runs.
    pub fn shares(&self) -> bool {
        !self.0.apart.load(Ordering::Relaxed)
    }

    /// Runs inputs that fit the signature. Dropped while it waits, it gives its place back; a run that has begun is not
    /// stopped, and its rows are thrown away.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Deadline`], [`Error::Run`]; [`Error::NotReady`] when the model is unloaded meanwhile.
    pub async fn run(
        &self,
        inputs: Vec<Tensor>,
        outputs: Arc<[usize]>,
        deadline: Deadline,
    ) -> Result<Done, Error> {
        match self.submit(inputs, outputs, deadline) {
            Submitted::Done(done) => done,
            Submitted::Waits(waits) => match task::within(&*self.0.clock, deadline, waits).await {
                Ok(done) => done,
                Err(task::Elapsed) => Err(Error::Deadline),
            },
        }
    }

    fn submit(&self, inputs: Vec<Tensor>, outputs: Arc<[usize]>, deadline: Deadline) -> Submitted {
        let (shared, now) = (&self.0, self.0.clock.now());
        let rows = job::rows_of(&inputs);
        let mut state = shared.state.lock();
        if state.stopped {
            return Submitted::Done(Err(shared.gone()));
        }
        if deadline.passed(now) {
            state.counts.expired += 1;
            return Submitted::Done(Err(Error::Deadline));
        }
        state.pace.arrived(now);
        let quick = || state.pace.estimate(rows).is_some_and(|t| t <= shared.settings.inline);
        if state.queue.is_empty()
            && !state.free.is_empty()
            && quick()
            && let Some(model) = state.free.pop()
        {
            drop(state);
            return Submitted::Done(shared.run_here(model, &inputs, &outputs, rows, now));
        }
        let (reply, answer) = oneshot::channel();
        let alone = job::is_alone(&inputs);
        match state.queue.push(now, rows, deadline, Job { inputs, outputs, alone, reply }) {
            Ok(id) => {
                let free = !state.free.is_empty();
                drop(state);
                // A worker that is busy looks when it is done.
                if free {
                    shared.wake.notify_one();
                }
                Submitted::Waits(Waits { answer, place: Place { shared: shared.clone(), id: Some(id) } })
            }
            Err(_) => {
                state.counts.refused += 1;
                let after = state.pace.estimate(state.queue.rows()).unwrap_or_default();
                let after = after.clamp(Duration::from_millis(10), Duration::from_secs(30));
                Submitted::Done(Err(Error::Full { model: shared.name.clone(), after }))
            }
        }
    }
}

enum Submitted {
    Done(Result<Done, Error>),
    Waits(Waits),
}

/// An answer that is waited for.
struct Waits {
    answer: oneshot::Receiver<Result<Done, Error>>,
    place: Place,
}

/// A place in the queue; given back by its drop.
struct Place {
    shared: Arc<Shared>,
    id: Option<u64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.shared.state.lock();
        if state.queue.cancel(id).is_some() {
            state.counts.cancelled += 1;
        }
    }
}

impl Future for Waits {
    type Output = Result<Done, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.answer).poll(cx);
        polled.map(|answer| {
            self.place.id = None;
            answer.unwrap_or_else(|_| Err(self.place.shared.gone()))
        })
    }
}
