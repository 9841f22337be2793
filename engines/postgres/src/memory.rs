//! [`MemoryStore`]: what is remembered, changed from the version that was decided on and from no other.

use contract::BoxFuture;
use sqlx::Row;
use store::memory::Statements;
use store::{Error, MemoryStore, StoredMemory};

use crate::database::Postgres;
use crate::values::{column, count, text};

/// What is remembered, in one table of a database.
#[derive(Debug, Clone)]
pub(crate) struct PgMemory {
    database: Postgres,
    table: Statements,
}

impl PgMemory {
    pub(crate) fn new(database: Postgres, table: Statements) -> Self {
        PgMemory { database, table }
    }

    async fn read(&self, name: &str) -> Result<Option<StoredMemory>, Error> {
        let row = sqlx::query(self.table.get).bind(text(name)).fetch_optional(&self.database.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let memory = String::from_utf8(row.try_get(1)?).map_err(|e| sqlx::Error::Decode(e.into()))?;
        Ok(Some(StoredMemory { version: count(row.try_get(0)?), memory }))
    }

    async fn write(&self, name: &str, after: u64, memory: &str) -> Result<bool, Error> {
        let set = sqlx::query(self.table.set(after)).bind(text(name)).bind(column(after));
        let set = set.bind(memory.as_bytes()).execute(&self.database.pool).await?;
        Ok(set.rows_affected() == 1)
    }
}

impl MemoryStore for PgMemory {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredMemory>, Error>> {
        Box::pin(self.database.within(move || self.read(name)))
    }

    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.database.within(move || self.write(name, after, memory)))
    }
}
