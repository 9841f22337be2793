//! One binary for the tests of the crate.

mod evaluate;
mod golden;
