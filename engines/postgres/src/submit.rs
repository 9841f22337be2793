//! How runs come in: all of a submission or none, known ones known again, and never more than there is room for.

use std::collections::HashMap;

use contract::TenantId;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use store::{Error, NewRun, Room, SubmitKey, Submitted};

use crate::database::Postgres;
use crate::runs::{write_entries, write_output};
use crate::values::{column, id, text};
use crate::{shares, workers};

/// Submissions take turns: the room is counted over all of them.
const TURN: i64 = 0x666f_7265_6261_7902;

pub(crate) async fn submit(db: &Postgres, runs: &[NewRun], room: &Room) -> Result<Vec<Submitted>, Error> {
    let mut tx = db.pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(TURN).execute(&mut *tx).await?;
    let mut left = Room { runs: room.runs.saturating_sub(shares::all(&mut tx).await?.0), ..*room };
    let mut full = HashMap::new();
    let mut made = Vec::with_capacity(runs.len());
    for run in runs {
        if !full.contains_key(&run.tenant) {
            let held = shares::of_tenant(&mut tx, &run.tenant).await?;
            let over = held.0 >= room.of_tenant || held.1 >= room.bytes_of_tenant;
            full.insert(run.tenant.clone(), over.then_some(held));
        }
        let submitted = insert(&mut tx, run, &mut left).await?;
        if submitted == Submitted::New
            && let Some(Some((runs, bytes))) = full.get(&run.tenant).copied()
        {
            return Err(Error::RunsFull { tenant: Some(run.tenant.clone()), runs, bytes });
        }
        made.push(submitted);
    }
    if made.contains(&Submitted::New) {
        workers::wake(&mut tx, db).await?;
    }
    tx.commit().await?;
    Ok(made)
}

/// What was submitted under a key before.
async fn known(
    conn: &mut PgConnection,
    tenant: &TenantId,
    key: &SubmitKey,
) -> Result<Option<Submitted>, Error> {
    let row = sqlx::query("SELECT id, submit_hash FROM runs WHERE tenant = $1 AND submit_key = $2")
        .bind(text(tenant.as_str()))
        .bind(text(&key.key))
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let same = row.try_get::<Vec<u8>, _>(1)? == key.hash;
    Ok(Some(if same { Submitted::Known(id(&row, 0)?) } else { Submitted::Other }))
}

async fn insert(conn: &mut PgConnection, run: &NewRun, room: &mut Room) -> Result<Submitted, Error> {
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
        "INSERT INTO runs (id, tenant, kind, status, lane, submitted_at, due_at, entries, input, submit_key, submit_hash, \
         about, target, as_of, deadline, part_of, part) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(run.id.as_bytes().as_slice())
    .bind(text(run.tenant.as_str()))
    .bind(text(&run.kind))
    .bind(text(&run.status))
    .bind(run.lane)
    .bind(run.at.0)
    .bind(run.due_at.0)
    .bind(column(run.entries.len() as u64))
    .bind(run.input.as_slice())
    .bind(run.key.as_ref().map(|k| text(&k.key)))
    .bind(run.key.as_ref().map(|k| k.hash.as_slice()))
    .bind(text(&run.about))
    .bind(text(&run.target))
    .bind(run.as_of.map(|t| t.0))
    .bind(run.deadline.map(|t| t.0))
    .bind(run.part.map(|p| p.of.as_bytes().to_vec()))
    .bind(run.part.map(|p| column(p.number)))
    .execute(&mut *conn)
    .await?;
    write_entries(&mut *conn, run.id, 0, &run.entries).await?;
    for output in &run.outputs {
        write_output(&mut *conn, run.id, output).await?;
    }
    Ok(Submitted::New)
}
