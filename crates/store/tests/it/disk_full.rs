//! A full disk: new requests are refused, what was acknowledged waits and is written when there is room.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::journal::{Disk, RealDisk, SegmentFile};
use store::{Error, Settings, Store};

use crate::fixtures::{admitted, id, record};

/// A disk that fills up and empties at a switch. A refused write leaves half of itself behind.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

struct Half(Switch, Arc<dyn SegmentFile>);

impl Disk for Switch {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(Half(self.clone(), RealDisk.create(path)?)))
    }
}

impl SegmentFile for Half {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.0.0.load(Ordering::Relaxed) {
            self.1.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.sync()
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_requests_and_loses_no_acknowledged_one() {
    let project = tempfile::tempdir().unwrap();
    let disk = Switch::default();
    let mut settings = Settings::default();
    settings.journal.backlog_records = 2;
    let store = Store::open_on(project.path(), settings, 0, Arc::new(disk.clone())).await.unwrap();
    let ledger = &store.ledger;
    ledger.admitted(&admitted(1)).unwrap();
    ledger.admitted(&admitted(2)).unwrap();
    disk.0.store(true, Ordering::Relaxed);
    ledger.settled(&record(1)).unwrap();
    assert!(!ledger.is_healthy());
    assert!(matches!(ledger.admitted(&admitted(3)), Err(Error::Journal(_))));
    ledger.settled(&record(2)).unwrap();
    assert!(matches!(ledger.settled(&record(4)), Err(Error::Journal(_))), "the backlog is bounded");
    let health = ledger.health();
    assert!(health.backlog == 2 && health.problem.unwrap().contains("free disk space"));
    let use_it = async {
        disk.0.store(false, Ordering::Relaxed);
        ledger.flush().await.unwrap();
        assert!(ledger.is_healthy() && ledger.health().backlog == 0);
        ledger.admitted(&admitted(5)).unwrap();
        ledger.close();
    };
    tokio::join!(store.background(), use_it).0.unwrap();
    for n in [1, 2] {
        assert_eq!(store.reader.ledger.get(id(n)).await.unwrap(), Some(record(n)));
    }
    assert_eq!(store.reader.ledger.open_requests().await.unwrap(), vec![admitted(5)]);
}

#[tokio::test]
async fn a_disk_that_stays_full_is_said_at_the_end() {
    let project = tempfile::tempdir().unwrap();
    let disk = Switch::default();
    let store = Store::open_on(project.path(), Settings::default(), 0, Arc::new(disk.clone())).await.unwrap();
    disk.0.store(true, Ordering::Relaxed);
    store.ledger.settled(&record(1)).unwrap();
    store.ledger.close();
    assert!(matches!(store.background().await, Err(Error::Unsaved(1))));
}
