//! The kinds of this crate in the graph they are made for: checked, then run live.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kinds;
mod say;
