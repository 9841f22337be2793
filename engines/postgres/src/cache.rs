//! [`CacheStore`]: one cache for all processes.
//!
//! Recency is a clock in the database that moves with each `put`. Touches of reads are gathered in memory and written with
//! the next `put` of their process: a read never writes. A crash loses recency, nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{BoxFuture, UnixMillis};
use parking_lot::Mutex;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use store::{CacheKey, CacheStats, CacheStore, Error};

use crate::database::Postgres;
use crate::values::count;

/// Touches beyond this many wait for nobody: they are dropped, and recency is a little off.
const MAX_TOUCHES: usize = 4096;

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    /// The number of the last read of each.
    touches: Mutex<HashMap<CacheKey, u64>>,
}

/// Cached parts in a database.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    db: Postgres,
    max_bytes: u64,
    state: Arc<Counters>,
}

/// Locks what all of them change: whoever puts something waits for the others.
async fn lock(conn: &mut PgConnection) -> Result<(i64, i64), Error> {
    let mut found = (0, 0);
    let sql =
        "SELECT name, value FROM meta WHERE name IN ('cache_bytes', 'cache_clock') ORDER BY name FOR UPDATE";
    for row in sqlx::query(sql).fetch_all(conn).await? {
        match row.try_get::<&str, _>(0)? {
            "cache_bytes" => found.0 = row.try_get(1)?,
            _ => found.1 = row.try_get(1)?,
        }
    }
    Ok(found)
}

impl Cache {
    pub(crate) fn new(db: Postgres, max_bytes: u64) -> Self {
        Cache { db, max_bytes, state: Arc::default() }
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("SELECT value FROM parts WHERE key = $1").bind(key.as_bytes().as_slice());
        Ok(row.fetch_optional(&self.db.pool).await?.map(|r| r.try_get(0)).transpose()?)
    }

    fn note(&self, key: &CacheKey, found: bool) {
        if !found {
            self.state.misses.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.state.hits.fetch_add(1, Ordering::Relaxed);
        let read = self.state.reads.fetch_add(1, Ordering::Relaxed);
        let mut touches = self.state.touches.lock();
        if touches.len() < MAX_TOUCHES || touches.contains_key(key) {
            touches.insert(*key, read);
        }
    }

    async fn put(
        &self,
        key: &CacheKey,
        value: &[u8],
        now: UnixMillis,
        touched: &[Vec<u8>],
    ) -> Result<u64, Error> {
        let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let mut tx = self.db.pool.begin().await?;
        let (held, clock) = lock(&mut tx).await?;
        sqlx::query(
            "UPDATE parts SET used = $1 + t.number FROM UNNEST($2::bytea[]) WITH ORDINALITY AS t (key, number) WHERE parts.key = t.key",
        )
        .bind(clock)
        .bind(touched)
        .execute(&mut *tx)
        .await?;
        let clock = clock.saturating_add(i64::try_from(touched.len()).unwrap_or(0)).saturating_add(1);
        let old = sqlx::query("SELECT bytes FROM parts WHERE key = $1").bind(key.as_bytes().as_slice());
        let old: i64 = old.fetch_optional(&mut *tx).await?.map_or(Ok(0), |r| r.try_get(0))?;
        sqlx::query(
            "INSERT INTO parts (key, value, bytes, used, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, bytes = excluded.bytes, \
             used = excluded.used, created_at = excluded.created_at",
        )
        .bind(key.as_bytes().as_slice())
        .bind(value)
        .bind(size)
        .bind(clock)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
        let (mut held, mut evicted) = (held - old + size, 0);
        while count(held) > self.max_bytes {
            let oldest =
                "DELETE FROM parts WHERE key = (SELECT key FROM parts ORDER BY used LIMIT 1) RETURNING bytes";
            let Some(row) = sqlx::query(oldest).fetch_optional(&mut *tx).await? else {
                held = 0;
                break;
            };
            held -= row.try_get::<i64, _>(0)?;
            evicted += 1;
        }
        let set = "UPDATE meta SET value = CASE name WHEN 'cache_bytes' THEN $1 ELSE $2 END WHERE name IN ('cache_bytes', 'cache_clock')";
        sqlx::query(set).bind(held).bind(clock).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(evicted)
    }

    async fn bytes(&self) -> Result<u64, Error> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'cache_bytes'");
        Ok(count(row.fetch_one(&self.db.pool).await?.try_get(0)?))
    }
}

impl CacheStore for Cache {
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move {
            let found = self.db.within(|| self.get(key)).await?;
            self.note(key, found.is_some());
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        value: &'a [u8],
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if value.len() as u64 > self.max_bytes {
                return Ok(());
            }
            let mut touches: Vec<_> = std::mem::take(&mut *self.state.touches.lock()).into_iter().collect();
            touches.sort_unstable_by_key(|(_, read)| *read);
            let touched: Vec<Vec<u8>> = touches.iter().map(|(key, _)| key.as_bytes().to_vec()).collect();
            let evicted = self.db.within(|| self.put(key, value, now, &touched)).await?;
            self.state.evicted.fetch_add(evicted, Ordering::Relaxed);
            Ok(())
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<CacheStats, Error>> {
        Box::pin(async move {
            let bytes = self.db.within(|| self.bytes()).await?;
            let state = &self.state;
            Ok(CacheStats {
                hits: state.hits.load(Ordering::Relaxed),
                misses: state.misses.load(Ordering::Relaxed),
                evicted: state.evicted.load(Ordering::Relaxed),
                bytes,
            })
        })
    }
}
