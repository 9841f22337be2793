//! How many open runs each target has of each tenant, and their bytes: counted in the transactions that begin and end runs,
//! so that a look at it costs the same however many wait.

use contract::{RunId, TenantId};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use store::{Error, NewRun};

use crate::values::{column, count, text};

/// A run more.
pub(crate) async fn add(conn: &mut PgConnection, run: &NewRun) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO run_shares AS s (target, tenant, runs, bytes) VALUES ($1, $2, 1, $3) \
         ON CONFLICT (target, tenant) DO UPDATE SET runs = s.runs + 1, bytes = s.bytes + $3",
    )
    .bind(text(&run.target))
    .bind(text(run.tenant.as_str()))
    .bind(column(run.input.len() as u64))
    .execute(conn)
    .await?;
    Ok(())
}

/// A run less, if it is open and its journal is that long. The run stays locked: what was seen of it here is so until the
/// transaction ends.
pub(crate) async fn take(conn: &mut PgConnection, run: RunId, entries: u64) -> Result<(), Error> {
    let row = sqlx::query(
        "SELECT target, tenant, octet_length(input)::bigint FROM runs \
         WHERE id = $1 AND entries = $2 AND ended_at IS NULL FOR UPDATE",
    )
    .bind(run.as_bytes().as_slice())
    .bind(column(entries))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let (target, tenant): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    sqlx::query(
        "UPDATE run_shares SET runs = runs - 1, bytes = bytes - $3 WHERE target = $1 AND tenant = $2",
    )
    .bind(&target)
    .bind(&tenant)
    .bind(row.try_get::<i64, _>(2)?)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM run_shares WHERE target = $1 AND tenant = $2 AND runs <= 0")
        .bind(&target)
        .bind(&tenant)
        .execute(conn)
        .await?;
    Ok(())
}

/// All open runs, and their bytes.
pub(crate) async fn all(conn: &mut PgConnection) -> Result<(u64, u64), Error> {
    let sums = "SELECT COALESCE(SUM(runs), 0)::bigint, COALESCE(SUM(bytes), 0)::bigint FROM run_shares";
    let row = sqlx::query(sums).fetch_one(conn).await?;
    Ok((count(row.try_get(0)?), count(row.try_get(1)?)))
}

/// Those of a tenant.
pub(crate) async fn of_tenant(conn: &mut PgConnection, tenant: &TenantId) -> Result<(u64, u64), Error> {
    let sums = "SELECT COALESCE(SUM(runs), 0)::bigint, COALESCE(SUM(bytes), 0)::bigint FROM run_shares WHERE tenant = $1";
    let row = sqlx::query(sums).bind(text(tenant.as_str())).fetch_one(conn).await?;
    Ok((count(row.try_get(0)?), count(row.try_get(1)?)))
}
