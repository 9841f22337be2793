//! What is asked next when an attempt fails before its first output, and when to give up. Nobody sees any of it.
//!
//! ```text
//! ask an endpoint of the model ── first output ──▶ committed (Completion)
//!   │ 429, 5xx, broken connection: another endpoint of the model; where there is none, once more, after a short pause and
//!   │                              out of the retry budgets; then the next model
//!   │ refused credentials, timeout, no slot: another endpoint, the next model
//!   │ prompt too long: the next model with a larger window
//!   │ filtered content: a model that is a fallback for just that
//!   └ wrong request, deadline, used-up budget: the end
//! ```
//!
//! Endpoints that rest after failures ([`crate::pool`]) are passed over. Invariants: a model's endpoint is asked at most
//! twice for one answer, not counting that it refused one request too many, which costs the call its slot; when everything rests, the call waits a little once, and then fails with the time until then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{Code, Context, Error, ModelName, Reason, RetryHint, Tick};
use pipeline::task;

use crate::attempt::{Asked, Target};
use crate::completion::Completion;
use crate::hedge;
use crate::model::{FallbackOn, ModelSettings};
use crate::pool::pick::{self, Outlook, Places};
use crate::{ChatRequest, Endpoint};

/// A `Retry-After` up to this long is waited for; a longer one means elsewhere.
const SHORT: Duration = Duration::from_secs(2);
/// The pause before the second try when the upstream names none, times 0.8 to 1.2.
const BACKOFF: Duration = Duration::from_millis(500);

/// How often a call goes back to the queue because an endpoint had too much to do.
const QUEUED_AGAIN: u32 = 3;
/// How long, and how often, a call waits for room at endpoints it has not asked.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSES: u32 = 80;

/// A model that may be asked.
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a ModelName,
    pub(crate) settings: &'a Arc<ModelSettings>,
    /// What it is a fallback for; everything but filtered content when absent.
    pub(crate) on: Option<&'a [FallbackOn]>,
}

impl Candidate<'_> {
    /// Whether it may be asked after this.
    fn answers(&self, why: FallbackOn) -> bool {
        match self.on {
            Some(on) => on.contains(&why),
            None => why != FallbackOn::ContentFilter,
        }
    }
}

/// What comes of one model.
enum Tried {
    Answers(Box<Completion>),
    Failed(Error),
    TooSmall(Error),
    /// The end for all models.
    Over(Error),
    /// It was not asked: it rests that long.
    Rests(Duration),
    /// It was not asked, and will not be.
    Nothing,
}

enum Next {
    Again(Duration),
    Elsewhere,
    Fallback,
    LargerWindow,
    Stop,
}

/// Asks the candidates in order until one commits. The error is the last one's.
///
/// The request is changed in place from candidate to candidate: prompts are long, and copying one costs more than all
/// else that is done here.
pub(crate) async fn repair(asked: &mut Asked<'_>, candidates: &[Candidate<'_>]) -> Result<Completion, Error> {
    let nobody = || Error::new(Code::Internal, "the model has no endpoint");
    let first = candidates.first().ok_or_else(nobody)?;
    let wanted = asked.request.max_output_tokens;
    let cx = asked.cx;
    let mut patience = SHORT;
    loop {
        let mut round = Round { last: None, too_small: None, rests: None };
        let answer = round.ask(asked, candidates, wanted).await;
        asked.request.max_output_tokens = wanted;
        if let Some(answer) = answer {
            return answer;
        }
        // Nobody answers. The endpoint that broke the answer off is asked again when there is no other.
        match (round.last, round.rests) {
            (Some(e), _) => return Err(e),
            (None, None) if asked.avoid.take().is_some() => {}
            (None, None) => return Err(nobody()),
            (None, Some(wait)) if wait <= patience && !cx.deadline.passed(cx.clock.now().after(wait)) => {
                patience -= wait;
                task::sleep(wait).await;
            }
            (None, Some(wait)) => return Err(pick::resting(first.name, &first.settings.endpoints, wait)),
        }
    }
}

/// One walk over the candidates.
struct Round {
    last: Option<Error>,
    /// The window that was too small, once one was.
    too_small: Option<Option<u64>>,
    /// How long until something that was passed over is asked again.
    rests: Option<Duration>,
}

impl Round {
    /// `None` when nothing answered: then `last` says why, or everything rests.
    async fn ask(
        &mut self,
        asked: &mut Asked<'_>,
        candidates: &[Candidate<'_>],
        wanted: Option<u64>,
    ) -> Option<Result<Completion, Error>> {
        let estimated = candidates.first().is_some_and(|c| c.settings.counter.estimated());
        let asked_for = candidates.first()?.name;
        for (place, candidate) in candidates.iter().enumerate() {
            let settings = candidate.settings;
            let fits = self.too_small.is_none_or(|failed| larger(settings.context_window, failed));
            // What rests was broken a moment ago.
            let why = self.last.as_ref().map_or(Some(FallbackOn::Error), FallbackOn::of);
            let may = place == 0 || why.is_some_and(|w| candidate.answers(w));
            if !fits || !may || asked.request.continues && settings.prefill.is_none() {
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
                    self.too_small = Some(settings.context_window);
                    self.last = Some(e);
                    continue;
                }
            }
            let target = Target { asked_for, model: candidate.name, settings, input };
            match one_model(asked, &target, place == 0).await {
                Tried::Answers(c) => return Some(Ok(*c)),
                Tried::Over(e) => return Some(Err(e)),
                Tried::Failed(e) => self.last = Some(e),
                Tried::TooSmall(e) => {
                    self.too_small = Some(settings.context_window);
                    self.last = Some(e);
                }
                Tried::Rests(d) => self.rests = Some(self.rests.map_or(d, |r| r.min(d))),
                Tried::Nothing => {}
            }
        }
        None
    }
}

/// Asks the endpoints of one model.
async fn one_model(asked: &Asked<'_>, t: &Target<'_>, preferred: bool) -> Tried {
    let cx = asked.cx;
    let endpoints = &t.settings.endpoints;
    let mut tried = Places::default();
    let broke = endpoints.iter().enumerate().filter(|(_, e)| asked.avoid.as_ref() == Some(&e.name));
    broke.for_each(|(n, _)| tried.insert(n));
    if asked.request.continues {
        let refuse = endpoints.iter().enumerate().filter(|(_, e)| e.health.refuses_prefill(cx.clock.now()));
        refuse.for_each(|(n, _)| tried.insert(n));
    }
    let again = asked.again;
    let mut reason = again.or((!preferred).then_some(Reason::Fallback));
    let mut may_retry = preferred;
    let mut last = None;
    let (mut queued_again, mut pauses) = (0, 0);
    loop {
        match (pick::outlook(endpoints, tried, cx.clock.now()), last) {
            (Outlook::Now, _) => {}
            (_, Some(e)) => return Tried::Failed(e),
            (Outlook::After(d), None) => return Tried::Rests(d),
            (Outlook::Nothing, None) => return Tried::Nothing,
        }
        let failed = match hedge::race(asked, t, tried, reason).await {
            Ok(c) => return Tried::Answers(Box::new(c)),
            Err(failed) => failed,
        };
        let Some(place) = failed.place else {
            match next(asked, &failed.error, None) {
                Next::Stop => return Tried::Over(failed.error),
                // What is free was tried: soon something else is.
                _ if failed.full && pauses < PAUSES => {
                    pauses += 1;
                    task::sleep(PAUSE).await;
                    last = None;
                    continue;
                }
                // Others took what was free: another look. Or the model's own queue refuses.
                _ if failed.error.code == Code::Overloaded => return Tried::Failed(failed.error),
                _ => {
                    last = None;
                    continue;
                }
            }
        };
        if queued_again < QUEUED_AGAIN && is_one_too_many(&failed.error, endpoints.get(place), cx) {
            // It is well, and is given fewer from now on: back to the queue.
            queued_again += 1;
            reason = again.or(Some(Reason::Elsewhere));
            last = None;
            continue;
        }
        tried.insert(place);
        let others = pick::outlook(endpoints, tried, cx.clock.now()) == Outlook::Now;
        if asked.request.continues && failed.error.code == Code::InvalidRequest {
            // It does not go on behind an assistant's words. Others may.
            endpoints.iter().skip(place).take(1).for_each(|e| e.health.refused_prefill(cx.clock.now()));
            last = Some(failed.error);
            continue;
        }
        let here = (may_retry && !others).then(|| endpoints.get(place)).flatten();
        match next(asked, &failed.error, here.map(|e| &*e.health)) {
            Next::Again(pause) => {
                may_retry = false;
                tried = Places::default();
                (0..endpoints.len()).filter(|n| *n != place).for_each(|n| tried.insert(n));
                task::sleep(pause).await;
                reason = Some(Reason::Retry);
            }
            Next::Elsewhere => reason = again.or(Some(Reason::Elsewhere)),
            Next::Fallback => return Tried::Failed(failed.error),
            Next::LargerWindow => return Tried::TooSmall(failed.error),
            Next::Stop => return Tried::Over(failed.error),
        }
        last = Some(failed.error);
    }
}

/// Whether an endpoint refused one more request than it bears. Those that it bears are under way.
fn is_one_too_many(e: &Error, endpoint: Option<&Endpoint>, cx: &Context) -> bool {
    let refused = matches!(e.upstream_status, Some(429 | 529)) && !matches!(e.retry, RetryHint::After(_));
    refused && endpoint.is_some_and(|e| e.health.look(cx.clock.now()).is_none())
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

/// Whether a model is asked for this as soon as there is room.
pub(crate) fn may_be_asked(settings: &ModelSettings, request: &ChatRequest, input: u64, now: Tick) -> bool {
    fit(request.max_output_tokens, settings, input).is_ok()
        && pick::outlook(&settings.endpoints, Places::default(), now) == Outlook::Now
        && (!request.continues || settings.prefill.is_some())
}

/// What follows from an error. `here` is the endpoint when it may be asked once more.
fn next(asked: &Asked<'_>, e: &Error, here: Option<&crate::pool::Health>) -> Next {
    let cx = asked.cx;
    let pause = match e.retry {
        RetryHint::After(d) => (d <= SHORT).then_some(d),
        RetryHint::Elsewhere | RetryHint::No => {
            let jitter = u32::from(cx.request.as_bytes().last().copied().unwrap_or(0)) % 41;
            Some(BACKOFF * (80 + jitter) / 100)
        }
    };
    let again = || {
        let (Some(pause), Some(here)) = (pause, here) else { return Next::Elsewhere };
        let now = cx.clock.now();
        if cx.deadline.passed(now.after(pause)) || !asked.retries.try_retry(now, &cx.tenant) {
            return Next::Elsewhere;
        }
        if !here.try_retry(now) {
            asked.retries.give_back(&cx.tenant);
            return Next::Elsewhere;
        }
        Next::Again(pause)
    };
    match e.code {
        Code::ContextLengthExceeded => Next::LargerWindow,
        Code::ContentFiltered => Next::Fallback,
        Code::RateLimited if e.upstream_status.is_none() => Next::Stop,
        Code::RateLimited | Code::UpstreamError | Code::UpstreamUnreachable | Code::UpstreamTruncated => {
            again()
        }
        Code::WorkerCrashed => again(),
        Code::UpstreamTimeout | Code::UpstreamCredentials | Code::Overloaded => Next::Elsewhere,
        _ => Next::Stop,
    }
}

/// How many attempts an answer took.
pub(crate) fn attempts(asked: &Asked<'_>) -> u32 {
    asked.made.load(Ordering::Relaxed)
}
