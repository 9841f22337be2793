//! Removes runs that ended long ago, and gives their room back to the system.

use contract::UnixMillis;
use sqlx::Row;

use super::runs::delete;
use super::{Database, column, count};
use crate::Error;

pub(super) async fn expire(db: &Database, before: UnixMillis, limit: u32, bytes: u64) -> Result<u64, Error> {
    let mut tx = db.begin().await?;
    // What stands before it is over the bound: the first one goes, however large it is.
    let rows = sqlx::query(
        "SELECT id FROM (SELECT id, ended_at, SUM(size) OVER (ORDER BY ended_at, id) - size AS ahead FROM ( \
                 SELECT id, ended_at, \
                 (SELECT COALESCE(SUM(LENGTH(output)), 0) FROM run_outputs o WHERE o.run = runs.id) + \
                 (SELECT COALESCE(SUM(LENGTH(body)), 0) FROM deliveries d WHERE d.run = runs.id) AS size \
                 FROM runs WHERE ended_at < $1 AND part_of IS NULL AND NOT EXISTS \
                 (SELECT 1 FROM deliveries d WHERE d.run = runs.id AND d.next_at IS NOT NULL) \
                 ORDER BY ended_at, id LIMIT $2)) WHERE ahead < $3",
    )
    .bind(before.0)
    .bind(i64::from(limit))
    .bind(column(bytes))
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        let run: Vec<u8> = row.try_get(0)?;
        delete(&mut tx, &run).await?;
    }
    tx.commit().await?;
    Ok(rows.len() as u64)
}

pub(super) async fn shrink(db: &Database, pages: u32) -> Result<u64, Error> {
    let mut conn = db.write.acquire().await?;
    let auto: i64 = sqlx::query("PRAGMA auto_vacuum").fetch_one(&mut *conn).await?.try_get(0)?;
    // A file of an older version keeps its pages, and fills them again.
    if auto != 2 {
        return Ok(0);
    }
    // A pragma takes no parameters; the number is ours. It frees a page each time it is stepped.
    let free = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({pages})"));
    sqlx::query(free).fetch_all(&mut *conn).await?;
    let left: i64 = sqlx::query("PRAGMA freelist_count").fetch_one(&mut *conn).await?.try_get(0)?;
    Ok(count(left))
}
