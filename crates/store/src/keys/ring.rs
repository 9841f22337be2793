//! The keys in memory: what the hot path asks. A lookup is one read lock and one hash of 60 bytes, never the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{KeyId, UnixMillis};
use parking_lot::RwLock;
use subtle::ConstantTimeEq;

use super::{KeyHash, KeyInfo, KeyStore, id_of};
use crate::Error;

/// Why a key does not open the door. The caller is told the same for all of them; the log may say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not have the form of a key.
    #[error("not of the form of a key")]
    Malformed,
    /// No such key, or the wrong secret.
    #[error("unknown")]
    Unknown,
    /// It was revoked.
    #[error("revoked")]
    Revoked,
    /// Its time is over.
    #[error("expired")]
    Expired,
}

type Entries = HashMap<KeyId, (Arc<KeyInfo>, KeyHash)>;

/// A snapshot of all keys that follows the store. Cheap to clone; clones see the same keys.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    state: Arc<RwLock<(i64, Arc<Entries>)>>,
}

impl KeyRing {
    /// The keys as they are now.
    pub async fn load(store: &dyn KeyStore) -> Result<KeyRing, Error> {
        let ring = KeyRing { state: Arc::new(RwLock::new((-1, Arc::default()))) };
        ring.refresh(store).await?;
        Ok(ring)
    }

    /// Whether there is any key at all: a server without keys may be open, as its configuration says.
    pub fn is_empty(&self) -> bool {
        self.state.read().1.is_empty()
    }

    /// Checks a key as presented. Takes as long for a wrong secret as for a right one.
    pub fn check(&self, presented: &str, now: UnixMillis) -> Result<Arc<KeyInfo>, Refusal> {
        let id = id_of(presented).ok_or(Refusal::Malformed)?;
        let hash = KeyHash::of(presented);
        let entries = self.state.read().1.clone();
        let found = entries.get(id);
        let stored = found.map_or([0; 32], |(_, hash)| hash.0);
        let equal = bool::from(stored.ct_eq(&hash.0));
        let (info, _) = found.filter(|_| equal).ok_or(Refusal::Unknown)?;
        if info.revoked_at.is_some() {
            return Err(Refusal::Revoked);
        }
        if info.expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::Expired);
        }
        Ok(info.clone())
    }

    /// Whether a key that was checked before still opens the door.
    ///
    /// # Errors
    /// Why it does not.
    pub fn stands(&self, id: &KeyId, now: UnixMillis) -> Result<(), Refusal> {
        let entries = self.state.read().1.clone();
        let (info, _) = entries.get(id).ok_or(Refusal::Unknown)?;
        match info {
            i if i.revoked_at.is_some() => Err(Refusal::Revoked),
            i if i.expires_at.is_some_and(|at| at <= now) => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    /// Takes over what changed in the store, by whichever process. True when something did.
    pub async fn refresh(&self, store: &dyn KeyStore) -> Result<bool, Error> {
        if store.version().await? == self.state.read().0 {
            return Ok(false);
        }
        let snapshot = store.snapshot().await?;
        let entry = |(info, hash): (KeyInfo, KeyHash)| (info.id.clone(), (Arc::new(info), hash));
        let entries: Entries = snapshot.keys.into_iter().map(entry).collect();
        *self.state.write() = (snapshot.version, Arc::new(entries));
        Ok(true)
    }

    /// Follows the store for ever, looking every `every`. While the store cannot be read the last known keys hold. To be
    /// spawned by the wiring; dropping the future stops it.
    pub async fn follow(self, store: Arc<dyn KeyStore>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(e) = self.refresh(&*store).await {
                tracing::warn!(error = %e, "the keys cannot be read again; those known hold");
            }
        }
    }
}
