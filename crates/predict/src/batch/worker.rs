//! The threads that run a model. Who finds an instance free may use it, a worker or a caller; who took it puts it back.
//!
//! Invariants: no instance is lost, whatever a run does; what is counted of a request is counted before it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::{Clock, Tick};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::batcher::Settings;
use super::counts::Counts;
use super::job::{self, Done, Job};
use super::pace::Pace;
use super::queue::{Entry, Next, Queue};
use crate::backend::{Metadata, Model};
use crate::error::Error;
use crate::signature::Signature;
use crate::tensor::Tensor;

/// What callers and workers share.
pub(super) struct State {
    pub(super) queue: Queue<Job>,
    pub(super) free: Vec<Box<dyn Model>>,
    pub(super) pace: Pace,
    pub(super) counts: Counts,
    pub(super) stopped: bool,
}

/// A model and those who wait for it.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) signature: Signature,
    pub(super) metadata: Metadata,
    pub(super) state: Mutex<State>,
    /// Something waits, an instance is free, or it is over.
    pub(super) wake: Condvar,
    /// A run of many did not give a row for each: from then on each is alone.
    pub(super) apart: AtomicBool,
}

impl Shared {
    /// What is said when nobody answers any more.
    pub(super) fn gone(&self) -> Error {
        Error::NotReady(format!("the model `{}` was unloaded", self.name))
    }

    /// Gives an instance back, with what was learned of its run. Whether somebody waits for it.
    fn put_back(&self, model: Box<dyn Model>, learn: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state.lock();
        learn(&mut state);
        if state.stopped {
            drop(state);
            drop(model);
            return false;
        }
        state.free.push(model);
        !state.queue.is_empty()
    }

    /// On the thread of the caller.
    pub(super) fn run_here(
        &self,
        mut model: Box<dyn Model>,
        inputs: &[Tensor],
        outputs: &[usize],
        rows: usize,
        now: Tick,
    ) -> Result<Done, Error> {
        let result = job::run(&mut *model, inputs, outputs);
        let ran = self.clock.now().since(now);
        let waited_for = self.put_back(model, |state| {
            state.pace.ran(rows, ran);
            state.counts.ran(rows, ran);
            match &result {
                Ok(_) => {
                    state.counts.answered += 1;
                    state.counts.rows += rows as u64;
                }
                Err(_) => state.counts.failed += 1,
            }
        });
        if waited_for {
            self.wake.notify_one();
        }
        Ok(Done { outputs: result?, queued: Duration::ZERO, ran, together: 1 })
    }

    /// A batch on an instance. Nobody is told yet: what is counted is there before anybody has an answer.
    fn run_batch(&self, model: &mut dyn Model, batch: Vec<Entry<Job>>) -> (Learned, Vec<Reply>) {
        let begun = self.clock.now();
        let (mut learned, together) = (Learned::default(), batch.len());
        if together > 1 {
            let jobs: Vec<&Job> = batch.iter().map(|e| &e.item).collect();
            let rows = batch.iter().map(|e| e.rows).sum();
            let (result, ran) = self.timed(|| job::run_together(model, &jobs));
            if let Ok(each) = result {
                learned.runs.push((rows, ran));
                let done = |(entry, outputs): (Entry<Job>, Vec<Tensor>)| {
                    let queued = begun.since(entry.since);
                    learned.answered(entry.rows, queued);
                    (entry.item.reply, Ok(Done { outputs, queued, ran, together }))
                };
                let replies = batch.into_iter().zip(each).map(done).collect();
                return (learned, replies);
            }
            // The run of all has failed for the sake of one, or of what they are together.
            learned.parted = true;
        }
        let one = |Entry { rows, since, item, .. }: Entry<Job>| {
            let queued = self.clock.now().since(since);
            let (result, ran) = self.timed(|| job::run(model, &item.inputs, &item.outputs));
            learned.runs.push((rows, ran));
            match &result {
                Ok(_) => learned.answered(rows, queued),
                Err(_) => learned.failed += 1,
            }
            (item.reply, result.map(|outputs| Done { outputs, queued, ran, together: 1 }))
        };
        let replies: Vec<Reply> = batch.into_iter().map(one).collect();
        if together > 1 && learned.failed == 0 {
            // Each is well by itself: it is being together that the model does not take.
            tracing::warn!(model = %self.name, "requests of this model cannot share a run: each is run alone from now on");
            self.apart.store(true, Ordering::Relaxed);
        }
        (learned, replies)
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let begun = self.clock.now();
        let done = work();
        (done, self.clock.now().since(begun))
    }
}

/// Where an answer goes.
type Reply = (oneshot::Sender<Result<Done, Error>>, Result<Done, Error>);

/// What a batch adds to what is known.
#[derive(Default)]
struct Learned {
    runs: Vec<(usize, Duration)>,
    answered: u64,
    rows: u64,
    queued: Duration,
    failed: u64,
    parted: bool,
}

impl Learned {
    fn answered(&mut self, rows: usize, queued: Duration) {
        self.answered += 1;
        self.rows += rows as u64;
        self.queued += queued;
    }

    fn add_to(self, state: &mut State) {
        for (rows, took) in self.runs {
            state.pace.ran(rows, took);
            state.counts.ran(rows, took);
        }
        let counts = &mut state.counts;
        counts.answered += self.answered;
        counts.rows += self.rows;
        counts.queued += self.queued;
        counts.failed += self.failed;
        counts.parted += u64::from(self.parted);
    }
}

/// What a worker found to do.
enum Work {
    Run(Box<dyn Model>, Vec<Entry<Job>>),
    Over,
}

/// The life of a worker.
pub(super) fn work(shared: &Shared) {
    loop {
        match find(shared) {
            Work::Over => return,
            Work::Run(mut model, batch) => {
                let (learned, replies) = shared.run_batch(&mut *model, batch);
                shared.put_back(model, |state| learned.add_to(state));
                for (reply, done) in replies {
                    // Whoever has left does not hear it.
                    let _ = reply.send(done);
                }
            }
        }
    }
}

/// Waits until there is something to run and something to run it on.
fn find(shared: &Shared) -> Work {
    let mut state = shared.state.lock();
    loop {
        if state.stopped {
            return Work::Over;
        }
        let Some(model) = state.free.pop() else {
            shared.wake.wait(&mut state);
            continue;
        };
        let now = shared.clock.now();
        for late in state.queue.expired(now) {
            state.counts.expired += 1;
            let _ = late.item.reply.send(Err(Error::Deadline));
        }
        let apart = shared.apart.load(Ordering::Relaxed);
        let pace = state.pace;
        match state.queue.take(now, &pace, apart, Job::is_like) {
            Next::Run(batch) => {
                let more = !state.queue.is_empty() && !state.free.is_empty();
                drop(state);
                if more {
                    shared.wake.notify_one();
                }
                return Work::Run(model, batch);
            }
            Next::Wait(until) => {
                state.free.push(model);
                let _ = shared.wake.wait_for(&mut state, until.since(now));
            }
            Next::Idle => {
                state.free.push(model);
                shared.wake.wait(&mut state);
            }
        }
    }
}
