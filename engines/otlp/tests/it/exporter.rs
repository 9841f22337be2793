use std::time::Duration;

use contract::Trace;
use otlp::{Dropped, Settings};

use crate::fixtures::{attempt, record};

/// Exports to a port that nobody listens at.
fn settings(queue: usize) -> Settings {
    let mut s = Settings::of(Some("http://127.0.0.1:1".into()), |_| None).unwrap();
    (s.queue, s.timeout) = (queue, Duration::from_secs(2));
    s
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let (exporter, _worker) = otlp::start(settings(3)).unwrap();
    let r = record(vec![attempt(None, 1)], Vec::new());
    for _ in 0..10 {
        exporter.offer(Box::new(r.clone()), Trace::of(r.id, None, 1.0));
    }
    assert_eq!(exporter.dropped(), Dropped { queue_full: 7, ..Dropped::default() });
}

#[tokio::test]
async fn what_an_unreachable_collector_does_not_take_is_counted_and_the_worker_ends() {
    let (exporter, worker) = otlp::start(settings(100)).unwrap();
    let r = record(vec![attempt(None, 1)], Vec::new());
    for share in [1.0, 1.0, 0.0] {
        exporter.offer(Box::new(r.clone()), Trace::of(r.id, None, share));
    }
    exporter.close();
    worker.run().await;
    let d = exporter.dropped();
    assert_eq!((d.queue_full, d.backlog), (0, 0));
    assert_eq!(d.export_failed, 2, "the one that is not sampled was not to be sent");
}
