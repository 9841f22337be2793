//! One attempt, until its first output: a slot of the model, a place at an endpoint, and the wait for the first word.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use contract::{Code, Context, Deadline, EndpointName, Error, ModelName, Reason, RetryHint, trace};
use futures_util::StreamExt;
use pipeline::task;

use crate::completion::Completion;
use crate::live::Live;
use crate::pool::pick::{self, Places};
use crate::pool::retries::Retries;
use crate::{Attempt, ChatRequest, Delta, ModelSettings, Slots};

/// A call as its attempts see it.
pub(crate) struct Asked<'a> {
    pub(crate) request: ChatRequest,
    /// What the first candidate's counter makes of it, when the caller has asked it already.
    pub(crate) input_tokens: Option<u64>,
    pub(crate) prompt_version: Option<String>,
    pub(crate) cx: &'a Context,
    pub(crate) slots: &'a dyn Slots,
    pub(crate) retries: &'a Retries,
    /// Attempts made for this answer so far.
    pub(crate) made: AtomicU32,
    /// It had a slot: it is not refused any more because others wait.
    pub(crate) let_in: AtomicBool,
    /// Why the first attempt of this call is not the first of its answer.
    pub(crate) again: Option<Reason>,
    /// The endpoint that broke the answer off: asked when there is no other.
    pub(crate) avoid: Option<EndpointName>,
}

/// The model that an attempt is made at.
pub(crate) struct Target<'a> {
    /// The model that was asked for first.
    pub(crate) asked_for: &'a ModelName,
    pub(crate) model: &'a ModelName,
    pub(crate) settings: &'a Arc<ModelSettings>,
    pub(crate) input: u64,
}

/// Why an attempt came to nothing.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The endpoint that was asked; `None` when none was.
    pub(crate) place: Option<usize>,
    /// None was, for want of room.
    pub(crate) full: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, place: None, full: false }
    }
}

/// What two attempts that run at the same time know of each other.
#[derive(Debug)]
pub(crate) struct Race {
    /// Where the first one was asked.
    first: AtomicUsize,
    /// One of them answers: the other is not the caller's to cancel.
    pub(crate) decided: Arc<AtomicBool>,
}

impl Default for Race {
    fn default() -> Self {
        Race { first: AtomicUsize::new(usize::MAX), decided: Arc::default() }
    }
}

impl Race {
    /// The endpoint at which the first attempt waits.
    pub(crate) fn first(&self) -> Option<usize> {
        Some(self.first.load(Ordering::Relaxed)).filter(|n| *n != usize::MAX)
    }
}

fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the latency budget ran out")
}

/// Makes one attempt at an endpoint of the model that is not among `tried`.
pub(crate) async fn attempt(
    asked: &Asked<'_>,
    t: &Target<'_>,
    tried: Places,
    reason: Option<Reason>,
    race: Option<&Race>,
) -> Result<Completion, Failed> {
    let cx = asked.cx;
    if cx.deadline.passed(cx.clock.now()) {
        return Err(late().into());
    }
    let started_us = cx.elapsed_us();
    // A stage belongs to a request that was let in, and so does what is tried again.
    let new = cx.stage.is_none() && !asked.let_in.load(Ordering::Relaxed);
    let mark = new.then(|| crate::mark::of(&asked.request, cx.user.as_ref(), t.input));
    let wait = asked.slots.acquire(t.model, &cx.tenant, t.input, cx.deadline, mark);
    let slot = task::within(&*cx.clock, cx.deadline, wait).await.map_err(|_| late())??;
    asked.let_in.store(true, Ordering::Relaxed);
    // Chosen with the slot in hand: what was free before the queue may not be behind it.
    let number = asked.made.fetch_add(1, Ordering::Relaxed) + 1;
    let random = pick::mix(seed(cx) ^ u64::from(number));
    let picked = pick::pick(&t.settings.endpoints, tried, &cx.clock, random);
    let Some((place, turn)) = picked else {
        asked.made.fetch_sub(1, Ordering::Relaxed);
        if pick::is_full(&t.settings.endpoints, tried, cx.clock.now()) {
            return Err(Failed { error: pick::full(t.model), place: None, full: true });
        }
        return Err(pick::resting(t.model, &t.settings.endpoints, std::time::Duration::ZERO).into());
    };
    let Some(endpoint) = t.settings.endpoints.get(place) else {
        return Err(Error::new(Code::Internal, "the model has no endpoint").into());
    };
    if let Some(race) = race {
        let _ = race.first.compare_exchange(usize::MAX, place, Ordering::Relaxed, Ordering::Relaxed);
    }
    if number == 1 {
        endpoint.health.called(cx.clock.now());
    }
    let mut live = Live::new(cx, t.model, endpoint, t.settings, (slot, turn));
    live.record.started_us = started_us;
    live.record.queued_us = cx.elapsed_us().saturating_sub(started_us);
    live.record.number = number;
    live.record.reason = reason;
    live.record.instead_of = (t.model != t.asked_for).then(|| t.asked_for.clone());
    live.record.prompt_version.clone_from(&asked.prompt_version);
    live.input = t.input;
    live.race = race.map(|r| r.decided.clone());
    let failed = |error| Failed { error, place: Some(place), full: false };

    let timeouts = t.settings.timeouts;
    let now = cx.clock.now();
    let first = cx.deadline.min(Deadline::from_now(now, timeouts.first_token));
    let info = Attempt {
        request: cx.request,
        number,
        tenant: cx.tenant.clone(),
        user: cx.user.clone(),
        stage: cx.stage.clone(),
        trace: cx.trace.map(|t| t.child(trace::attempt_span(cx.request, live.record.ordinal))),
        deadline: cx.deadline,
        connect: timeouts.connect,
    };
    let mut head = VecDeque::new();
    let committing = async {
        let mut stream = endpoint.model.start(&asked.request, &info).await?;
        live.accepted = true;
        while let Some(delta) = stream.next().await {
            let delta = delta?;
            live.saw(&delta);
            let commit = delta.is_output();
            head.push_back(delta);
            if commit {
                return Ok(Some(stream));
            }
        }
        if live.finished() { Ok(None) } else { Err(Live::truncated()) }
    };
    let result: Result<Option<crate::DeltaStream>, Error> =
        match task::within(&*cx.clock, first, committing).await {
            Ok(r) => r,
            Err(_) if live.finished() => Ok(None),
            Err(_) if cx.deadline.passed(cx.clock.now()) => Err(late()),
            Err(_) => {
                let m = format!("no output came within {:?}", timeouts.first_token);
                Err(Error::new(Code::UpstreamTimeout, m).retry(RetryHint::Elsewhere))
            }
        };
    match result {
        Ok(stream) => {
            let version = head.iter().any(|d| matches!(d, Delta::Version(_)));
            if let (false, Some(v)) = (version, &t.settings.version) {
                live.record.model_version = Some(v.clone());
                head.push_front(Delta::Version(v.clone()));
            }
            Ok(Completion::new(live, head, stream, timeouts.silence, cx.deadline))
        }
        Err(e) => {
            live.fail(&e);
            Err(failed(e))
        }
    }
}

/// The random bits of a request's id.
fn seed(cx: &Context) -> u64 {
    cx.request.as_bytes().last_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b))
}
