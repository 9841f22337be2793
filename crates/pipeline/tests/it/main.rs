//! The pipeline crate as its users see it.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod check;
mod live;
mod memory;
mod runs;
mod scheduler;
mod stages;
