//! What a request tells whoever keeps its answer: its id, and whether its end is one that another try would not change.
//!
//! The surfaces in between do not know of it: while a call is made for a journal, [`current`] gives what
//! [`crate::request::Request`] then tells.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::{Class, Ending, Error, Event, Meter, RequestId, RetryHint};

use crate::native;

tokio::task_local! {
    static TOLD: Arc<Told>;
}

/// Of one call.
#[derive(Debug, Default)]
pub(crate) struct Told {
    admitted: OnceLock<RequestId>,
    settled: OnceLock<bool>,
    window: OnceLock<Duration>,
    /// Somebody said stop, and wants to know what was used.
    stopped: AtomicBool,
    done: OnceLock<Event>,
}

/// Whom the call that is being made is kept by, if by anyone.
pub(crate) fn current() -> Option<Arc<Told>> {
    TOLD.try_with(Arc::clone).ok()
}

impl Told {
    /// Makes a call for whom this is.
    pub(crate) async fn hear<T>(self: Arc<Self>, call: impl Future<Output = T>) -> T {
        TOLD.scope(self, call).await
    }

    /// The same for what does not wait.
    pub(crate) fn hear_now<T>(self: Arc<Self>, call: impl FnOnce() -> T) -> T {
        TOLD.sync_scope(self, call)
    }

    /// The call was admitted.
    pub(crate) fn admitted(&self, id: RequestId) {
        let _ = self.admitted.set(id);
    }

    /// It ended, and has used what the meter says.
    pub(crate) fn ended(&self, ending: Ending, error: Option<&Error>, meter: &Meter) {
        if self.stopped.load(Ordering::Acquire) {
            let _ = self.done.set(native::done(meter));
        }
        let _ = self.settled.set(ending == Ending::Complete || error.is_some_and(is_final));
    }

    /// Its pipeline wants it to go on for so long without a reader.
    pub(crate) fn goes_on_for(&self, window: Duration) {
        let _ = self.window.set(window);
    }

    /// The id, once it was admitted.
    pub(crate) fn id(&self) -> Option<RequestId> {
        self.admitted.get().copied()
    }

    /// It is going to be dropped, because somebody said stop.
    pub(crate) fn stops(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// The last event of what was stopped, once it is gone.
    pub(crate) fn done(&self) -> Option<&Event> {
        self.done.get()
    }

    /// Whether it ended with what another try would end with too; nothing before its end, and of what was never admitted.
    pub(crate) fn is_settled(&self) -> Option<bool> {
        self.settled.get().copied()
    }

    /// See [`Told::goes_on_for`].
    pub(crate) fn window(&self) -> Option<Duration> {
        self.window.get().copied()
    }
}

/// The number of the first event of a kept answer: of another answer under the same key, made anew because the first was
/// no longer kept, the numbers are others, so that nobody reads on in the one behind the beginning of the other. Below
/// 2⁵³, as JSON's readers want it.
pub(crate) fn first_event(id: RequestId) -> u64 {
    let hash = blake3::hash(id.to_string().as_bytes());
    let [a, b, c, d, e, ..] = *hash.as_bytes();
    (u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) >> 7) << 20
}

/// Whether the same request fails again: what is wrong with it, or what is denied to it for good.
fn is_final(e: &Error) -> bool {
    matches!(e.class(), Class::Invalid | Class::Denied) && e.retry == RetryHint::No
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Code;

    #[test]
    fn an_end_is_final_when_another_try_would_not_change_it() {
        let after = RetryHint::After(Duration::from_secs(1));
        for (ending, error, kept) in [
            (Ending::Complete, None, true),
            (Ending::Failed, Some(Error::new(Code::InvalidRequest, "wrong")), true),
            (Ending::Failed, Some(Error::new(Code::ContentFiltered, "no")), true),
            (Ending::Partial, Some(Error::new(Code::ContentFiltered, "no")), true),
            (Ending::Failed, Some(Error::new(Code::BudgetExhausted, "later").retry(after)), false),
            (Ending::Failed, Some(Error::new(Code::UpstreamError, "down")), false),
            (Ending::Partial, Some(Error::new(Code::DeadlineExceeded, "late")), false),
            (Ending::Failed, Some(Error::new(Code::Draining, "later")), false),
            (Ending::Cancelled, Some(Error::new(Code::Cancelled, "left")), false),
            (Ending::Failed, Some(Error::new(Code::Internal, "a defect")), false),
        ] {
            let told = Told::default();
            assert_eq!(told.is_settled(), None);
            told.ended(ending, error.as_ref(), &Meter::default());
            assert_eq!(told.is_settled(), Some(kept), "{ending:?} {error:?}");
        }
    }

    #[test]
    fn answers_have_numbers_of_their_own_that_every_client_can_read() {
        let of = |n| first_event(RequestId::from_parts(contract::UnixMillis(0), n));
        let all: std::collections::BTreeSet<u64> = (0..1_000).map(of).collect();
        assert_eq!(all.len(), 1_000);
        assert!(all.iter().all(|n| *n < 1 << 53 && n.is_multiple_of(1 << 20)));
        assert_eq!(of(7), of(7));
    }

    #[tokio::test]
    async fn only_the_call_that_is_kept_tells() {
        assert!(current().is_none());
        let told = Arc::new(Told::default());
        let heard = Arc::clone(&told).hear(async { current() }).await;
        assert!(heard.is_some_and(|h| Arc::ptr_eq(&h, &told)));
        assert!(current().is_none());
    }
}
