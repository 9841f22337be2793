//! Requests that have ended, on their way into the metrics, to the exporter of traces and to whoever looks at answers.
//!
//! A caller does not wait while its request is counted: what has ended is laid down here, and counted within [`LATE`] by
//! [`Ended::look`], [`SOME`] at once, so that a request that comes meanwhile waits no longer than they take. Whoever reads
//! the metrics counts first ([`Ended::count`]), so that nobody sees them late.
//!
//! Invariant: each is counted once. When [`MOST`] wait they are counted without delay, and while they still wait, whoever
//! ends another counts [`FEW`]: more than came, so that never many more wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use contract::{RequestRecord, Trace};
use parking_lot::Mutex;
use pipeline::task;
use predict::observe::Observers;
use tokio::sync::Notify;

use crate::app::Generation;
use crate::heard::Heard;
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;
use crate::written;

/// How long what has ended may wait to be counted.
const LATE: Duration = Duration::from_millis(20);
/// Requests that may wait to be counted: a record has some two kilobytes.
const MOST: usize = 256;
/// Requests that are counted before others have their turn.
const SOME: usize = 16;
/// Requests that one that has ended counts when [`MOST`] wait.
const FEW: usize = 2;

/// A request that has ended: where its trace goes, if it has one, and who looks at its answer, if anybody does.
type One = (Box<RequestRecord>, Option<(Arc<dyn Telemetry>, Trace)>, Option<Watched>);

/// An answer that somebody looks at.
pub(crate) struct Watched {
    pub(crate) observers: Observers,
    pub(crate) heard: Option<Arc<Heard>>,
    /// Whose answers are kept.
    pub(crate) generation: Arc<Generation>,
}

impl Watched {
    fn ended(self, record: &RequestRecord) {
        let kept = &self.generation.settings.heard;
        let all = written::answered(record, self.heard.as_deref(), kept);
        all.into_iter().for_each(|answered| self.observers.answered(answered));
    }
}

/// The requests of a gateway that have ended, for whoever closes what their traces go to.
#[derive(Clone)]
pub struct EndedRequests(pub(crate) Arc<crate::app::Inner>);

impl EndedRequests {
    /// Brings all of them into the metrics and to the exporter. Behind it nothing waits that ended before.
    pub fn count(&self) {
        self.0.ended.count(&self.0.metrics);
    }
}

/// Where requests that have ended wait to be counted.
#[derive(Default)]
pub(crate) struct Ended {
    waiting: Mutex<VecDeque<One>>,
    some: Notify,
    many: Notify,
}

impl Ended {
    /// Takes one.
    pub(crate) fn put(
        &self,
        metrics: &Metrics,
        record: Box<RequestRecord>,
        trace: Option<(Arc<dyn Telemetry>, Trace)>,
        watched: Option<Watched>,
    ) {
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.push_back((record, trace, watched));
            waiting.len()
        };
        match waiting {
            1 => self.some.notify_one(),
            MOST => self.many.notify_one(),
            n if n > MOST => _ = self.count_at_most(FEW, metrics),
            _ => {}
        }
    }

    /// Counts all that wait.
    pub(crate) fn count(&self, metrics: &Metrics) {
        let all = self.waiting.lock().len();
        self.count_at_most(all, metrics);
    }

    /// Counts the first of those that wait; says whether there are more.
    fn count_at_most(&self, n: usize, metrics: &Metrics) -> bool {
        for _ in 0..n {
            let Some((record, trace, watched)) = self.waiting.lock().pop_front() else { return false };
            metrics.ended(&record);
            if let Some(watched) = watched {
                watched.ended(&record);
            }
            if let Some((sink, trace)) = trace {
                sink.ended(record, trace);
            }
        }
        !self.waiting.lock().is_empty()
    }

    /// Counts what comes, for as long as it is polled.
    pub(crate) async fn look(shared: Arc<crate::app::Inner>) {
        let ended = &shared.ended;
        loop {
            ended.some.notified().await;
            tokio::select! {
                () = ended.many.notified() => {}
                () = task::sleep(LATE) => {}
            }
            while ended.count_at_most(SOME, &shared.metrics) {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Settings;
    use crate::metrics::tests::{record, text};

    fn waiting(ended: &Ended) -> usize {
        ended.waiting.lock().len()
    }

    #[test]
    fn nobody_counts_for_others_until_many_wait_and_then_a_few_each() {
        let (ended, metrics) = (Ended::default(), Metrics::new(&Settings::default()));
        let put = || ended.put(&metrics, Box::new(record("gold", Vec::new(), 10)), None, None);
        for n in 1..=MOST {
            put();
            assert_eq!(waiting(&ended), n);
        }
        for _ in 0..5 {
            put();
            assert!(waiting(&ended) >= MOST - 1 && waiting(&ended) <= MOST);
        }
        let before = waiting(&ended);
        assert!(ended.count_at_most(SOME, &metrics));
        assert_eq!(waiting(&ended), before - SOME);
        ended.count(&metrics);
        assert_eq!(waiting(&ended), 0);
        assert!(!ended.count_at_most(SOME, &metrics));
    }

    #[test]
    fn each_is_counted_once_whoever_counts() {
        let (ended, metrics) = (Ended::default(), Metrics::new(&Settings::default()));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..500 {
                        ended.put(&metrics, Box::new(record("gold", Vec::new(), 10)), None, None);
                    }
                });
            }
            s.spawn(|| (0..50).for_each(|_| ended.count(&metrics)));
        });
        assert!(waiting(&ended) <= MOST + 4);
        ended.count(&metrics);
        let text = text(&metrics);
        let line = r#"forebay_requests_total{surface="openai",ending="complete"} 2000"#;
        assert!(text.contains(line), "{text}");
    }
}
