//! The outbox of [`crate::RunStore`]: messages about runs, and what webhooks of the registry are told, until their receivers have them.

use contract::{RunId, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::runs::id;
use super::{Database, Script, count};
use crate::{
    Delivery, DeliveryState, DeliveryWebhook, DueDelivery, Error, NewDelivery, SecretNumber, Tried, receiver,
};

/// The columns, in the order of [`delivery`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.run, d.tenant, d.url, d.body, d.state, d.created_at, d.next_at, d.tries, d.tried_at, d.answer, d.problem, w.id, w.secret \
             FROM deliveries d LEFT JOIN ml_webhooks w ON w.about = d.run ",
            $rest
        )
    };
}

fn delivery(row: &SqliteRow) -> Result<Delivery, Error> {
    let time = |at| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(at)?.map(UnixMillis));
    Ok(Delivery {
        id: row.try_get(0)?,
        run: id(row, 1)?,
        tenant: TenantId::from(row.try_get::<String, _>(2)?),
        url: row.try_get(3)?,
        body: row.try_get(4)?,
        state: match row.try_get::<String, _>(5)?.as_str() {
            "waiting" => DeliveryState::Waiting,
            "delivered" => DeliveryState::Delivered,
            "disabled" => DeliveryState::Disabled,
            _ => DeliveryState::Failed,
        },
        created_at: UnixMillis(row.try_get(6)?),
        next_at: time(7)?,
        tries: u32::try_from(count(row.try_get(8)?)).unwrap_or(u32::MAX),
        tried_at: time(9)?,
        answer: row.try_get::<Option<i64>, _>(10)?.and_then(|n| u16::try_from(n).ok()),
        problem: row.try_get(11)?,
        webhook: match row.try_get(12)? {
            Some(id) => Some(DeliveryWebhook { id, secret: row.try_get(13)? }),
            None => None,
        },
    })
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About {
    Run,
    Batch,
}

/// Adds a message about a run or a batch. To a receiver that is gone nothing is sent.
pub(super) fn write(to: &mut Script, about: About, id: RunId, message: &NewDelivery) {
    let state = "CASE WHEN o.url IS NULL THEN 'waiting' ELSE 'disabled' END";
    to.push("INSERT INTO deliveries (id, run, tenant, url, body, state, created_at, next_at, tries, receiver) SELECT ");
    to.push_bind(&message.id).push(", r.id, r.tenant, ").push_bind(&message.url).push(", ");
    to.push_bind(message.body.as_slice()).push(format_args!(", {state}, ")).push_bind(message.at.0);
    to.push(", CASE WHEN o.url IS NULL THEN ").push_bind(message.at.0).push(" END, 0, ");
    to.push_bind(receiver(&message.url)).push(match about {
        About::Run => " FROM runs r ",
        About::Batch => " FROM batches r ",
    });
    to.push("LEFT JOIN webhooks_off o ON o.tenant = r.tenant AND o.url = ").push_bind(&message.url);
    to.push(" WHERE r.id = ").push_bind(id.as_bytes().as_slice()).push("; ");
}

pub(super) async fn due(db: &Database, now: UnixMillis, each: u32) -> Result<Vec<DueDelivery>, Error> {
    // From one tenant and receiver to the next along the index: a flood to one is not read for another.
    let rows = sqlx::query(
        "WITH RECURSIVE whom(tenant, receiver) AS ( \
         SELECT * FROM (SELECT tenant, receiver FROM deliveries WHERE next_at IS NOT NULL ORDER BY tenant, receiver LIMIT 1) \
         UNION ALL \
         SELECT d.tenant, d.receiver FROM whom JOIN deliveries d ON d.id = (SELECT n.id FROM deliveries n \
         WHERE n.next_at IS NOT NULL AND (n.tenant, n.receiver) > (whom.tenant, whom.receiver) \
         ORDER BY n.tenant, n.receiver LIMIT 1)) \
         SELECT d.id, d.tenant, d.receiver, d.next_at FROM whom JOIN deliveries d ON d.id IN (SELECT f.id FROM deliveries f \
         WHERE f.tenant = whom.tenant AND f.receiver = whom.receiver AND f.next_at IS NOT NULL \
         AND (f.next_at <= $1 OR COALESCE(f.tried_at, f.created_at) > $1) ORDER BY f.next_at, f.id LIMIT $2) \
         ORDER BY d.next_at, d.id",
    )
    .bind(now.0)
    .bind(i64::from(each))
    .fetch_all(&db.read)
    .await?;
    let one = |row: &SqliteRow| {
        Ok(DueDelivery {
            id: row.try_get(0)?,
            tenant: TenantId::from(row.try_get::<String, _>(1)?),
            receiver: row.try_get(2)?,
            next_at: UnixMillis(row.try_get(3)?),
        })
    };
    rows.iter().map(one).collect()
}

pub(super) async fn one(db: &Database, id: &str) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query(select!("WHERE d.id = $1")).bind(id).fetch_optional(&db.read).await?;
    row.as_ref().map(delivery).transpose()
}

pub(super) async fn secret(db: &Database, tenant: &TenantId) -> Result<SecretNumber, Error> {
    let row = sqlx::query("SELECT number, since FROM webhook_secrets WHERE tenant = $1")
        .bind(tenant.as_str())
        .fetch_optional(&db.read)
        .await?;
    let Some(row) = row else { return Ok(SecretNumber::default()) };
    let number = u32::try_from(count(row.try_get(0)?)).unwrap_or(u32::MAX);
    Ok(SecretNumber { number, since: Some(UnixMillis(row.try_get(1)?)) })
}

pub(super) async fn next_secret(
    db: &Database,
    tenant: &TenantId,
    now: UnixMillis,
) -> Result<SecretNumber, Error> {
    let row = sqlx::query(
        "INSERT INTO webhook_secrets (tenant, number, since) VALUES ($1, 1, $2) \
         ON CONFLICT (tenant) DO UPDATE SET number = number + 1, since = $2 RETURNING number",
    )
    .bind(tenant.as_str())
    .bind(now.0)
    .fetch_one(&db.write)
    .await?;
    let number = u32::try_from(count(row.try_get(0)?)).unwrap_or(u32::MAX);
    Ok(SecretNumber { number, since: Some(now) })
}

pub(super) async fn next(db: &Database, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
    let row = sqlx::query("SELECT MIN(next_at) FROM deliveries WHERE next_at IS NOT NULL AND next_at > $1")
        .bind(now.0)
        .fetch_one(&db.read)
        .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(UnixMillis))
}

pub(super) async fn of(db: &Database, run: RunId) -> Result<Vec<Delivery>, Error> {
    let rows = sqlx::query(select!("WHERE d.run = $1 ORDER BY d.created_at, d.id"))
        .bind(run.as_bytes().as_slice())
        .fetch_all(&db.read)
        .await?;
    rows.iter().map(delivery).collect()
}

pub(super) async fn tried(db: &Database, id: &str, tries: u32, tried: &Tried) -> Result<bool, Error> {
    let mut tx = db.begin().await?;
    let updated = sqlx::query(
        "UPDATE deliveries SET state = $1, next_at = $2, tries = $3, tried_at = $4, answer = $5, problem = $6 \
         WHERE id = $7 AND tries = $8 AND next_at IS NOT NULL",
    )
    .bind(tried.state.as_str())
    .bind(tried.next_at.map(|t| t.0))
    .bind(i64::from(tries) + 1)
    .bind(tried.at.0)
    .bind(tried.answer.map(i64::from))
    .bind(tried.problem.as_deref())
    .bind(id)
    .bind(i64::from(tries))
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Ok(false);
    }
    if tried.state != DeliveryState::Waiting && end_of_webhook(&mut tx, id, tried.state).await? {
        // Nobody asks for it any more.
    } else if tried.state == DeliveryState::Disabled {
        sqlx::query(
            "INSERT INTO webhooks_off (tenant, url, at) SELECT tenant, url, $1 FROM deliveries WHERE id = $2 \
             ON CONFLICT (tenant, url) DO NOTHING",
        )
        .bind(tried.at.0)
        .bind(id)
        .execute(&mut *tx)
        .await?;
        // What waits for the same receiver has nobody to go to either.
        sqlx::query(
            "UPDATE deliveries SET state = 'disabled', next_at = NULL WHERE next_at IS NOT NULL AND \
             (tenant, url) IN (SELECT tenant, url FROM deliveries WHERE id = $1)",
        )
        .bind(id)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Removes a message of a webhook of the registry that was delivered or given up; whether it was one. A webhook whose receiver is
/// gone is disabled, and nothing waits for it.
async fn end_of_webhook(conn: &mut SqliteConnection, id: &str, state: DeliveryState) -> Result<bool, Error> {
    let one = "DELETE FROM deliveries WHERE id = $1 AND EXISTS (SELECT 1 FROM ml_webhooks w WHERE w.about = run) RETURNING run";
    let row = sqlx::query(one).bind(id).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(false) };
    if state == DeliveryState::Disabled {
        let about: Vec<u8> = row.try_get(0)?;
        for sql in [
            "DELETE FROM deliveries WHERE run = $1",
            "UPDATE ml_webhooks SET status = 'DISABLED' WHERE about = $1",
        ] {
            sqlx::query(sql).bind(about.as_slice()).execute(&mut *conn).await?;
        }
    }
    Ok(true)
}

pub(super) async fn redeliver(db: &Database, run: RunId, now: UnixMillis) -> Result<u64, Error> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "DELETE FROM webhooks_off WHERE (tenant, url) IN (SELECT tenant, url FROM deliveries WHERE run = $1)",
    )
    .bind(run.as_bytes().as_slice())
    .execute(&mut *tx)
    .await?;
    let again =
        sqlx::query("UPDATE deliveries SET state = 'waiting', next_at = $1, tries = 0 WHERE run = $2")
            .bind(now.0)
            .bind(run.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(again.rows_affected())
}
