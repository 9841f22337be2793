//! An open database: the pool with its bounds, and how long anything may take.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{BoxFuture, Secret};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use store::memory::Statements;
use store::tracking::Tracking;
use store::{
    Backend, BatchStore, CacheStore, Error, FileStore, KeyStore, LedgerStore, LineageStore, MemoryStore,
    ResultStore, RunStore,
};
use tokio::time::{sleep, timeout};

use crate::batches::Batches;
use crate::cache::Cache;
use crate::files::Files;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::lineage::Lineage;
use crate::memory::PgMemory;
use crate::migrations;
use crate::results::Results;
use crate::runs::Runs;
use crate::tracking::PgSql;
use crate::workers::Wakes;

/// Connections at most. What waits for one is bounded by [`CONNECT`].
const CONNECTIONS: u32 = 16;
/// The longest that a connection is waited for.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest that one operation may take, tries that others got in the way of included.
const WITHIN: Duration = Duration::from_secs(30);
/// What the server itself gives up: a statement, a wait for a lock, a transaction whose client hangs, in milliseconds; and what it
/// says of less than a warning.
const LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "30000"),
    ("lock_timeout", "5000"),
    ("idle_in_transaction_session_timeout", "60000"),
    ("client_min_messages", "warning"),
];
/// The pause before the second try; it doubles up to the last.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A PostgreSQL database with the current schema. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) pool: PgPool,
    /// The folder's.
    pub(crate) journal: Arc<str>,
    pub(crate) wakes: Arc<Wakes>,
    shown: Arc<str>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("at", &self.shown)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// Where a database is, without who goes there and how.
fn shown(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("postgres://{host}/{}", options.get_database().unwrap_or_default())
}

impl Postgres {
    /// Says what is wrong with an address, without asking anybody.
    ///
    /// # Errors
    /// [`Error::Address`], which never holds the address itself: there may be a password in it.
    pub fn check(url: &Secret) -> Result<(), Error> {
        options(url).map(drop)
    }

    /// Connects to the database at `url` (`postgres://user:password@host:port/database`, `?sslmode=…` as libpq has it) for the
    /// folder whose journal is named `journal`, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Unreachable`], [`Error::NewerSchema`].
    pub async fn open(url: &Secret, journal: &str) -> Result<Postgres, Error> {
        let options = options(url)?;
        let shown = shown(&options);
        let unreachable = |source| Error::Unreachable { url: shown.clone(), source };
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .after_connect(|conn, _| Box::pin(durable(conn)))
            .connect_with(
                options.options(LIMITS).options([("default_transaction_isolation", "read committed")]),
            );
        let pool =
            timeout(CONNECT, pool).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(unreachable)?;
        migrations::run(&pool, &PathBuf::from(&shown)).await?;
        let mut name = [0; 8];
        store::os_random(&mut name)?;
        let wakes = Wakes::new(format!("{:016x}", u64::from_le_bytes(name)));
        Ok(Postgres { pool, journal: journal.into(), wakes: Arc::new(wakes), shown: shown.into() })
    }

    /// Does something in the database, again as long as PostgreSQL gave it up for others: it left nothing then. Ends within
    /// [`WITHIN`].
    pub(crate) async fn within<T, F>(&self, once: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let tries = async {
            let mut pause = PAUSE;
            loop {
                match once().await {
                    Err(e) if gave_way(&e) => {
                        tracing::debug!(error = %e, "a transaction gave way to others, and is made again");
                        sleep(pause + PAUSE * jitter()).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    done => return done,
                }
            }
        };
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
        timeout(WITHIN, tries).await.unwrap_or_else(|_| Err(sqlx::Error::Io(late()).into()))
    }
}

fn options(url: &Secret) -> Result<PgConnectOptions, Error> {
    let text = url.expose();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(Error::Address("it does not begin with postgres://".to_owned()));
    }
    // What the parser says of it may quote it.
    PgConnectOptions::from_str(text).map_err(|_| Error::Address("it cannot be read".to_owned()))
}

/// A server or a role may be told to acknowledge before anything is on disk: not to us.
async fn durable(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
    sqlx::query(sql).execute(conn).await.map(drop)
}

/// Whether PostgreSQL undid a transaction because of others: serialization, deadlock, a lock not had in time.
fn gave_way(e: &Error) -> bool {
    let Error::Database(e) = e else { return false };
    let code = e.as_database_error().and_then(|d| d.code());
    matches!(code.as_deref(), Some("40001" | "40P01" | "55P03"))
}

/// 0 to 7, so that those who gave way to each other do not meet again.
fn jitter() -> u32 {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed).wrapping_add(u64::from(std::process::id()));
    u32::try_from(turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61).unwrap_or(0)
}

impl Backend for Postgres {
    fn ledger(&self) -> Arc<dyn LedgerStore> {
        Arc::new(Ledger::new(self.clone()))
    }

    fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::new(Keys::new(self.clone()))
    }

    fn runs(&self) -> Arc<dyn RunStore> {
        Arc::new(Runs::new(self.clone()))
    }

    fn results(&self) -> Arc<dyn ResultStore> {
        Arc::new(Results::new(self.clone()))
    }

    fn lineage(&self) -> Arc<dyn LineageStore> {
        Arc::new(Lineage::new(self.clone()))
    }

    fn watching(&self) -> Arc<dyn MemoryStore> {
        Arc::new(PgMemory::new(self.clone(), Statements::WATCHING))
    }

    fn triggers(&self) -> Arc<dyn MemoryStore> {
        Arc::new(PgMemory::new(self.clone(), Statements::TRIGGERS))
    }

    fn tracking(&self) -> Tracking {
        Tracking::new(Arc::new(PgSql(self.clone())))
    }

    fn batches(&self) -> Arc<dyn BatchStore> {
        Arc::new(Batches::new(self.clone()))
    }

    fn cache(&self, max_bytes: u64) -> BoxFuture<'_, Result<Arc<dyn CacheStore>, Error>> {
        Box::pin(async move { Ok(Arc::new(Cache::new(self.clone(), max_bytes)) as Arc<dyn CacheStore>) })
    }

    fn files(&self, _folder: PathBuf) -> BoxFuture<'_, Result<Arc<dyn FileStore>, Error>> {
        Box::pin(async move { Ok(Arc::new(Files::new(self.clone())) as Arc<dyn FileStore>) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.wakes.close();
            let _ = timeout(CONNECT, self.pool.close()).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url = Secret::new("postgres://ann:s3cret@db.example:6432/forebay?sslmode=require".to_owned());
        assert_eq!(shown(&options(&url).unwrap()), "postgres://db.example:6432/forebay");
        for bad in ["mysql://ann:s3cret@db/x", "postgres://ann:s3cret@:bad:/x?sslmode=s3cret", ""] {
            let e = Postgres::check(&Secret::new(bad.to_owned())).unwrap_err().to_string();
            assert!(e.contains("storage.url") && !e.contains("s3cret"), "{e}");
        }
    }
}
