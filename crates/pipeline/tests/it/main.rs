//! The pipeline crate as its users see it.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod check;
mod driver;
mod durable;
mod exec;
mod lineage;
mod live;
mod memory;
mod nested;
mod outside;
mod runs;
mod schedule;
mod scheduler;
mod stages;
mod triggers;
