//! [`ResultStore`] on SQLite.

use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::runs::id;
use super::{Database, Script};
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

/// Keeps a result, unless there is one of that key: of that only the time is new.
pub(super) fn write(to: &mut Script, result: &StageResult) {
    to.push("INSERT INTO stage_results (key, tenant, pipeline, stage, run, made_of, value, at) ");
    to.push_values([result], |mut row, r| {
        row.push_bind(r.key.as_slice())
            .push_bind(r.tenant.as_str())
            .push_bind(&r.pipeline)
            .push_bind(&r.stage);
        row.push_bind(r.run.as_bytes().as_slice())
            .push_bind(&r.of)
            .push_bind(r.value.as_slice())
            .push_bind(r.at.0);
    });
    to.push(" ON CONFLICT (key) DO UPDATE SET at = excluded.at; ");
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

    fn look<'a>(
        &'a self,
        key: &'a [u8; 32],
        (tenant, pipeline, stage): (&'a TenantId, &'a str, &'a str),
    ) -> BoxFuture<'a, Result<Option<StageResult>, Error>> {
        Box::pin(async move {
            // One way to the database's thread and back.
            let row = sqlx::query(
                "SELECT run, key, tenant, pipeline, stage, made_of, at, value, 0 AS place FROM stage_results WHERE key = $1 \
                 UNION ALL SELECT * FROM (SELECT run, key, tenant, pipeline, stage, made_of, at, X'', 1 FROM stage_results \
                 WHERE tenant = $2 AND pipeline = $3 AND stage = $4 ORDER BY at DESC LIMIT 1) ORDER BY place LIMIT 1",
            )
            .bind(key.as_slice())
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
            // A lost one is made again.
            self.0.change(false).await?.finish(|script| write(script, result)).await
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
