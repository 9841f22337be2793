//! What must survive: the **ledger** of requests, the **API keys**, the **part cache**, callers' **files**, the **runs** with the
//! **results** of their stages, the **batches**, what the **triggers** have seen, and how what is **watched** stands, each behind a trait ([`LedgerStore`], [`KeyStore`],
//! [`CacheStore`], [`FileStore`], [`RunStore`], [`ResultStore`], [`BatchStore`], [`MemoryStore`]), and experiments, tracked runs and models ([`tracking`]). A [`Backend`] has all of them: SQLite is
//! here, PostgreSQL in `engines/postgres`.
//!
//! The database is never on the path of a token. A record is first appended to the [`journal`] by one `write(2)`, which
//! a `kill -9` of the process cannot undo; [`Ledger::writer`] moves it into the database later, in batches, in the same
//! transaction as the journal position. A restart replays what the database has not seen.
//!
//! This crate never spawns a task: the wiring spawns [`Store::background`].

mod backend;
mod batches;
mod cache;
mod delivery;
mod error;
mod files;
pub mod journal;
mod keys;
mod ledger;
mod lineage;
pub mod memory;
mod project;
mod results;
mod runs;
mod sqlite;
pub mod tracking;

pub use backend::{Backend, journal_name};
pub use batches::{BatchChange, BatchStore, PartOutput, StoredBatch};
pub use cache::{CacheKey, CacheStats, CacheStore};
pub use delivery::{
    Delivery, DeliveryState, DeliveryWebhook, DueDelivery, NewDelivery, SecretNumber, Tried, receiver,
};
pub use error::Error;
pub use files::{FileInfo, FilePage, FileStore, FileWriter};
pub use keys::{
    KeyHash, KeyInfo, KeyRing, KeySnapshot, KeyStore, NewKey, Refusal, Role, create_key, os_random,
};
pub use ledger::{
    Admitted, CostBy, CostRow, Entry, Filter, Health, Ledger, LedgerStore, Recovery, Scope, ScopeSpent,
    Settings, Settled, SettledAttempt, SettledColumns,
};
pub use lineage::{
    LineageEnd, LineageFact, LineageQuery, LineageRole, LineageStore, LineageVersion, NewLineage,
};
pub use memory::{MemoryStore, StoredMemory};
pub use project::{Reader, Store};
pub use results::{KeyedValue, ResultStore, StageResult};
pub use runs::{
    Change, LaneCount, NewRun, Output, Part, Room, RunHead, RunStore, StoredRun, SubmitKey, Submitted,
};
pub use sqlite::{
    Database, SqliteBatches, SqliteCache, SqliteFiles, SqliteKeys, SqliteLedger, SqliteLineage, SqliteMemory,
    SqliteResults, SqliteRuns,
};
