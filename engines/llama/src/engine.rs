//! The loop that owns the llama.cpp context: continuous batching over all sequences.
//!
//! Every step decodes one batch: first the one pending token of each sequence that generates, then chunks of the prompts
//! that are still being read, oldest first. So a new request joins a running batch, and a long prompt delays the others by
//! a chunk at a time.
//!
//! Arrows of a request: queued → reading (prompt) → generating → done, or at any step → cancelled.
//!
//! **Invariants:** the loop never waits for a reader: a sequence whose reader is slow is left out of the batch until there is
//! room again. A sequence whose reader is gone is ended before the next batch. What a slot is said to hold is what the KV
//! cache holds for it. Nothing here is unbounded: jobs come through a bounded channel, and each holds one permit.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use llama_cpp_2::{
    context::{LlamaContext, params::LlamaContextParams},
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::LlamaModel,
    token::LlamaToken,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    error::Error,
    protocol::{FinishReason, Usage},
    sampling::Sampler,
    slots::{Slots, Token},
    stop::StopMatcher,
    utf8::Utf8Buffer,
};

/// Tokens of a batch at most.
const BATCH_TOKENS: usize = 512;
/// Prompt tokens of a batch while other sequences generate: what a new prompt may cost them at a time.
const SHARED_PREFILL_TOKENS: usize = 128;
/// Prompt tokens of a batch while none generates: large enough for full speed, small enough to notice a cancelled one.
const ALONE_PREFILL_TOKENS: usize = 256;
/// How long to wait before looking again whether a slow reader has made room.
const READER_PAUSE: Duration = Duration::from_millis(5);
/// Room that a sequence needs before it is decoded: one piece of text and the end.
const EVENTS_OF_A_STEP: usize = 2;

/// Size of the context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Tokens of the whole KV cache, split evenly over the sequences.
    pub(crate) context: NonZeroU32,
    /// Sequences decoded at the same time.
    pub(crate) parallel: NonZeroU32,
    /// Threads of llama.cpp.
    pub(crate) threads: i32,
    /// Whether llama.cpp may go on logging once the context is there. It logs schemas of requests, which are user text.
    pub(crate) verbose: bool,
}

/// A request for the engine.
#[derive(Debug)]
pub(crate) struct Job {
    /// Not empty, and shorter than a sequence's share of the context.
    pub(crate) prompt: Vec<LlamaToken>,
    pub(crate) sampler: Sampler,
    /// Tokens generated at most.
    pub(crate) max_tokens: u64,
    pub(crate) stops: StopMatcher,
    /// Must have room for [`EVENT_QUEUE`] events. Dropping the receiver cancels the job.
    pub(crate) events: mpsc::Sender<Event>,
    /// A place among the running and queued jobs, given back when the job ends.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Events that a job's channel holds: what a reader may lag behind.
pub(crate) const EVENT_QUEUE: usize = 32;

/// What comes of a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// A piece of text, never empty.
    Delta(String),
    /// The last event of a success.
    Done(FinishReason, Usage),
    /// The last event of a failure.
    Failed(Error),
}

struct Sequence {
    job: Job,
    slot: usize,
    /// The prompt and what was generated.
    tokens: Vec<LlamaToken>,
    /// Tokens of the prompt that were in the cache already.
    cached: usize,
    utf8: Utf8Buffer,
}

/// A sequence's share of a batch.
struct Share {
    slot: usize,
    tokens: Vec<Token>,
    /// Where its logits are, if its last token was decoded.
    logits: Option<i32>,
}

/// The context and everything that is running in it.
pub(crate) struct Engine<'model> {
    model: &'model LlamaModel,
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    slots: Slots,
    running: Vec<Sequence>,
    waiting: VecDeque<Job>,
    /// Tokens that one sequence holds.
    limit: usize,
}

impl<'model> Engine<'model> {
    /// # Errors
    /// [`Error::Engine`] if llama.cpp cannot allocate the context.
    pub(crate) fn new(
        backend: &LlamaBackend,
        model: &'model LlamaModel,
        settings: Settings,
    ) -> Result<Self, Error> {
        let batch = u32::try_from(BATCH_TOKENS).unwrap_or(u32::MAX);
        let params = LlamaContextParams::default()
            .with_n_ctx(Some(settings.context))
            .with_n_seq_max(settings.parallel.get())
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(settings.threads)
            .with_n_threads_batch(settings.threads)
            // Each sequence has its own share: none can be starved, and attention reads its own tokens only.
            .with_kv_unified(false)
            .with_no_perf(true);
        let context = model
            .new_context(backend, params)
            .map_err(|error| Error::Engine(format!("no context: {error}")))?;
        // llama.cpp rounds the share of a sequence up.
        let limit = usize::try_from(context.n_ctx() / settings.parallel.get()).unwrap_or(0);
        Ok(Self {
            model,
            context,
            batch: LlamaBatch::new(BATCH_TOKENS, 1),
            slots: Slots::new(usize::try_from(settings.parallel.get()).unwrap_or(1)),
            running: Vec::new(),
            waiting: VecDeque::new(),
            limit,
        })
    }

    /// Tokens that one sequence holds, prompt and answer together.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Serves jobs until their sender is dropped and the last one is done.
    pub(crate) fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let open = self.receive(jobs);
            self.cancel_abandoned();
            self.start_waiting();
            let shares = self.fill_batch();
            if !shares.is_empty() {
                self.decode(&shares);
            } else if !open && self.running.is_empty() && self.waiting.is_empty() {
                return;
            } else if self.running.is_empty() {
                match jobs.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => return,
                }
            } else {
                // All readers lag.
                match jobs.recv_timeout(READER_PAUSE) {
                    Ok(job) => self.waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(READER_PAUSE),
                }
            }
        }
    }

    /// Takes what has arrived; false once nothing more can arrive.
    fn receive(&mut self, jobs: &Receiver<Job>) -> bool {
        loop {
            match jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn cancel_abandoned(&mut self) {
        self.waiting.retain(|job| !job.events.is_closed());
        let slots = &mut self.slots;
        self.running.retain(|sequence| {
            let gone = sequence.job.events.is_closed();
            if gone {
                slots.release(sequence.slot);
                tracing::debug!(slot = sequence.slot, "cancelled: the reader is gone");
            }
            !gone
        });
    }

    /// Gives free slots to waiting jobs, in order.
    fn start_waiting(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            let prompt: Vec<Token> = job.prompt.iter().map(|token| token.0).collect();
            let Some(assignment) = self.slots.assign(&prompt) else {
                self.waiting.push_front(job);
                return;
            };
            let cached = self.prepare(assignment.slot, assignment.copy_from, assignment.keep);
            tracing::debug!(
                slot = assignment.slot,
                prompt = prompt.len(),
                cached,
                copied = assignment.copy_from.is_some(),
                "started"
            );
            let tokens = job.prompt.clone();
            self.running.push(Sequence {
                job,
                slot: assignment.slot,
                tokens,
                cached,
                utf8: Utf8Buffer::default(),
            });
        }
    }

    /// Brings the KV cache of a slot to the first `keep` tokens of its prompt; returns how many there are really.
    fn prepare(&mut self, slot: usize, copy_from: Option<usize>, keep: usize) -> usize {
        let sequence = sequence_id(slot);
        let copied = match copy_from {
            None => Ok(()),
            Some(source) => {
                let emptied = self.context.kv_cache_seq_rm(sequence, None, None);
                emptied.and_then(|()| self.context.kv_cache_seq_cp(sequence_id(source), sequence, None, None))
            }
        };
        let from = u32::try_from(keep).unwrap_or(u32::MAX);
        let cut = copied.and_then(|()| self.context.kv_cache_seq_rm(sequence, Some(from), None));
        if cut.is_ok() {
            return keep;
        }
        // Recurrent models cannot forget a part of what they read.
        if let Err(error) = self.context.kv_cache_seq_rm(sequence, None, None) {
            tracing::error!(%error, slot, "the KV cache of a slot cannot be emptied");
        }
        self.slots.emptied(slot);
        0
    }

    fn fill_batch(&mut self) -> Vec<Share> {
        self.batch.clear();
        let pending = |sequence: &Sequence, slots: &Slots| sequence.tokens.len() - slots.held(sequence.slot);
        let ready: Vec<&Sequence> = self
            .running
            .iter()
            .filter(|sequence| sequence.job.events.capacity() >= EVENTS_OF_A_STEP)
            .collect();
        let generating = ready.iter().filter(|sequence| pending(sequence, &self.slots) == 1).count();
        let mut prefill = if generating > 0 { SHARED_PREFILL_TOKENS } else { ALONE_PREFILL_TOKENS };
        let (mut room, mut sizes) = (BATCH_TOKENS, Vec::with_capacity(ready.len()));
        let (first, second): (Vec<&Sequence>, Vec<&Sequence>) =
            ready.into_iter().partition(|sequence| pending(sequence, &self.slots) == 1);
        for sequence in first.into_iter().chain(second) {
            let pending = pending(sequence, &self.slots);
            let size = if pending == 1 { room.min(1) } else { pending.min(prefill).min(room) };
            if size == 0 {
                continue;
            }
            if pending > 1 {
                prefill -= size;
            }
            room -= size;
            sizes.push((sequence, size));
        }
        // With a cache for each sequence, llama.cpp computes only neighbours in one go: 0, 1, 2 together, 2, 0, 1 in three.
        sizes.sort_unstable_by_key(|(sequence, _)| sequence.slot);
        let (batch, slots) = (&mut self.batch, &self.slots);
        sizes.into_iter().map(|(s, size)| add_share(batch, s, slots.held(s.slot), size)).collect()
    }

    fn decode(&mut self, shares: &[Share]) {
        if let Err(error) = self.context.decode(&mut self.batch) {
            tracing::error!(%error, "llama.cpp could not decode a batch");
            for share in shares {
                if self.context.kv_cache_seq_rm(sequence_id(share.slot), None, None).is_ok() {
                    self.slots.emptied(share.slot);
                }
                self.end(
                    share.slot,
                    Event::Failed(Error::Engine("llama.cpp could not decode a batch".to_owned())),
                );
            }
            return;
        }
        for share in shares {
            self.slots.decoded(share.slot, &share.tokens);
            if let Some(index) = share.logits {
                self.advance(share.slot, index);
            }
        }
    }

    /// Samples the next token of a sequence and passes on its text.
    fn advance(&mut self, slot: usize, index: i32) {
        let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.slot == slot) else { return };
        let token = match sequence.job.sampler.sample(&self.context, index) {
            Ok(token) => token,
            Err(error) => return self.end(slot, Event::Failed(error)),
        };
        sequence.tokens.push(token);
        let usage = Usage {
            prompt: sequence.job.prompt.len(),
            cached: sequence.cached,
            completion: sequence.tokens.len() - sequence.job.prompt.len(),
        };
        let vocab = self.model.vocab();
        let mut text = String::new();
        let mut reason = None;
        if vocab.is_eog(token) {
            reason = Some(FinishReason::Stop);
        } else {
            let cleared =
                sequence.job.stops.push(&sequence.utf8.push(&vocab.token_to_piece(token, false, None)));
            text = cleared.text;
            if cleared.stopped {
                reason = Some(FinishReason::Stop);
                sequence.utf8 = Utf8Buffer::default();
            } else if usize_from(sequence.job.max_tokens) <= usage.completion
                || sequence.tokens.len() >= self.limit
            {
                reason = Some(FinishReason::Length);
            }
        }
        if reason.is_some() {
            let rest = sequence.utf8.finish();
            text.push_str(&sequence.job.stops.push(&rest).text);
            text.push_str(&sequence.job.stops.finish());
        }
        // There is room: the sequence would not be in the batch otherwise. It fails only if the reader is gone.
        if !text.is_empty() {
            let _ = sequence.job.events.try_send(Event::Delta(text));
        }
        if let Some(reason) = reason {
            self.end(slot, Event::Done(reason, usage));
        }
    }

    fn end(&mut self, slot: usize, event: Event) {
        self.slots.release(slot);
        if let Some(at) = self.running.iter().position(|sequence| sequence.slot == slot) {
            // In order, because the order is that of arrival.
            let Job { events, permit, .. } = self.running.remove(at).job;
            drop(permit);
            let _ = events.try_send(event);
        }
    }
}

fn add_share(batch: &mut LlamaBatch<'_>, sequence: &Sequence, held: usize, size: usize) -> Share {
    let mut share = Share { slot: sequence.slot, tokens: Vec::with_capacity(size), logits: None };
    for (position, token) in sequence.tokens.iter().enumerate().skip(held).take(size) {
        let last = position + 1 == sequence.tokens.len();
        let index = batch.n_tokens();
        let at = i32::try_from(position).unwrap_or(i32::MAX);
        if batch.add(*token, at, &[sequence_id(sequence.slot)], last).is_err() {
            break;
        }
        share.tokens.push(token.0);
        if last {
            share.logits = Some(index);
        }
    }
    share
}

fn sequence_id(slot: usize) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}

fn usize_from(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Runs an engine on the calling thread. `started` is told once how it went: the tokens that a sequence holds.
pub(crate) fn serve(
    backend: &mut LlamaBackend,
    model: &Arc<LlamaModel>,
    settings: Settings,
    jobs: &Receiver<Job>,
    started: tokio::sync::oneshot::Sender<Result<usize, Error>>,
) {
    match Engine::new(backend, model, settings) {
        Err(error) => drop(started.send(Err(error))),
        Ok(mut engine) => {
            if !settings.verbose {
                backend.void_logs();
            }
            if started.send(Ok(engine.limit())).is_ok() {
                engine.run(jobs);
            }
        }
    }
}
