//! Whether an endpoint is asked at all: it rests after failures, and one request finds out whether it is back.
//!
//! ```text
//! closed ── failures in a row, or too large a share of them ──▶ open (rests; longer each time, up to a cap)
//!   ▲                                                             │ rest over
//!   └── a probe succeeds ── half open (one request at a time) ◀────┘
//!   │                          └── the probe fails ──▶ open
//!   └── and until three in a row have succeeded, one failure opens it again: an endpoint that flaps is not back
//! ```
//!
//! Two signals, because either alone is blind: failures in a row see an endpoint that is gone within a few requests, the
//! share sees one that fails half of many. An endpoint that said how long to leave it alone (`Retry-After`) is left alone
//! for that long, which is no failure of its own.
//!
//! Pure. Invariants: while it is open nobody passes; while it is half open at most one request is under way as its probe; a
//! probe that ends without a verdict leaves the place to another.

use std::time::Duration;

use contract::Tick;

/// Successes in a row behind a rest that make an endpoint sound again.
const PROVEN: u32 = 3;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub consecutive: u32,
    /// The share of failures that opens it, of at least [`BreakerSettings::samples`] within [`BreakerSettings::half_life`].
    pub share: f64,
    /// Requests that a share needs to say anything.
    pub samples: f64,
    /// After this long what was seen counts half.
    pub half_life: Duration,
    /// The first rest; each further one is twice as long.
    pub rest: Duration,
    /// The longest rest.
    pub max_rest: Duration,
}

impl Default for BreakerSettings {
    /// Three in a row or half of ten; a rest of 2 s, up to 30 s.
    fn default() -> Self {
        BreakerSettings {
            consecutive: 3,
            share: 0.5,
            samples: 10.0,
            half_life: Duration::from_secs(30),
            rest: Duration::from_secs(2),
            max_rest: Duration::from_secs(30),
        }
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Yes.
    Free,
    /// Yes, and its end decides: it must be told to the breaker, also when it says nothing ([`Breaker::abandoned`]).
    Probe,
    /// Not before then.
    Resting(Tick),
    /// A probe is under way: what it finds decides.
    Probing,
}

/// How a breaker stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everybody passes.
    Closed,
    /// Nobody passes.
    Open,
    /// One request at a time passes.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    /// Rests until then.
    Open(Tick),
    HalfOpen {
        probing: bool,
    },
}

/// The breaker of one endpoint.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    in_a_row: u32,
    /// Weighted counts of what was seen, as of `counted`.
    failures: f64,
    successes: f64,
    counted: Tick,
    /// Rests since it was last sound: the next one is longer.
    rests: u32,
    /// Successes in a row since the last rest: until they are [`PROVEN`], one failure is enough.
    proven: u32,
    /// What the endpoint itself asked for.
    asked_rest: Tick,
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Self {
        Breaker {
            settings,
            state: State::Closed,
            in_a_row: 0,
            failures: 0.0,
            successes: 0.0,
            counted: Tick(0),
            rests: 0,
            proven: 0,
            asked_rest: Tick(0),
        }
    }

    /// How it stands.
    pub fn state(&self, now: Tick) -> BreakerState {
        match self.state {
            _ if now < self.asked_rest => BreakerState::Open,
            State::Closed => BreakerState::Closed,
            State::Open(until) if now < until => BreakerState::Open,
            State::Open(_) | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a request that came now would pass. Changes nothing.
    pub fn would_pass(&self, now: Tick) -> Pass {
        match self.state {
            _ if now < self.asked_rest => Pass::Resting(self.asked_rest),
            State::Closed => Pass::Free,
            State::Open(until) if now < until => Pass::Resting(until),
            State::Open(_) | State::HalfOpen { probing: false } => Pass::Probe,
            State::HalfOpen { probing: true } => Pass::Probing,
        }
    }

    /// Lets a request pass, or not.
    pub fn try_pass(&mut self, now: Tick) -> Pass {
        let pass = self.would_pass(now);
        if pass == Pass::Probe {
            self.state = State::HalfOpen { probing: true };
        }
        pass
    }

    /// A request ended well.
    pub fn succeeded(&mut self, now: Tick) {
        self.forget(now);
        (self.in_a_row, self.successes) = (0, self.successes + 1.0);
        if self.state != State::Closed {
            // What was seen before the rest says nothing about now.
            (self.state, self.proven, self.failures, self.successes) = (State::Closed, 0, 0.0, 1.0);
        }
        self.proven = self.proven.saturating_add(1);
        if self.proven >= PROVEN {
            self.rests = 0;
        }
    }

    /// A request failed in a way that speaks against the endpoint. Returns whether this opened it.
    pub fn failed(&mut self, now: Tick) -> bool {
        self.forget(now);
        (self.in_a_row, self.failures) = (self.in_a_row.saturating_add(1), self.failures + 1.0);
        let seen = self.failures + self.successes;
        let many = seen >= self.settings.samples && self.failures / seen >= self.settings.share;
        let opens = match self.state {
            State::Closed if self.rests > 0 => true,
            State::Closed => self.in_a_row >= self.settings.consecutive.max(1) || many,
            State::HalfOpen { .. } => true,
            // Asked before it opened.
            State::Open(_) => false,
        };
        if opens {
            let longer = 2u32.saturating_pow(self.rests.min(16));
            let rest = self.settings.rest.saturating_mul(longer).min(self.settings.max_rest);
            self.rests = self.rests.saturating_add(1);
            self.state = State::Open(now.after(rest));
        }
        opens
    }

    /// A probe ended without saying anything about the endpoint: its caller left, or asked what nobody can answer.
    pub fn abandoned(&mut self) {
        if let State::HalfOpen { probing } = &mut self.state {
            *probing = false;
        }
    }

    /// The endpoint asked to be left alone for `d`.
    pub fn rest(&mut self, now: Tick, d: Duration) {
        self.asked_rest = self.asked_rest.max(now.after(d));
        self.abandoned();
    }

    fn forget(&mut self, now: Tick) {
        let passed = now.since(self.counted).as_secs_f64();
        let factor = 0.5f64.powf(passed / self.settings.half_life.as_secs_f64().max(1e-3));
        (self.failures, self.successes) = (self.failures * factor, self.successes * factor);
        self.counted = self.counted.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Tick {
        Tick(0).after(Duration::from_millis(ms))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let mut b = Breaker::new(BreakerSettings::default());
        assert!(!b.failed(at(0)) && !b.failed(at(1)) && b.failed(at(2)));
        assert_eq!(b.try_pass(at(3)), Pass::Resting(at(2_002)));
        assert_eq!((b.try_pass(at(2_002)), b.try_pass(at(2_003))), (Pass::Probe, Pass::Probing));
        b.succeeded(at(2_100));
        assert_eq!((b.try_pass(at(2_101)), b.state(at(2_101))), (Pass::Free, BreakerState::Closed));
    }

    #[test]
    fn a_failed_probe_rests_twice_as_long_up_to_the_cap() {
        let mut b = Breaker::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..7 {
            b.failed(at(now));
            let Pass::Resting(until) = b.try_pass(at(now)) else { panic!() };
            rests.push(until.since(at(now)).as_secs());
            now += until.since(at(now)).as_millis() as u64;
            assert_eq!(b.try_pass(at(now)), Pass::Probe);
        }
        assert_eq!(rests, [2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn an_endpoint_that_flaps_is_not_back_before_three_have_succeeded() {
        let mut b = Breaker::new(BreakerSettings::default());
        assert!(!b.failed(at(0)) && !b.failed(at(1)) && b.failed(at(2)));
        assert_eq!(b.try_pass(at(3_000)), Pass::Probe);
        b.succeeded(at(3_000));
        assert!(b.failed(at(3_500)), "one failure is enough");
        assert_eq!(b.try_pass(at(3_501)), Pass::Resting(at(7_500)), "and it rests longer");
        assert_eq!(b.try_pass(at(7_500)), Pass::Probe);
        (0..3).for_each(|n| b.succeeded(at(8_000 + n)));
        assert!(!b.failed(at(9_000)) && !b.failed(at(9_001)) && b.failed(at(9_002)));
        assert_eq!(b.try_pass(at(9_003)), Pass::Resting(at(11_002)), "what came before is forgotten");
    }

    #[test]
    fn a_large_share_of_failures_opens_it_though_some_succeed() {
        let mut b = Breaker::new(BreakerSettings::default());
        let mut opened = false;
        for n in 0..40 {
            opened |= b.failed(at(n * 10));
            if !opened {
                b.succeeded(at(n * 10 + 5));
            }
        }
        assert!(opened);
        let mut rare = Breaker::new(BreakerSettings::default());
        assert!(!(0..100).any(|n| {
            (0..3).for_each(|k| rare.succeeded(at(n * 100 + k)));
            rare.failed(at(n * 100 + 50))
        }));
    }

    #[test]
    fn an_abandoned_probe_leaves_its_place() {
        let mut b = Breaker::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        b.failed(at(0));
        assert_eq!(b.try_pass(at(2_000)), Pass::Probe);
        b.abandoned();
        assert_eq!(b.try_pass(at(2_001)), Pass::Probe);
    }

    #[test]
    fn a_rest_that_was_asked_for_is_kept() {
        let mut b = Breaker::new(BreakerSettings::default());
        b.rest(at(0), Duration::from_secs(7));
        b.rest(at(0), Duration::from_secs(3));
        assert_eq!(b.try_pass(at(6_999)), Pass::Resting(at(7_000)));
        assert_eq!(b.try_pass(at(7_000)), Pass::Free);
    }

    proptest! {
        /// Against a model that knows only what the invariants say: open means nobody, half open means one at a time.
        #[test]
        fn while_open_nobody_passes_and_while_half_open_one_at_a_time(
            ops in prop::collection::vec((0u8..4, 0u64..3_000), 1..400),
        ) {
            let mut b = Breaker::new(BreakerSettings::default());
            let (mut now, mut probes) = (0, 0);
            for (op, ms) in ops {
                now += ms;
                match op {
                    0 => match b.try_pass(at(now)) {
                        Pass::Probe => { probes += 1; prop_assert_eq!(probes, 1); }
                        Pass::Resting(until) => prop_assert!(until > at(now)
                            && until.since(at(now)) <= Duration::from_secs(30)),
                        Pass::Free => prop_assert_eq!(b.state(at(now)), BreakerState::Closed),
                        Pass::Probing => prop_assert_eq!(probes, 1),
                    },
                    1 => { b.failed(at(now)); probes = 0; }
                    2 => { b.succeeded(at(now)); probes = 0; }
                    _ => { b.abandoned(); probes = 0; }
                }
                // Whatever happened, it is asked again at some time.
                prop_assert!(matches!(b.would_pass(at(now + 31_000)), Pass::Free | Pass::Probe | Pass::Probing));
            }
        }
    }
}
