//! Feature views: what was known of an entity at a time, and training sets made of it without leaks.
//!
//! A [`FeatureView`] says which columns of a dataset are features of which entity, when each row happened (event time) and, when
//! the dataset says so, when it became known (ingest time). [`Warehouse::training_set`](crate::Warehouse::training_set) puts the
//! features of any number of views beside rows of entities, each as it was at that row's own time: the **point-in-time join**.
//!
//! **Which row is valid** for an entity row at time *t*: of the view's rows with the entity's keys,
//! 1. those with event time ≤ *t*;
//! 2. those that were known: ingest time ≤ the cut, and ≤ *t* too when that is asked for ([`AsOf::Event`]). A row that came
//!    late is never seen by who could not have seen it;
//! 3. of these the one with the latest event time; among equals the one with the latest ingest time; among equals still the
//!    greatest by content, feature after feature in the order of the view (null below everything, numbers by size with NaN the
//!    greatest, texts by their bytes). The order of rows and of files never counts;
//! 4. and that one only if it is not older than the TTL: event time ≥ *t* − TTL, the boundary included. When it is too old,
//!    nothing is valid, and every feature is null.
//!
//! A null in a key matches nothing. A row without an event time is never valid, nor is one without an ingest time in a view
//! that has that column: nobody knows when it was known. Times are compared in microseconds, whatever they were written in; a
//! time without a zone is compared with an instant only by who says that it is in UTC ([`NaiveTimes`]).
//!
//! **How** (`latest`): the entity rows of a key, in the order of their times, are *slots*. A row of the view becomes known at its
//! event time (or its ingest time, if that is later and counts), and competes in the first slot from there on. So each slot
//! keeps one row, the view is read once in any order and on all cores, and a walk over the slots of a key afterwards carries
//! the best so far to the right. *O*((n + m) log n) for n entity rows and m rows of the view.
//!
//! **Bounds.** The entity rows are in memory, with 12 bytes a row beside them. Of the view there are, per worker (at most four),
//! 24 bytes and at most two rows of features for each distinct (key, time) of the entities, and one batch of 8192 rows: how
//! large the view is does not count. Views are joined one after the other; what is kept of each is one row of features per
//! distinct (key, time). The result is made a batch at a time, as it is read.

mod entities;
mod join;
mod keys;
mod label;
mod latest;
#[cfg(test)]
mod naive;
pub mod online;
mod order;
mod rows;
mod training;
mod view;

pub use label::Label;
pub use rows::datasets_of;
pub use training::{AsOf, Entities, Joined, TrainingSet, TrainingSetSpec, Use};
pub use view::{FeatureView, FeatureViewConfig, NaiveTimes};
