//! Integration tests: records as spans, and the queue before a collector that is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod exporter;
mod fixtures;
mod spans;
