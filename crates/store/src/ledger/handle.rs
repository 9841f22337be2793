//! The handle that the live path holds: acknowledge now, write later.
//!
//! `admitted` and `settled` are synchronous and take microseconds: encode outside every lock, then one `write(2)`. They
//! never touch the database.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use contract::RequestRecord;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{Admitted, Entry, LedgerStore, Settled, entry};
use crate::Error;
use crate::journal::{self, Disk, Journal, Limits, Position};

/// How the ledger works. The defaults are right for one server on one disk.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Records wait at most this long before they are synced and brought to the database: the group of a commit.
    pub commit_every: Duration,
    /// The longest that `flush` waits.
    pub flush_within: Duration,
    /// When the database is this many journal bytes behind, the ledger is unhealthy.
    pub max_lag_bytes: u64,
    /// The journal's own.
    pub journal: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            commit_every: Duration::from_millis(50),
            flush_within: Duration::from_secs(5),
            max_lag_bytes: 512 << 20,
            journal: Limits::default(),
        }
    }
}

/// Whether new requests may come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong; `None` when nothing is. New requests are then refused with `storage_unavailable`.
    pub problem: Option<String>,
    /// Acknowledged records that wait in memory for the disk.
    pub backlog: usize,
    /// Bytes in the journal that the database has not seen.
    pub lag_bytes: u64,
    /// Stretches of the journal that could not be read and were skipped, since this process started.
    pub damaged: u64,
}

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries that the database had not seen.
    pub replayed: usize,
    /// Requests that were under way when the process died.
    pub lost: usize,
    /// Damaged stretches and unreadable entries that were skipped.
    pub damaged: usize,
}

pub(super) struct Inner {
    pub(super) journal: Journal,
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) settings: Settings,
    pub(super) dirty: Notify,
    pub(super) urgent: Notify,
    pub(super) closing: AtomicBool,
    pub(super) committed: watch::Sender<Position>,
    pub(super) appended_bytes: AtomicU64,
    pub(super) committed_bytes: AtomicU64,
    pub(super) damaged: AtomicU64,
    /// Why the last sync or commit failed.
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) troubled: AtomicBool,
}

/// The ledger's writing end. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pub(super) inner: Arc<Inner>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("journal", &self.inner.journal).finish_non_exhaustive()
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that one huge record has grown is not kept beyond this.
const KEEP_BUFFER: usize = 256 << 10;

impl Ledger {
    /// Replays what the journal in `folder` holds beyond the store's position, turns requests without an end into lost
    /// ones, and opens a new segment. The caller holds the folder's lock. Segments with damage are kept, renamed to
    /// `*.damaged`.
    pub async fn open(
        folder: &Path,
        store: Arc<dyn LedgerStore>,
        disk: Arc<dyn Disk>,
        settings: Settings,
    ) -> Result<(Ledger, Recovery), Error> {
        let recovery = recover(folder, &*store).await?;
        let after = store.position().await?;
        let journal = Journal::open(folder, after.segment, disk, settings.journal)?;
        let start = journal.end();
        store.apply(&[], start).await?;
        journal.delete_before(start)?;
        let inner = Inner {
            journal,
            store,
            settings,
            dirty: Notify::new(),
            urgent: Notify::new(),
            closing: AtomicBool::new(false),
            committed: watch::Sender::new(start),
            appended_bytes: AtomicU64::new(0),
            committed_bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(recovery.damaged as u64),
            trouble: Mutex::new(None),
            troubled: AtomicBool::new(false),
        };
        Ok((Ledger { inner: Arc::new(inner) }, recovery))
    }

    /// Notes that a request may cost something from now on. When this fails nothing was noted and the request must be
    /// refused with `storage_unavailable`.
    pub fn admitted(&self, a: &Admitted) -> Result<(), Error> {
        self.with_frame(entry::ADMITTED, a, |sealed| self.inner.journal.append(sealed))
    }

    /// Notes how a request ended. Once this returns `Ok`, a `kill -9` does not lose it. On a full disk the record waits
    /// in memory; this fails only when that backlog is full too.
    pub fn settled(&self, r: &RequestRecord) -> Result<(), Error> {
        let append = |sealed: &[u8]| self.inner.journal.append_or_keep(sealed);
        match self.with_frame(entry::SETTLED, r, append) {
            Err(Error::TooLarge(bytes)) => {
                // The bill matters more than the findings.
                let mut slim = RequestRecord { facts: serde_json::Map::new(), ..r.clone() };
                slim.facts.insert("facts_left_out_bytes".to_owned(), bytes.into());
                self.with_frame(entry::SETTLED, &slim, append)
            }
            other => other,
        }
    }

    fn with_frame(
        &self,
        kind: u8,
        body: &impl serde::Serialize,
        append: impl FnOnce(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        BUFFER.with_borrow_mut(|buffer| {
            entry::encode(buffer, kind, body)?;
            append(buffer)?;
            self.inner.appended_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            if buffer.capacity() > KEEP_BUFFER {
                *buffer = Vec::new();
            }
            Ok::<(), Error>(())
        })?;
        self.inner.dirty.notify_one();
        Ok(())
    }

    /// Whether new requests may come in: cheap enough to ask for each.
    pub fn is_healthy(&self) -> bool {
        !self.inner.journal.failing()
            && !self.inner.troubled.load(Ordering::Relaxed)
            && self.lag_bytes() <= self.inner.settings.max_lag_bytes
    }

    fn lag_bytes(&self) -> u64 {
        let committed = self.inner.committed_bytes.load(Ordering::Relaxed);
        self.inner.appended_bytes.load(Ordering::Relaxed).saturating_sub(committed)
    }

    /// The same with reasons, for `/readyz`.
    pub fn health(&self) -> Health {
        let problem = if self.inner.journal.failing() {
            Some("the journal's disk refuses writes: free disk space".to_owned())
        } else if self.inner.journal.gone() {
            Some("the journal was removed under the server: put the folder back and start anew".to_owned())
        } else if self.lag_bytes() > self.inner.settings.max_lag_bytes {
            Some("the database is too far behind its journal: the disk is too slow".to_owned())
        } else {
            self.inner.trouble.lock().clone()
        };
        Health {
            problem,
            backlog: self.inner.journal.backlog(),
            lag_bytes: self.lag_bytes(),
            damaged: self.inner.damaged.load(Ordering::Relaxed),
        }
    }

    /// Waits until everything acknowledged before this call is in the database. Needs the writer to run; waits no longer
    /// than `flush_within`. Dropping the future changes nothing.
    pub async fn flush(&self) -> Result<(), Error> {
        let within = self.inner.settings.flush_within;
        let reached = async {
            let mut committed = self.inner.committed.subscribe();
            while self.inner.journal.backlog() > 0 {
                self.inner.urgent.notify_one();
                if committed.changed().await.is_err() {
                    return;
                }
            }
            let target = self.inner.journal.end();
            self.inner.urgent.notify_one();
            let _ = committed.wait_for(|p| *p >= target).await;
        };
        tokio::time::timeout(within, reached).await.map_err(|_| Error::Lagging(within))
    }

    /// Tells the writer to finish: it brings everything to the database and returns.
    pub fn close(&self) {
        self.inner.closing.store(true, Ordering::Release);
        self.inner.urgent.notify_one();
    }
}

async fn recover(folder: &Path, store: &dyn LedgerStore) -> Result<Recovery, Error> {
    let from = store.position().await?;
    let unreadable = |source| Error::Unwritable { path: folder.to_owned(), source };
    let mut recovery = Recovery::default();
    if folder.exists() {
        for number in journal::segments(folder).map_err(unreadable)? {
            if number < from.segment {
                continue;
            }
            let offset = if number == from.segment { from.offset } else { 0 };
            let place = Position { segment: number, offset };
            let batch = journal::read_one(folder, place).map_err(unreadable)?;
            let (entries, bad) = decode_all(&batch.payloads);
            for (n, chunk) in entries.chunks(super::writer::BATCH).enumerate() {
                // Only the last chunk moves the position: a crash in between replays the segment, idempotently.
                let last = (n + 1) * super::writer::BATCH >= entries.len();
                store.apply(chunk, if last { batch.end } else { place }).await?;
            }
            recovery.replayed += entries.len();
            recovery.damaged += batch.damaged + bad;
            if batch.damaged + bad > 0 {
                let file = journal::path(folder, number);
                tracing::warn!(
                    segment = number,
                    damaged = batch.damaged + bad,
                    "journal segment is damaged, kept aside"
                );
                std::fs::rename(&file, file.with_extension("damaged")).map_err(unreadable)?;
            }
        }
    }
    let open = store.open_requests().await?.into_iter();
    let lost: Vec<Entry> =
        open.map(|a| Settled::new(&a.lost()).map(Entry::Settled)).collect::<Result<_, _>>()?;
    let at = store.position().await?;
    for chunk in lost.chunks(super::writer::BATCH) {
        store.apply(chunk, at).await?;
    }
    recovery.lost = lost.len();
    Ok(recovery)
}

/// Decodes payloads; those that cannot be read are counted.
pub(super) fn decode_all(payloads: &[Vec<u8>]) -> (Vec<Entry>, usize) {
    let entries: Vec<Entry> = payloads.iter().filter_map(|p| Entry::decode(p).ok()).collect();
    let bad = payloads.len() - entries.len();
    (entries, bad)
}
