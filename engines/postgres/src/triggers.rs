//! [`TriggerStore`]: what triggers have seen, changed from the version that was decided on and from no other.

use contract::BoxFuture;
use sqlx::Row;
use store::{Error, StoredTriggers, TriggerStore};

use crate::database::Postgres;
use crate::values::{column, count, text};

/// What triggers have seen, in a database.
#[derive(Debug, Clone)]
pub(crate) struct Triggers(Postgres);

impl Triggers {
    pub(crate) fn new(database: Postgres) -> Self {
        Triggers(database)
    }
}

async fn get(db: &Postgres, pipeline: &str) -> Result<Option<StoredTriggers>, Error> {
    let row = sqlx::query("SELECT version, memory FROM triggers WHERE pipeline = $1")
        .bind(text(pipeline))
        .fetch_optional(&db.pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let memory = String::from_utf8(row.try_get(1)?).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Ok(Some(StoredTriggers { version: count(row.try_get(0)?), memory }))
}

async fn set(db: &Postgres, pipeline: &str, after: u64, memory: &str) -> Result<bool, Error> {
    let statement = match after {
        0 => {
            "INSERT INTO triggers (pipeline, version, memory) VALUES ($1, $2 + 1, $3) \
             ON CONFLICT (pipeline) DO NOTHING"
        }
        // Two at once wait for each other here, and the second finds another version.
        _ => "UPDATE triggers SET version = $2 + 1, memory = $3 WHERE pipeline = $1 AND version = $2",
    };
    let set = sqlx::query(statement).bind(text(pipeline)).bind(column(after)).bind(memory.as_bytes());
    Ok(set.execute(&db.pool).await?.rows_affected() == 1)
}

impl TriggerStore for Triggers {
    fn get<'a>(&'a self, pipeline: &'a str) -> BoxFuture<'a, Result<Option<StoredTriggers>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, pipeline)))
    }

    fn set<'a>(
        &'a self,
        pipeline: &'a str,
        after: u64,
        memory: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || set(&self.0, pipeline, after, memory)))
    }
}
