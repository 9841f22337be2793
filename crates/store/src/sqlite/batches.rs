//! [`BatchStore`] on SQLite.

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::runs::{delete, head, id};
use super::{Database, Script, column, count, outbox, shares};
use crate::{BatchChange, BatchStore, Error, PartOutput, StoredBatch};

/// The batches in a database.
#[derive(Debug, Clone)]
pub struct SqliteBatches(Database);

impl SqliteBatches {
    /// The batches of `database`.
    pub fn new(database: Database) -> Self {
        SqliteBatches(database)
    }
}

const BATCH: &str = "SELECT id, tenant, created_at, ended_at, version, about FROM batches";

fn batch(row: &SqliteRow) -> Result<StoredBatch, Error> {
    Ok(StoredBatch {
        id: id(row, 0)?,
        tenant: TenantId::from(row.try_get::<String, _>(1)?),
        created_at: UnixMillis(row.try_get(2)?),
        ended_at: row.try_get::<Option<i64>, _>(3)?.map(UnixMillis),
        version: count(row.try_get(4)?),
        about: row.try_get(5)?,
    })
}

impl BatchStore for SqliteBatches {
    fn create<'a>(&'a self, new: &'a StoredBatch, most: u64) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let made = sqlx::query(
                "INSERT INTO batches (id, tenant, created_at, ended_at, version, about) SELECT $1, $2, $3, $4, $5, $6 \
                 WHERE (SELECT COUNT(*) FROM batches WHERE tenant = $2 AND ended_at IS NULL) < $7",
            )
            .bind(new.id.as_bytes().as_slice())
            .bind(new.tenant.as_str())
            .bind(new.created_at.0)
            .bind(new.ended_at.map(|t| t.0))
            .bind(column(new.version))
            .bind(&new.about)
            .bind(column(most))
            .execute(&self.0.write)
            .await?;
            Ok(made.rows_affected() == 1)
        })
    }

    fn get(&self, of: RunId) -> BoxFuture<'_, Result<Option<StoredBatch>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(BATCH);
            query.push(" WHERE id = ").push_bind(of.as_bytes().to_vec());
            query.build().fetch_optional(&self.0.read).await?.as_ref().map(batch).transpose()
        })
    }

    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(BATCH);
            query.push(" WHERE 1 = 1");
            if let Some(t) = tenant {
                query.push(" AND tenant = ").push_bind(t.as_str());
            }
            if let Some(after) = after {
                query.push(" AND id < ").push_bind(after.as_bytes().to_vec());
            }
            query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
            query.build().fetch_all(&self.0.read).await?.iter().map(batch).collect()
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<StoredBatch>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(BATCH);
            query.push(" WHERE ended_at IS NULL ORDER BY id");
            query.build().fetch_all(&self.0.read).await?.iter().map(batch).collect()
        })
    }

    fn update<'a>(&'a self, change: &'a BatchChange) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            let [output, errors] = &change.files;
            let updated = sqlx::query(
                "UPDATE batches SET version = version + 1, about = $1, ended_at = $2, output_file = $3, error_file = $4 \
                 WHERE id = $5 AND version = $6",
            )
            .bind(&change.about)
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
                let mut script = Script::new("");
                outbox::write(&mut script, outbox::About::Batch, change.id, message);
                script.build().execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    fn counts(&self, of: RunId) -> BoxFuture<'_, Result<Vec<(String, u64)>, Error>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT status, COUNT(*) FROM runs WHERE part_of = $1 GROUP BY status")
                .bind(of.as_bytes().as_slice())
                .fetch_all(&self.0.read)
                .await?;
            rows.iter().map(|r| Ok((r.try_get(0)?, count(r.try_get(1)?)))).collect()
        })
    }

    fn open_parts(&self, of: RunId, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT id FROM runs WHERE part_of = $1 AND status IN ('queued', 'running') LIMIT $2",
            )
            .bind(of.as_bytes().as_slice())
            .bind(i64::from(limit))
            .fetch_all(&self.0.read)
            .await?;
            rows.iter().map(|r| id(r, 0)).collect()
        })
    }

    fn parts(
        &self,
        of: RunId,
        after: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartOutput>, Error>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT id, tenant, kind, status, submitted_at, due_at, ended_at, entries, about, target, lane, part, \
                 (SELECT output FROM run_outputs o WHERE o.run = runs.id LIMIT 1) \
                 FROM runs WHERE part_of = $1 AND part > $2 ORDER BY part LIMIT $3",
            )
            .bind(of.as_bytes().as_slice())
            .bind(after.map_or(-1, column))
            .bind(i64::from(limit))
            .fetch_all(&self.0.read)
            .await?;
            let part = |r: &SqliteRow| {
                Ok(PartOutput { number: count(r.try_get(11)?), head: head(r)?, output: r.try_get(12)? })
            };
            rows.iter().map(part).collect()
        })
    }

    fn clear(&self, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            // Looked for beside the one writer: a batch that has ended stays so.
            let rows = sqlx::query(
                "SELECT r.id, r.entries FROM batches b JOIN runs r ON r.part_of = b.id \
                 WHERE b.ended_at IS NOT NULL LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(&self.0.read)
            .await?;
            if rows.is_empty() {
                return Ok(0);
            }
            let mut tx = self.0.begin().await?;
            for row in &rows {
                let run = id(row, 0)?;
                // One that nobody could read has not ended.
                shares::take(&mut tx, run, count(row.try_get(1)?)).await?;
                delete(&mut tx, run.as_bytes()).await?;
            }
            tx.commit().await?;
            Ok(rows.len() as u64)
        })
    }

    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT id FROM batches b WHERE ended_at < $1 \
                 AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id IN (b.output_file, b.error_file)) \
                 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.run = b.id AND d.next_at IS NOT NULL) \
                 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.part_of = b.id) ORDER BY ended_at LIMIT $2",
            )
            .bind(before.0)
            .bind(i64::from(limit))
            .fetch_all(&self.0.read)
            .await?;
            if rows.is_empty() {
                return Ok(0);
            }
            let mut tx = self.0.begin().await?;
            let mut removed = 0;
            for row in &rows {
                let gone: Vec<u8> = row.try_get(0)?;
                // Somebody may have asked meanwhile that its message be sent once more.
                let done = sqlx::query(
                    "DELETE FROM batches WHERE id = $1 \
                     AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.run = $1 AND d.next_at IS NOT NULL)",
                )
                .bind(gone.as_slice())
                .execute(&mut *tx)
                .await?;
                if done.rows_affected() == 1 {
                    removed += 1;
                    let told = sqlx::query("DELETE FROM deliveries WHERE run = $1").bind(gone.as_slice());
                    told.execute(&mut *tx).await?;
                }
            }
            tx.commit().await?;
            Ok(removed)
        })
    }
}
