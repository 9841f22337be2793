//! The end of a server: running → draining (new requests are refused) → cut (answers under way end with an error).
//!
//! An answer holds a [`Cut`] and looks at it when it waits; a connection holds a [`Conversation`], and so does a
//! WebSocket, for which the connection no longer stands: the end waits for both.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll, Waker};
use std::time::Duration;

use contract::{Code, Error, RetryHint};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// When another process is likely to listen here again.
const BACK: Duration = Duration::from_secs(5);

/// How far the end has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    draining: Switch,
    /// Answers under way are to end.
    cut: Switch,
    conversations: AtomicUsize,
    ended: Notify,
}

impl Drain {
    pub(crate) fn start(&self) {
        self.inner.draining.turn();
    }

    pub(crate) fn has_started(&self) -> bool {
        self.inner.draining.is_on()
    }

    /// Resolves when the drain has started.
    pub(crate) async fn started(&self) {
        self.inner.draining.on().await;
    }

    /// Ends every answer under way with an error.
    pub(crate) fn cut_all(&self) {
        self.inner.cut.turn();
    }

    pub(crate) fn cut(&self) -> Cut {
        Cut(self.inner.cut.signal())
    }

    pub(crate) fn conversation(&self) -> Conversation {
        self.inner.conversations.fetch_add(1, Ordering::AcqRel);
        Conversation(self.inner.clone())
    }

    pub(crate) fn conversations(&self) -> usize {
        self.inner.conversations.load(Ordering::Acquire)
    }

    /// Resolves when no conversation goes on.
    pub(crate) async fn quiet(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if self.conversations() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// What an answer under way is told when the server cannot wait any longer.
pub(crate) fn error() -> Error {
    draining("the server is shutting down and could not wait for the end of this answer: ask again")
}

/// What a new request is told from the moment the drain has started.
pub(crate) fn refusal() -> Error {
    draining("the server is shutting down: ask another instance, or again in a few seconds")
}

fn draining(message: &str) -> Error {
    Error::new(Code::Draining, message).retry(RetryHint::After(BACK))
}

/// A connection, or a WebSocket from its upgrade to its end.
#[derive(Debug)]
pub(crate) struct Conversation(Arc<Inner>);

impl Drop for Conversation {
    fn drop(&mut self) {
        self.0.conversations.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

/// Something that happens once, and that many wait for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switch(Arc<(AtomicBool, CancellationToken)>);

impl Switch {
    /// It has happened: wakes those who wait.
    pub(crate) fn turn(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.cancel();
    }

    /// Whether it has; cheap enough to ask for each event of a stream.
    pub(crate) fn is_on(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Resolves when it has.
    pub(crate) async fn on(&self) {
        self.0.1.cancelled().await;
    }

    /// To wait for it again and again.
    pub(crate) fn signal(&self) -> Signal {
        Signal { switch: self.clone(), waiting: None }
    }
}

/// Resolves when a switch is on. Asked again and again by one task, it registers once.
pub(crate) struct Signal {
    switch: Switch,
    /// Made at the first wait. The waker is the one it has.
    waiting: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Waker)>,
}

impl Signal {
    /// Ready when it is on; else wakes `cx` when it is.
    pub(crate) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<()> {
        if self.switch.is_on() {
            return Poll::Ready(());
        }
        if self.waiting.as_ref().is_some_and(|(_, w)| w.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let token = &self.switch.0.1;
        let (wait, waker) = self
            .waiting
            .get_or_insert_with(|| (Box::pin(token.clone().cancelled_owned()), cx.waker().clone()));
        waker.clone_from(cx.waker());
        wait.as_mut().poll(cx)
    }
}

/// Resolves when answers are cut.
pub(crate) struct Cut(Signal);

impl Cut {
    pub(crate) fn is_cut(&self) -> bool {
        self.0.switch.is_on()
    }

    /// Ready when answers are cut; else wakes `cx` when they are.
    pub(crate) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<()> {
        self.0.poll(cx)
    }

    /// Runs `work` unless answers are cut first.
    pub(crate) async fn or<T>(mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Pending => self.poll(cx).map(|()| Err(error())),
            ready => ready,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_ends_what_waits_and_what_comes_after() {
        let drain = Drain::default();
        let (first, second) = (drain.cut(), drain.cut());
        let cutting = async {
            tokio::task::yield_now().await;
            drain.cut_all();
        };
        let (ended, ()) = tokio::join!(first.or(std::future::pending::<Result<(), Error>>()), cutting);
        assert_eq!(ended.unwrap_err().code, Code::Draining);
        assert!(second.or(std::future::pending::<Result<(), Error>>()).await.is_err());
        // What is ready is not taken away.
        assert!(drain.cut().or(async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn whoever_is_refused_or_cut_is_told_when_to_come_back() {
        for e in [refusal(), error()] {
            let r = crate::errors::response(contract::Surface::Native, &e);
            assert_eq!((r.status().as_u16(), &r.headers()["retry-after"]), (503, &BACK.as_secs().into()));
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_every_conversation() {
        let drain = Drain::default();
        drain.quiet().await;
        let (a, b) = (drain.conversation(), drain.conversation());
        let ending = async {
            drop(a);
            tokio::task::yield_now().await;
            drop(b);
        };
        tokio::join!(drain.quiet(), ending);
        assert_eq!(drain.conversations(), 0);
    }
}
