//! Requests and tokens a minute, and streams at the same time, of one scope.
//!
//! A bucket holds a minute's worth and refills evenly. Levels are integers in units of 1/(60·10⁹) token, so that
//! refilling by nanoseconds is exact and nothing is lost to rounding. Tokens are taken as an estimate when a request
//! enters and corrected when it settles: the level may go below zero then, and new requests wait until it is paid back.
//!
//! Invariants: a level never exceeds its capacity; over any time t at most `limit + limit·t/60s` is admitted.

use std::time::Duration;

use contract::Tick;

/// Nanoseconds a minute: units a token.
const UNITS: i128 = 60_000_000_000;

/// One limit as the standard headers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The limit a minute.
    pub limit: u64,
    /// What is left now.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
}

/// The values of `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`: of the scope with the least left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateHeaders {
    /// Of requests, when any scope limits them.
    pub requests: Option<Window>,
    /// Of tokens, when any scope limits them.
    pub tokens: Option<Window>,
}

impl RateHeaders {
    /// Keeps, of each kind, the window with the least left.
    pub fn tighten(&mut self, other: RateHeaders) {
        fn least(a: Option<Window>, b: Option<Window>) -> Option<Window> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
                (a, b) => a.or(b),
            }
        }
        self.requests = least(self.requests, other.requests);
        self.tokens = least(self.tokens, other.tokens);
    }
}

/// Why a bucket cannot give now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// It can after this long.
    For(Duration),
    /// It never can: more is asked than it holds when full.
    Forever,
}

/// An exact token bucket of one minute's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    limit: u64,
    /// Units available; negative when more was used than was taken.
    level: i128,
    at: Tick,
}

impl Bucket {
    /// A full bucket of `limit` a minute.
    pub fn full(limit: u64, now: Tick) -> Self {
        Bucket { limit, level: i128::from(limit) * UNITS, at: now }
    }

    fn capacity(&self) -> i128 {
        i128::from(self.limit) * UNITS
    }

    fn refill(&mut self, now: Tick) {
        if now > self.at {
            let nanos = i128::from(now.0 - self.at.0);
            self.level =
                self.level.saturating_add(nanos.saturating_mul(i128::from(self.limit))).min(self.capacity());
            self.at = now;
        }
    }

    /// Whether `n` can be taken at `now`; takes nothing.
    pub fn check(&mut self, now: Tick, n: u64) -> Result<(), Short> {
        self.refill(now);
        let lack = i128::from(n) * UNITS - self.level;
        if lack <= 0 {
            Ok(())
        } else if n > self.limit || self.limit == 0 {
            Err(Short::Forever)
        } else {
            let per_nano = i128::from(self.limit);
            Err(Short::For(nanos((lack + per_nano - 1) / per_nano)))
        }
    }

    /// Takes `n`, below zero if it must.
    pub fn take(&mut self, now: Tick, n: u64) {
        self.refill(now);
        self.level = self.level.saturating_sub(i128::from(n) * UNITS);
    }

    /// Puts back `n` that was taken and not used.
    pub fn give(&mut self, now: Tick, n: u64) {
        self.refill(now);
        self.level = self.level.saturating_add(i128::from(n) * UNITS).min(self.capacity());
    }

    /// Another limit; what has been used of the old one stays used.
    pub fn resize(&mut self, now: Tick, limit: u64) {
        self.refill(now);
        let used = self.capacity() - self.level;
        self.limit = limit;
        self.level = self.capacity() - used;
    }

    /// What the headers say.
    pub fn window(&mut self, now: Tick) -> Window {
        self.refill(now);
        let lack = self.capacity() - self.level;
        let per_nano = i128::from(self.limit.max(1));
        Window {
            limit: self.limit,
            remaining: u64::try_from(self.level.max(0) / UNITS).unwrap_or(u64::MAX),
            reset: nanos((lack + per_nano - 1) / per_nano),
        }
    }
}

fn nanos(n: i128) -> Duration {
    Duration::from_nanos(u64::try_from(n.max(0)).unwrap_or(u64::MAX))
}

/// The rates of one scope.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    stream_limit: Option<u32>,
    streams: u32,
}

/// Which rate is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateShort {
    /// Requests a minute.
    Requests(u64, Short),
    /// Tokens a minute.
    Tokens(u64, Short),
    /// Streams at the same time.
    Streams(u32),
}

impl Rates {
    /// Takes over new limits and keeps what has been used.
    pub fn configure(&mut self, now: Tick, limits: &crate::Limits) {
        fn set(bucket: &mut Option<Bucket>, now: Tick, limit: Option<u64>) {
            match (bucket.as_mut(), limit) {
                (Some(b), Some(l)) => b.resize(now, l),
                (_, l) => *bucket = l.map(|l| Bucket::full(l, now)),
            }
        }
        set(&mut self.requests, now, limits.requests_per_minute);
        set(&mut self.tokens, now, limits.tokens_per_minute);
        self.stream_limit = limits.concurrent_streams;
    }

    /// Tokens that will be taken for a request that surely needs `input` and may need `estimate`: the estimate, or a
    /// full bucket when only the output's guess exceeds it.
    pub fn tokens_to_take(&self, input: u64, estimate: u64) -> u64 {
        match &self.tokens {
            Some(b) if estimate > b.limit => b.limit.max(input),
            _ => estimate,
        }
    }

    /// Whether one request may enter; takes nothing.
    pub fn check(&mut self, now: Tick, tokens: u64, stream: bool) -> Result<(), RateShort> {
        if let Some(limit) = self.stream_limit
            && stream
            && self.streams >= limit
        {
            return Err(RateShort::Streams(limit));
        }
        if let Some(b) = &mut self.requests {
            b.check(now, 1).map_err(|s| RateShort::Requests(b.limit, s))?;
        }
        if let Some(b) = &mut self.tokens {
            b.check(now, tokens).map_err(|s| RateShort::Tokens(b.limit, s))?;
        }
        Ok(())
    }

    /// Lets one request in.
    pub fn enter(&mut self, now: Tick, tokens: u64, stream: bool) {
        if let Some(b) = &mut self.requests {
            b.take(now, 1);
        }
        if let Some(b) = &mut self.tokens {
            b.take(now, tokens);
        }
        self.streams += u32::from(stream);
    }

    /// Corrects what was taken to what was used.
    pub fn correct(&mut self, now: Tick, taken: u64, used: u64) {
        if let Some(b) = &mut self.tokens {
            if used > taken {
                b.take(now, used - taken);
            } else {
                b.give(now, taken - used);
            }
        }
    }

    /// A stream ended.
    pub fn end_stream(&mut self) {
        self.streams = self.streams.saturating_sub(1);
    }

    /// Streams open now.
    pub fn streams(&self) -> u32 {
        self.streams
    }

    /// What the headers say for this scope alone.
    pub fn headers(&mut self, now: Tick) -> RateHeaders {
        RateHeaders {
            requests: self.requests.as_mut().map(|b| b.window(now)),
            tokens: self.tokens.as_mut().map(|b| b.window(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_window_ever_admits_more_than_the_limit_and_its_refill(
            limit in 1u64..500,
            steps in prop::collection::vec((0u64..5_000_000_000, 0u64..40), 1..200),
        ) {
            let mut bucket = Bucket::full(limit, Tick(0));
            let (mut now, mut admitted) = (Tick(0), Vec::new());
            for (wait, n) in steps {
                now = now.after(Duration::from_nanos(wait));
                if bucket.check(now, n).is_ok() {
                    bucket.take(now, n);
                    admitted.push((now, n));
                }
            }
            for (i, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0u128;
                for (to, n) in &admitted[i..] {
                    sum += u128::from(*n);
                    let allowed = u128::from(limit) * 60_000_000_000 + u128::from(to.0 - from.0) * u128::from(limit);
                    prop_assert!(sum * 60_000_000_000 <= allowed);
                }
            }
        }

        #[test]
        fn the_wait_it_names_is_enough_and_no_nanosecond_too_long(limit in 1u64..100_000, first in 0u64..100_000, n in 1u64..100_000) {
            let (first, n) = (first.min(limit), n.min(limit));
            let mut bucket = Bucket::full(limit, Tick(0));
            bucket.take(Tick(0), first);
            if let Err(Short::For(wait)) = bucket.check(Tick(0), n) {
                let after = Tick(0).after(wait);
                prop_assert!(bucket.clone().check(Tick(after.0 - 1), n).is_err());
                prop_assert!(bucket.check(after, n).is_ok());
            }
        }

        #[test]
        fn a_correction_leaves_what_a_perfect_estimate_would_have_left(est in 0u64..1000, used in 0u64..1000) {
            let limits = crate::Limits { tokens_per_minute: Some(1000), ..Default::default() };
            let (mut a, mut b) = (Rates::default(), Rates::default());
            a.configure(Tick(0), &limits);
            b.configure(Tick(0), &limits);
            a.enter(Tick(0), est, false);
            a.correct(Tick(0), est, used);
            b.enter(Tick(0), used, false);
            prop_assert_eq!(a.headers(Tick(0)), b.headers(Tick(0)));
        }
    }

    #[test]
    fn a_new_limit_does_not_forget_what_was_used() {
        let mut bucket = Bucket::full(10, Tick(0));
        bucket.take(Tick(0), 8);
        bucket.resize(Tick(0), 20);
        assert_eq!(bucket.window(Tick(0)).remaining, 12);
        bucket.resize(Tick(0), 5);
        assert_eq!(bucket.window(Tick(0)).remaining, 0);
    }
}
