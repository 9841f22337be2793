//! [`RunStore`]: heads, journals and outputs. Each trait method is one operation of [`Postgres::within`].

use std::time::Duration;

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres as Pg, QueryBuilder, Row};
use store::{
    Change, Delivery, DueDelivery, Error, LaneCount, NewRun, Output, Room, RunHead, RunStore, SecretNumber,
    StoredRun, Submitted, Tried,
};

use crate::database::Postgres;
use crate::values::{column, count, id, text, time};
use crate::{due, expiry, lineage, outbox, results, shares, submit, workers};

/// The runs in a database.
#[derive(Debug, Clone)]
pub(crate) struct Runs(Postgres);

impl Runs {
    pub(crate) fn new(database: Postgres) -> Self {
        Runs(database)
    }
}

/// The columns of a head, in the order of [`head`].
macro_rules! heads_from {
    ($rest:expr) => {
        concat!(
            "SELECT id, tenant, kind, status, submitted_at, due_at, ended_at, entries, about, target, lane",
            $rest
        )
    };
}
pub(crate) use heads_from;

pub(crate) fn head(row: &PgRow) -> Result<RunHead, Error> {
    Ok(RunHead {
        id: id(row, 0)?,
        tenant: TenantId::from(row.try_get::<String, _>(1)?),
        kind: row.try_get(2)?,
        status: row.try_get(3)?,
        submitted_at: UnixMillis(row.try_get(4)?),
        due_at: time(row, 5)?,
        ended_at: time(row, 6)?,
        entries: count(row.try_get(7)?),
        about: row.try_get(8)?,
        target: row.try_get(9)?,
        lane: row.try_get(10)?,
    })
}

pub(crate) fn heads(rows: &[PgRow]) -> Result<Vec<RunHead>, Error> {
    rows.iter().map(head).collect()
}

pub(crate) async fn write_entries(
    conn: &mut PgConnection,
    run: RunId,
    from: u64,
    entries: &[String],
) -> Result<(), Error> {
    let numbers: Vec<i64> = (from..).zip(entries).map(|(n, _)| column(n)).collect();
    sqlx::query(
        "INSERT INTO run_entries (run, number, entry) SELECT $1, n, entry FROM UNNEST($2::bigint[], $3::text[]) AS new (n, entry)",
    )
    .bind(run.as_bytes().as_slice())
    .bind(numbers)
    .bind(entries)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn write_output(conn: &mut PgConnection, run: RunId, output: &Output) -> Result<(), Error> {
    sqlx::query("INSERT INTO run_outputs (key, run, stage, output) VALUES ($1, $2, $3, $4)")
        .bind(text(&output.key))
        .bind(run.as_bytes().as_slice())
        .bind(text(&output.stage))
        .bind(output.value.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

async fn append(db: &Postgres, change: &Change) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    if !change.synced {
        // Of this transaction alone. The log is written in order: what follows and is synced takes this with it.
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await?;
    }
    if change.ended_at.is_some() {
        shares::take(&mut tx, change.id, change.after).await?;
    }
    // Two that decided on the same journal wait for each other here, and the second finds that it is longer.
    let updated = sqlx::query(
        "UPDATE runs SET status = $1, due_at = $2, ended_at = $3, entries = $4, as_of = $7, \
         input = CASE WHEN $3::bigint IS NULL OR $8 THEN input ELSE ''::bytea END WHERE id = $5 AND entries = $6",
    )
    .bind(text(&change.status))
    .bind(change.due_at.map(|t| t.0))
    .bind(change.ended_at.map(|t| t.0))
    .bind(column(change.after.saturating_add(change.entries.len() as u64)))
    .bind(change.id.as_bytes().as_slice())
    .bind(column(change.after))
    .bind(change.as_of.map(|t| t.0))
    .bind(change.keeps_input)
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Ok(false);
    }
    write_entries(&mut tx, change.id, change.after, &change.entries).await?;
    if let Some(output) = &change.output {
        write_output(&mut tx, change.id, output).await?;
    }
    if let Some(result) = &change.result {
        results::write(&mut tx, result).await?;
    }
    if let Some(fact) = &change.lineage {
        lineage::write(&mut tx, fact).await?;
    }
    if let Some(message) = &change.outbox {
        outbox::put(&mut tx, outbox::About::Run, change.id, message).await?;
    }
    if change.outbox.is_some() || change.ended_at.is_some() {
        workers::wake(&mut tx, db).await?;
    } else if let Some(at) = change.due_at {
        workers::wake_if_due(&mut tx, db, at).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// A head and its journal by one statement: a journal that grows between two looks would not fit its head.
async fn get(db: &Postgres, run: RunId) -> Result<Option<StoredRun>, Error> {
    let row = sqlx::query(heads_from!(
        ", ARRAY(SELECT entry FROM run_entries e WHERE e.run = runs.id ORDER BY number) FROM runs WHERE id = $1"
    ));
    let row = row.bind(run.as_bytes().as_slice()).fetch_optional(&db.pool).await?;
    row.map(|row| Ok(StoredRun { head: head(&row)?, entries: row.try_get(11)? })).transpose()
}

async fn input(db: &Postgres, run: RunId) -> Result<Option<Vec<u8>>, Error> {
    let row = sqlx::query("SELECT input FROM runs WHERE id = $1").bind(run.as_bytes().as_slice());
    Ok(row.fetch_optional(&db.pool).await?.map(|r| r.try_get(0)).transpose()?)
}

async fn output(db: &Postgres, run: RunId, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let row = sqlx::query("SELECT output FROM run_outputs WHERE key = $1 AND run = $2")
        .bind(text(key))
        .bind(run.as_bytes().as_slice());
    Ok(row.fetch_optional(&db.pool).await?.map(|r| r.try_get(0)).transpose()?)
}

async fn outputs(db: &Postgres, run: RunId) -> Result<Vec<Output>, Error> {
    let rows = sqlx::query("SELECT key, stage, output FROM run_outputs WHERE run = $1 ORDER BY stage")
        .bind(run.as_bytes().as_slice())
        .fetch_all(&db.pool)
        .await?;
    let output = |r: &PgRow| Ok(Output { key: r.try_get(0)?, stage: r.try_get(1)?, value: r.try_get(2)? });
    rows.iter().map(output).collect()
}

async fn in_state(db: &Postgres, status: &str) -> Result<Vec<RunHead>, Error> {
    let rows = sqlx::query(heads_from!(
        " FROM runs WHERE ended_at IS NULL AND status = $1 ORDER BY submitted_at, id"
    ));
    heads(&rows.bind(text(status)).fetch_all(&db.pool).await?)
}

async fn list(
    db: &Postgres,
    kind: &str,
    tenant: Option<&TenantId>,
    after: Option<RunId>,
    limit: u32,
) -> Result<Vec<RunHead>, Error> {
    let mut query = QueryBuilder::<Pg>::new(heads_from!(" FROM runs WHERE part_of IS NULL AND kind = "));
    query.push_bind(text(kind));
    if let Some(t) = tenant {
        query.push(" AND tenant = ").push_bind(text(t.as_str()));
    }
    if let Some(after) = after {
        query.push(" AND id < ").push_bind(after.as_bytes().to_vec());
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    heads(&query.build().fetch_all(&db.pool).await?)
}

async fn ended(
    db: &Postgres,
    kind: &str,
    (at, run): (UnixMillis, Option<RunId>),
    limit: u32,
) -> Result<Vec<RunHead>, Error> {
    let mut query = QueryBuilder::<Pg>::new(heads_from!(" FROM runs WHERE part_of IS NULL AND kind = "));
    // An id is no empty text, so that all of that time are behind none.
    let run = run.map(|r| r.as_bytes().to_vec()).unwrap_or_default();
    query.push_bind(text(kind));
    query.push(" AND ended_at IS NOT NULL AND (ended_at, id) > (").push_bind(at.0);
    query.push(", ").push_bind(run).push(") ORDER BY ended_at, id LIMIT ").push_bind(i64::from(limit));
    heads(&query.build().fetch_all(&db.pool).await?)
}

impl RunStore for Runs {
    fn submit<'a>(
        &'a self,
        runs: &'a [NewRun],
        room: &'a Room,
    ) -> BoxFuture<'a, Result<Vec<Submitted>, Error>> {
        Box::pin(self.0.within(move || submit::submit(&self.0, runs, room)))
    }

    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || append(&self.0, change)))
    }

    fn get(&self, run: RunId) -> BoxFuture<'_, Result<Option<StoredRun>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, run)))
    }

    fn input(&self, run: RunId) -> BoxFuture<'_, Result<Option<Vec<u8>>, Error>> {
        Box::pin(self.0.within(move || input(&self.0, run)))
    }

    fn output<'a>(&'a self, run: RunId, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(self.0.within(move || output(&self.0, run, key)))
    }

    fn outputs(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Output>, Error>> {
        Box::pin(self.0.within(move || outputs(&self.0, run)))
    }

    fn due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<RunHead>, Error>> {
        Box::pin(self.0.within(move || due::due(&self.0, now, each)))
    }

    fn overdue(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(self.0.within(move || due::overdue(&self.0, now, limit)))
    }

    fn next_due(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        Box::pin(self.0.within(move || due::next(&self.0, now)))
    }

    fn in_state<'a>(&'a self, status: &'a str) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(self.0.within(move || in_state(&self.0, status)))
    }

    fn lanes(&self) -> BoxFuture<'_, Result<Vec<LaneCount>, Error>> {
        Box::pin(self.0.within(move || due::lanes(&self.0)))
    }

    fn open(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(async move || {
            let mut conn = self.0.pool.acquire().await?;
            Ok(shares::all(&mut conn).await?.0)
        }))
    }

    fn held<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(u64, u64), Error>> {
        Box::pin(self.0.within(async move || {
            let mut conn = self.0.pool.acquire().await?;
            shares::of_tenant(&mut conn, tenant).await
        }))
    }

    fn list<'a>(
        &'a self,
        kind: &'a str,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(self.0.within(move || list(&self.0, kind, tenant, after, limit)))
    }

    fn ended<'a>(
        &'a self,
        kind: &'a str,
        after: (UnixMillis, Option<RunId>),
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(self.0.within(move || ended(&self.0, kind, after, limit)))
    }

    fn remove(&self, run: RunId) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.0.within(move || expiry::remove(&self.0, run)))
    }

    fn expire(&self, before: UnixMillis, limit: u32, bytes: u64) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || expiry::expire(&self.0, before, limit, bytes)))
    }

    fn living<'a>(&'a self, worker: &'a str, within: Duration) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(self.0.within(move || workers::living(&self.0, worker, within)))
    }

    fn woken(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(workers::woken(&self.0))
    }

    fn shrink(&self, _pages: u32) -> BoxFuture<'_, Result<u64, Error>> {
        // The server does that by itself.
        Box::pin(async { Ok(0) })
    }

    fn deliveries_due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<DueDelivery>, Error>> {
        Box::pin(self.0.within(move || outbox::due(&self.0, now, each)))
    }

    fn delivery<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Delivery>, Error>> {
        Box::pin(self.0.within(move || outbox::one(&self.0, id)))
    }

    fn take_delivery<'a>(
        &'a self,
        id: &'a str,
        now: UnixMillis,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<Delivery>, Error>> {
        Box::pin(self.0.within(move || outbox::take(&self.0, id, now, lease)))
    }

    fn next_delivery(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        Box::pin(self.0.within(move || outbox::next(&self.0, now)))
    }

    fn deliveries(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(self.0.within(move || outbox::of(&self.0, run)))
    }

    fn tried<'a>(&'a self, id: &'a str, tries: u32, tried: &'a Tried) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || outbox::tried(&self.0, id, tries, tried)))
    }

    fn redeliver(&self, run: RunId, now: UnixMillis) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || outbox::redeliver(&self.0, run, now)))
    }

    fn secret<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        Box::pin(self.0.within(move || outbox::secret(&self.0, tenant)))
    }

    fn next_secret<'a>(
        &'a self,
        tenant: &'a TenantId,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        Box::pin(self.0.within(move || outbox::next_secret(&self.0, tenant, now)))
    }
}
