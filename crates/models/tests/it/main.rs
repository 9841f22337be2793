//! One binary for the tests of the crate.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod adopt;
mod artifacts;
mod card;
mod evaluate;
mod gate;
mod golden;
mod keeps;
mod linear;
mod online;
mod reproduce;
mod rolling;
mod rollout;
mod speed;
mod tables;
mod trees;
