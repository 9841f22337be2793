//! [`WatchStore`] on SQLite.

use contract::BoxFuture;
use sqlx::Row;

use super::{Database, column, count};
use crate::{Error, StoredWatching, WatchStore};

/// How what is watched stands, in a database.
#[derive(Debug, Clone)]
pub struct SqliteWatching(Database);

impl SqliteWatching {
    /// Kept in `database`.
    pub fn new(database: Database) -> Self {
        SqliteWatching(database)
    }
}

impl WatchStore for SqliteWatching {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredWatching>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT version, memory FROM watching WHERE name = $1")
                .bind(name)
                .fetch_optional(&self.0.read)
                .await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(StoredWatching { version: count(row.try_get(0)?), memory: row.try_get(1)? }))
        })
    }

    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let statement = match after {
                0 => {
                    "INSERT INTO watching (name, version, memory) VALUES ($1, $2 + 1, $3) \
                     ON CONFLICT (name) DO NOTHING"
                }
                _ => "UPDATE watching SET version = $2 + 1, memory = $3 WHERE name = $1 AND version = $2",
            };
            let set = sqlx::query(statement).bind(name).bind(column(after)).bind(memory);
            Ok(set.execute(&self.0.write).await?.rows_affected() == 1)
        })
    }
}
