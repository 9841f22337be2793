//! Datasets as their users see them: files in, versions out.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests, a child process acknowledges by printing, and what is skipped is said"
)]

mod add;
mod bad_input;
mod expect;
mod expect_file;
mod expect_page;
mod features;
mod gate;
mod online;
mod properties;
mod stages;
mod support;
mod typed;
mod versions;
mod watched;
mod writers;
