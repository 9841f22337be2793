//! The outbox of [`store::RunStore`]: messages about runs, and what webhooks of the registry are told, until their receivers have them.

use std::time::Duration;

use contract::{RunId, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use store::{
    Delivery, DeliveryState, DeliveryWebhook, DueDelivery, Error, NewDelivery, SecretNumber, Tried, receiver,
};

use crate::database::Postgres;
use crate::values::{count, id, text, time};
use crate::workers;

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

fn delivery(row: &PgRow) -> Result<Delivery, Error> {
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
        next_at: time(row, 7)?,
        tries: u32::try_from(count(row.try_get(8)?)).unwrap_or(u32::MAX),
        tried_at: time(row, 9)?,
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
pub(crate) enum About {
    Run,
    Batch,
}

/// Adds a message about a run or a batch. To a receiver that is gone nothing is sent.
pub(crate) async fn put(
    conn: &mut PgConnection,
    about: About,
    id: RunId,
    message: &NewDelivery,
) -> Result<(), Error> {
    macro_rules! insert {
        ($of:literal) => {
            concat!(
                "INSERT INTO deliveries (id, run, tenant, url, body, state, created_at, next_at, tries, receiver) \
                 SELECT $1::text, r.id, r.tenant, $3::text, $4::bytea, CASE WHEN o.url IS NULL THEN 'waiting' ELSE 'disabled' END, $5::bigint, \
                        CASE WHEN o.url IS NULL THEN $5::bigint END, 0, $6::text FROM ",
                $of,
                " r LEFT JOIN webhooks_off o ON o.tenant = r.tenant AND o.url = $3 WHERE r.id = $2"
            )
        };
    }
    let sql = match about {
        About::Run => insert!("runs"),
        About::Batch => insert!("batches"),
    };
    sqlx::query(sql)
        .bind(&message.id)
        .bind(id.as_bytes().as_slice())
        .bind(text(&message.url))
        .bind(message.body.as_slice())
        .bind(message.at.0)
        .bind(text(&receiver(&message.url)))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn due(db: &Postgres, now: UnixMillis, each: u32) -> Result<Vec<DueDelivery>, Error> {
    // From one tenant and receiver to the next along the index: a flood to one is not read for another.
    let rows = sqlx::query(
        "WITH RECURSIVE whom(tenant, receiver) AS ( \
         SELECT * FROM (SELECT tenant, receiver FROM deliveries WHERE next_at IS NOT NULL ORDER BY tenant, receiver LIMIT 1) first \
         UNION ALL \
         SELECT d.tenant, d.receiver FROM whom JOIN deliveries d ON d.id = (SELECT n.id FROM deliveries n \
         WHERE n.next_at IS NOT NULL AND (n.tenant, n.receiver) > (whom.tenant, whom.receiver) \
         ORDER BY n.tenant, n.receiver LIMIT 1)) \
         SELECT d.id, d.tenant, d.receiver, d.next_at FROM whom JOIN deliveries d ON d.id IN (SELECT f.id FROM deliveries f \
         WHERE f.tenant = whom.tenant AND f.receiver = whom.receiver AND f.next_at IS NOT NULL \
         AND (f.next_at <= $1 OR COALESCE(f.tried_at, f.created_at) > $1) \
         AND (f.taken_until IS NULL OR f.taken_by = $3 OR f.taken_until <= clock_timestamp()) ORDER BY f.next_at, f.id LIMIT $2) \
         ORDER BY d.next_at, d.id",
    )
    .bind(now.0)
    .bind(i64::from(each))
    .bind(&*db.journal)
    .fetch_all(&db.pool)
    .await?;
    let one = |row: &PgRow| {
        Ok(DueDelivery {
            id: row.try_get(0)?,
            tenant: TenantId::from(row.try_get::<String, _>(1)?),
            receiver: row.try_get(2)?,
            next_at: UnixMillis(row.try_get(3)?),
        })
    };
    rows.iter().map(one).collect()
}

pub(crate) async fn one(db: &Postgres, id: &str) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query(select!("WHERE d.id = $1")).bind(id).fetch_optional(&db.pool).await?;
    row.as_ref().map(delivery).transpose()
}

/// A message for whoever asks first: the others do not wait, and are not given it before the lease is over. What a process of
/// this folder took before is this one's: that process is dead.
pub(crate) async fn take(
    db: &Postgres,
    id: &str,
    now: UnixMillis,
    lease: Duration,
) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query(
        "UPDATE deliveries d SET taken_by = $4, taken_until = clock_timestamp() + make_interval(secs => $2) WHERE id = (SELECT id FROM deliveries \
         WHERE id = $1 AND next_at IS NOT NULL AND (next_at <= $3 OR COALESCE(tried_at, created_at) > $3) AND (taken_until IS NULL OR taken_by = $4 OR taken_until <= clock_timestamp()) \
         FOR UPDATE SKIP LOCKED) \
         RETURNING id, run, tenant, url, body, state, created_at, next_at, tries, tried_at, answer, problem, \
         (SELECT w.id FROM ml_webhooks w WHERE w.about = d.run), (SELECT w.secret FROM ml_webhooks w WHERE w.about = d.run)",
    )
    .bind(id)
    .bind(lease.as_secs_f64())
    .bind(now.0)
    .bind(&*db.journal)
    .fetch_optional(&db.pool)
    .await?;
    row.as_ref().map(delivery).transpose()
}

pub(crate) async fn secret(db: &Postgres, tenant: &TenantId) -> Result<SecretNumber, Error> {
    let row = sqlx::query("SELECT number, since FROM webhook_secrets WHERE tenant = $1")
        .bind(text(tenant.as_str()))
        .fetch_optional(&db.pool)
        .await?;
    let Some(row) = row else { return Ok(SecretNumber::default()) };
    let number = u32::try_from(count(row.try_get(0)?)).unwrap_or(u32::MAX);
    Ok(SecretNumber { number, since: Some(UnixMillis(row.try_get(1)?)) })
}

pub(crate) async fn next_secret(
    db: &Postgres,
    tenant: &TenantId,
    now: UnixMillis,
) -> Result<SecretNumber, Error> {
    let row = sqlx::query(
        "INSERT INTO webhook_secrets (tenant, number, since) VALUES ($1, 1, $2) \
         ON CONFLICT (tenant) DO UPDATE SET number = webhook_secrets.number + 1, since = $2 RETURNING number",
    )
    .bind(text(tenant.as_str()))
    .bind(now.0)
    .fetch_one(&db.pool)
    .await?;
    let number = u32::try_from(count(row.try_get(0)?)).unwrap_or(u32::MAX);
    Ok(SecretNumber { number, since: Some(now) })
}

pub(crate) async fn next(db: &Postgres, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
    let row = sqlx::query("SELECT MIN(next_at) FROM deliveries WHERE next_at IS NOT NULL AND next_at > $1")
        .bind(now.0)
        .fetch_one(&db.pool)
        .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(UnixMillis))
}

pub(crate) async fn of(db: &Postgres, run: RunId) -> Result<Vec<Delivery>, Error> {
    let rows = sqlx::query(select!("WHERE d.run = $1 ORDER BY d.created_at, d.id"))
        .bind(run.as_bytes().as_slice())
        .fetch_all(&db.pool)
        .await?;
    rows.iter().map(delivery).collect()
}

pub(crate) async fn tried(db: &Postgres, id: &str, tries: u32, tried: &Tried) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    let updated = sqlx::query(
        "UPDATE deliveries SET state = $1, next_at = $2, tries = $3, tried_at = $4, answer = $5, problem = $6, \
         taken_until = NULL WHERE id = $7 AND tries = $8 AND next_at IS NOT NULL",
    )
    .bind(tried.state.as_str())
    .bind(tried.next_at.map(|t| t.0))
    .bind(i64::from(tries) + 1)
    .bind(tried.at.0)
    .bind(tried.answer.map(i64::from))
    .bind(tried.problem.as_deref().map(text))
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
            "INSERT INTO webhooks_off (tenant, url, at) SELECT tenant, url, $1::bigint FROM deliveries WHERE id = $2 \
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
async fn end_of_webhook(conn: &mut PgConnection, id: &str, state: DeliveryState) -> Result<bool, Error> {
    let one =
        "DELETE FROM deliveries d USING ml_webhooks w WHERE d.id = $1 AND w.about = d.run RETURNING w.about";
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

pub(crate) async fn redeliver(db: &Postgres, run: RunId, now: UnixMillis) -> Result<u64, Error> {
    let mut tx = db.pool.begin().await?;
    // Whoever removes what has ended locks it first.
    for whole in
        ["SELECT 1 FROM runs WHERE id = $1 FOR UPDATE", "SELECT 1 FROM batches WHERE id = $1 FOR UPDATE"]
    {
        sqlx::query(whole).bind(run.as_bytes().as_slice()).fetch_optional(&mut *tx).await?;
    }
    sqlx::query(
        "DELETE FROM webhooks_off WHERE (tenant, url) IN (SELECT tenant, url FROM deliveries WHERE run = $1)",
    )
    .bind(run.as_bytes().as_slice())
    .execute(&mut *tx)
    .await?;
    let again = sqlx::query(
        "UPDATE deliveries SET state = 'waiting', next_at = $1, tries = 0, taken_until = NULL WHERE run = $2",
    )
    .bind(now.0)
    .bind(run.as_bytes().as_slice())
    .execute(&mut *tx)
    .await?;
    workers::wake(&mut tx, db).await?;
    tx.commit().await?;
    Ok(again.rows_affected())
}
