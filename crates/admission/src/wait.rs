//! How long a place in the queue takes to be served: tokens ahead ÷ measured service rate.
//!
//! The rate is concurrency × (tokens served ÷ time they held a slot), from sums that forget with a half-life: it needs
//! no backlog to be known and follows a changed limit at once. Without any sample it is unknown, and nobody is refused
//! on a guess.

use std::time::Duration;

use contract::Tick;

/// Half of what was measured this long ago still counts.
const HALF_LIFE_SECONDS: f64 = 30.0;

/// What finished requests teach about the pace of one model.
#[derive(Debug, Clone, Default)]
pub struct ServiceRate {
    tokens: f64,
    held_seconds: f64,
    requests: f64,
    at: Tick,
}

impl ServiceRate {
    /// A request of `tokens` held its slot for `held` and ended at `now`.
    pub fn served(&mut self, now: Tick, tokens: u64, held: Duration) {
        let keep = (-now.since(self.at).as_secs_f64() / HALF_LIFE_SECONDS).exp2();
        self.tokens = self.tokens * keep + tokens.max(1) as f64;
        self.held_seconds = self.held_seconds * keep + held.as_secs_f64();
        self.requests = self.requests * keep + 1.0;
        self.at = self.at.max(now);
    }

    /// Tokens a second at this concurrency; `None` before the first sample.
    pub fn tokens_per_second(&self, concurrency: u32) -> Option<f64> {
        (self.held_seconds > 0.0).then(|| f64::from(concurrency.max(1)) * self.tokens / self.held_seconds)
    }

    /// Requests a second at this concurrency; `None` before the first sample.
    pub fn requests_per_second(&self, concurrency: u32) -> Option<f64> {
        (self.held_seconds > 0.0).then(|| f64::from(concurrency.max(1)) * self.requests / self.held_seconds)
    }

    /// The wait of a request with `ahead` tokens before it when no slot is free: those, and the rest of one that runs.
    pub fn wait(&self, ahead: u64, concurrency: u32) -> Option<Duration> {
        let rate = self.tokens_per_second(concurrency)?;
        let running = self.tokens / self.requests.max(f64::MIN_POSITIVE);
        Duration::try_from_secs_f64((ahead as f64 + running) / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_claimed_before_anything_was_measured() {
        assert_eq!(ServiceRate::default().wait(1_000_000, 1), None);
    }

    #[test]
    fn the_estimate_follows_a_change_of_pace() {
        let mut rate = ServiceRate::default();
        for s in 0..600u64 {
            let slow = s >= 300;
            rate.served(Tick(s * 1_000_000_000), 100, Duration::from_secs(if slow { 4 } else { 1 }));
        }
        let per_second = rate.tokens_per_second(4).unwrap();
        assert!((99.0..102.0).contains(&per_second), "{per_second}");
    }

    proptest! {
        #[test]
        fn a_steady_server_is_predicted_within_one_request(slots in 1u32..8, n in 1u64..50, ms in 1u64..500) {
            let mut rate = ServiceRate::default();
            for i in 0..100u64 {
                rate.served(Tick(i * ms * 1_000_000), 10, Duration::from_millis(ms));
            }
            let ahead = n * 10;
            let predicted = rate.wait(ahead, slots).unwrap().as_secs_f64();
            let exact = (n + 1) as f64 * ms as f64 / 1000.0 / f64::from(slots);
            prop_assert!((predicted - exact).abs() <= 1e-6 + exact * 1e-6);
        }
    }
}
