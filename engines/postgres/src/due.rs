//! Which open runs are to be looked at, and how many there are.

use contract::{RunId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::PgRow;
use store::{Error, LaneCount, RunHead};

use crate::database::Postgres;
use crate::runs::{heads, heads_from};
use crate::values::{count, id};

pub(crate) async fn due(db: &Postgres, now: UnixMillis, each: u32) -> Result<Vec<RunHead>, Error> {
    // Along the index of each target and tenant that has open ones, so that a flood of one is not read for another.
    let rows = sqlx::query(heads_from!(
        " FROM (SELECT r.* FROM run_shares s CROSS JOIN LATERAL ( \
         SELECT id, tenant, kind, status, submitted_at, due_at, ended_at, entries, about, target, lane FROM runs \
         WHERE ended_at IS NULL AND runs.target = s.target AND runs.tenant = s.tenant AND (due_at <= $1 OR as_of > $1) \
         ORDER BY lane DESC, submitted_at, id LIMIT $2) r) due ORDER BY lane DESC, submitted_at, id"
    ));
    heads(&rows.bind(now.0).bind(i64::from(each)).fetch_all(&db.pool).await?)
}

pub(crate) async fn overdue(db: &Postgres, now: UnixMillis, limit: u32) -> Result<Vec<RunId>, Error> {
    let rows = sqlx::query(
        "SELECT id FROM runs WHERE ended_at IS NULL AND deadline IS NOT NULL AND deadline <= $1 \
         ORDER BY deadline LIMIT $2",
    );
    let rows = rows.bind(now.0).bind(i64::from(limit)).fetch_all(&db.pool).await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

pub(crate) async fn next(db: &Postgres, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
    let row = sqlx::query(
        "SELECT LEAST((SELECT MIN(due_at) FROM runs WHERE ended_at IS NULL AND due_at > $1), \
         (SELECT MIN(deadline) FROM runs WHERE ended_at IS NULL AND deadline IS NOT NULL AND deadline > $1))",
    );
    let row = row.bind(now.0).fetch_one(&db.pool).await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(UnixMillis))
}

pub(crate) async fn lanes(db: &Postgres) -> Result<Vec<LaneCount>, Error> {
    let rows = sqlx::query(
        "SELECT lane, status = 'running', COUNT(*), MIN(submitted_at) FROM runs WHERE ended_at IS NULL \
         GROUP BY status, lane",
    );
    let one = |row: &PgRow| {
        Ok(LaneCount {
            lane: row.try_get(0)?,
            running: row.try_get(1)?,
            runs: count(row.try_get(2)?),
            oldest: UnixMillis(row.try_get(3)?),
        })
    };
    rows.fetch_all(&db.pool).await?.iter().map(one).collect()
}
