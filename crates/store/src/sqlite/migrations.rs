//! The schema, as numbered steps that only go forward. A step that was released is never edited.

use std::path::Path;

use sqlx::sqlite::SqlitePool;
use sqlx::{Row, raw_sql};

use super::explain;
use crate::Error;

/// Step `n` (from 1) makes version `n`. `requests.attempts` counts the rows in `attempts`, where a call that took one
/// attempt of the model asked for has none.
const STEPS: &[&str] = &[
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO meta (name, value) VALUES
  ('journal_segment', 0), ('journal_offset', 0), ('keys_version', 0), ('cache_bytes', 0);

CREATE TABLE requests (
  id BLOB PRIMARY KEY,
  at BIGINT NOT NULL,
  day BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  key_id TEXT,
  user_id TEXT,
  pipeline TEXT,
  model TEXT,
  ending TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  total_us BIGINT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX requests_by_at ON requests (at);
CREATE INDEX requests_by_tenant ON requests (tenant, at);
CREATE INDEX requests_by_pipeline ON requests (pipeline, at) WHERE pipeline IS NOT NULL;
CREATE INDEX requests_by_model ON requests (model, at) WHERE model IS NOT NULL;

CREATE TABLE attempts (
  request BLOB NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  day BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  stage TEXT,
  model TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  ending TEXT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  PRIMARY KEY (request, number)
);
CREATE INDEX attempts_by_at ON attempts (at);

CREATE TABLE admitted (id BLOB PRIMARY KEY, entry TEXT NOT NULL);

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  tenant TEXT NOT NULL,
  hash BLOB NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT
);

CREATE TABLE parts (
  key BLOB PRIMARY KEY,
  value BLOB NOT NULL,
  bytes BIGINT NOT NULL,
  used BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX parts_by_use ON parts (used);
",
    "
ALTER TABLE keys ADD COLUMN role TEXT NOT NULL DEFAULT 'user';
",
    "
CREATE TABLE files (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  purpose TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  content TEXT NOT NULL
);
CREATE INDEX files_by_tenant ON files (tenant, created_at, id);
CREATE INDEX files_by_content ON files (content);
",
    "
CREATE TABLE runs (
  id BLOB PRIMARY KEY,
  tenant TEXT NOT NULL,
  kind TEXT NOT NULL,
  about TEXT NOT NULL,
  status TEXT NOT NULL,
  lane BIGINT NOT NULL,
  submitted_at BIGINT NOT NULL,
  due_at BIGINT,
  ended_at BIGINT,
  entries BIGINT NOT NULL,
  input BLOB NOT NULL,
  submit_key TEXT,
  submit_hash BLOB
);
CREATE UNIQUE INDEX runs_by_submit_key ON runs (tenant, submit_key) WHERE submit_key IS NOT NULL;
CREATE INDEX runs_by_tenant ON runs (tenant, id);
CREATE INDEX runs_open_by_tenant ON runs (tenant, lane, submitted_at, id) WHERE ended_at IS NULL;
CREATE INDEX runs_open ON runs (lane DESC, submitted_at, id, due_at) WHERE ended_at IS NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE ended_at IS NULL;
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE run_entries (
  run BLOB NOT NULL,
  number BIGINT NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY (run, number)
);

CREATE TABLE run_outputs (
  key TEXT PRIMARY KEY,
  run BLOB NOT NULL,
  stage TEXT NOT NULL,
  output BLOB NOT NULL
);
CREATE INDEX run_outputs_by_run ON run_outputs (run, stage);

CREATE TABLE deliveries (
  id TEXT PRIMARY KEY,
  run BLOB NOT NULL,
  tenant TEXT NOT NULL,
  url TEXT NOT NULL,
  body BLOB NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  next_at BIGINT,
  tries BIGINT NOT NULL,
  tried_at BIGINT,
  answer BIGINT,
  problem TEXT
);
CREATE INDEX deliveries_by_run ON deliveries (run);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE webhooks_off (tenant TEXT NOT NULL, url TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (tenant, url));
",
    "
ALTER TABLE runs ADD COLUMN target TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN as_of BIGINT;
ALTER TABLE runs ADD COLUMN deadline BIGINT;
UPDATE runs SET deadline = (
  SELECT json_extract(entry, '$.plan.deadline') FROM run_entries WHERE run = runs.id AND number = 0
) WHERE ended_at IS NULL;

CREATE TABLE run_shares (
  target TEXT NOT NULL,
  tenant TEXT NOT NULL,
  runs BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  PRIMARY KEY (target, tenant)
);
INSERT INTO run_shares
SELECT target, tenant, COUNT(*), SUM(LENGTH(input)) FROM runs WHERE ended_at IS NULL GROUP BY target, tenant;
CREATE INDEX run_shares_by_tenant ON run_shares (tenant);

DROP INDEX runs_open_by_tenant;
DROP INDEX runs_open;
CREATE INDEX runs_open ON runs (target, tenant, lane DESC, submitted_at, id, due_at, as_of) WHERE ended_at IS NULL;
CREATE INDEX runs_by_state ON runs (status, lane, submitted_at, id) WHERE ended_at IS NULL;
CREATE INDEX runs_by_deadline ON runs (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN receiver TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET receiver = url;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (tenant, receiver, next_at, id, tried_at, created_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_next ON deliveries (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE webhook_secrets (tenant TEXT PRIMARY KEY, number BIGINT NOT NULL, since BIGINT NOT NULL);
",
    "
ALTER TABLE runs ADD COLUMN part_of BLOB;
ALTER TABLE runs ADD COLUMN part BIGINT;
CREATE INDEX runs_by_part ON runs (part_of, part) WHERE part_of IS NOT NULL;
CREATE INDEX runs_by_part_status ON runs (part_of, status) WHERE part_of IS NOT NULL;
CREATE INDEX runs_listed ON runs (tenant, id) WHERE part_of IS NULL;

CREATE TABLE batches (
  id BLOB PRIMARY KEY,
  tenant TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  version BIGINT NOT NULL,
  output_file TEXT,
  error_file TEXT,
  about TEXT NOT NULL
);
CREATE INDEX batches_by_tenant ON batches (tenant, id);
CREATE INDEX batches_open ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX batches_ended ON batches (ended_at) WHERE ended_at IS NOT NULL;
",
    "
DROP INDEX runs_listed;
CREATE INDEX runs_listed ON runs (kind, tenant, id) WHERE part_of IS NULL;

CREATE TABLE stage_results (
  key BLOB PRIMARY KEY,
  tenant TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  stage TEXT NOT NULL,
  run BLOB NOT NULL,
  made_of TEXT NOT NULL,
  value BLOB NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX stage_results_newest ON stage_results (tenant, pipeline, stage, at);
CREATE INDEX stage_results_at ON stage_results (at);

CREATE TABLE triggers (pipeline TEXT PRIMARY KEY, version BIGINT NOT NULL, memory TEXT NOT NULL);
",
    "
CREATE TABLE lineage_facts (
  key BLOB PRIMARY KEY,
  tenant TEXT NOT NULL,
  run TEXT NOT NULL,
  job TEXT NOT NULL,
  at BIGINT NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX lineage_facts_by_run ON lineage_facts (run, job);
CREATE INDEX lineage_facts_by_job ON lineage_facts (job, at);
CREATE INDEX lineage_facts_by_at ON lineage_facts (at);

CREATE TABLE lineage_ends (
  fact BLOB NOT NULL,
  role BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  number BIGINT,
  tenant TEXT NOT NULL,
  job TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (fact, role, kind, name, version)
);
CREATE INDEX lineage_ends_by_name ON lineage_ends (name, kind, role, at);
CREATE INDEX lineage_ends_by_version ON lineage_ends (version) WHERE version <> '';
",
    super::tracking::SCHEMA,
    super::tracking::ROLLOUTS,
    "CREATE TABLE watching (name TEXT PRIMARY KEY, version BIGINT NOT NULL, memory TEXT NOT NULL);",
    // Always empty: a change that would put a row here is not made.
    "CREATE TABLE expected (met BIGINT CONSTRAINT what_is_decided_on CHECK (met <> 0));",
    super::tracking::WEBHOOKS,
    // Whether somebody went back to it: what came between is undone.
    "ALTER TABLE ml_alias_log ADD COLUMN back BIGINT NOT NULL DEFAULT 0;",
];

/// Brings the schema to the newest version, or refuses one that is newer than that.
pub(super) async fn run(pool: &SqlitePool, path: &Path) -> Result<(), Error> {
    let explain = |e| explain(path, e);
    let mut conn = pool.acquire().await.map_err(explain)?;
    // Two processes that open a new folder at once take turns here.
    let mut tx = sqlx::Connection::begin_with(&mut *conn, "BEGIN IMMEDIATE").await.map_err(explain)?;
    let found: i64 =
        sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await.map_err(explain)?.try_get(0)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Error::NewerSchema { path: path.to_owned(), found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (n, step) in STEPS.iter().enumerate().skip(done) {
        raw_sql(*step).execute(&mut *tx).await.map_err(explain)?;
        // A pragma takes no parameters; the number is ours.
        let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", n + 1));
        raw_sql(version).execute(&mut *tx).await.map_err(explain)?;
    }
    tx.commit().await.map_err(explain)?;
    Ok(())
}
