//! Which open runs are to be looked at, and how many there are.

use contract::{RunId, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::runs::{HEAD, heads, id};
use super::{Database, count};
use crate::{Error, LaneCount, RunHead};

pub(super) async fn due(db: &Database, now: UnixMillis, each: u32) -> Result<Vec<RunHead>, Error> {
    // Along the index of each target and tenant that has open ones, so that a flood of one is not read for another.
    let mut query = QueryBuilder::<Sqlite>::new(HEAD);
    query.push(
                " JOIN (SELECT due.id AS due_id FROM run_shares s JOIN runs due ON due.id IN (SELECT r.id FROM runs r \
                 WHERE r.ended_at IS NULL AND r.target = s.target AND r.tenant = s.tenant AND (r.due_at <= ",
            );
    query.push_bind(now.0).push(" OR r.as_of > ").push_bind(now.0);
    query.push(") ORDER BY r.lane DESC, r.submitted_at, r.id LIMIT ").push_bind(i64::from(each));
    query.push(")) ON due_id = runs.id ORDER BY lane DESC, submitted_at, id");
    heads(&query.build().fetch_all(&db.read).await?)
}

pub(super) async fn overdue(db: &Database, now: UnixMillis, limit: u32) -> Result<Vec<RunId>, Error> {
    let rows = sqlx::query(
        "SELECT id FROM runs WHERE ended_at IS NULL AND deadline IS NOT NULL AND deadline <= $1 \
                 ORDER BY deadline LIMIT $2",
    )
    .bind(now.0)
    .bind(i64::from(limit))
    .fetch_all(&db.read)
    .await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

pub(super) async fn next(db: &Database, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
    let row = sqlx::query(
                "SELECT MIN(at) FROM (SELECT MIN(due_at) AS at FROM runs WHERE ended_at IS NULL AND due_at > $1 UNION ALL \
                 SELECT MIN(deadline) FROM runs WHERE ended_at IS NULL AND deadline IS NOT NULL AND deadline > $1)",
            )
            .bind(now.0)
            .fetch_one(&db.read)
            .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(UnixMillis))
}

pub(super) async fn lanes(db: &Database) -> Result<Vec<LaneCount>, Error> {
    let rows = sqlx::query(
        "SELECT lane, status = 'running', COUNT(*), MIN(submitted_at) FROM runs WHERE ended_at IS NULL \
                 GROUP BY status, lane",
    )
    .fetch_all(&db.read)
    .await?;
    let one = |row: &SqliteRow| {
        Ok(LaneCount {
            lane: row.try_get(0)?,
            running: row.try_get::<i64, _>(1)? != 0,
            runs: count(row.try_get(2)?),
            oldest: UnixMillis(row.try_get(3)?),
        })
    };
    rows.iter().map(one).collect()
}
