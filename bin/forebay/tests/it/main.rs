//! Integration tests: the configuration's messages, the commands, and the running server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod commands;
mod golden;
mod kinds;
mod places;
mod serve;
mod server;
