//! Integration tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod cache;
mod cache_lanes;
mod call;
mod cascade;
mod choices;
mod codecs;
mod completions;
mod flights;
mod generate;
mod repair;
mod responses;
mod surfaces;
