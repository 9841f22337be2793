//! Moments by chance, for tests that kill servers. What it begins with is printed, so that a failure can be had again:
//! `FOREBAY_KILLS` says how often, `FOREBAY_SEED` where chance begins.

use std::time::Duration;

use contract::{Clock as _, Deadline, SystemClock};

/// Numbers by splitmix64.
pub struct Chance {
    /// How often a server is to be killed.
    pub kills: u64,
    state: u64,
}

impl Chance {
    /// As the environment says; so many kills unless it does.
    pub fn from_env(kills: u64) -> Chance {
        let number = |name: &str, otherwise| {
            std::env::var(name).map_or(otherwise, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
        };
        let chance = Chance { kills: number("FOREBAY_KILLS", kills), state: number("FOREBAY_SEED", 11) };
        eprintln!("FOREBAY_KILLS={} FOREBAY_SEED={}", chance.kills, chance.state);
        chance
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    /// Comes back at a moment within that time.
    pub fn pause(&mut self, within: Duration) {
        let most = u64::try_from(within.as_micros()).unwrap();
        std::thread::park_timeout(Duration::from_micros(self.below(most)));
    }
}

/// Asks until it holds, for at most three minutes: a busy machine, many jobs.
#[track_caller]
pub fn patiently(what: &str, holds: impl FnMut() -> bool) {
    patiently_for(Duration::from_secs(180), what, holds);
}

/// Asks until it holds, for at most so long.
#[track_caller]
pub fn patiently_for(most: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::default();
    let deadline = Deadline::from_now(clock.now(), most);
    while !holds() {
        assert!(!deadline.passed(clock.now()), "it never came to hold: {what}");
        // Not to keep the server from what is waited for.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
