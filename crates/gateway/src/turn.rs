//! Which turn of a connection's task runs: so that what has just said that it must wait is not asked again in the same
//! turn.
//!
//! hyper asks a body for more until it waits, and asks once more behind each piece. By then the model's answer has
//! already said that it waits, and its waker is this task's: asking it again finds out nothing, all the way down to the
//! upstream's socket.
//!
//! Invariant: two turns never have the same number, on whatever thread; outside of one there is no number.

use std::cell::Cell;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Poller, Poll};

use pin_project_lite::pin_project;

/// Numbers that a thread takes at a time.
const BLOCK: u64 = 1 << 20;

thread_local! {
    static TURN: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// The number of the turn that runs, if one does.
pub(crate) fn current() -> Option<NonZeroU64> {
    TURN.get()
}

fn next() -> Option<NonZeroU64> {
    static BLOCKS: AtomicU64 = AtomicU64::new(1);
    let mut n = NEXT.get();
    if n.is_multiple_of(BLOCK) {
        n = BLOCKS.fetch_add(1, Ordering::Relaxed) * BLOCK;
    }
    NEXT.set(n + 1);
    NonZeroU64::new(n)
}

pin_project! {
    /// A future each poll of which is a turn.
    pub(crate) struct Turns<F> {
        #[pin]
        future: F,
    }
}

/// The same future, each poll of which is a turn.
pub(crate) fn turns<F: Future>(future: F) -> Turns<F> {
    Turns { future }
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<F::Output> {
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                TURN.set(None);
            }
        }
        TURN.set(next());
        let _over = Over;
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn every_turn_has_a_number_of_its_own_and_it_ends_with_the_poll() {
        let three = || {
            let mut seen = Vec::new();
            let mut future = pin!(turns(poll_fn(move |_| {
                seen.push(current().unwrap());
                if seen.len() < 3 { Poll::Pending } else { Poll::Ready(std::mem::take(&mut seen)) }
            })));
            loop {
                let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(current(), None);
                if let Poll::Ready(seen) = polled {
                    break seen;
                }
            }
        };
        let other = std::thread::spawn(three).join().unwrap();
        let all: HashSet<_> = three().into_iter().chain(other).collect();
        assert_eq!(all.len(), 6);
    }
}
