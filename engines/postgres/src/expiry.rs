//! Removes runs that have ended. What is to go is locked first and looked at again then: somebody may have asked meanwhile that a
//! message about it be sent once more. Several workers sweep at once, each over what no other holds.

use contract::{RunId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use store::Error;

use crate::database::Postgres;
use crate::values::column;

/// Runs with all that is kept of them.
pub(crate) async fn delete(conn: &mut PgConnection, runs: &[Vec<u8>]) -> Result<(), Error> {
    for of in [
        "DELETE FROM run_entries WHERE run = ANY($1)",
        "DELETE FROM run_outputs WHERE run = ANY($1)",
        "DELETE FROM deliveries WHERE run = ANY($1)",
        "DELETE FROM runs WHERE id = ANY($1)",
    ] {
        sqlx::query(of).bind(runs).execute(&mut *conn).await?;
    }
    Ok(())
}

pub(crate) async fn remove(db: &Postgres, run: RunId) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    let ended = "SELECT 1 FROM runs WHERE id = $1 AND ended_at IS NOT NULL AND part_of IS NULL FOR UPDATE";
    if sqlx::query(ended).bind(run.as_bytes().as_slice()).fetch_optional(&mut *tx).await?.is_none() {
        return Ok(false);
    }
    delete(&mut tx, &[run.as_bytes().to_vec()]).await?;
    tx.commit().await?;
    Ok(true)
}

pub(crate) async fn expire(db: &Postgres, before: UnixMillis, limit: u32, bytes: u64) -> Result<u64, Error> {
    let mut tx = db.pool.begin().await?;
    // What stands before it is over the bound: the first one goes, however large it is.
    let found = sqlx::query(
        "SELECT id FROM (SELECT id, ended_at, SUM(size) OVER (ORDER BY ended_at, id) - size AS ahead FROM ( \
         SELECT id, ended_at, \
         (SELECT COALESCE(SUM(octet_length(output)), 0) FROM run_outputs o WHERE o.run = runs.id) + \
         (SELECT COALESCE(SUM(octet_length(body)), 0) FROM deliveries d WHERE d.run = runs.id) AS size \
         FROM runs WHERE ended_at < $1 AND part_of IS NULL AND NOT EXISTS \
         (SELECT 1 FROM deliveries d WHERE d.run = runs.id AND d.next_at IS NOT NULL) \
         ORDER BY ended_at, id LIMIT $2) sized) summed WHERE ahead < $3",
    )
    .bind(before.0)
    .bind(i64::from(limit))
    .bind(column(bytes))
    .fetch_all(&mut *tx)
    .await?;
    let found = found.iter().map(|r| r.try_get(0)).collect::<Result<Vec<Vec<u8>>, _>>()?;
    let locked = sqlx::query("SELECT id FROM runs WHERE id = ANY($1) FOR UPDATE SKIP LOCKED").bind(found);
    let locked = locked.fetch_all(&mut *tx).await?;
    let locked = locked.iter().map(|r| r.try_get(0)).collect::<Result<Vec<Vec<u8>>, _>>()?;
    let told = sqlx::query(
        "SELECT id FROM UNNEST($1::bytea[]) AS ended (id) \
         WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.run = ended.id AND d.next_at IS NOT NULL)",
    );
    let told = told.bind(locked).fetch_all(&mut *tx).await?;
    let gone = told.iter().map(|r| r.try_get(0)).collect::<Result<Vec<Vec<u8>>, _>>()?;
    delete(&mut tx, &gone).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}
