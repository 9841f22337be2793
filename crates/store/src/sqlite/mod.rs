//! The storage traits on SQLite: WAL, one writing connection in this process, a few reading ones, several processes.
//!
//! Commits are synced (`synchronous=FULL`): the journal may delete what the database has. The SQL is the portable
//! subset (`$n`, `ON CONFLICT`, casts of sums), so that another database is a second set of types, not of statements.

mod batches;
mod cache;
mod due;
mod expiry;
mod files;
mod keys;
mod ledger;
mod lineage;
mod memory;
mod migrations;
mod outbox;
mod results;
mod runs;
mod shares;
mod sums;
mod tracking;
mod tx;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::BoxFuture;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, QueryBuilder, Sqlite, Transaction};
use tokio::sync::Notify;

pub use batches::SqliteBatches;
pub use cache::SqliteCache;
pub use files::SqliteFiles;
pub use keys::SqliteKeys;
pub use ledger::SqliteLedger;
pub use lineage::SqliteLineage;
pub use memory::SqliteMemory;
pub use results::SqliteResults;
pub use runs::SqliteRuns;

use crate::tracking::Tracking;
use crate::{
    Backend, BatchStore, CacheStore, Error, FileStore, KeyStore, LedgerStore, LineageStore, MemoryStore,
    ResultStore, RunStore,
};

/// Another process's transaction is waited for this long.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 3;
/// Rows that one statement writes.
const ROWS: usize = 64;

/// Statements that are executed one behind the other, each ended by `;`: one way to the database's thread and back for all of them.
type Script = QueryBuilder<Sqlite>;

/// An open database with the current schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
    pub(crate) read: SqlitePool,
    pub(crate) write: SqlitePool,
    /// For changes that are not synced. Used only by who has the connection of `write`.
    unsynced: SqlitePool,
    /// Notified when something other than a run's change put a message into the outbox.
    told: Arc<Notify>,
}

impl Database {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Database, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        // A file's connection does not go away: it is not asked each time whether it is there.
        let pool = |n| {
            SqlitePoolOptions::new().max_connections(n).acquire_timeout(BUSY * 2).test_before_acquire(false)
        };
        let explain = |e| explain(path, e);
        // On a full disk SQLite ends a transaction by itself, and the driver goes on believing that it is in one: such a
        // connection would fail for ever, so another takes its place.
        let write = pool(1).before_acquire(|conn, _| Box::pin(async { Ok(!conn.is_in_transaction()) }));
        // Of a new file: what is removed is given back to the system by and by. To say so takes the lock of writers, which who
        // opens another connection is not to wait for.
        let first = options.clone().auto_vacuum(SqliteAutoVacuum::Incremental);
        let write = write.connect_with(first).await.map_err(explain)?;
        migrations::run(&write, path).await?;
        let unsynced = pool(1).connect_lazy_with(options.clone().synchronous(SqliteSynchronous::Normal));
        let read = pool(READERS).connect_with(options).await.map_err(explain)?;
        Ok(Database { path: path.to_owned(), read, write, unsynced, told: Arc::default() })
    }

    /// A transaction for changes, with the lock of writers.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Error> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes every connection, after what they are doing.
    pub async fn close(&self) {
        self.read.close().await;
        self.unsynced.close().await;
        self.write.close().await;
    }
}

impl Backend for Database {
    fn ledger(&self) -> Arc<dyn LedgerStore> {
        Arc::new(SqliteLedger::new(self.clone()))
    }

    fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::new(SqliteKeys::new(self.clone()))
    }

    fn runs(&self) -> Arc<dyn RunStore> {
        Arc::new(SqliteRuns::new(self.clone()))
    }

    fn results(&self) -> Arc<dyn ResultStore> {
        Arc::new(SqliteResults::new(self.clone()))
    }

    fn lineage(&self) -> Arc<dyn LineageStore> {
        Arc::new(SqliteLineage::new(self.clone()))
    }

    fn watching(&self) -> Arc<dyn MemoryStore> {
        Arc::new(SqliteMemory::of_watching(self.clone()))
    }

    fn triggers(&self) -> Arc<dyn MemoryStore> {
        Arc::new(SqliteMemory::of_triggers(self.clone()))
    }

    fn tracking(&self) -> Tracking {
        Tracking::new(Arc::new(tracking::SqliteSql(self.clone())))
    }

    fn batches(&self) -> Arc<dyn BatchStore> {
        Arc::new(SqliteBatches::new(self.clone()))
    }

    fn cache(&self, max_bytes: u64) -> BoxFuture<'_, Result<Arc<dyn CacheStore>, Error>> {
        Box::pin(async move {
            Ok(Arc::new(SqliteCache::open(self.clone(), max_bytes).await?) as Arc<dyn CacheStore>)
        })
    }

    fn files(&self, folder: PathBuf) -> BoxFuture<'_, Result<Arc<dyn FileStore>, Error>> {
        Box::pin(
            async move { Ok(Arc::new(SqliteFiles::open(self.clone(), folder).await?) as Arc<dyn FileStore>) },
        )
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Database::close(self))
    }
}

/// The error of opening, in terms of what to do about it.
fn explain(path: &Path, e: sqlx::Error) -> Error {
    let code = e.as_database_error().and_then(|d| d.code()).and_then(|c| c.parse::<u32>().ok());
    let kind = match code.map(|c| c & 0xFF) {
        Some(26) => return Error::NotADatabase(path.to_owned()),
        Some(3 | 8 | 14) => std::io::ErrorKind::PermissionDenied,
        Some(13) => std::io::ErrorKind::StorageFull,
        _ => return Error::Database(e),
    };
    let source = std::io::Error::new(kind, e);
    Error::Unwritable { path: path.to_owned(), source }
}

/// The largest figure a single record contributes to a sum: sums over thousands of hostile records stay in range.
const MOST: u64 = 1 << 52;

/// A count as a column.
fn column(n: u64) -> i64 {
    i64::try_from(n.min(MOST)).unwrap_or(i64::MAX)
}

/// Nanodollars as a column.
fn money(m: contract::Money) -> i64 {
    m.nanos().clamp(-(MOST as i64), MOST as i64)
}

/// A column as a count.
fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_full_disk_the_next_transaction_begins() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("forebay.db")).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(&db.write).await.unwrap();
        for _ in 0..2 {
            let mut tx = db.write.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let filled = sqlx::query(
                "INSERT INTO parts (key, value, bytes, used, created_at) VALUES (x'00', zeroblob(9000000), 1, 1, 1)",
            );
            let full = filled.execute(&mut *tx).await;
            if full.is_ok() {
                // The connection with the limit was replaced.
                return;
            }
        }
        panic!("a connection in a transaction that the disk ended is used again");
    }
}
