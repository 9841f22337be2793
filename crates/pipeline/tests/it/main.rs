//! The pipeline crate as its users see it.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "tests")]

mod check;
mod live;
mod stages;
