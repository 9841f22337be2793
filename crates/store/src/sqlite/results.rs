//! [`ResultStore`] on SQLite.

use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Database;
use super::runs::id;
use crate::{Error, KeyedValue, ResultStore, StageResult};

/// Results in a database.
#[derive(Debug, Clone)]
pub struct SqliteResults(Database);

impl SqliteResults {
    /// The results in `database`.
    pub fn new(database: Database) -> Self {
        SqliteResults(database)
    }
}

fn key(row: &SqliteRow, at: usize) -> Result<[u8; 32], Error> {
    let key: Vec<u8> = row.try_get(at)?;
    Ok(key.try_into().map_err(|_| sqlx::Error::Decode("a result's key has 32 bytes".into()))?)
}

fn result(row: &SqliteRow) -> Result<StageResult, Error> {
    Ok(StageResult {
        run: id(row, 0)?,
        key: key(row, 1)?,
        tenant: TenantId::from(row.try_get::<String, _>(2)?),
        pipeline: row.try_get(3)?,
        stage: row.try_get(4)?,
        of: row.try_get(5)?,
        at: UnixMillis(row.try_get(6)?),
        value: row.try_get(7)?,
    })
}

impl ResultStore for SqliteResults {
    fn get<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<Option<StageResult>, Error>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT run, key, tenant, pipeline, stage, made_of, at, value FROM stage_results WHERE key = $1",
            )
            .bind(key.as_slice())
            .fetch_optional(&self.0.read)
            .await?;
            row.as_ref().map(result).transpose()
        })
    }

    fn newest<'a>(
        &'a self,
        tenant: &'a TenantId,
        pipeline: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<StageResult>, Error>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT run, key, tenant, pipeline, stage, made_of, at, X'' FROM stage_results \
                 WHERE tenant = $1 AND pipeline = $2 AND stage = $3 ORDER BY at DESC LIMIT 1",
            )
            .bind(tenant.as_str())
            .bind(pipeline)
            .bind(stage)
            .fetch_optional(&self.0.read)
            .await?;
            row.as_ref().map(result).transpose()
        })
    }

    fn put<'a>(&'a self, result: &'a StageResult) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut conn = self.0.write.acquire().await?;
            // A lost one is made again.
            sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *conn).await?;
            sqlx::query(
                "INSERT INTO stage_results (key, tenant, pipeline, stage, run, made_of, value, at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
            )
            .bind(result.key.as_slice())
            .bind(result.tenant.as_str())
            .bind(&result.pipeline)
            .bind(&result.stage)
            .bind(result.run.as_bytes().as_slice())
            .bind(&result.of)
            .bind(result.value.as_slice())
            .bind(result.at.0)
            .execute(&mut *conn)
            .await?;
            Ok(())
        })
    }

    fn page<'a>(
        &'a self,
        after: Option<&'a [u8; 32]>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<KeyedValue>, Error>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT key, value FROM stage_results WHERE $1 IS NULL OR key > $1 ORDER BY key LIMIT $2",
            )
            .bind(after.map(<[u8; 32]>::as_slice))
            .bind(limit)
            .fetch_all(&self.0.read)
            .await?;
            rows.iter().map(|row| Ok((key(row, 0)?, row.try_get(1)?))).collect()
        })
    }

    fn forget<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let remove = sqlx::query("DELETE FROM stage_results WHERE key = $1").bind(key.as_slice());
            remove.execute(&self.0.write).await?;
            Ok(())
        })
    }

    fn expire(&self, before: UnixMillis) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let removed = sqlx::query("DELETE FROM stage_results WHERE at < $1")
                .bind(before.0)
                .execute(&self.0.write)
                .await?;
            Ok(removed.rows_affected())
        })
    }
}
