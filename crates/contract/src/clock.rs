//! The only source of time. Code takes a [`Clock`] and never asks the system itself, so that every decision can be
//! replayed in a test in microseconds.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on the monotonic time line of this process: nanoseconds since an arbitrary origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Tick(pub u64);

impl Tick {
    /// The time from `earlier` to `self`; zero when `earlier` lies in the future.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved later by `d`, saturating at the end of time.
    pub fn after(self, d: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since the Unix epoch: for records and for people, never for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Whole days since the epoch, in UTC: the period of a daily budget.
    pub fn utc_day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }
}

/// Where time comes from. `now` is monotonic, `wall` may jump.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The monotonic now.
    fn now(&self) -> Tick;
    /// The wall-clock now, which may move in either direction between two calls.
    fn wall(&self) -> UnixMillis;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn default() -> Self {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Tick {
        Tick(0).after(Instant::now().saturating_duration_since(self.origin))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that moves only when told to: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    time: Mutex<(Tick, UnixMillis)>,
}

impl ManualClock {
    /// A clock whose wall time starts at `wall` and whose monotonic time starts at zero.
    pub fn starting_at(wall: UnixMillis) -> Self {
        ManualClock { time: Mutex::new((Tick(0), wall)) }
    }

    /// Moves both time lines forward.
    pub fn advance(&self, d: Duration) {
        let mut t = self.time.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        t.0 = t.0.after(d);
        t.1 = UnixMillis(t.1.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)));
    }

    /// Moves the wall clock alone, as an administrator or NTP would.
    pub fn jump_wall(&self, to: UnixMillis) {
        self.time.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        self.time.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn wall(&self) -> UnixMillis {
        self.time.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}
