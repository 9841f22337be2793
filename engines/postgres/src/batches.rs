//! [`BatchStore`]: heads of batches, over the runs that are their lines.

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use sqlx::postgres::PgRow;
use sqlx::{Postgres as Pg, QueryBuilder, Row};
use store::{BatchChange, BatchStore, Error, PartOutput, StoredBatch};

use crate::database::Postgres;
use crate::expiry::delete;
use crate::runs::{head, heads_from};
use crate::values::{column, count, id, text, time};
use crate::{outbox, shares, workers};

/// The batches of one tenant take turns to be made: how many go on is counted.
const TURN: i32 = 0x666f_7201;

/// The batches in a database.
#[derive(Debug, Clone)]
pub(crate) struct Batches(Postgres);

impl Batches {
    pub(crate) fn new(database: Postgres) -> Self {
        Batches(database)
    }
}

const BATCH: &str = "SELECT id, tenant, created_at, ended_at, version, about FROM batches";

fn batch(row: &PgRow) -> Result<StoredBatch, Error> {
    Ok(StoredBatch {
        id: id(row, 0)?,
        tenant: TenantId::from(row.try_get::<String, _>(1)?),
        created_at: UnixMillis(row.try_get(2)?),
        ended_at: time(row, 3)?,
        version: count(row.try_get(4)?),
        about: row.try_get(5)?,
    })
}

async fn create(db: &Postgres, new: &StoredBatch, most: u64) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    let tenant = text(new.tenant.as_str());
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
        .bind(TURN)
        .bind(&tenant)
        .execute(&mut *tx)
        .await?;
    let made = sqlx::query(
        "INSERT INTO batches (id, tenant, created_at, ended_at, version, about) SELECT $1, $2, $3, $4, $5, $6 \
         WHERE (SELECT COUNT(*) FROM batches WHERE tenant = $2 AND ended_at IS NULL) < $7",
    )
    .bind(new.id.as_bytes().as_slice())
    .bind(&tenant)
    .bind(new.created_at.0)
    .bind(new.ended_at.map(|t| t.0))
    .bind(column(new.version))
    .bind(text(&new.about))
    .bind(column(most))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(made.rows_affected() == 1)
}

async fn get(db: &Postgres, of: RunId) -> Result<Option<StoredBatch>, Error> {
    let mut query = QueryBuilder::<Pg>::new(BATCH);
    query.push(" WHERE id = ").push_bind(of.as_bytes().to_vec());
    query.build().fetch_optional(&db.pool).await?.as_ref().map(batch).transpose()
}

async fn list(
    db: &Postgres,
    tenant: Option<&TenantId>,
    after: Option<RunId>,
    limit: u32,
) -> Result<Vec<StoredBatch>, Error> {
    let mut query = QueryBuilder::<Pg>::new(BATCH);
    query.push(" WHERE TRUE");
    if let Some(t) = tenant {
        query.push(" AND tenant = ").push_bind(text(t.as_str()));
    }
    if let Some(after) = after {
        query.push(" AND id < ").push_bind(after.as_bytes().to_vec());
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(&db.pool).await?.iter().map(batch).collect()
}

async fn open(db: &Postgres) -> Result<Vec<StoredBatch>, Error> {
    let mut query = QueryBuilder::<Pg>::new(BATCH);
    query.push(" WHERE ended_at IS NULL ORDER BY id");
    query.build().fetch_all(&db.pool).await?.iter().map(batch).collect()
}

async fn update(db: &Postgres, change: &BatchChange) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    let [output, errors] = &change.files;
    let updated = sqlx::query(
        "UPDATE batches SET version = version + 1, about = $1, ended_at = $2, output_file = $3, error_file = $4 \
         WHERE id = $5 AND version = $6",
    )
    .bind(text(&change.about))
    .bind(change.ended_at.map(|t| t.0))
    .bind(output.as_deref())
    .bind(errors.as_deref())
    .bind(change.id.as_bytes().as_slice())
    .bind(column(change.version))
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Ok(false);
    }
    if let Some(message) = &change.outbox {
        outbox::put(&mut tx, outbox::About::Batch, change.id, message).await?;
        workers::wake(&mut tx, db).await?;
    }
    tx.commit().await?;
    Ok(true)
}

async fn counts(db: &Postgres, of: RunId) -> Result<Vec<(String, u64)>, Error> {
    let rows = sqlx::query(
        "SELECT status, COUNT(*) FROM runs WHERE part_of = $1 GROUP BY status ORDER BY status COLLATE \"C\"",
    );
    let rows = rows.bind(of.as_bytes().as_slice()).fetch_all(&db.pool).await?;
    rows.iter().map(|r| Ok((r.try_get(0)?, count(r.try_get(1)?)))).collect()
}

async fn open_parts(db: &Postgres, of: RunId, limit: u32) -> Result<Vec<RunId>, Error> {
    let rows =
        sqlx::query("SELECT id FROM runs WHERE part_of = $1 AND status IN ('queued', 'running') LIMIT $2");
    let rows = rows.bind(of.as_bytes().as_slice()).bind(i64::from(limit)).fetch_all(&db.pool).await?;
    rows.iter().map(|r| id(r, 0)).collect()
}

async fn parts(db: &Postgres, of: RunId, after: Option<u64>, limit: u32) -> Result<Vec<PartOutput>, Error> {
    let rows = sqlx::query(heads_from!(
        ", part, (SELECT output FROM run_outputs o WHERE o.run = runs.id LIMIT 1) \
         FROM runs WHERE part_of = $1 AND part > $2 ORDER BY part LIMIT $3"
    ));
    let rows = rows.bind(of.as_bytes().as_slice()).bind(after.map_or(-1, column)).bind(i64::from(limit));
    let part =
        |r: &PgRow| Ok(PartOutput { number: count(r.try_get(11)?), head: head(r)?, output: r.try_get(12)? });
    rows.fetch_all(&db.pool).await?.iter().map(part).collect()
}

async fn clear(db: &Postgres, limit: u32) -> Result<u64, Error> {
    let mut tx = db.pool.begin().await?;
    // A batch that has ended stays so. Lines that another worker removes just now are left to it.
    let rows = sqlx::query(
        "SELECT r.id, r.entries FROM batches b JOIN runs r ON r.part_of = b.id WHERE b.ended_at IS NOT NULL \
         ORDER BY r.id LIMIT $1 FOR UPDATE OF r SKIP LOCKED",
    );
    let rows = rows.bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    let mut gone = Vec::with_capacity(rows.len());
    for row in &rows {
        let run = id(row, 0)?;
        // One that nobody could read has not ended.
        shares::take(&mut tx, run, count(row.try_get(1)?)).await?;
        gone.push(run.as_bytes().to_vec());
    }
    if !gone.is_empty() {
        delete(&mut tx, &gone).await?;
        tx.commit().await?;
    }
    Ok(gone.len() as u64)
}

async fn expire(db: &Postgres, before: UnixMillis, limit: u32) -> Result<u64, Error> {
    let mut tx = db.pool.begin().await?;
    let rows = sqlx::query(
        "SELECT id FROM batches b WHERE ended_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id IN (b.output_file, b.error_file)) \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.run = b.id AND d.next_at IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.part_of = b.id) ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    );
    let rows = rows.bind(before.0).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    let found = rows.iter().map(|r| r.try_get(0)).collect::<Result<Vec<Vec<u8>>, _>>()?;
    if found.is_empty() {
        return Ok(0);
    }
    // Somebody may have asked meanwhile that its message be sent once more.
    let gone = sqlx::query(
        "DELETE FROM batches WHERE id = ANY($1) \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.run = batches.id AND d.next_at IS NOT NULL) RETURNING id",
    );
    let gone = gone.bind(found).fetch_all(&mut *tx).await?;
    let gone = gone.iter().map(|r| r.try_get(0)).collect::<Result<Vec<Vec<u8>>, _>>()?;
    sqlx::query("DELETE FROM deliveries WHERE run = ANY($1)").bind(&gone).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}

impl BatchStore for Batches {
    fn create<'a>(&'a self, new: &'a StoredBatch, most: u64) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || create(&self.0, new, most)))
    }

    fn get(&self, of: RunId) -> BoxFuture<'_, Result<Option<StoredBatch>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, of)))
    }

    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, Error>> {
        Box::pin(self.0.within(move || list(&self.0, tenant, after, limit)))
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<StoredBatch>, Error>> {
        Box::pin(self.0.within(move || open(&self.0)))
    }

    fn update<'a>(&'a self, change: &'a BatchChange) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || update(&self.0, change)))
    }

    fn counts(&self, of: RunId) -> BoxFuture<'_, Result<Vec<(String, u64)>, Error>> {
        Box::pin(self.0.within(move || counts(&self.0, of)))
    }

    fn open_parts(&self, of: RunId, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(self.0.within(move || open_parts(&self.0, of, limit)))
    }

    fn parts(
        &self,
        of: RunId,
        after: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartOutput>, Error>> {
        Box::pin(self.0.within(move || parts(&self.0, of, after, limit)))
    }

    fn clear(&self, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || clear(&self.0, limit)))
    }

    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || expire(&self.0, before, limit)))
    }
}
