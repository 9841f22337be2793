//! [`WatchStore`]: how what is watched stands, changed from the version that was decided on and from no other.

use contract::BoxFuture;
use sqlx::Row;
use store::{Error, StoredWatching, WatchStore};

use crate::database::Postgres;
use crate::values::{column, count, text};

/// How what is watched stands, in a database.
#[derive(Debug, Clone)]
pub(crate) struct Watching(Postgres);

impl Watching {
    pub(crate) fn new(database: Postgres) -> Self {
        Watching(database)
    }
}

async fn get(db: &Postgres, name: &str) -> Result<Option<StoredWatching>, Error> {
    let row = sqlx::query("SELECT version, memory FROM watching WHERE name = $1")
        .bind(text(name))
        .fetch_optional(&db.pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let memory = String::from_utf8(row.try_get(1)?).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Ok(Some(StoredWatching { version: count(row.try_get(0)?), memory }))
}

async fn set(db: &Postgres, name: &str, after: u64, memory: &str) -> Result<bool, Error> {
    let statement = match after {
        0 => {
            "INSERT INTO watching (name, version, memory) VALUES ($1, $2 + 1, $3) \
             ON CONFLICT (name) DO NOTHING"
        }
        // Two at once wait for each other here, and the second finds another version.
        _ => "UPDATE watching SET version = $2 + 1, memory = $3 WHERE name = $1 AND version = $2",
    };
    let set = sqlx::query(statement).bind(text(name)).bind(column(after)).bind(memory.as_bytes());
    Ok(set.execute(&db.pool).await?.rows_affected() == 1)
}

impl WatchStore for Watching {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<StoredWatching>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, name)))
    }

    fn set<'a>(&'a self, name: &'a str, after: u64, memory: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || set(&self.0, name, after, memory)))
    }
}
