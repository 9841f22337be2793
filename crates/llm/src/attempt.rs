//! Attempts before the commit point: which upstream is asked next, and when to give up.
//!
//! ```text
//! ask endpoint ── first output ──▶ committed (Completion)
//!   │ 429, 5xx, broken connection: once more on the preferred endpoint, then the next endpoint, then the next model
//!   │ refused credentials, timeout, no slot: the next
//!   │ prompt too long: the next model with a larger window
//!   └ wrong request, filtered content, deadline, used-up budget: the end
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Context, Deadline, Error, ModelName, RetryHint, trace};
use futures_util::StreamExt;
use pipeline::task;

use crate::completion::{Completion, Live};
use crate::{Attempt, ChatRequest, Delta, Endpoint, ModelSettings, Slots};

/// A `Retry-After` up to this long is waited for; a longer one means elsewhere.
const SHORT: Duration = Duration::from_secs(2);
/// The pause before the second try when the upstream names none, times 0.8 to 1.2.
const BACKOFF: Duration = Duration::from_millis(500);

pub(crate) struct Asked<'a> {
    pub(crate) request: ChatRequest,
    /// What the first candidate's counter makes of it, when the caller has asked it already.
    pub(crate) input_tokens: Option<u64>,
    pub(crate) prompt_version: Option<String>,
    pub(crate) cx: &'a Context,
    pub(crate) slots: &'a dyn Slots,
}

type Candidate<'a> = (&'a ModelName, &'a Arc<ModelSettings>);

enum Next {
    Again(Duration),
    Elsewhere,
    LargerWindow,
    Stop,
}

/// Asks the candidates in order until one commits. The error is the last one's.
///
/// The request is changed in place from candidate to candidate: prompts are long, and copying one costs more than all
/// else that is done here.
pub(crate) async fn repair(mut asked: Asked<'_>, candidates: &[Candidate<'_>]) -> Result<Completion, Error> {
    let wanted = asked.request.max_output_tokens;
    let estimated = candidates.first().is_some_and(|(_, s)| s.counter.estimated());
    let mut number = 0;
    let mut last = Error::new(Code::Internal, "the model has no endpoint");
    // The window that was too small, once one was.
    let mut too_small: Option<Option<u64>> = None;
    let Some((asked_for, _)) = candidates.first().copied() else { return Err(last) };
    for (place, (model, settings)) in candidates.iter().enumerate() {
        if too_small.is_some_and(|failed| !larger(settings.context_window, failed)) {
            continue;
        }
        // Estimates are equal whoever makes them; a model that counts exactly counts for itself.
        let input = match asked.input_tokens {
            Some(n) if place == 0 || (estimated && settings.counter.estimated()) => n,
            _ => settings.counter.request(&asked.request),
        };
        if place == 0 {
            asked.input_tokens = Some(input);
        }
        match fit(wanted, settings, input) {
            Ok(limit) => asked.request.max_output_tokens = limit,
            Err(e) => {
                too_small = Some(settings.context_window);
                last = e;
                continue;
            }
        }
        'endpoints: for (rank, endpoint) in settings.endpoints.iter().enumerate() {
            let mut may_retry = place == 0 && rank == 0;
            loop {
                number += 1;
                let target = Target { asked_for, model, settings, endpoint, input, number };
                let e = match attempt(&asked, &target).await {
                    Ok(completion) => return Ok(completion),
                    Err(e) => e,
                };
                let next = next(&e, may_retry, asked.cx);
                last = e;
                match next {
                    Next::Again(pause) => {
                        may_retry = false;
                        task::sleep(pause).await;
                    }
                    Next::Elsewhere => break,
                    Next::LargerWindow => {
                        too_small = Some(settings.context_window);
                        break 'endpoints;
                    }
                    Next::Stop => return Err(last),
                }
            }
        }
    }
    Err(last)
}

fn larger(window: Option<u64>, failed: Option<u64>) -> bool {
    match (window, failed) {
        (Some(w), Some(f)) => w > f,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

/// The output limit made to fit the model; an error when the prompt alone does not.
///
/// An estimate may be wrong by a fifth: only beyond that is the provider not asked.
fn fit(wanted: Option<u64>, settings: &ModelSettings, input: u64) -> Result<Option<u64>, Error> {
    let limit = match (wanted, settings.max_output_tokens) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let Some(window) = settings.context_window else { return Ok(limit) };
    let certain = if settings.counter.estimated() { input - input / 5 } else { input };
    if certain >= window {
        let m = format!("the prompt has about {input} tokens and the model's window is {window}");
        return Err(Error::new(Code::ContextLengthExceeded, m).param("messages"));
    }
    Ok(limit.map(|m| m.min(window - certain)))
}

fn next(e: &Error, may_retry: bool, cx: &Context) -> Next {
    let pause = match e.retry {
        RetryHint::After(d) => (d <= SHORT).then_some(d),
        RetryHint::Elsewhere | RetryHint::No => {
            let jitter = u32::from(cx.request.as_bytes().last().copied().unwrap_or(0)) % 41;
            Some(BACKOFF * (80 + jitter) / 100)
        }
    };
    let again = |worth: bool| match pause {
        Some(p) if worth && may_retry && !cx.deadline.passed(cx.clock.now().after(p)) => Next::Again(p),
        _ => Next::Elsewhere,
    };
    match e.code {
        Code::ContextLengthExceeded => Next::LargerWindow,
        Code::RateLimited if e.upstream_status.is_none() => Next::Stop,
        Code::RateLimited | Code::UpstreamError | Code::UpstreamUnreachable | Code::UpstreamTruncated => {
            again(true)
        }
        Code::WorkerCrashed => again(true),
        Code::UpstreamTimeout | Code::UpstreamCredentials | Code::Overloaded => again(false),
        _ => Next::Stop,
    }
}

struct Target<'a> {
    /// The model that was asked for first.
    asked_for: &'a ModelName,
    model: &'a ModelName,
    settings: &'a Arc<ModelSettings>,
    endpoint: &'a Endpoint,
    input: u64,
    number: u32,
}

/// One attempt, until its first output.
async fn attempt(asked: &Asked<'_>, t: &Target<'_>) -> Result<Completion, Error> {
    let cx = asked.cx;
    let late = || Error::new(Code::DeadlineExceeded, "the latency budget ran out");
    if cx.deadline.passed(cx.clock.now()) {
        return Err(late());
    }
    let started_us = cx.elapsed_us();
    let wait = asked.slots.acquire(t.model, &cx.tenant, t.input, cx.deadline);
    let slot = task::within(&*cx.clock, cx.deadline, wait).await.map_err(|_| late())??;
    let mut live = Live::new(cx, t.model, t.endpoint, t.settings, slot);
    live.record.started_us = started_us;
    live.record.queued_us = cx.elapsed_us().saturating_sub(started_us);
    live.record.number = t.number;
    live.record.instead_of = (t.model != t.asked_for).then(|| t.asked_for.clone());
    live.record.prompt_version.clone_from(&asked.prompt_version);
    live.input = t.input;

    let timeouts = t.settings.timeouts;
    let now = cx.clock.now();
    let first = cx.deadline.min(Deadline::from_now(now, timeouts.first_token));
    let info = Attempt {
        request: cx.request,
        number: t.number,
        tenant: cx.tenant.clone(),
        user: cx.user.clone(),
        stage: cx.stage.clone(),
        trace: cx.trace.map(|t| t.child(trace::attempt_span(cx.request, live.record.ordinal))),
        deadline: cx.deadline,
        connect: timeouts.connect,
    };
    let mut head = VecDeque::new();
    let committing = async {
        let mut stream = t.endpoint.model.start(&asked.request, &info).await?;
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
            Ok(Completion::new(live, head, stream, timeouts.silence, cx.deadline, t.number))
        }
        Err(e) => {
            live.fail(&e);
            Err(e)
        }
    }
}
