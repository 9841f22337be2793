//! [`CacheStore`] on SQLite.
//!
//! Recency is a logical clock of this process that starts above all that is stored. Touches of reads are gathered in
//! memory and written with the next `put`: a read never writes. A crash loses recency, nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use contract::{BoxFuture, UnixMillis};
use parking_lot::Mutex;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::{Database, count};
use crate::{CacheKey, CacheStats, CacheStore, Error};

/// Touches beyond this many wait for nobody: they are dropped, and recency is a little off.
const MAX_TOUCHES: usize = 4096;

#[derive(Debug, Default)]
struct Counters {
    clock: AtomicI64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    touches: Mutex<HashMap<CacheKey, i64>>,
}

/// Cached parts in a database.
#[derive(Debug, Clone)]
pub struct SqliteCache {
    database: Database,
    max_bytes: u64,
    state: Arc<Counters>,
}

impl SqliteCache {
    /// The parts in `database`, never more than `max_bytes` of them.
    pub async fn open(database: Database, max_bytes: u64) -> Result<Self, Error> {
        let newest: i64 = sqlx::query("SELECT COALESCE(MAX(used), 0) FROM parts")
            .fetch_one(&database.read)
            .await?
            .try_get(0)?;
        let state = Counters { clock: AtomicI64::new(newest + 1), ..Counters::default() };
        Ok(SqliteCache { database, max_bytes, state: Arc::new(state) })
    }

    fn tick(&self) -> i64 {
        self.state.clock.fetch_add(1, Ordering::Relaxed)
    }

    async fn write_touches(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let touches = std::mem::take(&mut *self.state.touches.lock());
        for (key, used) in touches {
            sqlx::query("UPDATE parts SET used = $1 WHERE key = $2")
                .bind(used)
                .bind(key.as_bytes().as_slice())
                .execute(&mut *conn)
                .await?;
        }
        Ok(())
    }

    async fn make_room(&self, conn: &mut SqliteConnection, mut held: i64) -> Result<i64, Error> {
        while count(held) > self.max_bytes {
            let oldest = sqlx::query("SELECT key, bytes FROM parts ORDER BY used LIMIT 1")
                .fetch_optional(&mut *conn)
                .await?;
            let Some(row) = oldest else { return Ok(0) };
            sqlx::query("DELETE FROM parts WHERE key = $1")
                .bind(row.try_get::<Vec<u8>, _>(0)?)
                .execute(&mut *conn)
                .await?;
            held -= row.try_get::<i64, _>(1)?;
            self.state.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(held)
    }
}

async fn held(conn: &mut SqliteConnection) -> Result<i64, Error> {
    Ok(sqlx::query("SELECT value FROM meta WHERE name = 'cache_bytes'").fetch_one(conn).await?.try_get(0)?)
}

impl CacheStore for SqliteCache {
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT value FROM parts WHERE key = $1")
                .bind(key.as_bytes().as_slice())
                .fetch_optional(&self.database.read)
                .await?;
            let Some(row) = row else {
                self.state.misses.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            };
            self.state.hits.fetch_add(1, Ordering::Relaxed);
            let used = self.tick();
            let mut touches = self.state.touches.lock();
            if touches.len() < MAX_TOUCHES || touches.contains_key(key) {
                touches.insert(*key, used);
            }
            Ok(Some(row.try_get(0)?))
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
            let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
            let mut tx = self.database.begin().await?;
            self.write_touches(&mut tx).await?;
            let old = sqlx::query("SELECT bytes FROM parts WHERE key = $1")
                .bind(key.as_bytes().as_slice())
                .fetch_optional(&mut *tx)
                .await?;
            let old: i64 = old.map_or(Ok(0), |r| r.try_get(0))?;
            sqlx::query(
                "INSERT INTO parts (key, value, bytes, used, created_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, bytes = excluded.bytes, \
                 used = excluded.used, created_at = excluded.created_at",
            )
            .bind(key.as_bytes().as_slice())
            .bind(value)
            .bind(size)
            .bind(self.tick())
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
            let before = held(&mut tx).await?;
            let after = self.make_room(&mut tx, before - old + size).await?;
            sqlx::query("UPDATE meta SET value = $1 WHERE name = 'cache_bytes'")
                .bind(after)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<CacheStats, Error>> {
        Box::pin(async move {
            let bytes = held(&mut *self.database.read.acquire().await?).await?;
            let state = &self.state;
            Ok(CacheStats {
                hits: state.hits.load(Ordering::Relaxed),
                misses: state.misses.load(Ordering::Relaxed),
                evicted: state.evicted.load(Ordering::Relaxed),
                bytes: count(bytes),
            })
        })
    }
}
