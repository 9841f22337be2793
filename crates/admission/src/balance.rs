//! Which of several endpoints is asked: two are looked at, and the one that would be done first is taken (power of two
//! choices; Mitzenmacher 2001), by a latency that rises at once and falls slowly (PeakEWMA, as in Finagle and linkerd).
//!
//! Pure. Invariant: an endpoint's load is never less than its requests under way times its latest latency.

use std::time::Duration;

use contract::Tick;

/// After this long without a sample a latency counts for 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// The latency of an endpoint that was never asked: asked soon, yet not by everybody at once.
const UNKNOWN: f64 = 0.1;

/// How slow an endpoint is, and how busy.
#[derive(Debug, Clone, Default)]
pub struct PeakEwma {
    /// Seconds.
    latency: Option<f64>,
    at: Tick,
    in_flight: u32,
}

impl PeakEwma {
    /// A request began.
    pub fn began(&mut self) {
        self.in_flight += 1;
    }

    /// A request ended, however.
    pub fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The endpoint took this long: best the time to the first token, which does not depend on the answer's length.
    pub fn observe(&mut self, now: Tick, took: Duration) {
        let took = took.as_secs_f64();
        self.latency = Some(match self.decayed(now) {
            // A peak is believed at once.
            Some(seen) if took < seen => {
                let weight = (-now.since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp();
                // At least a tenth of the new sample counts, however soon it comes.
                let weight = weight.min(0.9);
                seen * weight + took * (1.0 - weight)
            }
            _ => took,
        });
        self.at = self.at.max(now);
    }

    /// Its latency now: one that was not asked for long is believed to have recovered.
    fn decayed(&self, now: Tick) -> Option<f64> {
        let idle = now.since(self.at).as_secs_f64() / DECAY.as_secs_f64();
        self.latency.map(|l| if self.in_flight == 0 { l * (-idle / 3.0).exp() } else { l })
    }

    /// What one more request would meet: seconds times requests.
    pub fn load(&self, now: Tick) -> f64 {
        (self.decayed(now).unwrap_or(UNKNOWN) + 1e-6) * (f64::from(self.in_flight) + 1.0)
    }

    /// The latency as it is believed now.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.and_then(|s| Duration::try_from_secs_f64(s).ok())
    }
}

/// Two different places of `n`, drawn from 64 random bits; the same twice when there is one. `n` is at least 1.
pub fn two_of(n: usize, random: u64) -> (usize, usize) {
    let n = n.max(1);
    let (low, high) = (random as u32, (random >> 32) as u32);
    let first = low as usize % n;
    if n == 1 {
        return (first, first);
    }
    let step = 1 + high as usize % (n - 1);
    (first, (first + step) % n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Tick {
        Tick(0).after(Duration::from_millis(ms))
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let mut e = PeakEwma::default();
        e.observe(at(0), Duration::from_millis(100));
        e.observe(at(10), Duration::from_secs(5));
        assert_eq!(e.latency(), Some(Duration::from_secs(5)));
        e.began();
        e.observe(at(20), Duration::from_millis(100));
        assert!(e.latency().unwrap() > Duration::from_secs(4));
        (0..50).for_each(|n| e.observe(at(30 + n * 200), Duration::from_millis(100)));
        assert!(e.latency().unwrap() < Duration::from_millis(200));
    }

    proptest! {
        #[test]
        fn two_choices_are_different_and_all_places_are_drawn(n in 1usize..20, seed in any::<u64>()) {
            let (a, b) = two_of(n, seed);
            prop_assert!(a < n && b < n && (a != b || n == 1));
        }

        #[test]
        fn load_rises_with_each_request_under_way(ms in 0u64..100_000, busy in 0u32..50) {
            let mut e = PeakEwma::default();
            e.observe(at(0), Duration::from_millis(ms));
            e.began();
            let mut last = e.load(at(1));
            for _ in 0..busy {
                e.began();
                prop_assert!(e.load(at(1)) > last);
                last = e.load(at(1));
            }
        }
    }

    #[test]
    fn the_faster_of_two_endpoints_gets_more_by_their_speed() {
        // Two endpoints of 100 and 400 ms; 20 requests under way at all times.
        let took = [100, 400];
        let mut e = [PeakEwma::default(), PeakEwma::default()];
        let (mut running, mut given) = (Vec::<(u64, usize)>::new(), [0u32; 2]);
        for now in 0..20_000u64 {
            running.retain(|(end, who)| {
                if *end == now {
                    e[*who].ended();
                    e[*who].observe(at(now), Duration::from_millis(took[*who]));
                }
                *end != now
            });
            while running.len() < 20 {
                let (a, b) = two_of(2, now ^ (running.len() as u64) << 33);
                let who = if e[a].load(at(now)) <= e[b].load(at(now)) { a } else { b };
                e[who].began();
                given[who] += 1;
                running.push((now + took[who], who));
            }
        }
        let ratio = f64::from(given[0]) / f64::from(given[1]);
        assert!(ratio > 4.0, "{given:?}");
    }
}
