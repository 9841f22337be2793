//! How many requests one model (or endpoint) is given at the same time.
//!
//! Two signals, because either alone is blind: latency (the gradient of Netflix's concurrency-limits, Gradient2) sees
//! a queue inside the upstream before it fails, and 429/503 (multiplicative decrease, AIMD) see a quota that costs no
//! latency at all. Samples are averaged over a window, and one burst of refusals lowers the limit once.
//!
//! Invariants: 1 ≤ limit ≤ cap, always. An idle upstream never raises its limit: only use under load teaches.

use std::time::Duration;

use contract::Tick;

/// The latest sample may be this much slower than the long average before the limit falls.
const TOLERANCE: f64 = 1.5;
/// Share of the new estimate that is taken over at once.
const SMOOTHING: f64 = 0.2;
/// Requests beyond the estimate that probe for more room.
const PROBE: f64 = 4.0;
/// What is left of the limit after a refusal by the upstream.
const BACKOFF: f64 = 0.7;
/// Samples a window needs.
const WINDOW_SAMPLES: u32 = 10;
/// Windows over which the long average forgets.
const LONG_WINDOWS: f64 = 60.0;
/// How fast the best window is forgotten. Gradient2 alone drifts upwards under lasting overload, because the long
/// average gets used to it; twice the best window is as far as it may get used to anything.
const BEST_CREEP: f64 = 0.0002;
/// What is left of [`PROBE`] beyond what was refused before: looking for more costs a refusal each time.
const WARY: f64 = 1.0 / 16.0;
/// Refusals of late that show what it bears. Fewer may have any reason: another client's traffic, a limit by the minute.
const SHOWN: f64 = 2.5;
/// What is left of [`Limiter::strikes`] behind an answer.
const FORGIVEN: f64 = 0.9;
/// A second refusal within this time belongs to the same burst, unless latency says longer.
const BURST: Duration = Duration::from_millis(250);

/// The adaptive limit.
#[derive(Debug, Clone)]
pub struct Limiter {
    cap: f64,
    adaptive: bool,
    limit: f64,
    long: Option<f64>,
    best: Option<f64>,
    windows: f64,
    sum: f64,
    samples: u32,
    peak_in_flight: u32,
    lowered_at: Option<Tick>,
    /// What it is believed to bear, since one more was refused.
    bears: Option<f64>,
    /// Refusals of late: each answer makes them a tenth less.
    strikes: f64,
    /// The least that one of these said it bears.
    least: f64,
}

impl Limiter {
    /// A limit that starts at `initial` (at the cap when absent) and stays there unless `adaptive`.
    pub fn new(cap: u32, initial: Option<u32>, adaptive: bool) -> Self {
        let cap = f64::from(cap.max(1));
        let limit = if adaptive { initial.map_or(cap, f64::from).clamp(1.0, cap) } else { cap };
        Limiter {
            cap,
            adaptive,
            limit,
            long: None,
            best: None,
            windows: 0.0,
            sum: 0.0,
            samples: 0,
            peak_in_flight: 0,
            lowered_at: None,
            bears: None,
            strikes: 0.0,
            least: f64::INFINITY,
        }
    }

    /// Another cap; what was learned stays.
    pub fn configure(&mut self, cap: u32, adaptive: bool) {
        let was_at_cap = self.limit >= self.cap;
        (self.cap, self.adaptive) = (f64::from(cap.max(1)), adaptive);
        self.limit = if was_at_cap || !adaptive { self.cap } else { self.limit.min(self.cap) };
    }

    /// The limit is never above it.
    pub fn cap(&self) -> u32 {
        self.cap as u32
    }

    /// Requests that may run at the same time.
    pub fn limit(&self) -> u32 {
        // Within 1..=cap by the invariant, so the cast keeps the value.
        self.limit.clamp(1.0, self.cap) as u32
    }

    /// A request ended well after `latency`, while `in_flight` (itself included) ran.
    pub fn succeeded(&mut self, latency: Duration, in_flight: u32) {
        if !self.adaptive {
            return;
        }
        self.sum += latency.as_secs_f64().max(1e-9);
        self.samples += 1;
        self.strikes *= FORGIVEN;
        if self.strikes < 1.0 {
            self.least = f64::INFINITY;
        }
        self.peak_in_flight = self.peak_in_flight.max(in_flight);
        if self.samples >= WINDOW_SAMPLES {
            let short = self.sum / f64::from(self.samples);
            let peak = self.peak_in_flight;
            (self.sum, self.samples, self.peak_in_flight) = (0.0, 0, 0);
            self.window(short, peak);
        }
    }

    fn window(&mut self, short: f64, peak: u32) {
        self.windows = (self.windows + 1.0).min(LONG_WINDOWS);
        let mut long = self.long.map_or(short, |l| l + (short - l) / self.windows);
        if long / short > 2.0 {
            // The upstream has recovered: an average that remembers the bad time would be blind to the next one.
            long *= 0.95;
        }
        self.long = Some(long);
        let best = self.best.map_or(short, |b| short.min(b + (short - b) * BEST_CREEP));
        self.best = Some(best);
        if f64::from(peak) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * long.min(best * 2.0) / short).clamp(0.5, 1.0);
        let bears = self.bears.unwrap_or(f64::INFINITY);
        let probe = if self.limit < bears { PROBE } else { PROBE * WARY };
        let target = self.limit * gradient + probe;
        let next = self.limit * (1.0 - SMOOTHING) + target * SMOOTHING;
        // Up to what it bears at once, beyond it in small steps; well beyond it, it bears more than was believed.
        let next = if self.limit < bears { next.min(bears) } else { next };
        self.limit = next.clamp(1.0, self.cap);
        if self.limit >= bears + 2.0 {
            self.bears = None;
        }
    }

    /// The upstream refused a request that was the `nth` under way when it was sent. Several such of late, or one where it is
    /// known to be at its limit, show what it bears: each of a burst counts, so that a limit far above that is down in one. A
    /// stray one is what [`Limiter::overloaded`] is for.
    pub fn refused(&mut self, now: Tick, nth: u32) {
        if !self.adaptive {
            return;
        }
        let mut bears = f64::from(nth.saturating_sub(1)).max(1.0);
        self.strikes += 1.0;
        self.least = self.least.min(bears);
        if self.bears.is_none_or(|known| bears < known) {
            if self.strikes < SHOWN {
                self.overloaded(now);
                return;
            }
            bears = self.least;
        }
        if bears < self.limit {
            self.limit = bears.clamp(1.0, self.cap);
            self.bears = Some(self.limit);
        }
    }

    /// The upstream said 429 or 503 at `now`. Returns whether the limit fell.
    pub fn overloaded(&mut self, now: Tick) -> bool {
        let burst = BURST.max(self.long.map_or(BURST, Duration::from_secs_f64).min(Duration::from_secs(5)));
        if !self.adaptive || self.lowered_at.is_some_and(|t| now < t.after(burst)) {
            return false;
        }
        self.lowered_at = Some(now);
        self.limit = (self.limit * BACKOFF).clamp(1.0, self.cap);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_limit_stays_between_one_and_the_cap(cap in 0u32..500, initial in any::<Option<u32>>(),
            ops in prop::collection::vec((any::<bool>(), 0u64..100_000, 0u32..600), 0..500)) {
            let mut limiter = Limiter::new(cap, initial, true);
            let mut now = Tick(0);
            for (good, ms, in_flight) in ops {
                now = now.after(Duration::from_millis(ms / 100));
                match good {
                    true => limiter.succeeded(Duration::from_millis(ms), in_flight),
                    false if ms % 2 == 0 => limiter.refused(now, in_flight),
                    false => _ = limiter.overloaded(now),
                }
                prop_assert!((1..=cap.max(1)).contains(&limiter.limit()));
            }
        }
    }

    fn run(limiter: &mut Limiter, windows: u32, latency: impl Fn(u32) -> f64) {
        for _ in 0..windows * WINDOW_SAMPLES {
            let n = limiter.limit();
            limiter.succeeded(Duration::from_secs_f64(latency(n)), n);
        }
    }

    #[test]
    fn under_lasting_overload_it_stays_within_five_times_what_the_upstream_bears() {
        // 32 at once take 100 ms; beyond that they queue inside the upstream.
        let mut limiter = Limiter::new(1000, Some(8), true);
        run(&mut limiter, 400, |n| 0.1 * (f64::from(n) / 32.0).max(1.0));
        assert!((32..=160).contains(&limiter.limit()), "{}", limiter.limit());
    }

    #[test]
    fn a_burst_of_refusals_lowers_the_limit_once_and_success_raises_it_again() {
        let mut limiter = Limiter::new(100, None, true);
        for _ in 0..50 {
            limiter.overloaded(Tick(0));
        }
        assert_eq!(limiter.limit(), 70);
        run(&mut limiter, 60, |_| 0.1);
        assert_eq!(limiter.limit(), 100);
    }

    #[test]
    fn one_burst_of_refusals_finds_what_is_borne_and_few_are_needed_to_stay_there() {
        let mut limiter = Limiter::new(256, None, true);
        (17..=256).rev().for_each(|nth| limiter.refused(Tick(0), nth));
        assert_eq!(limiter.limit(), 16);
        // From here on an upstream that refuses the seventeenth.
        let (mut refused, mut served) = (0, 0);
        while served < 10_000 {
            let n = limiter.limit();
            if n > 16 {
                refused += 1;
                limiter.refused(Tick(0), 17);
            } else {
                served += 1;
                limiter.succeeded(Duration::from_millis(100), n);
            }
            assert!((15..=17).contains(&limiter.limit()), "{}", limiter.limit());
        }
        assert!(refused <= 100, "{refused}");
        // It bears more than before.
        run(&mut limiter, 400, |_| 0.1);
        assert_eq!(limiter.limit(), 256);
    }

    #[test]
    fn a_stray_refusal_now_and_then_takes_no_more_than_a_burst_does() {
        // One of 500 is refused, while three are under way, by an upstream that bears any number.
        let mut limiter = Limiter::new(256, Some(16), true);
        let mut now = Tick(0);
        for n in 0..20_000 {
            now = now.after(Duration::from_millis(50));
            limiter.succeeded(Duration::from_millis(600), limiter.limit().min(12));
            if n % 500 == 0 {
                limiter.refused(now, 3);
            }
            assert!(n < 100 || limiter.limit() >= 8, "{} at {n}", limiter.limit());
        }
    }

    #[test]
    fn an_idle_upstream_teaches_nothing() {
        let mut limiter = Limiter::new(100, Some(20), true);
        for _ in 0..1000 {
            limiter.succeeded(Duration::from_millis(10), 1);
        }
        assert_eq!(limiter.limit(), 20);
    }
}
