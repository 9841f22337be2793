//! [`MemoryStore`] on SQLite.

use contract::BoxFuture;
use sqlx::Row;

use super::{Database, column, count};
use crate::memory::Statements;
use crate::{Error, MemoryStore, StoredMemory};

/// What is remembered, in one table of a database.
#[derive(Debug, Clone)]
pub struct SqliteMemory {
    database: Database,
    table: Statements,
}

impl SqliteMemory {
    /// What triggers have seen.
    pub fn of_triggers(database: Database) -> Self {
        SqliteMemory { database, table: Statements::TRIGGERS }
    }

    /// How what is watched stands.
    pub fn of_watching(database: Database) -> Self {
        SqliteMemory { database, table: Statements::WATCHING }
    }
}

impl MemoryStore for SqliteMemory {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredMemory>, Error>> {
        Box::pin(async move {
            let row = sqlx::query(self.table.get).bind(name).fetch_optional(&self.database.read).await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(StoredMemory { version: count(row.try_get(0)?), memory: row.try_get(1)? }))
        })
    }

    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let set = sqlx::query(self.table.set(after)).bind(name).bind(column(after)).bind(memory);
            Ok(set.execute(&self.database.write).await?.rows_affected() == 1)
        })
    }
}
