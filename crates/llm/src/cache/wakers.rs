//! Who waits for a call that several read. A reader is polled by its own task; the upstream wakes them all, and the first
//! that comes polls it.
//!
//! Invariant: no waker is woken, and nothing is polled, under the lock.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The wakers of all readers that wait; waking it wakes them all.
#[derive(Default)]
pub(super) struct Wakers(Mutex<Vec<(u64, Waker)>>);

impl Wakers {
    /// Wakes this reader with the others from now on, once.
    pub(super) fn register(&self, reader: u64, waker: &Waker) {
        let mut all = self.0.lock();
        match all.iter_mut().find(|(id, _)| *id == reader) {
            Some((_, w)) => w.clone_from(waker),
            None => all.push((reader, waker.clone())),
        }
    }

    /// This reader is gone.
    pub(super) fn remove(&self, reader: u64) {
        self.0.lock().retain(|(id, _)| *id != reader);
    }

    /// Wakes all that wait.
    pub(super) fn wake_all(&self) {
        // Woken without the lock: a waker may run what registers again.
        let all = std::mem::take(&mut *self.0.lock());
        for (_, waker) in all {
            waker.wake();
        }
    }

    /// Wakes all that wait but this one.
    pub(super) fn wake_others(&self, reader: u64) {
        let mut all = self.0.lock();
        if all.iter().all(|(id, _)| *id == reader) {
            return;
        }
        let (own, others): (Vec<_>, _) =
            std::mem::take(&mut *all).into_iter().partition(|(id, _)| *id == reader);
        *all = own;
        drop(all);
        for (_, waker) in others {
            waker.wake();
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}
