//! Requests that have ended, on their way into the metrics and to the exporter of traces.
//!
//! A caller does not wait while its request is counted: what has ended is laid down here, and counted within [`LATE`] by
//! [`Ended::look`], many at once. Whoever reads the metrics counts first ([`Ended::count`]), so that nobody sees them late.
//!
//! Invariant: each is counted once. Never more than [`MOST`] wait: whoever ends the next one counts them.

use std::sync::Arc;
use std::time::Duration;

use contract::{RequestRecord, Trace};
use parking_lot::Mutex;
use pipeline::task;
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::telemetry::Telemetry;

/// How long what has ended may wait to be counted.
const LATE: Duration = Duration::from_millis(20);
/// Requests that may wait to be counted: a record has some two kilobytes.
const MOST: usize = 256;

/// A request that has ended, and where its trace goes, if it has one.
type One = (Box<RequestRecord>, Option<(Arc<dyn Telemetry>, Trace)>);

/// Where requests that have ended wait to be counted.
#[derive(Default)]
pub(crate) struct Ended {
    waiting: Mutex<Vec<One>>,
    some: Notify,
}

impl Ended {
    /// Takes one.
    pub(crate) fn put(
        &self,
        metrics: &Metrics,
        record: Box<RequestRecord>,
        trace: Option<(Arc<dyn Telemetry>, Trace)>,
    ) {
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.push((record, trace));
            waiting.len()
        };
        match waiting {
            1 => self.some.notify_one(),
            MOST.. => self.count(metrics),
            _ => {}
        }
    }

    /// Counts all that wait.
    pub(crate) fn count(&self, metrics: &Metrics) {
        let all = std::mem::take(&mut *self.waiting.lock());
        for (record, trace) in all {
            metrics.ended(&record);
            if let Some((sink, trace)) = trace {
                sink.ended(record, trace);
            }
        }
    }

    /// Counts what comes, for as long as it is polled.
    pub(crate) async fn look(shared: Arc<crate::app::Inner>) {
        loop {
            shared.ended.some.notified().await;
            task::sleep(LATE).await;
            shared.ended.count(&shared.metrics);
        }
    }
}
