//! Moves the journal into the database, in groups.
//!
//! `idle → (a record, or somebody flushes) → gather → sync → commit batches → delete consumed segments → idle`. When the
//! disk or the database refuses: `→ wait → try again`, and nothing is given up. The journal's files are read back from
//! the page cache, so that there is no second queue in memory to bound.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::entry::decode_open;
use super::handle::Ledger;
use crate::Error;
use crate::journal::Position;

/// Entries of one transaction, about.
pub(super) const BATCH: usize = 4096;
const READ_BYTES: usize = 4 << 20;
const IDLE_TICK: Duration = Duration::from_secs(1);
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Tries after `close` before the journal is left for the next start.
const LAST_TRIES: u32 = 5;

impl Ledger {
    /// Runs until [`Ledger::close`], then brings everything to the database and returns. To be spawned once by the
    /// wiring. Dropping the future loses nothing: the journal is replayed at the next start. Fails when, at the end,
    /// the database still refuses ([`Error::Database`]: the journal keeps the records) or a full disk kept acknowledged
    /// records in memory ([`Error::Unsaved`]).
    pub async fn writer(self) -> Result<(), Error> {
        let mut backoff = BACKOFF;
        let mut last_tries = 0;
        loop {
            let closing = self.inner.closing.load(Ordering::Acquire);
            let result = self.step().await;
            self.note(&result);
            match result {
                // What an answer that was given up has written meanwhile comes too.
                Ok(()) if closing && self.is_current() => return Ok(()),
                Ok(()) if closing => {}
                Ok(()) => {
                    backoff = BACKOFF;
                    self.gather().await;
                }
                Err(e) if closing && last_tries >= LAST_TRIES => {
                    let unsaved = self.inner.journal.backlog();
                    return Err(if unsaved > 0 { Error::Unsaved(unsaved) } else { e });
                }
                Err(_) => {
                    last_tries += u32::from(closing);
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Whether the database has all that the journal holds.
    fn is_current(&self) -> bool {
        *self.inner.committed.borrow() >= self.inner.journal.end()
    }

    /// Waits for work, then a little longer so that a group forms, unless somebody waits for it.
    async fn gather(&self) {
        let inner = &self.inner;
        tokio::select! {
            () = inner.urgent.notified() => return,
            () = inner.dirty.notified() => {}
            () = sleep(IDLE_TICK) => {}
        }
        let _ = timeout(inner.settings.commit_every, inner.urgent.notified()).await;
    }

    fn note(&self, result: &Result<(), Error>) {
        let inner = &self.inner;
        let was = inner.troubled.swap(result.is_err(), Ordering::Relaxed);
        *inner.trouble.lock() = result.as_ref().err().map(|e| format!("failed to {e}"));
        match result {
            Err(e) if !was => {
                tracing::error!(error = %e, "the ledger cannot be written; new requests are refused")
            }
            Ok(()) if was => tracing::info!("the ledger is written again"),
            _ => {}
        }
    }

    /// One round: backlog to the journal, journal to the platter, journal to the database.
    async fn step(&self) -> Result<(), Error> {
        let this = self.clone();
        let retried =
            aside(move || this.inner.journal.retry().and_then(|()| this.inner.journal.sync())).await;
        // What the journal holds goes to the database even while the journal itself cannot grow.
        // What comes in meanwhile waits for the next group: under a steady load the journal never stands still.
        let (mut at, target) = (*self.inner.committed.borrow(), self.inner.journal.end());
        while at < target {
            at = self.commit_after(at).await?;
        }
        self.inner.committed.send_replace(at);
        retried
    }

    async fn commit_after(&self, at: Position) -> Result<Position, Error> {
        let this = self.clone();
        let (entries, bad, passed, end) = aside(move || {
            let journal = &this.inner.journal;
            let (mut entries, mut bad, mut passed, mut end) = (Vec::new(), 0, 0, at);
            // A transaction costs a sync: short segments share one.
            while entries.len() < BATCH && end < journal.end() {
                let batch = journal.read(end, READ_BYTES)?;
                let (mut some, unreadable) = decode_open(&batch.payloads);
                entries.append(&mut some);
                bad += batch.damaged + unreadable;
                passed += journal.distance(end, batch.end);
                end = batch.end;
            }
            Ok((entries, bad, passed, end))
        })
        .await?;
        if bad > 0 {
            tracing::error!(damaged = bad, "stretches of the journal cannot be read back");
            self.inner.damaged.fetch_add(bad as u64, Ordering::Relaxed);
        }
        // The position moves with the last entry; entries before it are idempotent should a crash come between.
        let mut chunks = entries.chunks(BATCH).peekable();
        while let Some(chunk) = chunks.next() {
            let position = if chunks.peek().is_some() { at } else { end };
            self.inner.store.apply(chunk, position).await?;
        }
        if entries.is_empty() {
            self.inner.store.apply(&[], end).await?;
        }
        self.inner.committed_bytes.fetch_add(passed, Ordering::Relaxed);
        if end.segment > at.segment {
            let this = self.clone();
            aside(move || this.inner.journal.delete_before(end)).await?;
        }
        self.inner.committed.send_replace(end);
        Ok(end)
    }
}

/// Runs what blocks on the disk where it holds up nobody, and waits for it. The work is bounded: it is never detached
/// for longer than one sync takes.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Journal(e.to_string())),
    }
}
