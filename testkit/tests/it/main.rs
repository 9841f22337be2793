//! Integration tests: raw HTTP against a running fake, so that no client library hides a byte.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod cancel;
mod faults;
mod raw;
mod shapes;
