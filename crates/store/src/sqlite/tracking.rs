//! [`Sql`] on SQLite: what tracking and the registry are carried out with.

use std::sync::Arc;

use contract::BoxFuture;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, TypeInfo as _, ValueRef as _};
use tokio::sync::Notify;

use super::tx::Tx;
use super::{Database, Script};
use crate::Error;
use crate::tracking::{Arg, Commit, Dialect, Insert, Row, Sql, SqlTx};

/// A step of the schema. Of a run what is logged is found by its number in the database; runs, experiments and models by their tenant
/// and a name of theirs. Values of metrics are finite; `nan` says which stand for none, `bits` is the exact value for JSON.
pub(super) const SCHEMA: &str = "
CREATE TABLE ml_experiments (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  id BIGINT NOT NULL,
  name TEXT NOT NULL,
  location TEXT NOT NULL,
  stage TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX ml_experiments_by_id ON ml_experiments (tenant, id);
CREATE UNIQUE INDEX ml_experiments_by_name ON ml_experiments (tenant, name);
CREATE TABLE ml_experiment_tags (
  experiment BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (experiment, key)
) WITHOUT ROWID;

CREATE TABLE ml_runs (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  experiment BIGINT NOT NULL,
  name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  started_at BIGINT,
  ended_at BIGINT,
  stage TEXT NOT NULL,
  deleted_at BIGINT,
  location TEXT NOT NULL
);
CREATE UNIQUE INDEX ml_runs_by_id ON ml_runs (id, tenant);
CREATE INDEX ml_runs_by_experiment ON ml_runs (experiment, stage, started_at DESC, id);
CREATE TABLE ml_params (
  run BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE ml_tags (
  run BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE ml_metrics (
  run BIGINT NOT NULL,
  key TEXT NOT NULL,
  step BIGINT NOT NULL,
  at BIGINT NOT NULL,
  value REAL NOT NULL,
  nan BIGINT NOT NULL,
  PRIMARY KEY (run, key, step, at, value, nan)
) WITHOUT ROWID;
CREATE TABLE ml_latest (
  run BIGINT NOT NULL,
  key TEXT NOT NULL,
  step BIGINT NOT NULL,
  at BIGINT NOT NULL,
  value REAL NOT NULL,
  bits BIGINT NOT NULL,
  nan BIGINT NOT NULL,
  PRIMARY KEY (run, key)
) WITHOUT ROWID;

CREATE TABLE ml_datasets (
  num INTEGER PRIMARY KEY,
  experiment BIGINT NOT NULL,
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  source_type TEXT NOT NULL,
  source TEXT NOT NULL,
  fields TEXT,
  profile TEXT
);
CREATE UNIQUE INDEX ml_datasets_by_name ON ml_datasets (experiment, name, digest);
CREATE TABLE ml_inputs (
  run BIGINT NOT NULL, dataset BIGINT NOT NULL, context TEXT, tags TEXT NOT NULL, PRIMARY KEY (run, dataset)
) WITHOUT ROWID;
CREATE TABLE ml_run_models (
  num INTEGER PRIMARY KEY, run BIGINT NOT NULL, role BIGINT NOT NULL, model TEXT NOT NULL, step BIGINT NOT NULL
);
CREATE INDEX ml_run_models_by_run ON ml_run_models (run);

CREATE TABLE ml_models (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  experiment BIGINT NOT NULL,
  name TEXT NOT NULL,
  location TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  status BIGINT NOT NULL,
  message TEXT,
  type TEXT,
  source_run TEXT,
  stage TEXT NOT NULL
);
CREATE UNIQUE INDEX ml_models_by_id ON ml_models (id, tenant);
CREATE INDEX ml_models_by_experiment ON ml_models (experiment, created_at DESC, id);
CREATE TABLE ml_model_params (
  model BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)
) WITHOUT ROWID;
CREATE TABLE ml_model_tags (
  model BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)
) WITHOUT ROWID;
CREATE TABLE ml_model_metrics (
  model BIGINT NOT NULL,
  key TEXT NOT NULL,
  at BIGINT NOT NULL,
  step BIGINT NOT NULL,
  run BIGINT NOT NULL,
  experiment BIGINT NOT NULL,
  value REAL NOT NULL,
  nan BIGINT NOT NULL,
  dataset TEXT,
  digest TEXT,
  PRIMARY KEY (model, key, at, step, run)
) WITHOUT ROWID;

CREATE TABLE ml_registered (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  description TEXT
);
CREATE UNIQUE INDEX ml_registered_by_name ON ml_registered (tenant, name);
CREATE TABLE ml_registered_tags (
  registered BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (registered, key)
) WITHOUT ROWID;
CREATE TABLE ml_versions (
  registered BIGINT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  description TEXT,
  user_id TEXT,
  stage TEXT NOT NULL,
  source TEXT NOT NULL,
  location TEXT NOT NULL,
  run TEXT,
  run_link TEXT,
  status TEXT NOT NULL,
  model TEXT,
  PRIMARY KEY (registered, version)
);
CREATE TABLE ml_version_tags (
  registered BIGINT NOT NULL, version BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (registered, version, key)
) WITHOUT ROWID;
CREATE TABLE ml_aliases (
  registered BIGINT NOT NULL, alias TEXT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (registered, alias)
) WITHOUT ROWID;
CREATE TABLE ml_alias_log (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  alias TEXT NOT NULL,
  version BIGINT,
  valid_at BIGINT NOT NULL,
  known_at BIGINT NOT NULL
);
CREATE INDEX ml_alias_log_by_alias ON ml_alias_log (tenant, name, alias, valid_at, num);
";

/// Where rollouts are, and what became of them. What is read of both is the tenant's.
pub(super) const ROLLOUTS: &str = "
CREATE TABLE ml_rollouts (
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  revision BIGINT NOT NULL,
  state TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant, name)
);
CREATE TABLE ml_rollout_events (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  at BIGINT NOT NULL,
  what TEXT NOT NULL,
  event TEXT NOT NULL
);
CREATE INDEX ml_rollout_events_by_name ON ml_rollout_events (tenant, name, num);
";

/// Whom the registry tells. `about` is what a webhook's messages are about, where others are about a run.
pub(super) const WEBHOOKS: &str = "
CREATE TABLE ml_webhooks (
  num INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  about BLOB NOT NULL,
  name TEXT NOT NULL,
  url TEXT NOT NULL,
  receiver TEXT NOT NULL,
  events BIGINT NOT NULL,
  description TEXT NOT NULL,
  status TEXT NOT NULL,
  secret TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX ml_webhooks_by_id ON ml_webhooks (tenant, id);
CREATE UNIQUE INDEX ml_webhooks_by_about ON ml_webhooks (about);
";

/// Values in one script of several statements at most.
const TOGETHER: usize = 512;

/// A database to track in.
#[derive(Debug)]
pub(super) struct SqliteSql(pub(super) Database);

fn bound(args: Vec<Arg>) -> Result<SqliteArguments, Error> {
    use sqlx::Arguments as _;
    let mut all = SqliteArguments::default();
    for arg in args {
        let added = match arg {
            Arg::Int(n) => all.add(n),
            Arg::Real(n) => all.add(n),
            Arg::Text(s) => all.add(s),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(all)
}

fn row(of: &SqliteRow) -> Result<Row, Error> {
    let mut values = Vec::with_capacity(of.len());
    for at in 0..of.len() {
        let raw = of.try_get_raw(at)?;
        let value = if raw.is_null() {
            Arg::Text(None)
        } else {
            match raw.type_info().name() {
                "INTEGER" | "BOOLEAN" => Arg::Int(of.try_get_unchecked(at)?),
                "REAL" => Arg::Real(of.try_get_unchecked(at)?),
                _ => Arg::Text(of.try_get_unchecked(at)?),
            }
        };
        values.push(value);
    }
    Ok(Row(values))
}

impl Sql for SqliteSql {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn read<'a>(&'a self, sql: &'a str, args: Vec<Arg>) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        Box::pin(async move {
            let query = sqlx::query_with(AssertSqlSafe(sql), bound(args)?);
            query.fetch_all(&self.0.read).await?.iter().map(row).collect()
        })
    }

    fn begin(&self, commit: Commit) -> BoxFuture<'_, Result<Box<dyn SqlTx>, Error>> {
        Box::pin(async move {
            let tx = self.0.change(commit == Commit::Synced).await?;
            let told = self.0.told.clone();
            Ok(Box::new(Open { tx, waiting: Waiting::default(), tells: false, told }) as Box<dyn SqlTx>)
        })
    }
}

struct Open {
    tx: Tx,
    waiting: Waiting,
    /// Whether it puts messages into the outbox, and who is woken then.
    tells: bool,
    told: Arc<Notify>,
}

/// Statements that insert rows and have not run yet: they go with what comes next. Their places have no numbers: SQLite looks for
/// each of those among all the others.
#[derive(Default)]
struct Waiting {
    sql: String,
    args: Vec<Arg>,
}

impl Waiting {
    /// What appends them to a script without arguments.
    fn appended(self) -> Result<impl FnOnce(&mut Script), Error> {
        let (sql, args) = (self.sql, bound(self.args)?);
        Ok(move |script: &mut Script| {
            *script = Script::with_arguments(format!("{}{sql}", script.sql().as_str()), args);
        })
    }
}

impl Open {
    async fn flush(&mut self) -> Result<(), Error> {
        if !self.waiting.sql.is_empty() {
            self.tx.run(std::mem::take(&mut self.waiting).appended()?).await?;
        }
        Ok(())
    }
}

impl SqlTx for Open {
    fn query<'a>(&'a mut self, sql: &'a str, args: Vec<Arg>) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        Box::pin(async move {
            self.flush().await?;
            self.tx.fetch(sql, bound(args)?).await?.iter().map(row).collect()
        })
    }

    fn insert(&mut self, all: Vec<Insert>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            for (sql, args) in all.into_iter().flat_map(|rows| rows.statements(false)) {
                if self.waiting.args.len() + args.len() > TOGETHER {
                    self.flush().await?;
                }
                self.waiting.sql.push_str(&sql);
                self.waiting.sql.push_str("; ");
                self.waiting.args.extend(args);
            }
            Ok(())
        })
    }

    fn lock(&mut self, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        // There is one writer.
        Box::pin(async { Ok(()) })
    }

    fn tell(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        self.tells = true;
        Box::pin(async { Ok(()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let Open { tx, waiting, tells, told } = *self;
            tx.finish(waiting.appended()?).await?;
            if tells {
                told.notify_one();
            }
            Ok(())
        })
    }
}
