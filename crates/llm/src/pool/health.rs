//! How an endpoint is doing: its breaker, how slow and busy it is, and what it refused.
//!
//! A [`Turn`] is one attempt's place at it. Whatever ends the attempt tells the endpoint's breaker once: that it answered,
//! that it failed, or (by its drop) nothing. Invariant: no turn leaves a probe or a request under way behind.

use std::sync::Arc;
use std::time::Duration;

use admission::{Breaker, BreakerSettings, BreakerState, Pass, PeakEwma, RetryBudget, RetrySettings};
use contract::{Clock, Code, Error, RetryHint, Tick};
use parking_lot::Mutex;

/// How long an endpoint rests whose credentials are refused: it does not heal by itself.
const REFUSED: Duration = Duration::from_secs(10);
/// The longest rest that a provider can ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// How an endpoint is doing. Shared by all who ask it; kept when the configuration is read again and the endpoint is the
/// same.
pub struct Health(Mutex<State>);

struct State {
    breaker: Breaker,
    busy: PeakEwma,
    retries: RetryBudget,
    refuses_prefill: bool,
    /// Why it failed last: whoever cannot ask it while it rests is told.
    last: Option<Error>,
}

/// How an endpoint is doing, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointState {
    /// Its breaker.
    pub breaker: BreakerState,
    /// Requests under way.
    pub in_flight: u32,
    /// Time to its first output as it is believed now.
    pub latency: Option<Duration>,
}

impl Default for Health {
    fn default() -> Self {
        Health::new(BreakerSettings::default(), RetrySettings::default())
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Health").finish_non_exhaustive()
    }
}

/// What an attempt's error says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Failed,
    /// It asked to be left alone.
    Rests(Duration),
    /// It refused us for good: resting is all that helps.
    Refused,
    Nothing,
}

fn verdict(e: &Error) -> Verdict {
    match (e.code, e.retry) {
        (Code::RateLimited, _) if e.upstream_status.is_none() => Verdict::Nothing,
        (Code::RateLimited | Code::UpstreamError, RetryHint::After(d)) => Verdict::Rests(d),
        (Code::UpstreamCredentials, _) => Verdict::Refused,
        (
            Code::RateLimited
            | Code::UpstreamError
            | Code::UpstreamUnreachable
            | Code::UpstreamTimeout
            | Code::UpstreamTruncated
            | Code::WorkerCrashed,
            _,
        ) => Verdict::Failed,
        _ => Verdict::Nothing,
    }
}

impl Health {
    /// An endpoint of which nothing is known.
    pub fn new(breaker: BreakerSettings, retries: RetrySettings) -> Self {
        Health(Mutex::new(State {
            breaker: Breaker::new(breaker),
            busy: PeakEwma::default(),
            retries: RetryBudget::new(retries),
            refuses_prefill: false,
            last: None,
        }))
    }

    /// How it is doing.
    pub fn state(&self, now: Tick) -> EndpointState {
        let s = self.0.lock();
        EndpointState {
            breaker: s.breaker.state(now),
            in_flight: s.busy.in_flight(),
            latency: s.busy.latency(),
        }
    }

    /// Whether a request would pass, and what it would meet. Changes nothing.
    pub(crate) fn look(&self, now: Tick) -> (Pass, f64) {
        let s = self.0.lock();
        (s.breaker.would_pass(now), s.busy.load(now))
    }

    /// A place at it, or why there is none.
    pub(crate) fn enter(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Result<Turn, Pass> {
        let now = clock.now();
        let mut s = self.0.lock();
        match s.breaker.try_pass(now) {
            pass @ (Pass::Free | Pass::Probe) => {
                s.busy.began();
                drop(s);
                let probe = pass == Pass::Probe;
                Ok(Turn { health: self.clone(), clock: clock.clone(), asked: now, probe, told: false })
            }
            no => Err(no),
        }
    }

    /// A call began that may ask it first.
    pub(crate) fn called(&self, now: Tick) {
        self.0.lock().retries.request(now);
    }

    /// Takes one of its retries.
    pub(crate) fn try_retry(&self, now: Tick) -> bool {
        self.0.lock().retries.try_retry(now)
    }

    /// Whether it has refused to go on behind an assistant's words.
    pub(crate) fn refuses_prefill(&self) -> bool {
        self.0.lock().refuses_prefill
    }

    /// It refused to go on behind an assistant's words.
    pub(crate) fn refused_prefill(&self) {
        self.0.lock().refuses_prefill = true;
    }

    /// Why it failed last.
    pub(crate) fn last(&self) -> Option<Error> {
        self.0.lock().last.clone()
    }
}

/// One attempt's place at an endpoint.
pub(crate) struct Turn {
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    asked: Tick,
    /// Whether it finds out if the endpoint is back.
    probe: bool,
    /// Whether the breaker knows how it went.
    told: bool,
}

impl Turn {
    /// Its first output is here.
    pub(crate) fn answered(&mut self) {
        if !self.told {
            self.told = true;
            let now = self.clock.now();
            let mut s = self.health.0.lock();
            s.breaker.succeeded(now);
            s.busy.observe(now, now.since(self.asked));
            s.last = None;
        }
    }

    /// Another attempt answered before it: it is at least as slow as this.
    pub(crate) fn outrun(&mut self) {
        let now = self.clock.now();
        self.health.0.lock().busy.observe(now, now.since(self.asked));
    }

    /// It ended with an error, behind its first output or before it.
    pub(crate) fn failed(&mut self, e: &Error) {
        let verdict = verdict(e);
        if verdict == Verdict::Nothing {
            return;
        }
        self.told = true;
        let now = self.clock.now();
        let mut s = self.health.0.lock();
        match verdict {
            Verdict::Failed => {
                if e.code == Code::UpstreamTimeout {
                    // It was at least as slow as this.
                    s.busy.observe(now, now.since(self.asked));
                }
                s.breaker.failed(now);
            }
            Verdict::Rests(d) => s.breaker.rest(now, d.min(LONGEST)),
            Verdict::Refused => {
                s.breaker.failed(now);
                s.breaker.rest(now, REFUSED);
            }
            Verdict::Nothing => {}
        }
        s.last = Some(e.clone());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut s = self.health.0.lock();
        s.busy.ended();
        if !self.told && self.probe {
            s.breaker.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::ManualClock;

    use super::*;

    fn health() -> (Arc<Health>, Arc<dyn Clock>) {
        (Arc::default(), Arc::new(ManualClock::default()))
    }

    #[test]
    fn a_dropped_turn_leaves_nothing_behind() {
        let (h, clock) = health();
        for _ in 0..3 {
            h.enter(&clock).unwrap().failed(&Error::new(Code::UpstreamUnreachable, "x"));
        }
        assert!(matches!(h.enter(&clock), Err(Pass::Resting(_))));
        assert_eq!(h.state(clock.now()).in_flight, 0);
    }

    #[test]
    fn what_the_caller_did_wrong_says_nothing_about_the_endpoint() {
        let (h, clock) = health();
        for code in
            [Code::InvalidRequest, Code::ContentFiltered, Code::Cancelled, Code::ContextLengthExceeded]
        {
            (0..20)
                .for_each(|_| h.enter(&clock).unwrap().failed(&Error::new(code, "x").upstream_status(400)));
        }
        assert_eq!(h.state(clock.now()).breaker, BreakerState::Closed);
    }

    #[test]
    fn a_named_time_is_kept_and_no_failure() {
        let (h, clock) = health();
        let e = Error::new(Code::RateLimited, "x").retry(RetryHint::After(Duration::from_secs(3)));
        h.enter(&clock).unwrap().failed(&e.upstream_status(429));
        let Err(Pass::Resting(until)) = h.enter(&clock).map(drop) else { panic!() };
        assert_eq!(until.since(clock.now()), Duration::from_secs(3));
    }
}
