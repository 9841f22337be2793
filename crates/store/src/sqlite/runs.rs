//! [`RunStore`] on SQLite.

use std::collections::HashMap;

use contract::{BoxFuture, RunId, TenantId, UnixMillis};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Database, ROWS, Script, column, count, due, expiry, lineage, outbox, results, shares, tx};
use crate::{
    Change, Delivery, DueDelivery, Error, LaneCount, NewRun, Output, Room, RunHead, RunStore, SecretNumber,
    StoredRun, SubmitKey, Submitted, Tried,
};

/// The runs in a database.
#[derive(Debug, Clone)]
pub struct SqliteRuns(Database);

impl SqliteRuns {
    /// The runs of `database`.
    pub fn new(database: Database) -> Self {
        SqliteRuns(database)
    }
}

pub(super) const HEAD: &str =
    "SELECT id, tenant, kind, status, submitted_at, due_at, ended_at, entries, about, target, lane FROM runs";

/// An id as a column has it.
pub(super) fn id(row: &SqliteRow, at: usize) -> Result<RunId, Error> {
    let bytes: Vec<u8> = row.try_get(at)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a run's id has 16 bytes".into()))?;
    Ok(RunId::from_bytes(bytes))
}

pub(super) fn head(row: &SqliteRow) -> Result<RunHead, Error> {
    Ok(RunHead {
        id: id(row, 0)?,
        tenant: TenantId::from(row.try_get::<String, _>(1)?),
        kind: row.try_get(2)?,
        status: row.try_get(3)?,
        submitted_at: UnixMillis(row.try_get(4)?),
        due_at: row.try_get::<Option<i64>, _>(5)?.map(UnixMillis),
        ended_at: row.try_get::<Option<i64>, _>(6)?.map(UnixMillis),
        entries: count(row.try_get(7)?),
        about: row.try_get(8)?,
        target: row.try_get(9)?,
        lane: row.try_get(10)?,
    })
}

pub(super) fn heads(rows: &[SqliteRow]) -> Result<Vec<RunHead>, Error> {
    rows.iter().map(head).collect()
}

/// How the run stands after a change, if it still stands as the change was decided on: else nothing of the change is made.
fn write_head(to: &mut Script, change: &Change) {
    let ended_at = change.ended_at.map(|t| t.0);
    to.push("UPDATE runs SET status = ").push_bind(&change.status);
    to.push(", due_at = ").push_bind(change.due_at.map(|t| t.0));
    to.push(", ended_at = ").push_bind(ended_at);
    to.push(", entries = ").push_bind(column(change.after.saturating_add(change.entries.len() as u64)));
    to.push(", as_of = ").push_bind(change.as_of.map(|t| t.0));
    if ended_at.is_some() && !change.keeps_input {
        to.push(", input = X''");
    }
    to.push(" WHERE id = ").push_bind(change.id.as_bytes().as_slice());
    to.push(" AND entries = ").push_bind(column(change.after)).push("; ");
    tx::or_nothing(to);
}

fn write_entries(to: &mut Script, run: RunId, from: u64, entries: &[String]) {
    for (from, some) in (from..).step_by(ROWS).zip(entries.chunks(ROWS)) {
        to.push("INSERT INTO run_entries (run, number, entry) ");
        to.push_values((from..).zip(some), |mut row, (n, entry)| {
            row.push_bind(run.as_bytes().as_slice()).push_bind(column(n)).push_bind(entry);
        });
        to.push("; ");
    }
}

fn write_output(to: &mut Script, run: RunId, output: &Output) {
    to.push("INSERT INTO run_outputs (key, run, stage, output) ");
    to.push_values([output], |mut row, output| {
        row.push_bind(&output.key).push_bind(run.as_bytes().as_slice());
        row.push_bind(&output.stage).push_bind(output.value.as_slice());
    });
    to.push("; ");
}

/// What was submitted under a key before.
async fn known(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    key: &SubmitKey,
) -> Result<Option<Submitted>, Error> {
    let row = sqlx::query("SELECT id, submit_hash FROM runs WHERE tenant = $1 AND submit_key = $2")
        .bind(tenant.as_str())
        .bind(&key.key)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let same = row.try_get::<Vec<u8>, _>(1)? == key.hash;
    Ok(Some(if same { Submitted::Known(id(&row, 0)?) } else { Submitted::Other }))
}

async fn insert(conn: &mut SqliteConnection, run: &NewRun, room: &mut Room) -> Result<Submitted, Error> {
    if let Some(key) = &run.key
        && let Some(known) = known(&mut *conn, &run.tenant, key).await?
    {
        return Ok(known);
    }
    // What is new in this submission takes of the room that there was before it.
    let Some(left) = room.runs.checked_sub(1) else {
        let (runs, bytes) = shares::all(&mut *conn).await?;
        return Err(Error::RunsFull { tenant: None, runs, bytes });
    };
    room.runs = left;
    shares::add(&mut *conn, run).await?;
    sqlx::query(
        "INSERT INTO runs (id, tenant, kind, status, lane, submitted_at, due_at, entries, input, submit_key, submit_hash, about, \
         target, as_of, deadline, part_of, part) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(run.id.as_bytes().as_slice())
    .bind(run.tenant.as_str())
    .bind(&run.kind)
    .bind(&run.status)
    .bind(run.lane)
    .bind(run.at.0)
    .bind(run.due_at.0)
    .bind(column(run.entries.len() as u64))
    .bind(run.input.as_slice())
    .bind(run.key.as_ref().map(|k| k.key.as_str()))
    .bind(run.key.as_ref().map(|k| k.hash.as_slice()))
    .bind(&run.about)
    .bind(&run.target)
    .bind(run.as_of.map(|t| t.0))
    .bind(run.deadline.map(|t| t.0))
    .bind(run.part.map(|p| p.of.as_bytes().to_vec()))
    .bind(run.part.map(|p| column(p.number)))
    .execute(&mut *conn)
    .await?;
    let mut script = Script::new("");
    write_entries(&mut script, run.id, 0, &run.entries);
    run.outputs.iter().for_each(|output| write_output(&mut script, run.id, output));
    script.build().execute(&mut *conn).await?;
    Ok(Submitted::New)
}

pub(super) async fn delete(conn: &mut SqliteConnection, run: &[u8]) -> Result<(), Error> {
    for of in [
        "DELETE FROM run_entries WHERE run = $1",
        "DELETE FROM run_outputs WHERE run = $1",
        "DELETE FROM deliveries WHERE run = $1",
        "DELETE FROM runs WHERE id = $1",
    ] {
        sqlx::query(of).bind(run).execute(&mut *conn).await?;
    }
    Ok(())
}

impl RunStore for SqliteRuns {
    fn submit<'a>(
        &'a self,
        runs: &'a [NewRun],
        room: &'a Room,
    ) -> BoxFuture<'a, Result<Vec<Submitted>, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            let mut left = Room { runs: room.runs.saturating_sub(shares::all(&mut tx).await?.0), ..*room };
            let mut full = HashMap::new();
            let mut made = Vec::with_capacity(runs.len());
            for run in runs {
                if !full.contains_key(&run.tenant) {
                    let held = shares::of_tenant(&mut tx, &run.tenant).await?;
                    full.insert(
                        run.tenant.clone(),
                        (held.0 >= room.of_tenant || held.1 >= room.bytes_of_tenant).then_some(held),
                    );
                }
                let submitted = insert(&mut tx, run, &mut left).await?;
                if submitted == Submitted::New
                    && let Some(Some((runs, bytes))) = full.get(&run.tenant).copied()
                {
                    return Err(Error::RunsFull { tenant: Some(run.tenant.clone()), runs, bytes });
                }
                made.push(submitted);
            }
            tx.commit().await?;
            Ok(made)
        })
    }

    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let mut tx = self.0.change(change.synced).await?;
            if change.ended_at.is_some() {
                shares::take(tx.connection().await?, change.id, change.after).await?;
            }
            let made = tx.finish(|script| {
                write_head(script, change);
                write_entries(script, change.id, change.after, &change.entries);
                if let Some(message) = &change.outbox {
                    outbox::write(script, outbox::About::Run, change.id, message);
                }
                if let Some(output) = &change.output {
                    write_output(script, change.id, output);
                }
                if let Some(result) = &change.result {
                    results::write(script, result);
                }
                if let Some(fact) = &change.lineage {
                    lineage::write(script, fact);
                }
            });
            match made.await {
                Ok(()) => Ok(true),
                Err(e) if e.is_off() => Ok(false),
                Err(e) => Err(e),
            }
        })
    }

    fn get(&self, run: RunId) -> BoxFuture<'_, Result<Option<StoredRun>, Error>> {
        Box::pin(async move {
            // One snapshot: a journal that grows between two looks would not fit its head.
            let mut tx = self.0.read.begin().await?;
            let mut query = QueryBuilder::<Sqlite>::new(HEAD);
            query.push(" WHERE id = ").push_bind(run.as_bytes().to_vec());
            let row = query.build().fetch_optional(&mut *tx).await?;
            let Some(row) = row else { return Ok(None) };
            let entries = sqlx::query("SELECT entry FROM run_entries WHERE run = $1 ORDER BY number")
                .bind(run.as_bytes().as_slice())
                .fetch_all(&mut *tx)
                .await?;
            let entries = entries.iter().map(|r| Ok(r.try_get(0)?)).collect::<Result<_, Error>>()?;
            Ok(Some(StoredRun { head: head(&row)?, entries }))
        })
    }

    fn input(&self, run: RunId) -> BoxFuture<'_, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT input FROM runs WHERE id = $1")
                .bind(run.as_bytes().as_slice())
                .fetch_optional(&self.0.read)
                .await?;
            Ok(row.map(|r| r.try_get(0)).transpose()?)
        })
    }

    fn output<'a>(&'a self, run: RunId, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT output FROM run_outputs WHERE key = $1 AND run = $2")
                .bind(key)
                .bind(run.as_bytes().as_slice())
                .fetch_optional(&self.0.read)
                .await?;
            Ok(row.map(|r| r.try_get(0)).transpose()?)
        })
    }

    fn outputs(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Output>, Error>> {
        Box::pin(async move {
            let rows =
                sqlx::query("SELECT key, stage, output FROM run_outputs WHERE run = $1 ORDER BY stage")
                    .bind(run.as_bytes().as_slice())
                    .fetch_all(&self.0.read)
                    .await?;
            let output =
                |r: &SqliteRow| Ok(Output { key: r.try_get(0)?, stage: r.try_get(1)?, value: r.try_get(2)? });
            rows.iter().map(output).collect()
        })
    }

    fn due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<RunHead>, Error>> {
        Box::pin(due::due(&self.0, now, each))
    }

    fn overdue(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(due::overdue(&self.0, now, limit))
    }

    fn next_due(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        Box::pin(due::next(&self.0, now))
    }

    fn in_state<'a>(&'a self, status: &'a str) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(HEAD);
            query.push(" WHERE ended_at IS NULL AND status = ").push_bind(status);
            query.push(" ORDER BY submitted_at, id");
            heads(&query.build().fetch_all(&self.0.read).await?)
        })
    }

    fn lanes(&self) -> BoxFuture<'_, Result<Vec<LaneCount>, Error>> {
        Box::pin(due::lanes(&self.0))
    }

    fn open(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let mut conn = self.0.read.acquire().await?;
            Ok(shares::all(&mut conn).await?.0)
        })
    }

    fn held<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(u64, u64), Error>> {
        Box::pin(async move {
            let mut conn = self.0.read.acquire().await?;
            shares::of_tenant(&mut conn, tenant).await
        })
    }

    fn list<'a>(
        &'a self,
        kind: &'a str,
        tenant: Option<&'a TenantId>,
        after: Option<RunId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(HEAD);
            query.push(" WHERE part_of IS NULL AND kind = ").push_bind(kind);
            if let Some(t) = tenant {
                query.push(" AND tenant = ").push_bind(t.as_str());
            }
            if let Some(after) = after {
                query.push(" AND id < ").push_bind(after.as_bytes().to_vec());
            }
            query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
            heads(&query.build().fetch_all(&self.0.read).await?)
        })
    }

    fn ended<'a>(
        &'a self,
        kind: &'a str,
        (at, run): (UnixMillis, Option<RunId>),
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RunHead>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(HEAD);
            // An id is no empty text, so that all of that time are behind none.
            let run = run.map(|r| r.as_bytes().to_vec()).unwrap_or_default();
            query.push(" WHERE ended_at >= ").push_bind(at.0);
            query.push(" AND (ended_at, id) > (").push_bind(at.0).push(", ").push_bind(run);
            query.push(") AND part_of IS NULL AND kind = ").push_bind(kind);
            query.push(" ORDER BY ended_at, id LIMIT ").push_bind(i64::from(limit));
            heads(&query.build().fetch_all(&self.0.read).await?)
        })
    }

    fn remove(&self, run: RunId) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            let ended =
                sqlx::query("SELECT 1 FROM runs WHERE id = $1 AND ended_at IS NOT NULL AND part_of IS NULL")
                    .bind(run.as_bytes().as_slice())
                    .fetch_optional(&mut *tx)
                    .await?;
            if ended.is_none() {
                return Ok(false);
            }
            delete(&mut tx, run.as_bytes()).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn expire(&self, before: UnixMillis, limit: u32, bytes: u64) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(expiry::expire(&self.0, before, limit, bytes))
    }

    fn shrink(&self, pages: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(expiry::shrink(&self.0, pages))
    }

    fn woken(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.0.told.notified().await;
            Ok(())
        })
    }

    fn deliveries_due(&self, now: UnixMillis, each: u32) -> BoxFuture<'_, Result<Vec<DueDelivery>, Error>> {
        Box::pin(outbox::due(&self.0, now, each))
    }

    fn delivery<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Delivery>, Error>> {
        Box::pin(outbox::one(&self.0, id))
    }

    fn secret<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        Box::pin(outbox::secret(&self.0, tenant))
    }

    fn next_secret<'a>(
        &'a self,
        tenant: &'a TenantId,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<SecretNumber, Error>> {
        Box::pin(outbox::next_secret(&self.0, tenant, now))
    }

    fn next_delivery(&self, now: UnixMillis) -> BoxFuture<'_, Result<Option<UnixMillis>, Error>> {
        Box::pin(outbox::next(&self.0, now))
    }

    fn deliveries(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(outbox::of(&self.0, run))
    }

    fn tried<'a>(&'a self, id: &'a str, tries: u32, tried: &'a Tried) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(outbox::tried(&self.0, id, tries, tried))
    }

    fn redeliver(&self, run: RunId, now: UnixMillis) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(outbox::redeliver(&self.0, run, now))
    }
}
