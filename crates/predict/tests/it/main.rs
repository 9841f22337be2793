//! Tensors across the wire and through batches.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "tests")]

mod batches;
mod made;
mod queue;
mod scoring;
mod served;
mod v2;
