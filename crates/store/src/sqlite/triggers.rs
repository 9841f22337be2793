//! [`TriggerStore`] on SQLite.

use contract::BoxFuture;
use sqlx::Row;

use super::{Database, column, count};
use crate::{Error, StoredTriggers, TriggerStore};

/// What triggers have seen, in a database.
#[derive(Debug, Clone)]
pub struct SqliteTriggers(Database);

impl SqliteTriggers {
    /// Kept in `database`.
    pub fn new(database: Database) -> Self {
        SqliteTriggers(database)
    }
}

impl TriggerStore for SqliteTriggers {
    fn get<'a>(&'a self, pipeline: &'a str) -> BoxFuture<'a, Result<Option<StoredTriggers>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT version, memory FROM triggers WHERE pipeline = $1")
                .bind(pipeline)
                .fetch_optional(&self.0.read)
                .await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(StoredTriggers { version: count(row.try_get(0)?), memory: row.try_get(1)? }))
        })
    }

    fn set<'a>(
        &'a self,
        pipeline: &'a str,
        after: u64,
        memory: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let statement = match after {
                0 => {
                    "INSERT INTO triggers (pipeline, version, memory) VALUES ($1, $2 + 1, $3) \
                     ON CONFLICT (pipeline) DO NOTHING"
                }
                _ => "UPDATE triggers SET version = $2 + 1, memory = $3 WHERE pipeline = $1 AND version = $2",
            };
            let set = sqlx::query(statement).bind(pipeline).bind(column(after)).bind(memory);
            Ok(set.execute(&self.0.write).await?.rows_affected() == 1)
        })
    }
}
