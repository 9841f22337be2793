//! How much of bodies the server holds while they come in, and how slowly they may come.
//!
//! What comes in one piece is not counted: it is in the connection's buffer, which has a limit of its own. From the
//! second piece on every byte of a body has its place in one room for all callers, until the body was taken apart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Clock, Code, Deadline, Error, RetryHint, Tick};
use pipeline::task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body may be slower than this many bytes a second only for a short time.
const SLOWEST: u64 = 1024;
/// How long a body waits for room.
const WAIT: Duration = Duration::from_secs(5);
/// When a caller whose body found no room should come back.
const BACK: Duration = Duration::from_secs(2);

/// Room for bodies, in bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// The part of the room that one body has taken; given back by its drop.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<OwnedSemaphorePermit>);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Room(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Makes `place` larger, waiting a little for others to leave.
    ///
    /// # Errors
    /// `overloaded` when there is no room. The body is given up then, so that those that wait for each other end.
    pub(crate) async fn take(&self, clock: &dyn Clock, bytes: usize, place: &mut Place) -> Result<(), Error> {
        let full = || {
            let m = "the server is reading as many bodies as it can hold: ask again in a moment";
            Error::new(Code::Overloaded, m).retry(RetryHint::After(BACK))
        };
        let n = u32::try_from(bytes).map_err(|_| full())?;
        let more = match self.0.clone().try_acquire_many_owned(n) {
            Ok(permit) => permit,
            Err(_) => {
                let wait = self.0.clone().acquire_many_owned(n);
                let waited = task::within(clock, Deadline::from_now(clock.now(), WAIT), wait).await;
                waited.ok().and_then(Result::ok).ok_or_else(full)?
            }
        };
        match &mut place.0 {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl Place {
    /// The bytes, which keep the place for as long as there are any of them.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        struct Held(Bytes, #[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        match self.0 {
            Some(permit) => Bytes::from_owner(Held(bytes, permit)),
            None => bytes,
        }
    }
}

/// How long a body may take: it may fall silent for a while, but what it sent before earns it no more than that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    silence: Duration,
    until: Tick,
}

impl Pace {
    pub(crate) fn new(start: Tick, silence: Duration) -> Self {
        Pace { silence, until: start.after(silence) }
    }

    /// Until when the next piece must have come.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::at(self.until)
    }

    /// A piece came, and `ours` is the time since the last in which the server did not read.
    pub(crate) fn piece(&mut self, now: Tick, bytes: usize, ours: Duration) {
        let earned = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / SLOWEST);
        self.until = self.until.after(earned).after(ours).min(now.after(self.silence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::task::RuntimeClock;

    fn at(seconds: u64) -> Tick {
        Tick(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_and_a_trickle_both_end_and_a_steady_body_does_not() {
        let silence = Duration::from_secs(15);
        let mut pace = Pace::new(at(0), silence);
        assert!(!pace.deadline().passed(at(14)) && pace.deadline().passed(at(15)));
        for s in 1..=14 {
            pace.piece(at(s), 1, Duration::ZERO);
        }
        assert!(pace.deadline().passed(at(16)), "one byte a second earns nothing");
        let mut pace = Pace::new(at(0), silence);
        for s in 1..1_000 {
            assert!(!pace.deadline().passed(at(s)));
            pace.piece(at(s), 1 << 10, Duration::ZERO);
        }
    }

    #[test]
    fn much_at_once_earns_no_more_than_one_silence() {
        let mut pace = Pace::new(at(0), Duration::from_secs(15));
        pace.piece(at(1), 31 << 20, Duration::ZERO);
        pace.piece(at(15), 1, Duration::ZERO);
        assert!(pace.deadline().passed(at(17)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_room_is_refused_after_a_while_and_room_comes_back_with_the_last_byte() {
        let clock = RuntimeClock::starting_at(contract::UnixMillis(0));
        let room = Room::new(10);
        let (mut first, mut second) = (Place::default(), Place::default());
        room.take(&clock, 6, &mut first).await.unwrap();
        room.take(&clock, 2, &mut first).await.unwrap();
        let e = room.take(&clock, 3, &mut second).await.unwrap_err();
        assert_eq!((e.code, e.retry), (Code::Overloaded, RetryHint::After(BACK)));
        let bytes = first.hold(Bytes::from_static(b"12345678"));
        let part = bytes.slice(2..3);
        drop(bytes);
        assert!(room.take(&clock, 3, &mut second).await.is_err(), "a part of it is still there");
        drop(part);
        room.take(&clock, 10, &mut second).await.unwrap();
    }
}
