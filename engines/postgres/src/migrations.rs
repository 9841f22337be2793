//! The schema, as numbered steps that only go forward. A step that was released is never edited.
//!
//! The columns are SQLite's; text compares by its bytes there, and so here.

use std::path::Path;

use sqlx::postgres::PgPool;
use sqlx::{Row, raw_sql};
use store::Error;

/// Who brings the schema up to date holds it.
const LOCK: i64 = 0x666f_7265_6261_7901;

/// Step `n` (from 1) makes version `n`.
const STEPS: &[&str] = &[
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO meta (name, value) VALUES ('keys_version', 0), ('cache_bytes', 0), ('cache_clock', 0);

CREATE TABLE journals (name TEXT PRIMARY KEY, segment BIGINT NOT NULL, at BIGINT NOT NULL);

CREATE TABLE requests (
  id BYTEA PRIMARY KEY,
  at BIGINT NOT NULL,
  day BIGINT NOT NULL,
  tenant TEXT COLLATE \"C\" NOT NULL,
  key_id TEXT COLLATE \"C\",
  user_id TEXT COLLATE \"C\",
  pipeline TEXT COLLATE \"C\",
  model TEXT COLLATE \"C\",
  ending TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  total_us BIGINT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX requests_by_at ON requests (at, id);
CREATE INDEX requests_by_tenant ON requests (tenant, at);
CREATE INDEX requests_by_pipeline ON requests (pipeline, at) WHERE pipeline IS NOT NULL;
CREATE INDEX requests_by_model ON requests (model, at) WHERE model IS NOT NULL;

CREATE TABLE attempts (
  request BYTEA NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  day BIGINT NOT NULL,
  tenant TEXT COLLATE \"C\" NOT NULL,
  stage TEXT COLLATE \"C\",
  model TEXT COLLATE \"C\" NOT NULL,
  endpoint TEXT COLLATE \"C\" NOT NULL,
  ending TEXT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  PRIMARY KEY (request, number)
);
CREATE INDEX attempts_by_at ON attempts (at);

CREATE TABLE admitted (id BYTEA PRIMARY KEY, journal TEXT NOT NULL, entry TEXT NOT NULL);
CREATE INDEX admitted_by_journal ON admitted (journal);

CREATE TABLE keys (
  id TEXT COLLATE \"C\" PRIMARY KEY,
  name TEXT NOT NULL,
  tenant TEXT COLLATE \"C\" NOT NULL,
  hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  role TEXT NOT NULL
);

CREATE TABLE parts (
  key BYTEA PRIMARY KEY,
  value BYTEA NOT NULL,
  bytes BIGINT NOT NULL,
  used BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX parts_by_use ON parts (used);

CREATE TABLE contents (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  hash TEXT UNIQUE,
  touched_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX contents_unfinished ON contents (touched_at) WHERE hash IS NULL;
CREATE TABLE content_pieces (
  content BIGINT NOT NULL REFERENCES contents ON DELETE CASCADE,
  at BIGINT NOT NULL,
  piece BYTEA NOT NULL,
  PRIMARY KEY (content, at)
);
CREATE TABLE files (
  id TEXT COLLATE \"C\" PRIMARY KEY,
  tenant TEXT COLLATE \"C\" NOT NULL,
  name TEXT NOT NULL,
  purpose TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  content BIGINT NOT NULL REFERENCES contents
);
CREATE INDEX files_by_tenant ON files (tenant, created_at, id);
CREATE INDEX files_by_content ON files (content);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE runs (
  id BYTEA PRIMARY KEY,
  tenant TEXT COLLATE \"C\" NOT NULL,
  kind TEXT NOT NULL,
  about TEXT NOT NULL,
  target TEXT COLLATE \"C\" NOT NULL,
  status TEXT NOT NULL,
  lane BIGINT NOT NULL,
  submitted_at BIGINT NOT NULL,
  due_at BIGINT,
  as_of BIGINT,
  deadline BIGINT,
  ended_at BIGINT,
  entries BIGINT NOT NULL,
  input BYTEA NOT NULL,
  submit_key TEXT COLLATE \"C\",
  submit_hash BYTEA,
  part_of BYTEA,
  part BIGINT
);
CREATE UNIQUE INDEX runs_by_submit_key ON runs (tenant, submit_key) WHERE submit_key IS NOT NULL;
CREATE INDEX runs_listed_by_tenant ON runs (kind, tenant, id) WHERE part_of IS NULL;
CREATE INDEX runs_listed ON runs (kind, id) WHERE part_of IS NULL;
CREATE INDEX runs_open ON runs (target, tenant, lane DESC, submitted_at, id) WHERE ended_at IS NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE ended_at IS NULL;
CREATE INDEX runs_by_state ON runs (status, lane, submitted_at, id) WHERE ended_at IS NULL;
CREATE INDEX runs_by_deadline ON runs (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;
CREATE INDEX runs_ended ON runs (ended_at, id) WHERE ended_at IS NOT NULL AND part_of IS NULL;
CREATE INDEX runs_by_part ON runs (part_of, part) WHERE part_of IS NOT NULL;
CREATE INDEX runs_by_part_status ON runs (part_of, status) WHERE part_of IS NOT NULL;

CREATE TABLE run_entries (
  run BYTEA NOT NULL,
  number BIGINT NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY (run, number)
);

CREATE TABLE run_outputs (
  key TEXT COLLATE \"C\" PRIMARY KEY,
  run BYTEA NOT NULL,
  stage TEXT COLLATE \"C\" NOT NULL,
  output BYTEA NOT NULL
);
CREATE INDEX run_outputs_by_run ON run_outputs (run, stage);

CREATE TABLE stage_results (
  key BYTEA PRIMARY KEY,
  tenant TEXT COLLATE \"C\" NOT NULL,
  pipeline TEXT COLLATE \"C\" NOT NULL,
  stage TEXT COLLATE \"C\" NOT NULL,
  run BYTEA NOT NULL,
  made_of TEXT NOT NULL,
  value BYTEA NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX stage_results_newest ON stage_results (tenant, pipeline, stage, at);
CREATE INDEX stage_results_at ON stage_results (at);

CREATE TABLE triggers (
  pipeline TEXT COLLATE \"C\" PRIMARY KEY, version BIGINT NOT NULL, memory BYTEA NOT NULL
);

CREATE TABLE run_shares (
  target TEXT COLLATE \"C\" NOT NULL,
  tenant TEXT COLLATE \"C\" NOT NULL,
  runs BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  PRIMARY KEY (target, tenant)
);
CREATE INDEX run_shares_by_tenant ON run_shares (tenant);

CREATE TABLE workers (
  name TEXT COLLATE \"C\" PRIMARY KEY,
  journal TEXT NOT NULL,
  seen TIMESTAMPTZ NOT NULL
);

CREATE TABLE deliveries (
  id TEXT COLLATE \"C\" PRIMARY KEY,
  run BYTEA NOT NULL,
  tenant TEXT COLLATE \"C\" NOT NULL,
  url TEXT NOT NULL,
  receiver TEXT COLLATE \"C\" NOT NULL,
  body BYTEA NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  next_at BIGINT,
  tries BIGINT NOT NULL,
  tried_at BIGINT,
  answer BIGINT,
  problem TEXT,
  taken_by TEXT,
  taken_until TIMESTAMPTZ
);
CREATE INDEX deliveries_by_run ON deliveries (run);
CREATE INDEX deliveries_due ON deliveries (tenant, receiver, next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_next ON deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE TABLE webhooks_off (
  tenant TEXT COLLATE \"C\" NOT NULL, url TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (tenant, url)
);
CREATE TABLE webhook_secrets (
  tenant TEXT COLLATE \"C\" PRIMARY KEY, number BIGINT NOT NULL, since BIGINT NOT NULL
);

CREATE TABLE batches (
  id BYTEA PRIMARY KEY,
  tenant TEXT COLLATE \"C\" NOT NULL,
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
CREATE TABLE lineage_facts (
  key BYTEA PRIMARY KEY,
  tenant TEXT COLLATE \"C\" NOT NULL,
  run TEXT COLLATE \"C\" NOT NULL,
  job TEXT COLLATE \"C\" NOT NULL,
  at BIGINT NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX lineage_facts_by_run ON lineage_facts (run, job);
CREATE INDEX lineage_facts_by_job ON lineage_facts (job, at);
CREATE INDEX lineage_facts_by_at ON lineage_facts (at);

CREATE TABLE lineage_ends (
  fact BYTEA NOT NULL,
  role BIGINT NOT NULL,
  kind TEXT COLLATE \"C\" NOT NULL,
  name TEXT COLLATE \"C\" NOT NULL,
  version TEXT COLLATE \"C\" NOT NULL,
  number BIGINT,
  tenant TEXT COLLATE \"C\" NOT NULL,
  job TEXT COLLATE \"C\" NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (fact, role, kind, name, version)
);
CREATE INDEX lineage_ends_by_name ON lineage_ends (name, kind, role, at);
CREATE INDEX lineage_ends_by_version ON lineage_ends (version) WHERE version <> '';
",
    crate::tracking::SCHEMA,
    crate::tracking::ROLLOUTS,
    "
CREATE TABLE watching (
  name TEXT COLLATE \"C\" PRIMARY KEY, version BIGINT NOT NULL, memory BYTEA NOT NULL
);
",
    // Always empty: a change that would put a row here is not made.
    "CREATE TABLE expected (met BIGINT CONSTRAINT what_is_decided_on CHECK (met <> 0));",
    crate::tracking::WEBHOOKS,
    // Whether somebody went back to it: what came between is undone.
    "ALTER TABLE ml_alias_log ADD COLUMN back BIGINT NOT NULL DEFAULT 0;",
];

/// Brings the schema to the newest version, or refuses one that is newer than that. `shown` is where the database is.
pub(crate) async fn run(pool: &PgPool, shown: &Path) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    // Processes that open a new database at once take turns here.
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    let table = "CREATE TABLE IF NOT EXISTS forebay_schema (version BIGINT NOT NULL)";
    sqlx::query(table).execute(&mut *tx).await?;
    let newest = "SELECT COALESCE(MAX(version), 0) FROM forebay_schema";
    let found: i64 = sqlx::query(newest).fetch_one(&mut *tx).await?.try_get(0)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Error::NewerSchema { path: shown.to_owned(), found, known });
    }
    for (n, step) in (1_i64..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        raw_sql(*step).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO forebay_schema (version) VALUES ($1)").bind(n).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}
