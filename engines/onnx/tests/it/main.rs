//! Real models and ONNX's golden cases, on the library of the fixture `onnxruntime`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod cases;
mod fixtures;
mod models;
mod proto;
mod refused;
