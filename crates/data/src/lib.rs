//! Datasets: versioned tables that any reader of Delta Lake opens without us.
//!
//! A [`Warehouse`] is a folder; a [`Dataset`] is a plain Delta table in it. What Forebay adds lies where other readers pass
//! over it: facts in the information of each commit (content name, rows, who, why, from where), and tags as files below
//! `_forebay/`. Nothing else keeps state, so a table that others write to, or that is copied elsewhere, stays a dataset.
//!
//! **A version** is immutable. It has the number that every Delta reader knows it by, and a [`Name`] by its content: equal
//! rows under equal columns have an equal name, in whatever order, files or dataset. A change whose result is what the dataset
//! holds makes no version. How names are worked out, and how far they can be trusted, says `fingerprint`.
//!
//! **A change** ([`Dataset::add`]) walks so: the columns are those of the dataset, or inferred from every value of the source
//! (`source`); rows are read a batch at a time, added up and written as data files that no version names (`stage`); one entry
//! of the log makes them a version (`commit`), if and only if nobody else wrote that entry first. So readers see all of a
//! change or nothing, a crash at any point leaves the previous version and some files for [`Dataset::gc`], and a source that
//! is wrong anywhere leaves nothing at all. Of writers at once, appends are all kept, in some order; an overwrite or a merge
//! that was overtaken is refused ([`Error::Conflict`]), because it was made against rows that are not the newest.
//!
//! **A gate** ([`Dataset::add_checked`]) looks at rows on that way: those that break an [expectation](expect) go to the quarantine
//! beside the dataset, with reasons, or the change is refused as a whole; the previous version stays what everybody reads.
//!
//! **A comparison** of what was with what is reads sketches of columns ([`Dataset::sketched`], [`Source::sketched`]).
//!
//! **Features** ([`features`]) are columns of datasets, read as they were known at a time.
//!
//! **Bounds.** No file is ever read whole into memory. A change holds a few batches (of at most 8192 rows, about 8 MiB of text)
//! and what one data file needs to be encoded ([`Settings::file_bytes`], and a row group of it at most); joins, groups and
//! sorts stay within [`Settings::memory_bytes`] and go through files beyond it. The log is read an entry at a time.
//!
//! **Invariants.** No type of Arrow, DataFusion, Delta or object stores is public here: they change every few weeks. Nothing is
//! guessed that can be silently wrong: no encoding from bytes, no day from `01/02/2013`, no number from `007`.

mod batch;
mod bucket;
mod canonical;
mod columns;
mod dataset;
mod error;
pub mod expect;
pub mod features;
mod fingerprint;
mod lineage;
mod query;
mod schema;
mod source;
pub mod stages;
mod store;
mod turns;
mod typed;
mod warehouse;
mod watched;

pub use bucket::{Bucket, BucketReader, BucketWriter, Listed};
pub use dataset::{
    Added, Adds, At, Attempt, Batch, Change, Collected, Compact, Dataset, Diff, Effect, Expired, Gate, Gated,
    Gc, How, Policy, Quarantined, Released, Rows, Select, Shown, Tag, Values, Version,
};
pub use error::{Error, Place};
pub use fingerprint::Name;
pub use schema::{Column, ColumnType, Schema};
pub use source::{Encoding, Format, Origin, Source};
pub use typed::{Cells, Typed};
pub use warehouse::{Settings, Warehouse};
pub use watched::{Sketched, Span, Watching};
