//! How many retries there may be: a share of the requests, and a few more for those who have few.
//!
//! A token bucket that requests fill and retries empty, as in Finagle: when everything fails, attempts are the requests times
//! one and the share, whatever the layers above do. Every layer that tries again asks the same budget.
//!
//! Pure. Invariant: over any time, retries ≤ share × requests + floor + time × `per_minute`.

use contract::Tick;

/// How much may be tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySettings {
    /// Retries for each request, on average.
    pub share: f64,
    /// What a budget holds at first, and at least may hold.
    pub floor: f64,
    /// What it gains by time alone.
    pub per_minute: f64,
}

impl Default for RetrySettings {
    /// One for ten requests; 10 at first, and 6 a minute.
    fn default() -> Self {
        RetrySettings { share: 0.1, floor: 10.0, per_minute: 6.0 }
    }
}

/// Requests whose share is kept at most: a calm hour pays for no storm.
const KEPT: f64 = 1_000.0;

/// One budget.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    settings: RetrySettings,
    left: f64,
    filled: Option<Tick>,
}

impl RetryBudget {
    /// A budget with its floor.
    pub fn new(settings: RetrySettings) -> Self {
        RetryBudget { settings, left: settings.floor, filled: None }
    }

    /// A first attempt was made.
    pub fn request(&mut self, now: Tick) {
        self.fill(now);
        self.left = (self.left + self.settings.share).min(self.most());
    }

    /// Takes a retry out, if there is one.
    pub fn try_retry(&mut self, now: Tick) -> bool {
        self.fill(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// Gives a retry back that was not made.
    pub fn give_back(&mut self) {
        self.left = (self.left + 1.0).min(self.most());
    }

    fn most(&self) -> f64 {
        self.settings.floor.max(1.0) + self.settings.share * KEPT
    }

    fn fill(&mut self, now: Tick) {
        let since = self.filled.map_or(0.0, |t| now.since(t).as_secs_f64());
        // By time alone no further than the floor.
        if self.left < self.settings.floor {
            self.left = (self.left + since * self.settings.per_minute / 60.0).min(self.settings.floor);
        }
        self.filled = Some(self.filled.map_or(now, |t| t.max(now)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn retries_never_exceed_their_share_and_the_floor(
            ops in prop::collection::vec((any::<bool>(), 0u64..2_000), 1..2_000),
        ) {
            let settings = RetrySettings::default();
            let mut budget = RetryBudget::new(settings);
            let (mut now, mut requests, mut retries) = (Tick(0), 0.0, 0.0);
            for (retry, ms) in ops {
                now = now.after(Duration::from_millis(ms));
                if retry {
                    retries += f64::from(u8::from(budget.try_retry(now)));
                } else {
                    budget.request(now);
                    requests += 1.0;
                }
                let minutes = now.since(Tick(0)).as_secs_f64() / 60.0;
                let most = settings.share * requests + settings.floor + settings.per_minute * minutes;
                prop_assert!(retries <= most + 1e-6, "{retries} > {most}");
            }
        }
    }

    #[test]
    fn who_asks_seldom_may_try_again_and_a_storm_may_not() {
        let mut budget = RetryBudget::new(RetrySettings::default());
        let storm = (0..1_000).filter(|_| {
            budget.request(Tick(0));
            budget.try_retry(Tick(0))
        });
        // One for ten, and the floor.
        assert!((109..=110).contains(&storm.count()));
        assert!(!budget.try_retry(Tick(0)));
        assert!(budget.try_retry(Tick(0).after(Duration::from_secs(11))));
    }
}
