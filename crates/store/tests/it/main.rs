//! Integration tests.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests, and a child process acknowledges by printing"
)]

mod cost;
mod crash;
mod disk_full;
mod fixtures;
mod keys;
mod opening;
mod sqlite;
mod tracked;
