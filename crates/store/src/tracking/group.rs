//! Commits of many at once. Whoever has something to log leaves it with those that wait and waits for the turn; who has the turn
//! commits what waits, his own with it, in one transaction, and those whose turn comes next find theirs done.
//!
//! A leader may be dropped at any moment: what he took is then nobody's, and each of the others takes his own up again when his turn
//! comes. What was committed meanwhile is committed once more, which changes nothing: all that is logged can be logged twice.

use std::sync::Arc;

use contract::TenantId;
use parking_lot::Mutex;

use super::{Logged, Sql, log};
use crate::Error;

/// Entries in one transaction at most.
const ENTRIES: usize = 128;

/// What somebody logs.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tenant: TenantId,
    /// The run's id.
    pub(super) run: String,
    pub(super) logged: Logged,
    /// One parameter alone: refused in other words.
    pub(super) alone: bool,
    done: Mutex<Option<Result<(), Error>>>,
}

impl Entry {
    pub(super) fn new(tenant: TenantId, run: String, logged: Logged, alone: bool) -> Self {
        Entry { tenant, run, logged, alone, done: Mutex::new(None) }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Group {
    waiting: Mutex<Vec<Arc<Entry>>>,
    turn: tokio::sync::Mutex<()>,
    seen: log::Seen,
}

impl Group {
    /// Commits an entry, with others. Dropped, it may be committed all the same, whole.
    pub(super) async fn commit(&self, db: &dyn Sql, entry: Entry) -> Result<(), Error> {
        let own = Arc::new(entry);
        self.waiting.lock().push(own.clone());
        let turn = self.turn.lock().await;
        if let Some(done) = own.done.lock().take() {
            return done;
        }
        // Whoever is about to come goes along.
        let mut come = 0;
        loop {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut come, self.waiting.lock().len());
            if come <= before || come >= ENTRIES {
                break;
            }
        }
        let group = self.take(&own);
        let results = log::write(db, &group, &self.seen).await;
        drop(turn);
        match results {
            Ok(results) => {
                for (entry, result) in group.iter().zip(results) {
                    *entry.done.lock() = Some(result);
                }
            }
            Err(e) if group.len() == 1 => return Err(e),
            // It may be one's fault alone: each is told for himself.
            Err(_) => {
                for entry in &group {
                    let result = log::write(db, std::slice::from_ref(entry), &self.seen).await;
                    let result = result.and_then(|mut one| one.pop().unwrap_or(Err(Error::Contended)));
                    *entry.done.lock() = Some(result);
                }
            }
        }
        let done = own.done.lock().take();
        done.unwrap_or(Err(Error::Contended))
    }

    /// Some of those that wait, the oldest first, and `own` in any case.
    fn take(&self, own: &Arc<Entry>) -> Vec<Arc<Entry>> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|e| !Arc::ptr_eq(e, own));
        let most = waiting.len().min(ENTRIES - 1);
        let mut group: Vec<Arc<Entry>> = waiting.drain(..most).collect();
        group.push(own.clone());
        group
    }
}
