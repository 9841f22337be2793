//! [`ResultStore`]: what stages made, by the hash of all that it was made of.

use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use store::{Error, KeyedValue, ResultStore, StageResult};

use crate::database::Postgres;
use crate::values::{id, text};

/// Results in a database.
#[derive(Debug, Clone)]
pub(crate) struct Results(Postgres);

impl Results {
    pub(crate) fn new(database: Postgres) -> Self {
        Results(database)
    }
}

fn key(row: &PgRow, at: usize) -> Result<[u8; 32], Error> {
    let key: Vec<u8> = row.try_get(at)?;
    Ok(key.try_into().map_err(|_| sqlx::Error::Decode("a result's key has 32 bytes".into()))?)
}

fn result(row: &PgRow) -> Result<StageResult, Error> {
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

async fn get(db: &Postgres, key: &[u8; 32]) -> Result<Option<StageResult>, Error> {
    let row = sqlx::query(
        "SELECT run, key, tenant, pipeline, stage, made_of, at, value FROM stage_results WHERE key = $1",
    )
    .bind(key.as_slice())
    .fetch_optional(&db.pool)
    .await?;
    row.as_ref().map(result).transpose()
}

async fn look(
    db: &Postgres,
    key: &[u8; 32],
    (tenant, pipeline, stage): (&TenantId, &str, &str),
) -> Result<Option<StageResult>, Error> {
    let row = sqlx::query(
        "SELECT run, key, tenant, pipeline, stage, made_of, at, value, 0 AS place FROM stage_results WHERE key = $1 \
         UNION ALL SELECT * FROM (SELECT run, key, tenant, pipeline, stage, made_of, at, ''::bytea, 1 FROM stage_results \
         WHERE tenant = $2 AND pipeline = $3 AND stage = $4 ORDER BY at DESC LIMIT 1) AS newest ORDER BY place LIMIT 1",
    )
    .bind(key.as_slice())
    .bind(text(tenant.as_str()))
    .bind(text(pipeline))
    .bind(text(stage))
    .fetch_optional(&db.pool)
    .await?;
    row.as_ref().map(result).transpose()
}

async fn put(db: &Postgres, result: &StageResult) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    // A lost one is made again.
    sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await?;
    write(&mut tx, result).await?;
    Ok(tx.commit().await?)
}

/// Keeps a result, unless there is one of that key: of that only the time is new.
pub(crate) async fn write(conn: &mut PgConnection, result: &StageResult) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO stage_results (key, tenant, pipeline, stage, run, made_of, value, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
    )
    .bind(result.key.as_slice())
    .bind(text(result.tenant.as_str()))
    .bind(text(&result.pipeline))
    .bind(text(&result.stage))
    .bind(result.run.as_bytes().as_slice())
    .bind(text(&result.of))
    .bind(result.value.as_slice())
    .bind(result.at.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn page(db: &Postgres, after: Option<&[u8; 32]>, limit: u32) -> Result<Vec<KeyedValue>, Error> {
    let rows = sqlx::query(
        "SELECT key, value FROM stage_results WHERE $1::bytea IS NULL OR key > $1 ORDER BY key LIMIT $2",
    )
    .bind(after.map(<[u8; 32]>::as_slice))
    .bind(i64::from(limit))
    .fetch_all(&db.pool)
    .await?;
    rows.iter().map(|row| Ok((key(row, 0)?, row.try_get(1)?))).collect()
}

async fn forget(db: &Postgres, key: &[u8; 32]) -> Result<(), Error> {
    let remove = sqlx::query("DELETE FROM stage_results WHERE key = $1").bind(key.as_slice());
    remove.execute(&db.pool).await?;
    Ok(())
}

async fn expire(db: &Postgres, before: UnixMillis) -> Result<u64, Error> {
    let removed = sqlx::query("DELETE FROM stage_results WHERE at < $1").bind(before.0);
    Ok(removed.execute(&db.pool).await?.rows_affected())
}

impl ResultStore for Results {
    fn get<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<Option<StageResult>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, key)))
    }

    fn look<'a>(
        &'a self,
        key: &'a [u8; 32],
        stage: (&'a TenantId, &'a str, &'a str),
    ) -> BoxFuture<'a, Result<Option<StageResult>, Error>> {
        Box::pin(self.0.within(move || look(&self.0, key, stage)))
    }

    fn forget<'a>(&'a self, key: &'a [u8; 32]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.0.within(move || forget(&self.0, key)))
    }

    fn put<'a>(&'a self, result: &'a StageResult) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.0.within(move || put(&self.0, result)))
    }

    fn page<'a>(
        &'a self,
        after: Option<&'a [u8; 32]>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<KeyedValue>, Error>> {
        Box::pin(self.0.within(move || page(&self.0, after, limit)))
    }

    fn expire(&self, before: UnixMillis) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || expire(&self.0, before)))
    }
}
