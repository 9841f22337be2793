//! The storage traits on PostgreSQL, for several processes that work on one set of runs and write one ledger.
//!
//! The contracts are `store`'s, and its conformance suite runs on a real server here. What differs from SQLite:
//!
//! * **Several writers.** SQLite lets one writer in at a time; here each transaction locks the rows that it decides on. Bounds that
//!   are counted over many rows (what may wait, batches of a tenant, bytes of a tenant's files) are decided under an advisory
//!   lock of the transaction. What PostgreSQL gives up for others (serialization, deadlock, a lock that was waited for too long)
//!   is tried again until a deadline.
//! * **Workers.** Each says now and then that it lives; how long ago that was is read from the database's clock, never from
//!   two machines'. A worker whose folder is opened again is replaced at once.
//! * **Journals.** Each folder has a ledger's journal of its own, and its position and its open requests here by the journal's
//!   name: a process that starts closes its own requests, and nobody else's.
//! * **Files.** Their contents are in the database too, so that every worker reads what any caller left.
//! * **Waking.** What may be due at once is said by `NOTIFY`. It is a hint: who misses it looks again within half a minute.
//!
//! Text here cannot hold U+0000: it is kept as U+2400 in columns. Records and journals are JSON, which escapes it.

mod batches;
mod cache;
mod database;
mod due;
mod expiry;
mod files;
mod keys;
mod ledger;
mod lineage;
mod memory;
mod migrations;
mod outbox;
mod pieces;
mod results;
mod runs;
mod shares;
mod submit;
mod sums;
mod tracking;
mod values;
mod workers;

pub use database::Postgres;
