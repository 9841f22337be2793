//! Who works on the runs, and how one tells the others that something may be due.
//!
//! How long ago a worker said that it lives is read from the database's clock alone. A worker of the same folder as another one
//! has taken its place: only whoever holds the folder's lock works.

use std::time::Duration;

use contract::UnixMillis;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgListener};
use store::Error;
use tokio::sync::Mutex;

use crate::database::Postgres;

/// The channel; what is said on it is who says it, or nothing.
const CHANNEL: &str = "forebay_runs";
/// What becomes due within this many milliseconds is said at once: clocks of two machines are never quite equal.
const SOON: i64 = 1_000;

/// What comes from other processes.
#[derive(Debug)]
pub(crate) struct Wakes {
    /// This process, as it signs.
    me: String,
    /// Made when somebody first waits; it keeps one of the pool's connections.
    listener: Mutex<Option<PgListener>>,
}

impl Wakes {
    pub(crate) fn new(me: String) -> Self {
        Wakes { me, listener: Mutex::default() }
    }

    /// Gives its connection back, unless somebody waits.
    pub(crate) fn close(&self) {
        if let Ok(mut listener) = self.listener.try_lock() {
            *listener = None;
        }
    }
}

pub(crate) async fn living(db: &Postgres, worker: &str, within: Duration) -> Result<Vec<String>, Error> {
    let mut tx = db.pool.begin().await?;
    sqlx::query(
        "INSERT INTO workers (name, journal, seen) VALUES ($1, $2, clock_timestamp()) \
         ON CONFLICT (name) DO UPDATE SET seen = excluded.seen",
    )
    .bind(worker)
    .bind(&*db.journal)
    .execute(&mut *tx)
    .await?;
    // Those that were silent for long are not asked for any more.
    let gone = "DELETE FROM workers WHERE name IN (SELECT name FROM workers WHERE name <> $1 AND \
         (journal = $2 OR seen < clock_timestamp() - interval '7 days') ORDER BY name FOR UPDATE SKIP LOCKED)";
    sqlx::query(gone).bind(worker).bind(&*db.journal).execute(&mut *tx).await?;
    let others = "SELECT name FROM workers WHERE name <> $1 AND journal <> $3 \
         AND seen > clock_timestamp() - make_interval(secs => $2) ORDER BY name";
    let rows = sqlx::query(others).bind(worker).bind(within.as_secs_f64()).bind(&*db.journal);
    let rows = rows.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
}

/// Tells the others, when the transaction is committed, that something may be due.
pub(crate) async fn wake(conn: &mut PgConnection, db: &Postgres) -> Result<(), Error> {
    sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(&db.wakes.me).execute(conn).await?;
    Ok(())
}

/// The same, and this process too: what is due was made so by no worker.
pub(crate) async fn wake_all(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(conn).await?;
    Ok(())
}

/// The same as [`wake`], if `at` is now or soon. Most changes push a lease on: nobody is told of those.
pub(crate) async fn wake_if_due(conn: &mut PgConnection, db: &Postgres, at: UnixMillis) -> Result<(), Error> {
    sqlx::query(
        "SELECT pg_notify($1, $2) WHERE $3 <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $4",
    )
    .bind(CHANNEL)
    .bind(&db.wakes.me)
    .bind(at.0)
    .bind(SOON)
    .execute(conn)
    .await?;
    Ok(())
}

/// Waits for another process. A connection that broke is made anew by the next wait, which is at once done then: what was
/// said meanwhile was missed.
pub(crate) async fn woken(db: &Postgres) -> Result<(), Error> {
    let mut listener = db.wakes.listener.lock().await;
    let heard = match listener.as_mut() {
        Some(heard) => heard,
        None => {
            let mut fresh = PgListener::connect_with(&db.pool).await?;
            fresh.listen(CHANNEL).await?;
            *listener = Some(fresh);
            return Ok(());
        }
    };
    loop {
        match heard.try_recv().await {
            Ok(Some(said)) if said.payload() == db.wakes.me => {}
            Ok(Some(_)) => return Ok(()),
            Ok(None) => return Ok(()),
            Err(e) => {
                *listener = None;
                return Err(e.into());
            }
        }
    }
}
