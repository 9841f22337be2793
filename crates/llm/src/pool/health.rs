//! How an endpoint is doing: its breaker, how slow and busy it is, and what it refused.
//!
//! A [`Turn`] is one attempt's place at it. Whatever ends the attempt tells the endpoint's breaker once: that it answered,
//! that it failed, or (by its drop) nothing. Invariant: no turn leaves a probe or a request under way behind.
//!
//! An endpoint of several has a limit of its own ([`Bound`]): what it refuses or how slow it gets lowers that limit and no
//! other, and what all of them bear together is the model's limit ([`admission::Room`]). One that rests bears nothing, one
//! that is being tried out one request.

use std::sync::Arc;
use std::time::Duration;

use admission::{
    Breaker, BreakerSettings, BreakerState, Limiter, Pass, PeakEwma, RetryBudget, RetrySettings, Room,
};
use contract::{Clock, Code, Error, RetryHint, Tick};
use parking_lot::Mutex;

/// How long an endpoint rests whose credentials are refused: it does not heal by itself.
const REFUSED: Duration = Duration::from_secs(10);
/// How long one that refused to go on behind an assistant's words is not asked to.
const REFUSES_PREFILL: Duration = Duration::from_secs(600);
/// The longest rest that a provider can ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// How an endpoint is doing. Shared by all who ask it; kept when the configuration is read again and the endpoint is the
/// same.
pub struct Health(Mutex<State>);

struct State {
    breaker: Breaker,
    busy: PeakEwma,
    retries: RetryBudget,
    /// How many it is given at once, where the model has others.
    bound: Option<Bound>,
    /// Until when it is not asked again to go on behind an assistant's words.
    refuses_prefill: Option<Tick>,
    /// Why it failed last: whoever cannot ask it while it rests is told.
    last: Option<Error>,
}

/// How many requests an endpoint is given at once.
struct Bound {
    limiter: Limiter,
    room: Room,
    /// What it says there.
    said: u32,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.room.correct(self.said, 0);
    }
}

/// How an endpoint is doing, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointState {
    /// Its breaker.
    pub breaker: BreakerState,
    /// Requests under way.
    pub in_flight: u32,
    /// How many it is given at once, where it has a limit of its own.
    pub limit: Option<u32>,
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
            bound: None,
            refuses_prefill: None,
            last: None,
        }))
    }

    /// How it is doing.
    pub fn state(&self, now: Tick) -> EndpointState {
        let s = self.0.lock();
        EndpointState {
            breaker: s.breaker.state(now),
            in_flight: s.busy.in_flight(),
            limit: s.bound.as_ref().map(|b| b.limiter.limit()),
            latency: s.busy.latency(),
        }
    }

    /// Gives it a limit of its own from here on, of at most `cap` requests at once, as one of those that fill `room`. What
    /// was learned stays.
    pub fn bind(&self, cap: u32, room: &Room, now: Tick) {
        let mut s = self.0.lock();
        match &mut s.bound {
            Some(b) => b.limiter.configure(cap, true),
            None => {
                let limiter = Limiter::new(cap, None, true);
                s.bound = Some(Bound { limiter, room: room.clone(), said: 0 });
            }
        }
        s.say(now);
    }

    /// Whether a request would pass, and what it would meet; `None` when it has as many as it is given at once. Changes
    /// nothing.
    pub(crate) fn look(&self, now: Tick) -> Option<(Pass, f64)> {
        let s = self.0.lock();
        (!s.is_full()).then(|| (s.breaker.would_pass(now), s.busy.load(now)))
    }

    /// A place at it, unless it rests or is full.
    pub(crate) fn enter(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Option<Turn> {
        let now = clock.now();
        let mut s = self.0.lock();
        if s.is_full() {
            return None;
        }
        let pass = s.breaker.try_pass(now);
        if !matches!(pass, Pass::Free | Pass::Probe) {
            return None;
        }
        s.busy.began();
        s.say(now);
        let (nth, probe) = (s.busy.in_flight(), pass == Pass::Probe);
        drop(s);
        let (health, clock) = (self.clone(), clock.clone());
        Some(Turn { health, clock, asked: now, nth, probe, told: false, took: None, left: false })
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
    pub(crate) fn refuses_prefill(&self, now: Tick) -> bool {
        self.0.lock().refuses_prefill.is_some_and(|until| now < until)
    }

    /// It refused to go on behind an assistant's words: it is asked again after a while, since it may have been the words.
    pub(crate) fn refused_prefill(&self, now: Tick) {
        self.0.lock().refuses_prefill = Some(now.after(REFUSES_PREFILL));
    }

    /// Why it failed last.
    pub(crate) fn last(&self) -> Option<Error> {
        self.0.lock().last.clone()
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bound.as_ref().is_some_and(|b| self.busy.in_flight() >= b.limiter.limit())
    }

    /// Says what it bears. Where a slot is given back right after, whoever waits for one finds it.
    fn say(&mut self, now: Tick) {
        let Some(b) = &mut self.bound else { return };
        let bears = match self.breaker.state(now) {
            BreakerState::Closed => b.limiter.limit(),
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 0,
        };
        if bears != b.said {
            b.room.correct(b.said, bears);
            b.said = bears;
        }
    }
}

/// Whether it says that the endpoint has too much to do.
fn is_too_much(e: &Error) -> bool {
    matches!(e.upstream_status, Some(429 | 503 | 529)) || e.code == Code::UpstreamTimeout
}

/// One attempt's place at an endpoint.
pub(crate) struct Turn {
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    asked: Tick,
    /// How many were under way with it when it began.
    nth: u32,
    /// Whether it finds out if the endpoint is back.
    probe: bool,
    /// Whether the breaker knows how it went.
    told: bool,
    /// Until its first output.
    took: Option<Duration>,
    left: bool,
}

impl Turn {
    /// Its first output is here.
    pub(crate) fn answered(&mut self) {
        if !self.told {
            self.told = true;
            let now = self.clock.now();
            let mut s = self.health.0.lock();
            s.breaker.succeeded(now);
            let took = now.since(self.asked);
            self.took = Some(took);
            s.busy.observe(now, took);
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
        let mut verdict = verdict(e);
        if verdict == Verdict::Nothing {
            return;
        }
        let now = self.clock.now();
        let mut s = self.health.0.lock();
        if is_too_much(e)
            && let Some(b) = &mut s.bound
        {
            match (e.upstream_status, e.retry) {
                (Some(429 | 529), RetryHint::No | RetryHint::Elsewhere) => {
                    b.limiter.refused(now, self.nth);
                    if self.nth > 1 && !self.probe {
                        // One too many, of those that it was sent: it is well, and is sent fewer.
                        verdict = Verdict::Nothing;
                    }
                }
                _ => _ = b.limiter.overloaded(now),
            }
        }
        self.told |= verdict != Verdict::Nothing;
        self.took = None;
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

impl Turn {
    /// Leaves its place: before its slot is given back, so that whoever gets that finds room. Done once.
    pub(crate) fn leave(&mut self) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let mut s = self.health.0.lock();
        let in_flight = s.busy.in_flight();
        s.busy.ended();
        if !self.told && self.probe {
            s.breaker.abandoned();
        }
        if let (Some(took), Some(b)) = (self.took, &mut s.bound) {
            b.limiter.succeeded(took, in_flight);
        }
        s.say(self.clock.now());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use contract::ManualClock;
    use proptest::prelude::*;

    use super::*;

    fn health() -> (Arc<Health>, Arc<dyn Clock>) {
        (Arc::default(), Arc::new(ManualClock::default()))
    }

    #[derive(Debug, Clone)]
    enum Act {
        Enter,
        Answer(u64),
        Refuse,
        Slow,
        Fail,
        Leave,
        Wait(u64),
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Enter),
            Just(Act::Enter),
            (1u64..2_000).prop_map(Act::Answer),
            Just(Act::Refuse),
            Just(Act::Slow),
            Just(Act::Fail),
            Just(Act::Leave),
            (1u64..3_000).prop_map(Act::Wait),
        ]
    }

    proptest! {
        /// Whatever happens at two endpoints: none has more under way than its cap, none begins one beyond its limit, what
        /// happens at one leaves the other's limit alone, and what they say together is what they bear.
        #[test]
        fn each_endpoint_keeps_to_its_own_limit_and_all_say_what_they_bear(
            caps in (1u32..20, 1u32..20),
            acts in prop::collection::vec((any::<bool>(), any_act()), 0..300),
        ) {
            let clock = Arc::new(ManualClock::default());
            let time: Arc<dyn Clock> = clock.clone();
            let room = Room::default();
            let all = [(health().0, caps.0), (health().0, caps.1)];
            all.iter().for_each(|(h, cap)| h.bind(*cap, &room, clock.now()));
            let mut turns: [Vec<Turn>; 2] = Default::default();
            for (which, act) in acts {
                let at = usize::from(which);
                let limit = |n: usize| all[n].0.state(clock.now()).limit.unwrap();
                let others = limit(1 - at);
                let before = limit(at);
                match act {
                    Act::Wait(ms) => clock.advance(Duration::from_millis(ms)),
                    Act::Enter => {
                        let under_way = turns[at].len() as u32;
                        if let Some(turn) = all[at].0.enter(&time) {
                            prop_assert!(under_way < before);
                            turns[at].push(turn);
                        }
                    }
                    act => if let Some(mut turn) = turns[at].pop() {
                        match act {
                            Act::Answer(ms) => {
                                clock.advance(Duration::from_millis(ms));
                                turn.answered();
                            }
                            Act::Refuse => turn.failed(&Error::new(Code::RateLimited, "x").upstream_status(429)),
                            Act::Slow => turn.failed(&Error::new(Code::UpstreamTimeout, "x")),
                            Act::Fail => turn.failed(&Error::new(Code::UpstreamUnreachable, "x")),
                            _ => {}
                        }
                    }
                }
                prop_assert_eq!(limit(1 - at), others);
                for (n, (h, cap)) in all.iter().enumerate() {
                    let state = h.state(clock.now());
                    prop_assert!((1..=*cap).contains(&state.limit.unwrap()));
                    prop_assert!(state.in_flight <= *cap && state.in_flight as usize == turns[n].len());
                }
            }
            turns.iter_mut().for_each(Vec::clear);
            let bears = |h: &Health| {
                let s = h.0.lock();
                s.bound.as_ref().map_or(0, |b| b.said)
            };
            prop_assert_eq!(room.get().unwrap_or(0), all.iter().map(|(h, _)| bears(h)).sum::<u32>());
            drop(all);
            prop_assert_eq!(room.get(), None);
        }
    }

    #[test]
    fn one_request_too_many_is_no_failure_and_one_that_was_alone_is() {
        let (h, clock) = health();
        let room = Room::default();
        h.bind(64, &room, clock.now());
        let refusal = Error::new(Code::RateLimited, "x").upstream_status(429);
        let mut turns: Vec<Turn> = (0..64).map(|_| h.enter(&clock).unwrap()).collect();
        turns.drain(4..).for_each(|mut t| t.failed(&refusal));
        let state = h.state(clock.now());
        assert_eq!((state.limit, state.breaker, room.get()), (Some(4), BreakerState::Closed, Some(4)));
        assert!(h.enter(&clock).is_none() && h.look(clock.now()).is_none(), "it has four");
        drop(turns);
        (0..3).for_each(|_| h.enter(&clock).unwrap().failed(&refusal));
        assert_eq!((h.state(clock.now()).breaker, room.get()), (BreakerState::Open, None));
    }

    #[test]
    fn a_refusal_to_go_on_is_forgotten() {
        let clock = ManualClock::default();
        let h = Health::default();
        h.refused_prefill(clock.now());
        clock.advance(Duration::from_secs(599));
        assert!(h.refuses_prefill(clock.now()));
        clock.advance(Duration::from_secs(2));
        assert!(!h.refuses_prefill(clock.now()));
    }

    #[test]
    fn a_dropped_turn_leaves_nothing_behind() {
        let (h, clock) = health();
        for _ in 0..3 {
            h.enter(&clock).unwrap().failed(&Error::new(Code::UpstreamUnreachable, "x"));
        }
        assert!(matches!(h.look(clock.now()), Some((Pass::Resting(_), _))) && h.enter(&clock).is_none());
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
        let Some((Pass::Resting(until), _)) = h.look(clock.now()) else { panic!() };
        assert_eq!(until.since(clock.now()), Duration::from_secs(3));
    }
}
