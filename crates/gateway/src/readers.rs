//! Readers of streamed answers that stop to read.
//!
//! A connection polls a body only while its reader takes what came before. Over HTTP/2 a reader may close the window of
//! one stream and keep its connection well, so that neither the body nor the socket ever notices how long it waits:
//! [`Readers`] looks at all bodies from outside, again and again, and ends those that stand still for too long. What
//! such an answer held is given back then; its reader finds the error should it go on.
//!
//! Invariant: a body that is being polled is never touched.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::{Clock, Error, Tick};
use http_body::Frame;
use parking_lot::Mutex;
use pipeline::task;

/// A body that can be ended from outside.
pub(crate) trait Held: Send {
    /// Why it is to end now, if it is: `silence` is how long its reader may take nothing.
    fn overdue(&self, now: Tick, silence: Duration) -> Option<Error>;
    /// Ends it with an error.
    fn give_up(&mut self, e: &Error);
}

/// All bodies under way. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Readers {
    bodies: Arc<Mutex<Bodies>>,
}

#[derive(Default)]
struct Bodies {
    next: u64,
    by_number: HashMap<u64, Weak<Mutex<dyn Held>>>,
}

impl Readers {
    /// The same body, looked at until it is dropped.
    pub(crate) fn watch<B: Held + 'static>(&self, body: B) -> Watched<B> {
        let body = Arc::new(Mutex::new(body));
        let held: Arc<Mutex<dyn Held>> = body.clone();
        let mut bodies = self.bodies.lock();
        bodies.next += 1;
        let number = bodies.next;
        bodies.by_number.insert(number, Arc::downgrade(&held));
        Watched { body, number, readers: self.clone() }
    }

    /// Ends what is overdue at `now`.
    pub(crate) fn sweep(&self, now: Tick, silence: Duration) {
        let bodies: Vec<Weak<Mutex<dyn Held>>> = self.bodies.lock().by_number.values().cloned().collect();
        for body in bodies.iter().filter_map(Weak::upgrade) {
            if let Some(mut body) = body.try_lock()
                && let Some(e) = body.overdue(now, silence)
            {
                body.give_up(&e);
            }
        }
    }

    /// Sweeps for as long as it is polled. How long the silence may be is asked each time.
    pub(crate) async fn look(self, clock: Arc<dyn Clock>, silence: impl Fn() -> Duration) {
        loop {
            task::sleep((silence() / 4).clamp(Duration::from_millis(20), Duration::from_secs(1))).await;
            self.sweep(clock.now(), silence());
        }
    }
}

/// A body that is looked at.
pub(crate) struct Watched<B> {
    body: Arc<Mutex<B>>,
    number: u64,
    readers: Readers,
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.readers.bodies.lock().by_number.remove(&self.number);
    }
}

impl<B> http_body::Body for Watched<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut *self.body.lock()).poll_frame(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Code;

    struct Fake(Tick, Arc<Mutex<Option<Code>>>);

    impl Held for Fake {
        fn overdue(&self, now: Tick, silence: Duration) -> Option<Error> {
            (now.since(self.0) > silence).then(|| Error::new(Code::Cancelled, "the reader stopped"))
        }
        fn give_up(&mut self, e: &Error) {
            *self.1.lock() = Some(e.code);
        }
    }

    #[test]
    fn what_is_overdue_is_ended_unless_it_is_being_polled_and_nothing_dropped_is_kept() {
        let (readers, ended) = (Readers::default(), Arc::default());
        let silence = Duration::from_secs(60);
        let watched = readers.watch(Fake(Tick(0), Arc::clone(&ended)));
        readers.sweep(Tick(0).after(silence), silence);
        assert_eq!(*ended.lock(), None);
        let late = Tick(1).after(silence);
        let polled = watched.body.lock();
        readers.sweep(late, silence);
        assert_eq!(*ended.lock(), None);
        drop(polled);
        readers.sweep(late, silence);
        assert_eq!(*ended.lock(), Some(Code::Cancelled));
        drop(watched);
        assert!(readers.bodies.lock().by_number.is_empty());
    }
}
