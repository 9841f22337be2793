//! The choice between the endpoints of a model.

use std::sync::Arc;
use std::time::Duration;

use admission::{Pass, two_of};
use contract::{Clock, Code, Error, ModelName, RetryHint, Tick};

use super::health::Turn;
use crate::Endpoint;

/// How long to wait before another look at an endpoint that is being probed.
const PROBING: Duration = Duration::from_millis(100);

/// Endpoints by their place, of which there are at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Places(u64);

impl Places {
    pub(crate) fn insert(&mut self, place: usize) {
        self.0 |= 1u64.checked_shl(place as u32).unwrap_or(0);
    }

    pub(crate) fn contains(self, place: usize) -> bool {
        self.0 & 1u64.checked_shl(place as u32).unwrap_or(0) != 0
    }
}

/// What there is to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Something, now.
    Now,
    /// Something, after this long at the soonest.
    After(Duration),
    /// Nothing that has not been asked.
    Nothing,
}

/// Whether any endpoint of these could be asked.
pub(crate) fn outlook(endpoints: &[Endpoint], asked: Places, now: Tick) -> Outlook {
    let mut soonest: Option<Duration> = None;
    for (_, e) in endpoints.iter().enumerate().filter(|(n, _)| !asked.contains(*n)) {
        let wait = match e.health.look(now).map(|l| l.0) {
            // Who has a slot of the model finds room, here or elsewhere.
            None | Some(Pass::Free | Pass::Probe) => return Outlook::Now,
            Some(Pass::Resting(until)) => until.since(now).max(Duration::from_millis(1)),
            Some(Pass::Probing) => PROBING,
        };
        soonest = Some(soonest.map_or(wait, |s| s.min(wait)));
    }
    soonest.map_or(Outlook::Nothing, Outlook::After)
}

/// Takes a place at the better of two endpoints, drawn by `random` from those that have not been asked, do not rest and are
/// not full.
pub(crate) fn pick(
    endpoints: &[Endpoint],
    mut asked: Places,
    clock: &Arc<dyn Clock>,
    random: u64,
) -> Option<(usize, Turn)> {
    loop {
        let now = clock.now();
        let loads: Vec<(usize, f64)> = endpoints
            .iter()
            .enumerate()
            .filter(|(n, _)| !asked.contains(*n))
            .filter_map(|(n, e)| match e.health.look(now) {
                Some((Pass::Free | Pass::Probe, load)) => Some((n, load)),
                _ => None,
            })
            .collect();
        let (a, b) = two_of(loads.len(), random);
        let (a, b) = (loads.get(a)?, loads.get(b)?);
        let (place, _) = if b.1 < a.1 { *b } else { *a };
        match endpoints.get(place)?.health.enter(clock) {
            Some(turn) => return Some((place, turn)),
            // Somebody else took the probe, or the last place, in between.
            None => asked.insert(place),
        }
    }
}

/// Whether one of these is well, and has only as many requests as it bears.
pub(crate) fn is_full(endpoints: &[Endpoint], asked: Places, now: Tick) -> bool {
    endpoints.iter().enumerate().any(|(n, e)| !asked.contains(n) && e.health.look(now).is_none())
}

/// That nothing can be asked for want of room.
pub(crate) fn full(model: &ModelName) -> Error {
    let m = format!("every endpoint of model `{model}` has as many calls as it bears");
    Error::new(Code::Overloaded, m)
        .retry(RetryHint::After(Duration::from_secs(1)))
        .limit_source(format!("model:{model}"))
}

/// Why nothing can be asked: the last failure of an endpoint that rests, with the time until it is asked again.
pub(crate) fn resting(model: &ModelName, endpoints: &[Endpoint], soonest: Duration) -> Error {
    let soonest = soonest.max(Duration::from_millis(100));
    let s = soonest.as_secs_f64();
    match endpoints.iter().find_map(|e| e.health.last()) {
        Some(last) => {
            let m = format!(
                "model `{model}` rests after failures and is asked again in {s:.1} s; the last: {}",
                last.message
            );
            let mut e = Error::new(last.code, m).retry(RetryHint::After(soonest));
            (e.upstream_status, e.limit_source) = (last.upstream_status, last.limit_source);
            e
        }
        None => {
            let m = format!("model `{model}` rests after failures and is asked again in {s:.1} s");
            Error::new(Code::UpstreamUnreachable, m).retry(RetryHint::After(soonest))
        }
    }
}

/// 64 bits from others (Steele's SplitMix64), for choices that need no secret.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
